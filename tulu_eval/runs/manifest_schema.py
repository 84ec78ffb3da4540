"""The typed records of a run folder's ``manifest.json``.

A record has exactly the fields of its file, so the hash of a record is the hash of the file that it was read from. A field that
an older version did not write is ``UNSET``, which is false and is left out of a written file. Whole numbers stay whole numbers.
Null in ``seed``, ``eos_ids`` or a decoding means that another harness did not keep the value; only imported runs have it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tulu_eval.benchmarks.base import Protocol, protocol_fields
from tulu_eval.errors import DataError
from tulu_eval.files import Place, Record, checked
from tulu_eval.records import content_hash
from tulu_eval.runs.schema import Count, Hash, Integer, Name, Number, Positive, StoredTally

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MANIFEST_BYTES = 1 << 28
"""Largest size of a manifest in bytes: a million items take 0.1 GB, since it has their ids twice, and their keys."""

Plain = Name | Integer | Annotated[float, Meta(ge=-1e15, le=1e15)] | bool | tuple[Name, ...] | None
"""A value that describes an engine or a machine."""

ShortHash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
Shard = Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)]

R = TypeVar("R", bound=Record)

_WRONG = "is not a manifest of this version: "


class StoredModel(Record, frozen=True):
    """The model of a run.

    Attributes:
        name: Hub id, name in the registry, or name of a local model.
        revision: Commit of the hub, ``sha256:`` and a hash of local files, or ``served``; empty if no run is known.
        tokenizer_sha256: Hash of the tokenizer's files.
        parameters: Number of parameters; 0 if unknown.
        weights_sha256: Hash of the weights' files; null if they are not on this machine.
        architecture: Name of the model class; null if unknown.
        context: Number of positions; 0 or null if unknown.
    """

    name: Annotated[str, Meta(min_length=1, max_length=4096)]
    revision: Name
    tokenizer_sha256: Name
    parameters: Count
    weights_sha256: Name | UnsetType | None = UNSET
    architecture: Name | UnsetType | None = UNSET
    context: Count | UnsetType | None = UNSET


class StoredBenchmark(Record, frozen=True):
    """The benchmark of a run.

    Attributes:
        version: Version of the grading code.
        data_sha256: Hash of the data file, or of the items if there was no file or a folder of them.
        items_sha256: Hash of the items, which does not depend on the form of a file.
    """

    name: Name
    version: Count
    data_sha256: Name | UnsetType = UNSET
    items_sha256: Name | UnsetType = UNSET


class StoredDecoding(Record, frozen=True):
    """The settings of generation; null means unknown, which only an imported run may have."""

    max_new_tokens: Count | None
    temperature: Positive | None
    seed: Integer | None
    top_p: Positive | UnsetType | None = UNSET
    top_k: Integer | UnsetType | None = UNSET
    stop: tuple[Name, ...] | UnsetType | None = UNSET


class StoredProtocol(Record, frozen=True):
    """The protocol of a run; ``sha256`` is the hash of all other fields.

    Attributes:
        samples: Samples per item; absent for one.
        reasoning: Opening and closing tag of the block that is cut from answers; absent for none.
        longest_prompt: Tokens above which a prompt is made shorter; absent for any number.
    """

    name: Name
    prompt_id: Name
    n: Count
    metric: Name
    covers: tuple[Name, ...]
    decoding: StoredDecoding
    plain_decoding: StoredDecoding
    summary: Name
    sha256: Hash
    samples: Annotated[int, Meta(ge=2, le=1_000_000)] | UnsetType = UNSET
    reasoning: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=2)] | UnsetType = UNSET
    longest_prompt: Annotated[int, Meta(ge=1, le=1_000_000_000)] | UnsetType = UNSET


class StoredTemplate(Record, frozen=True):
    """The chat template of a run; see :class:`tulu_eval.models.tokenizer.Template`."""

    form: Name
    sha256: Name
    source: Name | UnsetType = UNSET
    date: Name | UnsetType = UNSET
    reasoning: Name | UnsetType = UNSET


class StoredEndToken(Record, frozen=True):
    """A token that a file of the model names as an end."""

    id: Integer
    text: str
    origins: tuple[Name, ...]


class StoredEndTokens(Record, frozen=True):
    """The tokens that end a completion, and those that were passed over."""

    chosen: tuple[StoredEndToken, ...]
    passed_over: tuple[StoredEndToken, ...]


class StoredServed(Record, frozen=True):
    """A model behind a server; ``timeout`` is in seconds."""

    url: Name
    name: Name
    prompts: Name
    timeout: Positive


class StoredSettings(Record, frozen=True):
    """The settings of the engine; see :class:`tulu_eval.backends.base.EngineSettings`."""

    quantization: Name
    adapter: Name
    dtype: Name | UnsetType = UNSET
    device: Name | UnsetType = UNSET
    batch_size: Count | UnsetType = UNSET
    trust_remote_code: bool | UnsetType = UNSET
    allow_pickle: bool | UnsetType = UNSET
    prefix_caching: bool | UnsetType = UNSET
    tensor_parallel: Count | UnsetType = UNSET
    pipeline_parallel: Count | UnsetType = UNSET
    data_parallel: Count | UnsetType = UNSET
    gpu_memory_utilization: Positive | UnsetType = UNSET
    max_model_len: Count | UnsetType = UNSET
    served: StoredServed | UnsetType = UNSET


class StoredUsage(Record, frozen=True):
    """Tokens and seconds of an engine in one session; see :class:`tulu_eval.backends.base.Usage`."""

    prefill_tokens: Number | UnsetType | None = UNSET
    prefill_seconds: Number | UnsetType | None = UNSET
    decode_tokens: Number | UnsetType | None = UNSET
    decode_seconds: Number | UnsetType | None = UNSET
    decode_steps: Number | UnsetType | None = UNSET


class StoredTraffic(Record, frozen=True):
    """Requests to a server in one session; see :class:`tulu_eval.backends.base.Traffic`."""

    sent: Number | UnsetType | None = UNSET
    resent: Number | UnsetType | None = UNSET


class Session(Record, frozen=True):
    """One call of ``run`` or ``import``; times of day are ISO 8601 in UTC.

    Attributes:
        usage: Tokens and seconds of the engine's parts; null if the engine cannot tell.
        traffic: Requests to a server.
        ended: ``complete``, ``interrupted``, ``failed`` or ``imported``.
        shard: ``I/N`` if a merged run has the session from a shard, and then also the shard's machine and commit.
    """

    started: Name
    samples: Count | UnsetType = UNSET
    prompt_tokens: Count | UnsetType = UNSET
    new_tokens: Count | UnsetType = UNSET
    load_seconds: Positive | UnsetType = UNSET
    generate_seconds: Positive | UnsetType = UNSET
    score_seconds: Positive | UnsetType = UNSET
    usage: StoredUsage | UnsetType | None = UNSET
    traffic: StoredTraffic | UnsetType | None = UNSET
    ended: Name | UnsetType = UNSET
    finished: Name | UnsetType = UNSET
    shard: Name | UnsetType = UNSET
    machine: Mapping[str, Plain] | UnsetType = UNSET
    commit: Name | UnsetType = UNSET


class StoredImported(Record, frozen=True):
    """The file of another harness that a run was made of; see :class:`tulu_eval.exchange.import_file.Matched`."""

    file: Name
    sha256: Hash
    called: Name | UnsetType = UNSET
    lines: Count | UnsetType = UNSET
    answers: Count | UnsetType = UNSET
    foreign: Count | UnsetType = UNSET
    changed: Count | UnsetType = UNSET
    repeated: Count | UnsetType = UNSET
    missing: Count | UnsetType = UNSET
    reworded: Count | UnsetType = UNSET
    nulls: Count | UnsetType = UNSET
    end_reasons: Name | UnsetType = UNSET


class About(Record, frozen=True, kw_only=True):
    """The facts that are known of every set of answers."""

    model: StoredModel
    benchmark: StoredBenchmark
    settings: StoredSettings


class OutputsOnly(About, frozen=True, kw_only=True):
    """The facts that are known of a file of outputs whose run is unknown.

    Attributes:
        source: ``outputs of a file``, or ``re-scored`` if the outputs came with a judge's annotations.
        finished: Time of the scoring, ISO 8601 in UTC.
    """

    source: Name
    finished: Name


class Setup(About, frozen=True, kw_only=True):
    """Everything that a run does with its items; a plan knows it before anything is loaded.

    Attributes:
        eos_ids: Ids of the tokens that end a completion; null if unknown.
        end_tokens: The same tokens with the files that name them; absent in older files.
        dtype: Resolved dtype, never ``auto``; ``served`` for a model behind a server.
        imported: File of another harness; absent in a run of our own.
    """

    protocol: StoredProtocol
    template: StoredTemplate
    decoding: StoredDecoding
    eos_ids: tuple[Integer, ...] | None
    end_tokens: StoredEndTokens | UnsetType = UNSET
    backend: Name
    dtype: Name
    imported: StoredImported | UnsetType = UNSET


class Manifest(Setup, frozen=True, kw_only=True):
    """``manifest.json``.

    Attributes:
        settings_sha256: Hash of the setup; see :func:`tulu_eval.runs.identity.settings_hash`.
        seed: Seed of sampling.
        limit: Value of ``--limit``; null for all items.
        items: All item ids of each protocol that the run covers, by protocol; the limit does not shorten them.
        planned: Ids of the run's own items in its order.
        keys: Key of each planned sample's request.
        asked: Hash of each planned sample's item, key, right answer and prompt.
        engine: The engine's description of itself; empty before its first start.
        packages: Installed versions by package.
        commit: Commit of tulu-eval's checkout; empty without one.
        command: The command line without folders.
        status: ``running``, ``incomplete``, ``complete``, ``failures`` or ``imported``.
        tally: Numbers of planned, answered and failed items.
        answers_sha256: Hash of the samples without their grades.
        shard: Part, from 1 on, and number of parts; absent for a whole run.
    """

    format: Literal[1]
    settings_sha256: Name
    seed: Integer | None
    limit: Integer | Annotated[float, Meta(ge=-1e15, le=1e15)] | Name | None
    items: Mapping[str, tuple[Name, ...]]
    planned: tuple[Name, ...]
    engine: Mapping[str, Plain]
    packages: Mapping[str, Name]
    machine: Mapping[str, Plain]
    sessions: tuple[Session, ...]
    commit: Name
    status: Name | UnsetType = UNSET
    command: tuple[str, ...] | UnsetType = UNSET
    keys: tuple[Hash, ...] | UnsetType = UNSET
    asked: tuple[ShortHash, ...] | UnsetType = UNSET
    tally: StoredTally | UnsetType = UNSET
    answers_sha256: Hash | UnsetType = UNSET
    shard: Shard | UnsetType = UNSET


def stored(record: DataclassInstance, kind: type[R], **more: Any) -> R:
    """Returns a dataclass of the program as a record of the manifest; fields that are ``None`` stay unset.

    Args:
        record: Dataclass to store.
        kind: Class of the record; its fields have the same names.
        more: Further fields of the record.

    Raises:
        DataError: If no manifest can have one of the values, e.g. a text of more than 4,096 characters.
    """
    data = {name: value for name, value in dataclasses.asdict(record).items() if value is not None}
    return checked(data | more, kind, Place(type(record).__name__))


def stored_protocol(protocol: Protocol) -> StoredProtocol:
    """Returns a protocol as a record of the manifest, with its hash; raises the same error as :func:`stored`."""
    fields = protocol_fields(protocol)
    return checked({**fields, "sha256": content_hash(fields)}, StoredProtocol, Place(f"protocol {protocol.name}"))


def plain(record: Record) -> dict[str, Any]:
    """Returns a record as JSON data without the fields that are ``UNSET``."""
    data: dict[str, Any] = msgspec.to_builtins(record)
    return data


def checked_manifest(path: Path, data: Mapping[str, Any]) -> Manifest:
    """Returns the JSON object of a manifest as a record.

    Raises:
        DataError: If a field is missing, unknown, or not of its type or range, an item occurs twice in a list, or a run of our
            own has a null.
    """
    manifest = checked(data, Manifest, Place(path), _WRONG)
    for name, ids in (("planned", manifest.planned), *((f"items.{name}", ids) for name, ids in manifest.items.items())):
        if len(set(ids)) != len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise DataError(path, f"{_WRONG}{name}: has {twice!r:.80} twice")
        if not _whole(ids, manifest.protocol.samples or 1):
            raise DataError(path, f"{_WRONG}{name}: has not {manifest.protocol.samples} samples of each item")
    if "tulu-eval" not in manifest.packages:
        raise DataError(path, f"{_WRONG}packages: has no 'tulu-eval'")
    if not manifest.imported and (null := _first_null(manifest)):
        raise DataError(path, f"{_WRONG}{null}: is null, which only an imported run may have")
    return manifest


def _whole(ids: Sequence[str], samples: int) -> bool:
    """Whether ids are those of all samples of some items, each item's together."""
    items = [one.rpartition("#")[0] for one in ids[::samples]]
    return samples == 1 or [f"{item}#{number}" for item in items for number in range(1, samples + 1)] == list(ids)


def _first_null(manifest: Manifest) -> str:
    """Returns the path of the first null that only an imported run may have; empty if there is none."""
    if manifest.eos_ids is None:
        return "eos_ids"
    if manifest.seed is None:
        return "seed"
    decodings = {
        "decoding": manifest.decoding,
        "protocol.decoding": manifest.protocol.decoding,
        "protocol.plain_decoding": manifest.protocol.plain_decoding,
    }
    return next((f"{name}.{key}" for name, one in decodings.items() for key, value in plain(one).items() if value is None), "")
