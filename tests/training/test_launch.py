"""A folder has one run: a lock, a manifest written at once, and no half-written files."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tulu_eval.models import model_files
from tulu_eval.models.resolve import resolve
from tulu_eval.registry import load_suite
from tulu_eval.training import loading
from tulu_eval.training.job import pick_device
from tulu_eval.training.saving import export

Train = Callable[..., Result]


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    file.write_text("\n".join([json.dumps({"messages": turns})] * 16) + "\n")
    return file


@pytest.fixture
def words(llama3_like: Path, conversations: Path, tmp_path: Path) -> list[str]:
    own = ["-r", "tiny", "-m", str(llama3_like), "--data", str(conversations), "-o", str(tmp_path / "run"), "--device", "cpu"]
    return ["train", "sft", *own, "-q"]


@pytest.fixture
def train(words: list[str]) -> Train:
    from tulu_eval.cli import cli

    return lambda *more: CliRunner().invoke(cli, [*words, *map(str, more)])


def line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    lines = [text for text in result.stderr.strip().splitlines() if not text.startswith("Loading weights")]
    assert len(lines) == 1, result.output
    return lines[0]


def test_a_second_command_is_kept_off_the_folder(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"another process is writing to {folder}" in line(train("--set", "learning_rate=1e-3"))
        assert f"another process is writing to {folder}" in line(train("--fresh"))
        assert sorted(path.name for path in folder.iterdir()) == [".lock"]
    assert train().exit_code == 0


def test_two_recipes_at_once_leave_the_models_of_one(words: list[str], tmp_path: Path, programs: Any) -> None:
    own = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    both = [
        programs.start(sys.executable, "-m", "tulu_eval", *words, "--set", f"learning_rate={rate}", env=own)
        for rate in ("1e-3", "1e-4")
    ]
    errors = [running.communicate(timeout=300)[1] for running in both]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    exported = json.loads((tmp_path / "run" / "policy" / export.MANIFEST).read_text())
    assert manifest["identity"] == exported["identity"]
    rate = exported["settings"]["learning_rate"]["value"]
    assert manifest["settings"]["learning_rate"]["value"] == rate
    codes = [running.returncode for running in both]
    assert sorted(codes) == [0, 2], errors
    assert codes[0 if rate == 1e-3 else 1] == 0
    refusal = errors[codes.index(2)]
    assert "another process is writing to" in refusal or "is finished, so another learning_rate" in refusal


def test_what_a_killed_run_left_is_gone_after_the_next(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for draft in ("checkpoints/step-00000007.tmp", "policy.tmp", "value_model.tmp"):
        (folder / draft).mkdir(parents=True)
    for draft in (".manifest.json.4711", ".micro-tokens.3"):
        (folder / draft).write_text("half")
    assert train().exit_code == 0
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".lock", "checkpoints", "manifest.json", "metrics.jsonl", "policy"]
    assert not list((folder / "checkpoints").glob("*.tmp"))


def test_the_manifest_is_whole_or_the_old_one(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train().exit_code == 0
    folder = tmp_path / "run"
    before = (folder / "manifest.json").read_text()

    def full(_path: Path, _target: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert f"{folder} cannot be written: No space left on device" in line(train("--fresh"))
        shutil.rmtree(folder / "policy")
        assert "manifest.json cannot be written: No space left on device" in line(train())
    assert (folder / "manifest.json").read_text() == before


def test_a_disk_that_is_full_when_the_model_is_written(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loading, "save", full)
        assert "No space left on device; the last checkpoint is whole: make room and give the same command" in line(train())
    assert not list((tmp_path / "run").glob("policy*"))
    assert train().exit_code == 0


def test_ctrl_c_while_a_checkpoint_is_written_ends_in_130(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def interrupted(*_: Any, **__: Any) -> bytes:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's ``make test &`` has it ignored
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        return b""

    monkeypatch.setattr(safetensors.torch, "save", interrupted)
    result = train()
    assert result.exit_code == 130
    assert result.stderr.strip().splitlines()[-1] == INTERRUPTED
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


INTERRUPTED = "tulu-eval: interrupted; the same command goes on from the last whole checkpoint, if there is one"

WRITES_SLOWLY = """
import sys, time
import safetensors.torch
right, calls = safetensors.torch.save, []

def save(*arguments, **named):
    calls.append(1)
    if len(calls) == 2:
        print("writing", flush=True)
        time.sleep(600)
    return right(*arguments, **named)

safetensors.torch.save = save
from tulu_eval.cli import main
sys.argv = ["tulu-eval", *sys.argv[1:]]
main()
"""


def test_after_ctrl_c_while_a_checkpoint_is_written_the_next_command_goes_on(
    train: Train, words: list[str], tmp_path: Path, programs: Any
) -> None:
    more = ("--save-every", "1", "--set", "epochs=2")
    child = programs.start(sys.executable, "-c", WRITES_SLOWLY, *words, *more)
    assert child.stdout.readline() == "writing\n", child.communicate()[1]
    child.send_signal(signal.SIGINT)
    told = child.communicate(timeout=120)[1]
    assert child.returncode == 130, told
    assert told.strip().splitlines()[-1] == INTERRUPTED
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]
    first = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0]
    assert train(*more).exit_code == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert lines[0] == first, "the first step was not made again"
    assert [json.loads(text)["step"] for text in lines] == list(range(4))
    assert (tmp_path / "run" / "policy" / "model.safetensors").exists()


class TestNames:
    def test_an_export_has_a_name_of_its_own(self, train: Train, tmp_path: Path) -> None:
        assert train().exit_code == 0
        folder = tmp_path / "run" / "policy"
        weights = model_files.from_path(folder).weights_sha256
        manifest = json.loads((folder / export.MANIFEST).read_text())
        assert manifest["name"] == f"tiny-sft-{weights[:8]}"
        assert manifest["weights_sha256"] == weights
        assert resolve(str(folder), load_suite())[0].name == manifest["name"]

    def test_names_tell_what_a_model_is(self) -> None:
        names = [export.name_of(kind, "my recipe/ä", "ppo", "0123456789") for kind in ("policy", "value_model")]
        assert names == ["my-recipe__--ppo-01234567", "my-recipe__--ppo-value_model-01234567"]
        long = export.name_of("policy", "." * 300, "sft", "0123456789")
        assert all(model_files.NAME.fullmatch(name) for name in (*names, long))

    def test_other_weights_in_an_exports_place_are_made_again(self, train: Train, tmp_path: Path) -> None:
        assert train().exit_code == 0
        file = tmp_path / "run" / "policy" / "model.safetensors"
        right = file.read_bytes()
        file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        again = train()
        assert again.exit_code == 0, again.output
        assert file.read_bytes() == right

    def test_an_export_of_before_is_finished_too(self, train: Train, tmp_path: Path) -> None:
        assert train().exit_code == 0
        path = tmp_path / "run" / "policy" / export.MANIFEST
        data = json.loads(path.read_text())
        del data["name"], data["weights_sha256"]
        path.write_text(json.dumps(data))
        (tmp_path / "run" / "checkpoints").rename(tmp_path / "run" / "away")
        assert train().exit_code == 0
        assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(Exception, match="training does not run on device 'mps' here"):
        pick_device("mps")
