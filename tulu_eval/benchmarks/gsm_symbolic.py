"""GSM-Symbolic: GSM8K's templates with fresh names and numbers, generated here, so that no data set is needed.

Items come from ``reasoning-gym`` (``gsm_symbolic``, seeded); recipe and scorers are GSM8K's. One raw item::

    {"question": "There are 12 students ... Give the result as your final answer. Do not include units.", "answer": "70"}

The closing instruction is cut: the exemplars already show the form of an answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Item, Protocol
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError, PreflightError

SEED = 42
SIZE = 500
INSTRUCTION = " Give the result as your final answer. Do not include units."


class GSMSymbolic(GSM8K):
    """500 generated items in the recipe of GSM8K; there is no published cell for them."""

    name: ClassVar[str] = "gsm-symbolic"
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {"full": dataclasses.replace(GSM8K.protocols["full"], summary="500 generated items, seed 42", n=SIZE, covers=("full",))}
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the generated items in the generator's order."""
        if data is not None:
            raise DataError("--data", "gsm-symbolic generates its items; leave it out")
        try:
            import reasoning_gym
        except ImportError as error:
            raise PreflightError("gsm-symbolic needs the package reasoning-gym: pip install 'tulu-eval[symbolic]'") from error
        rows = reasoning_gym.create_dataset("gsm_symbolic", seed=SEED, size=protocol.n)
        return [
            Item(f"seed{SEED}-{index}", row["question"].removesuffix(INSTRUCTION), str(row["answer"]))
            for index, row in enumerate(rows)
        ]
