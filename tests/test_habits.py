"""How processes are started, here and in the package, and what ends a test that hangs."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("tulu_eval", "tests", "benchmarks", "examples", "scripts")

FORKS = frozenset({"fork", "forkpty", "preexec_fn", "ProcessPoolExecutor", "num_workers", "num_proc"})
"""Names that fork, or that run Python between fork and exec; the last two are of data loaders."""

MODULES = ("multiprocessing", "multiprocess", "torch.multiprocessing", "joblib", "pty")
"""Their processes are forks by default on Linux (Python 3.11 to 3.13)."""

HARMLESS = frozenset({"multiprocessing.connection", "multiprocessing.active_children"})
"""What the package takes of them: pipes to programs, and the list of vLLM's processes."""


def forks(tree: ast.AST) -> Iterator[str]:
    """Yields ``line: name`` of each place that may fork, those in programs inside strings included."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found = [node.module if node.module in HARMLESS else f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            found = [node.attr]
        elif isinstance(node, ast.Name):
            found = [node.id]
        elif isinstance(node, ast.keyword):
            found = [node.arg or ""]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            yield from (f"{line}+{inner}" for inner in forks_in_text(node.value))
        for name in found:
            ours = name.split(".")[-1] in FORKS
            if ours or (name not in HARMLESS and any(name == one or name.startswith(f"{one}.") for one in MODULES)):
                yield f"{line}: {name}"


def forks_in_text(text: str) -> list[str]:
    """Returns what :func:`forks` finds in a text that is a program, with ``{fields}`` to be filled in or without."""
    for program in (text, re.sub(r"\{[^{}\n]*\}", "0", text)):
        try:
            return list(forks(ast.parse(program)))
        except (SyntaxError, UnicodeEncodeError):
            continue
    return []


def programs_in(*folders: str) -> Iterator[tuple[str, ast.AST]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def test_nothing_forks() -> None:
    """A fork of a process that has imported torch or tqdm shares its locks; ``programs.py`` says what happens then.

    ``workers.py`` is a program of its own, with one thread of Python's, and its forks make tqdm's lock anew.
    """
    may = {"tests/test_habits.py", "tests/training/workers.py"}
    found = [f"{name}:{at}" for name, tree in programs_in(*FOLDERS) if name not in may for at in forks(tree)]
    assert not found, "\n".join(found)
    lines = [line for path in (ROOT / "tests").rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if re.match(r"\s*(import|from) workers\b", line)], "it is run, never imported"


@pytest.mark.parametrize(
    "program",
    [
        "import os\nchild = os.fork()",
        "from os import fork as f\nf()",
        "import multiprocessing as mp\nmp.Process(target=print).start()",
        "from multiprocessing import get_context",
        "from multiprocessing.pool import Pool",
        "from torch.multiprocessing import spawn",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "from concurrent.futures import ProcessPoolExecutor",
        "subprocess.run(words, preexec_fn=os.setsid)",
        "DataLoader(rows, num_workers=2)",
        'CODE = """\nimport os\nos.fork()\n"""',
        'CODE = """\nimport os\nrun({order!r})\nos.fork()\n"""',
    ],
)
def test_every_way_to_fork_is_found(program: str) -> None:
    assert list(forks(ast.parse(program)))


def test_only_programs_starts_what_goes_on_by_itself() -> None:
    """``run`` and its like wait for their child; what is left running must be killed when the test ends."""
    users = {
        name
        for name, tree in programs_in("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Popen", "subprocess.Popen")
    }
    assert users == {"tests/programs.py"}


JSON_READERS = {
    "tulu_eval/files": "the one place",
    "tulu_eval/models/template_worker.py": "runs without this package; reads what its parent wrote",
}
"""Where JSON is parsed, and why there."""


def test_json_is_parsed_in_one_place() -> None:
    """``json.loads`` takes a name twice, NaN and any depth, and ends in a traceback where a file is not what it should be."""
    readers = ("json.loads", "json.load", "json.JSONDecoder", "msgspec.json.decode", "msgspec.json.Decoder")
    found = [
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name, tree in programs_in("tulu_eval")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in readers and not name.startswith(tuple(JSON_READERS))
    ]
    found += [
        f"{name}:{node.lineno}"
        for name, tree in programs_in("tulu_eval")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("json", "orjson", "simplejson")
    ]
    assert not found, "\n".join(found)


WRITERS = {
    "tulu_eval/files/": "the one place",
    "tulu_eval/store/ledger.py": "appends samples as they come, and takes back half a line",
    "tulu_eval/training/watching/metrics.py": "appends a line per step",
    "tulu_eval/judging/cache.py": "appends answers as they come",
    "tulu_eval/training/saving/saved.py": "into a checkpoint's draft, a folder that the next run clears",
    "tulu_eval/training/saving/export.py": "into a model's draft, a folder that the next run clears",
    "tulu_eval/training/loading.py": "into the same",
    "tulu_eval/reproduction/rule.py": "into a draft of files.replacing_folder",
    "tulu_eval/exchange/bundle.py": "into a temporary folder",
    "tulu_eval/store/manifest.py": "a lock, which is empty",
    "tulu_eval/models/gguf.py": "a lock, which is empty",
    "tulu_eval/backends/cluster/own_folder.py": "a lock, which is empty",
}
"""Where files are written, and why nothing half written stays there."""


def test_files_are_written_in_one_place() -> None:
    """What is written elsewhere is left half written by a kill, and beside its place by a full disk."""
    found = []
    for name, tree in programs_in("tulu_eval"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            mode = str(
                first if isinstance(node.func, ast.Attribute) else ast.unparse(node.args[1]) if len(node.args) > 1 else ""
            )
            own = ast.unparse(node.func).startswith("files.")
            writes = called in ("write_text", "write_bytes") and isinstance(node.func, ast.Attribute) and not own
            if (writes or (called == "open" and set(mode) & set("wax+"))) and not name.startswith(tuple(WRITERS)):
                found.append(f"{name}:{node.lineno}")
    assert not found, "\n".join(found)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_programs_that_still_run_are_killed_with_all_their_children(program_group: Any) -> None:
    sleep = "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
    with program_group() as programs:
        running = programs.start(sys.executable, "-c", sleep)
        grandchild = int(running.stdout.readline())
        done = programs.start("true")
        done.wait()
    assert running.returncode == -signal.SIGKILL
    assert running.stdout.closed
    assert done.returncode == 0
    deadline = time.monotonic() + 10  # init, or what stands for it, may take a moment
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(grandchild)


def test_programs_hear_ctrl_c_even_where_the_tests_do_not(programs: Any) -> None:
    """A shell's ``make test &`` starts the tests with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = programs.start(sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.stdout.readline() == "up\n"
    child.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in child.communicate()[1]


HANGING = """
import multiprocessing, threading, time
import pytest
from hypothesis import given, strategies

@pytest.fixture
def door():
    yield
    time.sleep(600)

def test_a_lock_that_nobody_opens():
    lock = multiprocessing.RLock()
    thread = threading.Thread(target=waits_in_another_thread, args=(lock,), daemon=True)
    thread.start()
    thread.join(0.2)
    lock.acquire()

def waits_in_another_thread(lock):
    lock.acquire()
    time.sleep(600)

@given(strategies.integers())
def test_an_example(number):
    time.sleep(600)

def test_a_broad_except():
    try:
        time.sleep(600)
    except Exception:
        pass

def test_a_teardown(door):
    pass

@pytest.mark.timeout(600)
def test_that_may_take_longer():
    time.sleep(1.5)

@pytest.mark.vllm
def test_an_engine():
    pass

def test_the_last():
    pass
"""
DEAF = """
import signal, time

def test_that_no_signal_wakes():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)
"""
LINGERING = """
import threading, time

def test_that_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(600,), name="lingers").start()
"""


def session(folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs a test file of its own with our configuration and hooks, but limits of one second."""
    (folder / "test_it.py").write_text(program)
    hooks, changed = re.subn(r"^EXIT_SECONDS = \d+$", "EXIT_SECONDS = 1", (ROOT / "tests" / "hooks.py").read_text(), flags=re.M)
    assert changed == 1
    (folder / "conftest.py").write_text(hooks)
    words = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", folder, "-o", "timeout=1", *options]
    wide = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([*words, folder], capture_output=True, text=True, check=False, timeout=100, env=wide)


def test_a_hang_is_a_failure_with_a_stack_and_the_run_goes_on(tmp_path: Path) -> None:
    done = session(tmp_path, HANGING, "-m", "not vllm")
    assert done.returncode == 1, done.stdout
    assert "3 failed, 3 passed, 1 deselected, 1 error" in done.stdout
    for name in ("a_lock_that_nobody_opens", "an_example", "a_broad_except"):
        assert re.search(rf"^FAILED .*test_{name} - .*TimeLimitError: Timeout \(>1.0s\)", done.stdout, re.MULTILINE), name
    assert re.search(r"^ERROR .*test_a_teardown - .*TimeLimitError", done.stdout, re.MULTILINE)
    assert "in waits_in_another_thread" in done.stdout
    assert re.search(r"^>\s+lock\.acquire\(\)", done.stdout, re.MULTILINE)
    assert "LEFT OUT [1] marked vllm: needs the vllm package" in done.stdout


def test_a_hang_that_no_signal_wakes_ends_the_run_with_a_stack(tmp_path: Path) -> None:
    done = session(tmp_path, DEAF, "-o", "faulthandler_timeout=3")
    assert done.returncode == 1
    assert "in test_that_no_signal_wakes" in done.stderr


def test_a_thread_that_lingers_does_not_hold_the_end(tmp_path: Path) -> None:
    done = session(tmp_path, LINGERING)
    assert "1 passed" in done.stdout
    assert done.returncode == 1
    assert "in _shutdown" in done.stderr
