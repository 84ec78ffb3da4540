"""What the JSON files of a run folder may hold, field by field: types, ranges, and nothing that is not known.

Fields with a default are absent in files of older versions. Where an imported run does not know a value it has null there; a
run of our own has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, UnsetType

from tulu_eval.errors import DataError
from tulu_eval.files import Place, Record, checked, read_json
from tulu_eval.records import FinishReason, Status

MANIFEST_BYTES = 1 << 28
"""Most bytes of a manifest: a million items take 0.1 GB, by their ids, twice, and their keys."""

SMALL_BYTES = 1 << 24
"""Most bytes of every other JSON file of a run folder, which has a few rows or a few ids."""

Name = Annotated[str, Meta(max_length=4096)]
Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Integer = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Positive = Annotated[float, Meta(ge=0, le=1e15)]
Percent = Annotated[float, Meta(ge=-1e-6, le=100 + 1e-6)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Plain = Name | Integer | Number | bool | list[Name] | None
"""What engines, machines and packages say of themselves."""

R = TypeVar("R", bound=Record)


class StoredModel(Record, frozen=True):
    """The model of a run."""

    name: Annotated[str, Meta(min_length=1, max_length=4096)]
    revision: Name
    tokenizer_sha256: Name
    parameters: Count
    weights_sha256: Name | None = None
    architecture: Name | None = None
    context: Count | None = None


class StoredBenchmark(Record, frozen=True):
    """The benchmark of a run; hashes of its data as a file and as items."""

    name: Name
    version: Count
    data_sha256: Name = ""
    items_sha256: Name = ""


class StoredDecoding(Record, frozen=True):
    """How tokens were drawn; null is unknown."""

    max_new_tokens: Count | None
    temperature: Positive | None
    seed: Integer | None
    top_p: Positive | None = None
    top_k: Integer | None = None
    stop: list[Name] | None = None


class StoredProtocol(Record, frozen=True):
    """The protocol of a run."""

    name: Name
    prompt_id: Name
    n: Count
    metric: Name
    covers: list[Name]
    decoding: StoredDecoding
    plain_decoding: StoredDecoding
    summary: Name
    sha256: Hash


class StoredTemplate(Record, frozen=True):
    """The chat template of a run."""

    form: Name
    sha256: Name
    source: Name = ""
    date: Name = ""
    reasoning: Name = ""


class StoredEndToken(Record, frozen=True):
    """A token that somebody names as an end."""

    id: Integer
    text: str
    origins: list[Name]


class StoredEndTokens(Record, frozen=True):
    """What ends a completion."""

    chosen: list[StoredEndToken]
    passed_over: list[StoredEndToken]


class StoredServed(Record, frozen=True):
    """A model behind a server."""

    url: Name
    name: Name
    prompts: Name
    timeout: Positive


class StoredSettings(Record, frozen=True):
    """How an engine was built."""

    quantization: Name
    adapter: Name
    dtype: Name = "auto"
    device: Name = "auto"
    batch_size: Count = 0
    trust_remote_code: bool = False
    allow_pickle: bool = False
    prefix_caching: bool = True
    tensor_parallel: Count = 1
    pipeline_parallel: Count = 1
    data_parallel: Count = 1
    gpu_memory_utilization: Positive = 0.92
    max_model_len: Count = 0
    served: StoredServed | UnsetType = UNSET


class Session(Record, frozen=True):
    """One call of ``run`` or ``import``: when, and what it took."""

    started: Name
    samples: Count = 0
    prompt_tokens: Count = 0
    new_tokens: Count = 0
    load_seconds: Positive = 0
    generate_seconds: Positive = 0
    score_seconds: Positive = 0
    usage: dict[str, Number | None] | None = None
    traffic: dict[str, Number | None] | None = None
    ended: Name = ""
    finished: Name = ""
    shard: Name = ""
    machine: dict[str, Plain] | UnsetType = UNSET
    commit: Name = ""


class StoredImported(Record, frozen=True):
    """The file of another harness that a run was made of."""

    file: Name
    sha256: Hash
    called: Name = ""
    lines: Count = 0
    answers: Count = 0
    foreign: Count = 0
    changed: Count = 0
    repeated: Count = 0
    missing: Count = 0
    reworded: Count = 0
    nulls: Count = 0
    end_reasons: Name = ""


class StoredTally(Record, frozen=True):
    """How much of a run is there."""

    planned: Count
    done: Count
    failed: Count
    cause: str = ""


class StoredManifest(Record, frozen=True):
    """``manifest.json``."""

    format: Literal[1]
    settings_sha256: Name
    model: StoredModel
    benchmark: StoredBenchmark
    protocol: StoredProtocol
    template: StoredTemplate
    decoding: StoredDecoding
    eos_ids: list[Integer] | None
    backend: Name
    dtype: Name
    settings: StoredSettings
    seed: Integer | None
    limit: Integer | Number | Name | None
    items: dict[str, list[Name]]
    planned: list[Name]
    engine: dict[str, Plain]
    packages: dict[str, Name]
    machine: dict[str, Plain]
    sessions: list[Session]
    commit: Name
    status: Name = ""
    command: list[str] | UnsetType = UNSET
    end_tokens: StoredEndTokens | UnsetType = UNSET
    keys: list[Hash] | UnsetType = UNSET
    asked: list[Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]] | UnsetType = UNSET
    answers_sha256: Hash = ""
    tally: StoredTally | UnsetType = UNSET
    shard: Annotated[list[Count], Meta(min_length=2, max_length=2)] | UnsetType = UNSET
    imported: StoredImported | UnsetType = UNSET


class StoredRow(Record, frozen=True):
    """A row of ``result.json``."""

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


class BundledItem(Record, frozen=True):
    """A line of a bundle's ``items.jsonl``."""

    id: str
    target: str
    prompt_sha256: Name


class DigestLine(Record, frozen=True):
    """A line of ``digests.jsonl``."""

    item: str
    status: Status
    prompt_sha256: Name
    text_sha256: Hash
    characters: Count
    line_sha256: Hash


def read_object(path: Path, kind: type[Record], what: str, limit: int = SMALL_BYTES) -> dict[str, Any]:
    """Returns a file's JSON object, of which every field has been checked.

    Args:
        path: The file.
        kind: What it must be.
        what: The same for a message, as ``"a manifest"``.
        limit: Bytes that it may have.

    Raises:
        DataError: If it cannot be read, is no JSON object, or a field is missing, unknown, or not of its type or range.
    """
    data = read_json(path, limit)
    if not isinstance(data, dict):
        raise DataError(path, "is not a JSON object")
    checked(data, kind, Place(path), f"is not {what} of this version: ")
    return data


def check_results(path: Path, data: dict[str, Any]) -> None:
    """Checks all fields of a ``result.json``.

    Raises:
        DataError: If one is missing, unknown, or not of its type or range, or a row counts more than there is.
    """
    wrong = "is not a result of this version: "
    for row in checked(data, Results, Place(path), wrong).results:
        if not row.n <= row.n_protocol or sum(row.counts.values()) > row.n_protocol or not row.low <= row.high:
            raise DataError(path, f"{wrong}{row.metric}: n, n_protocol, counts and interval do not fit together")


def check_manifest(path: Path, data: dict[str, Any]) -> None:
    """Checks all fields of a manifest.

    Raises:
        DataError: If one is missing, unknown, or not of its type or range, or an item is there twice.
    """
    wrong = "is not a manifest of this version: "
    checked(data, StoredManifest, Place(path), wrong)
    for name, ids in (("planned", data["planned"]), *((f"items.{name}", ids) for name, ids in data["items"].items())):
        if len(set(ids)) != len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise DataError(path, f"{wrong}{name}: has {twice!r:.80} twice")
    if "tulu-eval" not in data["packages"]:
        raise DataError(path, f"{wrong}packages: has no 'tulu-eval'")
    if "imported" not in data and (null := _first_null(data)):
        raise DataError(path, f"{wrong}{null}: is null, which only an imported run may have")


def _first_null(data: Mapping[str, Any]) -> str:
    """Returns the first field that only an imported run may not know."""
    decodings = {
        "decoding": data["decoding"],
        "protocol.decoding": data["protocol"]["decoding"],
        "protocol.plain_decoding": data["protocol"]["plain_decoding"],
    }
    for name in ("eos_ids", "seed"):
        if data[name] is None:
            return name
    return next((f"{name}.{key}" for name, one in decodings.items() for key, value in one.items() if value is None), "")
