"""Names of benchmarks, suites, backends and rewards, of this package and of others, without importing any of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tulu_eval.errors import UnknownName

if TYPE_CHECKING:
    import importlib.metadata

BENCHMARKS = "tulu_eval.benchmarks"
BACKENDS = "tulu_eval.backends"
REWARDS = "tulu_eval.rewards"
SUITES = "tulu_eval.suites"


def names(group: str) -> list[str]:
    """Returns the sorted names that an entry point group declares."""
    return sorted({entry.name for entry in declared(group)})


@functools.lru_cache(maxsize=8)
def declared(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """Returns the entry points of a group. The first call searches all installed packages, which takes 60 ms."""
    import importlib.metadata  # 35 ms, which 'tulu-eval --help' need not wait for

    return tuple(importlib.metadata.entry_points(group=group))


def check(kind: str, given: Iterable[str], *groups: str) -> None:
    """Raises UnknownName for the first name that no group declares; ``kind`` is the message's word for it."""
    known = [name for group in groups for name in names(group)]
    for name in given:
        if name not in known:
            raise UnknownName(kind, name, known)
