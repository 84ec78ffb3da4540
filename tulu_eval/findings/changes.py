"""Finds the differences between the manifests of two runs, and the fields that one of them does not know."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import UNSET

from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.setup_schema import plain
from tulu_eval.store.signature import UNKNOWN

_SETTINGS = (
    "model",
    "benchmark",
    "protocol",
    "template",
    "decoding",
    "eos_ids",
    "backend",
    "dtype",
    "settings",
    "seed",
    "limit",
)
_ENVIRONMENT = ("engine", "packages", "machine", "commit")
_DERIVED = {"protocol.sha256", "protocol.summary", "engine.dtype", "benchmark.data_sha256", "benchmark.items_sha256"}
"""Fields that repeat others, or that :func:`_data` compares."""

_NULL_IS_UNKNOWN = ("decoding.", "eos_ids", "seed")
"""Fields in which null means that the harness of an imported run did not say."""

_REPEATED = ("protocol.decoding", "protocol.plain_decoding")
"""Fields of an imported run that repeat ``decoding``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A field in which two manifests differ.

    Attributes:
        name: Path of the field, e.g. ``model.revision``.
        a: Value in A; empty if A does not have the field, ``unknown`` if A was imported and its harness did not say.
        b: Value in B, likewise.
        kind: ``setting``: chosen, or given by the model. ``environment``: software or machine. ``unknown``: a run does not know
            the value, so nobody can tell whether the two differ.
    """

    name: str
    a: str
    b: str
    kind: Literal["setting", "environment", "unknown"]


def changes(a: Manifest, b: Manifest) -> Iterator[Change]:
    """Yields the differences between two manifests, and the fields that one of them does not know."""
    kinds: tuple[tuple[Literal["setting", "environment"], tuple[str, ...]], ...] = (
        ("setting", _SETTINGS),
        ("environment", _ENVIRONMENT),
    )
    for kind, keys in kinds:
        of_a, of_b = (_fields(manifest, keys) for manifest in (a, b))
        absent_a, absent_b = (UNKNOWN if manifest.imported else "" for manifest in (a, b))
        for name in dict.fromkeys((*of_a, *of_b)):
            one, other = of_a.get(name, absent_a), of_b.get(name, absent_b)
            if name not in _DERIVED and not (UNKNOWN in (absent_a, absent_b) and name.startswith(_REPEATED)):
                yield from _change(name, one, other, kind)
    yield from _data(a, b)


def _change(name: str, one: str, other: str, kind: Literal["setting", "environment"]) -> Iterator[Change]:
    if is_unknown(one) or is_unknown(other):
        yield Change(name, UNKNOWN if is_unknown(one) else one, UNKNOWN if is_unknown(other) else other, "unknown")
    elif one != other:
        yield Change(name, one, other, kind)


def _data(a: Manifest, b: Manifest) -> Iterator[Change]:
    """Yields the data if they differ, by the hash of the items, or of the file if an older run has no hash of the items.

    It yields nothing if both protocols fix their items, since these are the same from any file.
    """
    if a.protocol.n and b.protocol.n:
        return
    of_items = UNSET not in (a.benchmark.items_sha256, b.benchmark.items_sha256)
    name = "items_sha256" if of_items else "data_sha256"
    one, other = (str(getattr(manifest.benchmark, name) or "") for manifest in (a, b))
    yield from _change(f"benchmark.{name}", one, other, "setting")


def _fields(manifest: Manifest, keys: Sequence[str]) -> dict[str, str]:
    """Returns the fields of a manifest by path; ``unknown`` for each that an imported run's harness did not say."""
    data = plain(manifest)
    found = {name: value for key in keys for name, value in _flat(key, data.get(key))}
    if not manifest.imported:
        return {name: str(value) for name, value in found.items() if value is not None}
    zero = {"model.parameters", "model.context"}
    return {
        name: UNKNOWN if (value is None and name.startswith(_NULL_IS_UNKNOWN)) or (name in zero and not value) else str(value)
        for name, value in found.items()
        if value is not None or name.startswith(_NULL_IS_UNKNOWN)
    }


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def is_unknown(value: str) -> bool:
    """Whether a field of a manifest is unknown; an unknown field equals nothing, not even another unknown one."""
    return value == UNKNOWN or value.startswith(f"{UNKNOWN}-")
