"""Cuts rows into micro-batches, and repeats work in smaller ones when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tulu_eval import files
from tulu_eval.backends.hf.batching import free_memory, is_out_of_memory
from tulu_eval.errors import DataError, EngineError
from tulu_eval.training.packing import cut, parts_needed
from tulu_eval.training.parallel import Ranks

_LOG = logging.getLogger(__name__)

MICRO_TOKENS = "micro-tokens"
"""File with the tokens of a micro-batch; a rank among several writes it when the recipe's number was too large for it."""

T = TypeVar("T")
R = TypeVar("R")


class MicroBatches:
    """Cuts each batch of one rank.

    Args:
        folder: The run's folder, which keeps a smaller number of tokens for the next start.
        tokens: The recipe's largest number of tokens in a micro-batch; a longer row goes alone.
        undo: Removes the gradients of a try that ran out of memory.

    Attributes:
        tokens: Largest number of tokens in a micro-batch; halved whenever memory runs out.
    """

    def __init__(self, ranks: Ranks, folder: Path, tokens: int, undo: Callable[[], None]) -> None:
        self._ranks, self._file, self._undo = ranks, folder / MICRO_TOKENS, undo
        self.tokens = min(tokens, _read_number(self._file, tokens))

    def each(self, rows: Sequence[T], tokens: Callable[[T], int], work: Callable[[list[T]], R]) -> list[R]:
        """Returns the results of ``work`` for each micro-batch of rows; raises what :meth:`fitting` raises.

        ``tokens`` returns the number of a row's tokens that go through a model.
        """
        lengths = [tokens(row) for row in rows]
        return self.fitting(lengths, lambda parts: [work([rows[place] for place in part]) for part in parts])

    def fitting(self, lengths: Sequence[int], work: Callable[[list[list[int]]], R]) -> R:
        """Returns the result of ``work``, which gets the places of the rows of each micro-batch.

        All ranks have the same number of micro-batches, each with about as many tokens. When memory runs out, the method undoes
        the whole call, gradients included, and repeats it with half the tokens. Among several ranks the others wait in the
        middle of the models for this one, so the run ends; it continues from its last checkpoint with half the tokens, by
        itself under ``torchrun --max-restarts``.

        Raises:
            EngineError: If one row alone does not fit, or one of several ranks ran out of memory.
        """
        while True:
            parts = cut(lengths, self._ranks.max(parts_needed(lengths, self.tokens)))
            try:
                return work(parts)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(parts) == len(lengths):
                    raise EngineError(
                        f"out of memory with a row of {max(lengths)} tokens alone; use more devices, activation_checkpointing "
                        "or another compute_dtype, and give the same command again to go on"
                    ) from error
                # Below the longest row the limit has no effect, and neither has a limit above all rows together.
                self.tokens = max(min(self.tokens, sum(lengths)) // 2, 1)
                if self._ranks.world > 1:
                    files.write_text(self._file, str(self.tokens))  # of ranks that run out together, one number stays
                    raise EngineError(
                        f"rank {self._ranks.rank} ran out of memory; the same command, or torchrun --max-restarts, "
                        f"goes on from the last checkpoint with micro_tokens = {self.tokens}"
                    ) from error
            self._undo()
            free_memory()
            _LOG.warning("out of memory: going on with micro_tokens = %d", self.tokens)


def _read_number(path: Path, default: int) -> int:
    """Returns the positive number in a file; the default if there is no such file or number."""
    try:
        return max(1, int(files.read_text(path, 100)))
    except (DataError, ValueError):
        return default
