"""Asks a language model that was trained as a judge how likely `` yes`` is after a prompt.

The model runs in this process, in the engines that runs have, and gets the prompts as plain text. Source: allenai/open-instruct
@ 3c335be7, ``eval/utils.py``, ``score_completions``, which puts the same space before the word.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tulu_eval.backends.base import Backend, EngineSettings
from tulu_eval.benchmarks.base import Prompt
from tulu_eval.logprobs import ScoreRequest
from tulu_eval.models import resolve
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.continuations import encode_continuations
from tulu_eval.models.model_files import fetch
from tulu_eval.models.tokenizer import PromptWriter, load_for_prompts
from tulu_eval.records import Completion, Decoding, content_hash
from tulu_eval.registry import Suite
from tulu_eval.runs.completions import completions

YES = " yes"


class Said(NamedTuple):
    """What a judge that runs in this process says of an answer.

    Attributes:
        chance: Probability of its word or label, at most 1; ``None`` if the engine failed, or its number is none.
        error: What failed; empty if nothing did.
    """

    chance: float | None
    error: str = ""

    @classmethod
    def of(cls, chance: float) -> Said:
        """Returns a probability, which rounding may have put over 1; no number becomes one."""
        return cls(min(1.0, chance)) if math.isfinite(chance) else cls(None, "its probability is not finite")


@dataclasses.dataclass(frozen=True, slots=True)
class YesJudge:
    """A judge before its weights are loaded.

    Attributes:
        model: Its files.
        backend: The engine that will load it.
        requests: By item; a request that does not fit the model is missing.
    """

    model: ModelFiles
    backend: type[Backend]
    settings: EngineSettings
    eos_ids: tuple[int, ...]
    requests: Mapping[str, ScoreRequest]

    @property
    def where(self) -> str:
        """Name of the engine."""
        return self.backend.name

    @property
    def tokens(self) -> int:
        """Number of tokens that it gets, the words to score not counted."""
        return sum(one.length - 1 for one in self.requests.values())

    def texts(self, number: int) -> list[str]:
        """Returns the first prompts that it gets."""
        return [one.text for one in list(self.requests.values())[:number]]

    def ask(self, progress: Callable[[int], None] = lambda done: None) -> dict[str, Said]:
        """Loads the model, and returns the probability of `` yes`` for each item that has a request.

        Equal prompts are asked once. ``progress`` gets the number of answers so far.

        Raises:
            EngineError: If the engine fails.
        """
        if not self.requests:
            return {}
        fetch(self.model)
        longest = max(one.length for one in self.requests.values())
        found: dict[str, Completion] = {}
        with self.backend.load(self.model, self.settings, self.eos_ids, longest) as engine:
            for one in completions(engine, list(self.requests.values()), Decoding(max_new_tokens=0)):
                found[one.key] = one
                progress(len(found))
        return {item: _said(found[one.key]) for item, one in self.requests.items() if one.key in found}


def prepare(model: str, prompts: Mapping[str, str], backend: type[Backend], settings: EngineSettings, suite: Suite) -> YesJudge:
    """Returns a judge with its requests; loads its tokenizer and no weights.

    Raises:
        UserError: If there is no such model, or the backend gives no log-probabilities of given texts or cannot run it.
    """
    backend.check_settings(settings)
    backend.check_kind("score", settings)
    files, _ = resolve.resolve(model, suite)
    backend.check(files, settings)
    writer = PromptWriter(load_for_prompts(files.path, files.name, False), files.name, tulu=False, folder=files.path)
    bare, names = writer.without_template(), [f"item {item}" for item in prompts]
    texts = bare.texts([Prompt("", "", text) for text in prompts.values()], names)
    rows = bare.encode(texts, names)
    ends = encode_continuations(bare, list(zip(texts, rows, strict=True)), [(YES,)] * len(texts), names)
    shared = content_hash([files.name, files.revision])
    made = {
        item: ScoreRequest.of(shared, row, text, end) for item, row, text, end in zip(prompts, rows, texts, ends, strict=True)
    }
    fit = {item: one for item, one in made.items() if not files.context or one.length <= files.context}
    return YesJudge(files, backend, settings, writer.end_tokens.ids, fit)


def _said(completion: Completion) -> Said:
    if not completion.likelihoods:
        return Said(None, completion.error)
    return Said.of(math.exp(completion.likelihoods[0].total))
