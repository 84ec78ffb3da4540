"""Asks a classifier of texts that has two labels how likely the second one is.

The model runs in this process by transformers, in float32, 32 texts at a time as in the original. Source: allenai/open-instruct
@ 3c335be7, ``eval/toxigen/run_eval.py``, ``score_generations``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tulu_eval.errors import EngineError, PreflightError, few
from tulu_eval.models import resolve
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import fetch
from tulu_eval.models.quiet import without_bars
from tulu_eval.models.tokenizer import load_tokenizer
from tulu_eval.models.tokenizer_calls import told
from tulu_eval.registry import Suite
from tulu_eval.runs.yes_judge import Said

BATCH = 32
ENGINE = "transformers"


@dataclasses.dataclass(frozen=True, slots=True)
class ClassJudge:
    """A classifier before its weights are loaded.

    Attributes:
        where: Name of the engine.
        model: Its files.
        tokenizer: Says how many tokens of a text the model gets.
        requests: Text by item.
    """

    where: ClassVar[str] = ENGINE
    model: ModelFiles
    tokenizer: Any
    requests: Mapping[str, str]

    @property
    def tokens(self) -> int:
        """Number of tokens that it gets."""
        with told(f"the tokenizer of {self.model.name} does not take the answers"):
            return sum(map(len, self.tokenizer(list(self.requests.values()), truncation=True)["input_ids"]))

    def texts(self, number: int) -> list[str]:
        """Returns the first texts that it gets."""
        return list(self.requests.values())[:number]

    def ask(self, progress: Callable[[int], None] = lambda done: None) -> dict[str, Said]:
        """Loads the model, and returns the probability of the second label for each item.

        A text is cut to what the tokenizer says the model takes. ``progress`` gets the number of answers so far.

        Raises:
            EngineError: If the model cannot be loaded, lacks weights, or does not have two labels.
        """
        import torch

        model = self._load()
        items, found = list(self.requests), dict[str, Said]()
        for start in range(0, len(items), BATCH):
            part = items[start : start + BATCH]
            with told(f"the tokenizer of {self.model.name} does not take the answers"):
                rows = self.tokenizer(
                    [self.requests[item] for item in part], padding=True, truncation=True, return_tensors="pt"
                )
            with torch.inference_mode():
                chances = model(**rows).logits.float().softmax(-1)[:, 1].tolist()
            found |= {item: Said.of(chance) for item, chance in zip(part, chances, strict=True)}
            progress(len(found))
        return found

    def _load(self) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        fetch(self.model)
        try:
            with without_bars():
                model, about = AutoModelForSequenceClassification.from_pretrained(
                    self.model.path, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"{self.model.name} cannot be loaded as a classifier: {error}") from error
        if missing := sorted(about["missing_keys"]):  # transformers fills them with random numbers
            raise EngineError(f"{self.model.name} is no classifier: it lacks the weights {few(missing)}")
        if model.config.num_labels != 2:
            raise EngineError(f"{self.model.name} has {model.config.num_labels} labels, not 2")
        return model.eval()


def prepare(model: str, prompts: Mapping[str, str], suite: Suite) -> ClassJudge:
    """Returns a classifier with its texts; loads its tokenizer and no weights.

    Raises:
        UserError: If there is no such model, or its tokenizer does not say how long a text may be.
    """
    files, _ = resolve.resolve(model, suite)
    tokenizer: Any = load_tokenizer(files.path, files.name, False)
    if tokenizer.model_max_length > 1_000_000:
        raise PreflightError(f"the tokenizer of {files.name} does not say how many tokens its model takes (model_max_length)")
    return ClassJudge(files, tokenizer, prompts)
