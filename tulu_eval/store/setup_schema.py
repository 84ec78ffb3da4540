"""The typed records of a run's setup: all that is known before its first item, as a plan and a manifest share it.

A field that an older version did not write is ``UNSET``, which is false and is left out of a written file. Null in ``seed``,
``eos_ids`` or a decoding means that another harness did not keep the value; only imported runs have it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tulu_eval.benchmarks.base import Protocol, protocol_fields
from tulu_eval.files import Place, Record, checked
from tulu_eval.records import content_hash
from tulu_eval.store.schema import Count, Hash, Integer, Name, Positive

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound=Record)


class StoredModel(Record, frozen=True):
    """The model of a run.

    Attributes:
        name: Hub id, name in the registry, or name of a local model.
        revision: Commit of the hub, ``sha256:`` and a hash of local files, or ``served``; empty if no run is known.
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
        longest_passage: Tokens above which a passage is cut; absent for any number.
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
    longest_passage: Annotated[int, Meta(ge=1, le=1_000_000_000)] | UnsetType = UNSET


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
    cluster: Name | UnsetType = UNSET


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


def stored(record: DataclassInstance, kind: type[R], **more: Any) -> R:
    """Returns a dataclass of the program as a record of the manifest; fields that are ``None`` stay unset.

    ``kind`` is a class of record with fields of the same names; ``more`` are further fields.

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
