"""Shows the progress of a run: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Never

from tulu_eval.errors import counted, printable_lines
from tulu_eval.records import FAILURES
from tulu_eval.store.sample_line import Sample

if TYPE_CHECKING:
    from tqdm import tqdm

LOG_SECONDS = 10.0
"""Seconds between two lines if there is no terminal."""


class Progress:
    """Reports progress on stderr; stdout is for results.

    Args:
        verbose: Also print the engine's own remarks.
        terminal: Draw a bar instead of lines; by default if stderr is a terminal.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, terminal: bool | None = None) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self._bar: tqdm[Never] | None = None
        self._total = self._before = self._most = self._done = self._tokens = self._graded = self._right = self._failed = 0
        self._began = self._spoke = 0.0

    def say(self, line: str) -> None:
        """Prints a line; above the bar if there is one."""
        if self.quiet:
            return
        shown = printable_lines(line)  # names and paths in it come from anywhere
        if self._bar is not None:
            self._bar.write(shown, file=sys.stderr)
        else:
            print(shown, file=sys.stderr, flush=True)

    def begin(self, total: int, before: int, most: int = 0) -> None:
        """Starts the count of a run of ``total`` samples, of which the ledger has ``before`` already.

        ``most`` is the largest number of tokens of an answer; 0 if nothing is generated.
        """
        self._total, self._before, self._most = total, before, most
        self._done = self._tokens = self._graded = self._right = self._failed = 0
        if before:
            self.say(f"{before} of {total} samples are in the ledger already")

    def loading(self, model: str, backend: str) -> None:
        """Reports the start of an engine."""
        self.say(f"loading {model} on {backend} ...")

    def generating(self) -> None:
        """Reports that the engine begins to generate; the time of the rates starts here."""
        self._began = self._spoke = time.perf_counter()
        if not self.terminal:  # the first line about samples may be minutes away
            self.say(f"generating {counted(self._total - self._before, 'sample')}")
        if self.terminal and not self.quiet:
            from tqdm.auto import tqdm  # draws a widget in a notebook

            self._bar = tqdm(
                total=self._total, initial=self._before, unit="item", file=sys.stderr, dynamic_ncols=True, leave=False,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",  # its time left would count items
            )  # fmt: skip

    def sample(self, sample: Sample) -> None:
        """Counts a finished sample."""
        self._done += 1
        self._tokens += 0 if sample.completion.likelihoods else len(sample.completion.token_ids)
        if sample.status in FAILURES:
            self._failed += 1
        elif sample.grades:
            self._graded += 1
            self._right += round(sample.grades[0].score)
        if self._bar is not None:
            self._bar.update(1)
            self._bar.set_postfix_str(", ".join(filter(None, [self._figures(), self._left()])), refresh=False)
        elif time.perf_counter() - self._spoke > LOG_SECONDS and not self.quiet:
            self._spoke = time.perf_counter()
            self.say(self._line())

    def end(self) -> None:
        """Closes the bar, or prints the last line of the log."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        elif self._done:
            self.say(self._line())

    def _figures(self) -> str:
        seconds = max(time.perf_counter() - self._began, 1e-9)
        words = [f"{self._tokens / seconds:.0f} tok/s"] if self._tokens or not self._done else []
        if self._graded:  # no share and no interval, since short answers finish first
            words.append(f"right {self._right} of {self._graded} so far")
        if self._failed:
            words.append(f"{self._failed} failed")
        return ", ".join(words)

    def _line(self) -> str:
        done = self._before + self._done
        rate = self._done / max(time.perf_counter() - self._began, 1e-9)
        figures = ", ".join(filter(None, [self._figures(), self._left()]))
        return f"{done}/{self._total} items, {rate:.2f} items/s, {figures}"

    def _left(self) -> str:
        """Returns the seconds that are left, by tokens; two numbers while answers may get longer than those that are done.

        Short answers finish first, so the mean of the finished ones gives the least time, and the limit the most.
        """
        seconds, items = time.perf_counter() - self._began, self._total - self._before - self._done
        if not self._done or not items:
            return ""
        if not self._tokens or not self._most:
            return f"{items * seconds / self._done:.0f} s left"
        low, high = (items * size * seconds / self._tokens for size in (self._tokens / self._done, self._most))
        return f"{low:.0f} to {high:.0f} s left"
