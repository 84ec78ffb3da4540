"""Fixes the day that a chat template writes into its prompts when a run starts. Llama 3.1's and Granite's templates write it.

A sample's key depends on its prompt. A run that is killed before midnight must therefore keep its day to go on afterwards.
The hash of the settings, which names a run's folder, does not depend on the day.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path

from tulu_eval.errors import UserError
from tulu_eval.store.manifest import MANIFEST, read_manifest


def settle(given: str | None, run_folder: Path, folder: Path, shards: str) -> str:
    """Returns the day that a run's template writes, YYYY-MM-DD.

    The first that exists: the given day; the day of an earlier run with the same settings (this run, a shard of it, or a run
    with another limit), so that the new run can take over its samples; today.

    Args:
        given: Day that the user asks for; ``None`` for no wish.
        run_folder: Folder of the run; its name ends with ``-`` and the first digits of the settings' hash.
        folder: Folder that gets the samples: the run's folder, or a shard's.
        shards: Name of the folder with shards in a run's folder.

    Raises:
        UserError: If ``given`` is not a day of this form.
        DataError: If the manifest of an earlier run cannot be read.
    """
    if given is not None:
        return _day(given)
    settings = run_folder.name.rpartition("-")[2]
    started = [
        path.parent
        for pattern in (f"*-{settings}/{MANIFEST}", f"*-{settings}/{shards}/*/{MANIFEST}")
        for path in sorted(run_folder.parent.glob(pattern))
    ]
    for one in sorted(started, key=lambda one: (one != folder, one != run_folder, run_folder not in one.parents)):
        if noted := read_manifest(one).template.date:
            return _day(noted)
    return today()


def today() -> str:
    """Returns the current day in the local time zone, YYYY-MM-DD."""
    return datetime.now().astimezone().date().isoformat()


def _day(text: str) -> str:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass  # e.g. the 30th of February; the error follows
    raise UserError(f"{text!r} is no day of the form YYYY-MM-DD")
