"""What the operating system refuses ends in one line and exit code 2, and what is said cannot steer a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tulu_eval.cli.common import of_system, say


@pytest.mark.parametrize("verb", [("models",), ("models", "--json")])
def test_a_full_disk_under_stdout_is_told(verb: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-m", "tulu_eval", *verb]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (2, "tulu-eval: the output: No space left on device\n")


def test_a_full_disk_under_stderr_changes_nothing_else() -> None:
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-m", "tulu_eval", "models", "show", "no-such-model"]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=full, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout) == (2, "")


def test_debug_shows_where_it_was(invoke: Callable[..., Result]) -> None:
    done = invoke("verify", "x" * 300, "--debug")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr
    assert done.stderr.endswith(f"tulu-eval: {'x' * 300}: File name too long\n") or "File name too long" in done.stderr


def test_each_thing_said_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("", f"{Path('a' + chr(10) + 'b' + chr(27))}")
    assert capsys.readouterr().err == "\na?b?\n"
    assert of_system(OSError(28, "No space\nleft", "a\x1b\nb")) == "a? b: No space left"


NEXT = b"next: tulu-eval run alpaca-eval --protocol alpacaeval2-805 --model tulu-2-dpo-13b --dry-run\n"


@pytest.mark.parametrize("encoding", ["koi8-r", "latin-1"])
def test_what_a_terminal_cannot_show_is_escaped(encoding: str) -> None:
    words = [sys.executable, "-m", "tulu_eval", "models", "show", "tulu-2-dpo-13b"]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, check=False, timeout=100, env=env)
    assert (done.returncode, done.stderr) == (0, NEXT)
    assert b"\\u2192" in done.stdout
