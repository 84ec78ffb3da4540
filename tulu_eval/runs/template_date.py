"""The day that a chat template writes into its prompts (those of Llama 3.1 and Granite do): fixed when a run starts.

Prompts are part of a sample's key, so a run that is killed before midnight goes on after it only with the day that it began
with. The settings' hash, by which a run's folder is called, has no date in it.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from pathlib import Path

from tulu_eval.errors import UserError
from tulu_eval.runs.manifest import MANIFEST, read_manifest


def settle(given: str | None, run_folder: Path, folder: Path, shards: str) -> str:
    """Returns the day that a run's template writes, YYYY-MM-DD.

    It is the day that is given, else that of a run of the same settings that was started before (this one, a shard of it, one
    of another limit), so that its samples are taken over, else today.

    Args:
        given: The day asked for, if any.
        run_folder: The run's folder; what stands behind its name's last ``-`` are the settings.
        folder: Where its samples go: this folder, or that of a shard.
        shards: Name of the folder in a run's folder that has its shards.

    Raises:
        UserError: If the day that is given is none.
        DataError: If a manifest that is there cannot be read.
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
    """Returns the day here and now, YYYY-MM-DD."""
    return datetime.now().astimezone().date().isoformat()


def _day(text: str) -> str:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return date.fromisoformat(text).isoformat()
    except ValueError:
        pass  # such as the 30th of February, which is said below
    raise UserError(f"{text!r} is no day of the form YYYY-MM-DD")
