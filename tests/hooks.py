"""Hooks of pytest: a time limit on each test, a line on the tests that were left out, and a forced exit.

``conftest.py`` registers this module; ``test_habits.py`` tries it in small sessions of its own.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Generator, Sequence
from types import FrameType
from typing import Any

import pytest

VLLM_SECONDS = 900
"""Limit of a test that needs vLLM, whose engine takes half a minute to start on two idle cores."""

EXIT_SECONDS = 60
"""Seconds from the end of the session to a forced exit, since Python waits without end for a thread that is no daemon."""

_left_out: list[str] = []
"""Tests marked ``vllm`` that ``-m`` or ``-k`` did not select."""


class TimeLimitError(BaseException):
    """A test took longer than its limit. No ``Exception``, since what is tested may catch those."""


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, bool, bool]:
    """Has the limit raise what only pytest catches.

    pytest-timeout 2.4.0 raises pytest's own ``Failed``. Hypothesis (6.170, ``failure_exceptions_to_catch``) takes that for a
    failure of the example and runs the example again, without a limit.
    """
    done = yield
    right = signal.getsignal(signal.SIGALRM)
    if settings.method == "signal" and callable(right):

        def end(number: int, frame: FrameType | None) -> None:
            __tracebackhide__ = True
            try:
                right(number, frame)
            except pytest.fail.Exception as error:
                raise TimeLimitError(error.msg) from None

        signal.signal(signal.SIGALRM, end)
    return done


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("vllm") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(VLLM_SECONDS))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    _left_out.extend(item.nodeid for item in items if item.get_closest_marker("vllm"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints what ``-m "not vllm"`` leaves out and how to run it; pytest itself prints a number only."""
    if _left_out and "vllm" in config.option.markexpr:
        what = next(line for line in config.getini("markers") if line.startswith("vllm:")).removeprefix("vllm: ")
        terminalreporter.write_line(f"LEFT OUT [{len(_left_out)}] marked vllm: {what}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a worker waits for the slowest of the others before it exits
        return
    faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=sys.__stderr__)
