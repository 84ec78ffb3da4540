"""``bundle`` and ``verify-bundle`` as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tulu_eval.version import __version__

Run = Callable[..., Result]
MakeRun = Callable[..., Path]


def test_bundle_and_verify(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    run, path = make_run(right=5, limit=12), tmp_path / "proof.zip"
    done = invoke("bundle", run, "-o", path)
    assert (done.exit_code, done.stderr) == (0, f"next: tulu-eval verify-bundle {path}\n")
    id_ = done.stdout.splitlines()[1].removeprefix("id ")
    assert done.stdout == f"{path}  {path.stat().st_size:,} bytes\nid {id_}\n"
    checked = invoke("verify-bundle", path)
    assert checked.exit_code == 0
    assert checked.stderr == "next: compare this id with the one that the maker of the run published\n"
    assert "12 samples graded again" in checked.stdout
    assert checked.stdout.endswith(f"{path}: whole; the numbers are those of its completions\nid {id_}\n")
    found = json.loads(invoke("verify-bundle", path, "--json").stdout)
    assert (found["good"], found["id"], found["results"][0]["n"]) == (True, id_, 12)
    assert json.loads(invoke("bundle", run, "-o", path, "--json").stdout)["id"] == id_


WRITES_SLOWLY = """
import os, sys, time
def fsync(number):
    if ".zip" in os.readlink(f"/proc/self/fd/{number}"):
        print("writing", flush=True)
        time.sleep(600)
os.fsync = fsync
from tulu_eval.cli import main
sys.argv = ["tulu-eval", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_bundle_left_is_gone_at_the_next(
    invoke: Run, make_run: MakeRun, tmp_path: Path, programs: Any, there: bool
) -> None:
    run, path = make_run(right=5, limit=12), tmp_path / "out" / "proof.zip"
    child = programs.start(sys.executable, "-c", WRITES_SLOWLY, "bundle", run, "-o", path)
    assert child.stdout.readline() == "writing\n", child.communicate()[1]
    child.kill()
    child.wait()
    (left,) = path.parent.iterdir()
    assert left.name == f".proof.zip.{child.pid}"
    if there:  # a command that finds its bundle there writes none
        shutil.copy(left, path)
    assert invoke("bundle", run, "-o", path).exit_code == 0
    assert list(path.parent.iterdir()) == [path]
    assert invoke("verify-bundle", path).exit_code == 0


def test_a_full_disk_leaves_nothing(invoke: Run, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    run, path = make_run(right=5, limit=12), tmp_path / "out" / "proof.zip"
    monkeypatch.setattr(os, "fsync", full)
    done = invoke("bundle", run, "-o", path)
    assert (done.exit_code, done.stderr) == (2, f"tulu-eval: {path} cannot be written: No space left on device\n")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(invoke: Run, tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "pipe" if kind == "pipe" else Path("/dev/zero")
    done = invoke("verify-bundle", path)
    assert (done.exit_code, done.stderr) == (2, f"tulu-eval: {path}: is a {kind}, not a file\n")


def test_a_changed_byte_is_exit_code_1(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "proof.zip"
    invoke("bundle", make_run(right=5, limit=12), "-o", path)
    data = bytearray(path.read_bytes())
    place = data.index(b'"text":" So the answer is') + 9
    data[place] ^= 32
    path.write_bytes(data)
    done = invoke("verify-bundle", path)
    assert (done.exit_code, done.stderr) == (1, "")
    assert f"{path}: samples.jsonl is not what SHA256SUMS says\n" in done.stdout
    assert f"{path}: NOT as it was made\n" in done.stdout
    assert json.loads(invoke("verify-bundle", path, "--json").stdout)["good"] is False


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bundle {dir}", "{dir}: is not a run folder: it has no manifest.json"),
        ("bundle {old}", f"{{old}}/manifest.json: is of format 9; tulu-eval {__version__} reads format 1"),
        (
            "bundle {edited}",
            "{edited}: is not as it was made; put its files back, or make the run again with --fresh: "
            "samples.jsonl: 1 lines are corrupt or changed by hand (first: 1)",
        ),
        ("bundle {run} -o {words}", "{words} exists and is not this bundle; give another name with --output"),
        ("verify-bundle {words}", "{words}: is not a bundle: 'tulu-eval bundle' makes one of a run"),
        ("verify-bundle {dir}", "{dir}: is a folder, not a file"),
        ("verify-bundle nowhere.zip", "nowhere.zip: no such file"),
    ],
)
def test_one_line_exit_code_2_nothing_written(
    invoke: Run, make_run: MakeRun, tmp_path: Path, command: str, message: str
) -> None:
    run = make_run(right=5, limit=3)
    old, edited, words = (tmp_path / name for name in ("old", "edited", "words"))
    shutil.copytree(run, old)
    manifest = old / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9', 1))
    shutil.copytree(run, edited)
    ledger = edited / "samples.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"answer is", b"answer was", 1))
    words.write_text("words")
    names = {"dir": str(tmp_path), "run": str(run), "old": str(old), "edited": str(edited), "words": str(words)}
    before = sorted(tmp_path.rglob("*"))
    done = invoke(*(word.format(**names) for word in command.split()))
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"tulu-eval: {message.format(**names)}\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_verify_needs_no_model_no_engine_and_no_network(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    """In a process of its own in which a socket cannot be opened; torch, transformers and the hub are not even imported."""
    path = tmp_path / "proof.zip"
    invoke("bundle", make_run(right=5, limit=12), "-o", path)
    code = (
        "import socket, sys\n"
        "def refused(*words, **options): raise RuntimeError('a socket was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from tulu_eval.exchange import bundle\n"
        "from pathlib import Path\n"
        f"found = bundle.verify(Path({str(path)!r}))\n"
        "print(found.problems, found.samples, {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "() 12 set()\n"
