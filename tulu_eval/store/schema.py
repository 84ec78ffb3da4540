"""Typed records of ``result.json`` and ``samples.jsonl``, and the types and ranges that all files of a run folder use.

A file may have no field that its record lacks. Older versions did not write the fields with a default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, UnsetType

from tulu_eval.errors import DataError
from tulu_eval.files import Place, Record, checked, read_json
from tulu_eval.logprobs import LOGPROB_RANGE
from tulu_eval.records import FinishReason, Status

SMALL_BYTES = 1 << 24
"""Largest size in bytes of a run folder's JSON files other than the manifest; they have a few rows or a few ids."""

Name = Annotated[str, Meta(max_length=4096)]
Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Integer = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
Number = Annotated[int, Meta(ge=-(10**15), le=10**15)] | Annotated[float, Meta(ge=-1e15, le=1e15)]
Positive = Annotated[int, Meta(ge=0, le=10**15)] | Annotated[float, Meta(ge=0, le=1e15)]
Percent = Annotated[float, Meta(ge=-1e-6, le=100 + 1e-6)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
LogProbability = Annotated[float, Meta(ge=LOGPROB_RANGE[0], le=LOGPROB_RANGE[1])]

R = TypeVar("R", bound=Record)


class StoredTally(Record, frozen=True):
    """Numbers of planned, answered and failed items; see :class:`tulu_eval.store.tally.Tally`."""

    planned: Count
    done: Count
    failed: Count
    cause: str = ""


class StoredRow(Record, frozen=True):
    """A row of ``result.json``; see :class:`tulu_eval.records.Result`."""

    benchmark: Name
    protocol: Name
    scorer: Name
    metric: Name
    value: Percent
    n: Count
    n_protocol: Count
    low: Percent
    high: Percent
    interval: Name
    counts: dict[str, Count]
    signature: str
    planned: Count | UnsetType = UNSET
    samples: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET


class Results(Record, frozen=True):
    """``result.json`` of a run or of a judge's folder."""

    format: Literal[1]
    results: list[StoredRow]
    samples_sha256: Hash
    sha256: Hash
    answers_sha256: Hash = ""
    manifest_sha256: Hash = ""
    graded_by: Count | UnsetType = UNSET
    tally: StoredTally | UnsetType = UNSET


class SampleGrade(Record, frozen=True):
    """One scorer's grade in a line of ``samples.jsonl``."""

    scorer: Name
    answer: str
    answered: bool
    score: Fraction
    weight: Positive = 1.0


class SampleLikelihood(Record, frozen=True):
    """One continuation's log-probabilities in a line of ``samples.jsonl``."""

    text: str
    logprobs: Annotated[list[LogProbability], Meta(min_length=1)]


class SampleLine(Record, frozen=True):
    """A line of ``samples.jsonl``."""

    key: Hash
    item: str
    status: Status
    target: str
    prompt_sha256: Name
    text: str
    token_ids: list[Integer]
    finish_reason: FinishReason
    error: str
    grades: list[SampleGrade]
    seconds: Positive
    crc: str
    group: str = ""
    likelihoods: tuple[SampleLikelihood, ...] = ()


def read_record(path: Path, kind: type[R], what: str, limit: int = SMALL_BYTES) -> R:
    """Returns a file's JSON object as a record.

    ``what`` names the record in messages, e.g. ``"a note"``; ``limit`` is the largest size of the file in bytes.

    Raises:
        DataError: If the file cannot be read, is no JSON object, or a field is missing, unknown, or not of its type or range.
    """
    data = read_json(path, limit)
    if not isinstance(data, dict):
        raise DataError(path, "is not a JSON object")
    return checked(data, kind, Place(path), f"is not {what} of this version: ")


def check_results(path: Path, data: dict[str, Any]) -> None:
    """Raises DataError if a ``result.json`` has a field missing, unknown or out of type or range, or contradicts itself."""
    wrong = "is not a result of this version: "
    for row in checked(data, Results, Place(path), wrong).results:
        most = row.n_protocol * (row.samples or 1)
        if not row.n <= row.n_protocol or sum(row.counts.values()) > most or not row.low <= row.high:
            raise DataError(path, f"{wrong}{row.metric}: n, n_protocol, counts and interval do not fit together")
