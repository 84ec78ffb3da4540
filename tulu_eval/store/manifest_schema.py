"""The typed records of a run folder's ``manifest.json``.

A record has exactly the fields of its file, so the hash of a record is the hash of the file that it was read from. A field that
an older version did not write is ``UNSET``, which is false and is left out of a written file. Whole numbers stay whole numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from tulu_eval.errors import DataError
from tulu_eval.files import Place, Record, checked
from tulu_eval.store.schema import Count, Hash, Integer, Name, Number, Positive, StoredTally
from tulu_eval.store.setup_schema import Setup, plain

MANIFEST_BYTES = 1 << 28
"""Largest size of a manifest in bytes: a million items take 0.1 GB, since it has their ids twice, and their keys."""

Plain = Name | Integer | Annotated[float, Meta(ge=-1e15, le=1e15)] | bool | tuple[Name, ...] | None
"""A value that describes an engine or a machine."""

ShortHash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
Shard = Annotated[tuple[Count, ...], Meta(min_length=2, max_length=2)]

_WRONG = "is not a manifest of this version: "


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


class Manifest(Setup, frozen=True, kw_only=True):
    """``manifest.json``.

    Attributes:
        settings_sha256: Hash of the setup; see :func:`tulu_eval.store.identity.settings_hash`.
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
