"""Typed records of ``judging.json``, the manifest of a judge."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from tulu_eval.files import Record
from tulu_eval.store.schema import Count, Hash, Name


class StoredScreen(Record, frozen=True):
    """Ids of the judged outputs that are odd, by the kind of oddity; ``n`` is the number of all judged outputs."""

    n: Count
    constant: tuple[Name, ...]
    copies_instruction: tuple[Name, ...]
    copies_baseline: tuple[Name, ...]
    to_the_judge: tuple[Name, ...]
    empty: tuple[Name, ...]
    reasoning: tuple[Name, ...] = ()


class StoredJudging(Record, frozen=True):
    """``judging.json``; fields of type ``Any`` are for people, no code reads them."""

    judge: Name
    method: Name
    prompt_sha256: Name
    counts: dict[str, Count] | UnsetType = UNSET
    baseline: Name = ""
    generator: Name = ""
    finished: Name = ""
    notes: tuple[str, ...] | UnsetType = UNSET
    screen: StoredScreen | UnsetType = UNSET
    calibration: dict[str, Any] | None = None
    annotator: Name = ""
    annotations_sha256: Hash = ""
    where: Any = None
    served_as: Any = None
    parameters: Any = None
    cached: Any = None
    estimate: Any = None
    spent: Any = None
    whole: Any = None
    price: Any = None
    tulu_eval: Any = None
