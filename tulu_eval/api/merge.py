"""Puts the shards of a run together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, folder_of
from tulu_eval.api.words import spoken
from tulu_eval.errors import UserError
from tulu_eval.runs.merge import Merged
from tulu_eval.runs.merge import merge as put_together


@spoken
def merge(
    shards: Run | AnyPath | Sequence[Run | AnyPath], *, output: AnyPath | None = None, data: AnyPath | None = None
) -> Merged:
    """Puts the shards of a run together into the run that one process would have made. Shards are only read.

    >>> parts = [tulu_eval.evaluate("gsm8k", "./my-checkpoint", shard=(part, 2))[0] for part in (1, 2)]
    >>> tulu_eval.merge(parts).results

    Args:
        shards: The runs of the shards, or their folders, wherever they were copied to; or the folder of the run around them.
        output: The run's folder to write; the folder around the shards unless given.
        data: alpaca-eval: the data file, for a run that read one.

    Raises:
        UserError: If a shard is missing, given twice, unfinished or of another run; then nothing is written.
    """
    several = isinstance(shards, Sequence) and not isinstance(shards, str)
    folders = [folder_of(one) for one in shards] if several else [folder_of(shards)]  # type: ignore[union-attr, arg-type]
    if not folders:
        raise UserError("there are no shards to merge")
    return put_together(folders, None if output is None else Path(output), None if data is None else Path(data))
