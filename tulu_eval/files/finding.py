"""Finds files under a folder that somebody else may have filled; follows no link and stops in an endless tree."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from tulu_eval.errors import printable

LEVELS = 32
"""Largest depth of a folder below the first; a judge's folder is five levels below ``results``."""

FOLDERS = 1 << 20
"""Largest number of folders that are searched."""


def find(root: Path, names: Collection[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Returns the sorted paths of the files with each name under a folder, and one line per folder that was not searched.

    The paths include links of these names, even broken ones. It does not search a folder behind a link.
    """
    found: dict[str, list[Path]] = {name: [] for name in names}
    problems: list[str] = []
    open_ = [(str(root), 0)]
    looked = 0
    while open_:
        place, level = open_.pop()
        if looked == FOLDERS:
            problems.append(printable(f"{root}: has more than {FOLDERS:,} folders; the rest was not looked into"))
            break
        looked += 1
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name in found:
                        found[entry.name].append(Path(entry.path))
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    if level < LEVELS:
                        open_.append((entry.path, level + 1))
                    else:
                        problems.append(printable(f"{entry.path}: is not looked into, {LEVELS} folders down"))
        except OSError as error:
            problems.append(printable(f"{error.filename or place}: cannot be read: {error.strerror}"))
    return {name: sorted(paths) for name, paths in found.items()}, sorted(problems)
