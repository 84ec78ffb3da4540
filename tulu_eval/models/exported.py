"""``training.json``: how ``tulu-eval train`` made the model in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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


class Exported(Record, frozen=True):
    """The run's manifest, with the model's own name and the hash of its weights, both empty in a file of an older version."""

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
    name: str = ""
    weights_sha256: str = ""


def read(folder: Path) -> Exported:
    """Returns the content of the file in a trained model's folder.

    Raises:
        DataError: If there is no such file, or it is not as ``train`` writes it.
    """
    return files.read_as(folder / FILE, Exported, LIMIT)
