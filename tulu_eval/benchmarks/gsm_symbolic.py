"""GSM-Symbolic: GSM8K's templates with new names and numbers, generated locally, so that no data set is needed.

The items come from ``reasoning-gym`` (``gsm_symbolic``, seeded); the recipe and the scorers are GSM8K's. One raw item::

    {"question": "There are 12 students ... Give the result as your final answer. Do not include units.", "answer": "70"}

This module removes the closing instruction, because the exemplars already show the form of an answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Item, Prompt, Protocol
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.caching import cached, read_json, write_quietly
from tulu_eval.errors import DataError, PreflightError

SEED = 42
SIZE = 500
TRAINING_SEED, TRAINING_SIZE = 43, 7473
INSTRUCTION = " Give the result as your final answer. Do not include units."


class GSMSymbolic(GSM8K):
    """500 generated items with GSM8K's recipe; no published cell exists for them."""

    name: ClassVar[str] = "gsm-symbolic"
    extra: ClassVar[str] = "symbolic"
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {"full": dataclasses.replace(GSM8K.protocols["full"], summary="500 generated items, seed 42", n=SIZE, covers=("full",))}
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the generated items in the generator's order."""
        if data is not None:
            raise DataError("--data", "gsm-symbolic generates its items; leave it out")
        return generate(protocol.n, SEED)

    def training_items(self, data: Path | None) -> list[Item]:
        """Returns the rows of ``data`` in GSM8K's form, else generated items, without the questions of the 500."""
        if data is not None:
            return super().training_items(data)
        measured = {item.question for item in generate(SIZE, SEED)}
        return [item for item in generate(TRAINING_SIZE, TRAINING_SEED) if item.question not in measured]


def generate(size: int, seed: int) -> list[Item]:
    """Returns ``size`` generated items, the same for the same seed; raises PreflightError if reasoning-gym is missing.

    The user's cache keeps them, because the import of all of reasoning-gym takes over a second.
    """
    try:
        version = importlib.metadata.version("reasoning-gym")
    except importlib.metadata.PackageNotFoundError as error:
        raise PreflightError("gsm-symbolic needs the package reasoning-gym: pip install 'tulu-eval[symbolic]'") from error
    path = cached("generated", f"gsm-symbolic-{version}-{seed}-{size}.json")
    kept = read_json(path).get("items")
    if not isinstance(kept, list) or len(kept) != size or not all(map(_is_pair, kept)):
        kept = _generated(size, seed)
        write_quietly(path, json.dumps({"items": kept}))
    return [Item(f"seed{seed}-{index}", str(question), str(answer)) for index, (question, answer) in enumerate(kept)]


def _is_pair(kept: object) -> bool:
    return isinstance(kept, list) and len(kept) == 2 and all(isinstance(text, str) for text in kept)


def _generated(size: int, seed: int) -> list[tuple[str, str]]:
    """Returns questions and answers."""
    import reasoning_gym

    rows = reasoning_gym.create_dataset("gsm_symbolic", seed=seed, size=size)
    return [(row["question"].removesuffix(INSTRUCTION), str(row["answer"])) for row in rows]


class GSMSymbolicZeroShot(GSMSymbolic):
    """The same items with the question only, for small models and for models trained on questions without exemplars."""

    name: ClassVar[str] = "gsm-symbolic-zero-shot"
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "full": dataclasses.replace(
                GSMSymbolic.protocols["full"],
                summary="500 generated items, seed 42, no exemplars",
                prompt_id=hashlib.sha256(b"").hexdigest()[:8],
            )
        }
    )

    def render(self, item: Item) -> Prompt:
        """Returns the question only; the form for base models ends in ``Answer:``."""
        return Prompt(user=item.question, prefill="", plain=f"Question: {item.question}\nAnswer:")
