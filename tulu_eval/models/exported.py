"""``training.json``: how ``tulu-eval train`` made the model in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from tulu_eval import files
from tulu_eval.files import Record

FILE = "training.json"

LIMIT = 1 << 24
"""Largest size in bytes; a real file has 10 kB."""


class ExportedSetting(Record, frozen=True):
    """A value of the recipe and its source."""

    value: str | int | float | bool | None
    source: str


class ExportedRecipe(Record, frozen=True):
    """The recipe; the hash is over its values."""

    name: str
    sha256: str
    about: str


class ExportedChange(Record, frozen=True):
    """A setting that a run had from some step on, because the command that went on gave another value.

    Attributes:
        step: Number of steps that were finished with the value before.
    """

    step: int
    setting: str
    before: float
    after: float


class Exported(Record, frozen=True):
    """The run's manifest.

    Attributes:
        settings: The recipe's values, as the last command gave them.
        rewards: Weights of PPO's rewards by name; empty in a file of an older version.
        changes: The settings that changed where the run went on; empty in a file of an older version.
        name: The model's own name; empty in a file of an older version, like the hash.
    """

    version: str
    stage: Literal["sft", "rm", "dpo", "ppo"]
    recipe: ExportedRecipe
    settings: dict[str, ExportedSetting]
    identity: dict[str, str]
    model: str
    reward_model: str | None
    rows_kept: int
    rows_dropped: dict[str, int]
    steps: int
    ranks: int
    commit: str
    packages: dict[str, str]
    machine: dict[str, str | int]
    changes: tuple[ExportedChange, ...] = ()
    rewards: dict[str, float] = msgspec.field(default_factory=dict)
    name: str = ""
    weights_sha256: str = ""


def read(folder: Path) -> Exported:
    """Returns the content of the file in a trained model's folder.

    Raises:
        DataError: If there is no such file, or it is not as ``train`` writes it.
    """
    return files.read_as(folder / FILE, Exported, LIMIT)
