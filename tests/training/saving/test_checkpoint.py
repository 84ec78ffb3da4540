"""Checkpoints are written whole or not at all, never executed, and not used if they have changed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from checkpoint_damage import DAMAGE, flip, rewrite, shard_of
from safetensors.torch import load_file

from tulu_eval.errors import PreflightError
from tulu_eval.training import sft
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import Policy
from tulu_eval.training.saving import checkpoint, saved
from tulu_eval.training.saving.checkpoint import CheckpointError

STEPS = 4
Start = Callable[..., Trainer]


@pytest.fixture
def start(toys: ModuleType, tmp_path: Path) -> Start:
    """Makes a trainer of four steps in the test's folder, with a new policy."""

    def call(policy: Policy | None = None, **how: Any) -> Trainer:
        made = toys.recipe("sft", batch=4, micro_tokens=20, warmup=0.0, learning_rate=1e-2, epochs=how.pop("epochs", 1))
        run: Trainer = toys.trainer(tmp_path, made, {"policy": policy or toys.policy(11)}, 16, save_every=1, **how)
        return run

    return call


@pytest.fixture
def train(toys: ModuleType, start: Start) -> Callable[..., Policy]:
    """Trains to the end and returns the policy."""

    def call(policy: Policy | None = None, **how: Any) -> Policy:
        policy = policy or toys.policy(11)
        rows = [toys.tokens([2, 3 + n % 5, 4, 5 + n % 3, 1], 2 + n % 3) for n in range(16)]
        sft.train(start(policy, **how), policy, rows)
        return policy

    return call


@pytest.fixture
def found(train: Callable[..., Policy], tmp_path: Path) -> Path:
    """The checkpoints of a finished run, of steps 3 and 4."""
    train()
    return tmp_path / "checkpoints"


def weights_of(run: Trainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in run._trained["policy"].model.parameters()]


def test_only_the_newest_stay(found: Path) -> None:
    assert sorted(path.name for path in found.iterdir()) == ["step-00000003", "step-00000004"]


def test_nothing_in_one_is_a_pickle(found: Path) -> None:
    files = sorted(path.name for path in (found / "step-00000004").iterdir())
    assert files == ["manifest.json", "shard-00001-model-00001-of-00001.safetensors"]


def test_parameters_and_moments_come_back_bit_for_bit(start: Start, toys: ModuleType, train: Callable[..., Policy]) -> None:
    policy = train()
    run = start(toys.policy(11, seed=99))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), weights_of(run), strict=True))
    states = list(run._trained["policy"].optimizer.state.values())
    assert {float(state["step"]) for state in states} == {STEPS}
    assert all(bool(state["exp_avg_sq"].any()) for state in states)


def test_a_tied_head_is_saved_once_and_comes_back_tied(toys: ModuleType, tmp_path: Path) -> None:
    def tied(seed: int) -> Policy:
        policy: Policy = toys.policy(11, seed=seed)
        policy.model.lm_head.weight = policy.model.model.embed_tokens.weight
        return policy

    made = toys.recipe("sft", batch=4, warmup=0.0, learning_rate=1e-2)
    rows = [toys.tokens([2, 3, 4, 1], 2)] * 4
    first, second = tied(0), tied(1)
    sft.train(toys.trainer(tmp_path, made, {"policy": first}, 4), first, rows)
    toys.trainer(tmp_path, made, {"policy": second}, 4)
    assert torch.equal(first.model.lm_head.weight, second.model.model.embed_tokens.weight)
    assert second.model.lm_head.weight is second.model.model.embed_tokens.weight


def test_large_models_go_into_several_files(
    monkeypatch: pytest.MonkeyPatch, train: Callable[..., Policy], start: Start, toys: ModuleType, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 10_000)
    policy = train()
    assert len(list((tmp_path / "checkpoints" / "step-00000004").glob("*.safetensors"))) > 3
    run = start(toys.policy(11, seed=99))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), weights_of(run), strict=True))


class Payload:
    """A pickle of it makes a file when it is read."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.proof),)


def save_pickle(proof: Path, target: Path) -> None:
    with target.open("wb") as file:
        torch.save(Payload(proof), file)


@pytest.mark.parametrize("place", [".metadata", "shard", "__0_0.distcp", "manifest.json"])
@pytest.mark.parametrize("forged", [True, False])
def test_no_pickle_is_executed_hashed_or_not(found: Path, start: Start, tmp_path: Path, place: str, forged: bool) -> None:
    """File and manifest are forged so that they agree."""
    last, proof = found / "step-00000004", tmp_path / "executed"
    for data in (pickle.dumps(Payload(proof)), None):
        target = shard_of(last) if place == "shard" else last / place
        if data is None:
            save_pickle(proof, target)
        else:
            target.write_bytes(data)
        if forged and place != "manifest.json":
            rewrite(last)
        run = start()
        assert run._step == 3
        assert not proof.exists()


def test_a_checkpoint_of_torchs_own_format_is_refused_unread(found: Path, start: Start, tmp_path: Path) -> None:
    for folder in found.iterdir():
        shard_of(folder).unlink()
        save_pickle(tmp_path / "executed", folder / ".metadata")
        save_pickle(tmp_path / "executed", folder / "__0_0.distcp")
        sizes = {name: (folder / name).stat().st_size for name in (".metadata", "__0_0.distcp")}
        data = json.loads((folder / saved.MANIFEST).read_text())
        old = {key: data[key] for key in ("step", "identity", "counters")} | {"files": sizes}
        (folder / saved.MANIFEST).write_text(json.dumps(old))
    with pytest.raises(CheckpointError, match=r"is of format 1, and this version reads format 3: .* begin anew with --fresh"):
        start()
    with pytest.raises(CheckpointError, match="is of format 1"):
        checkpoint.newest(found)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_one_is_passed_over_and_said(
    found: Path, start: Start, caplog: pytest.LogCaptureFixture, damage: str, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "right", ignore_errors=True)
    right = {name: tensor for name, tensor in load_file(shard_of(found / "step-00000003")).items() if ":" not in name}
    DAMAGE[damage](found / "step-00000004")
    run = start()
    assert run._step == 3
    assert all(torch.equal(right[f"policy.{name}"], p) for name, p in run._trained["policy"].model.named_parameters())
    (line,) = [record.getMessage() for record in caplog.records if "is broken" in record.getMessage()]
    assert "step-00000004 is broken (" in line
    assert line.endswith("): looking for an older one")
    assert "\n" not in line


def test_where_none_is_whole_nothing_is_gone_on_from(found: Path, start: Start) -> None:
    for folder in found.iterdir():
        flip(shard_of(folder))
    with pytest.raises(
        CheckpointError, match=r"step-00000004 is broken \(.* is not what was written\), and no older one is whole; begin anew"
    ):
        start()


@pytest.mark.parametrize("step", [5, 40, 10**9, 10**12])
def test_a_manifest_cannot_make_an_unfinished_policy_a_finished_one(found: Path, start: Start, step: int) -> None:
    """Its folder has the step's name too, and every hash is right."""
    shutil.rmtree(found / "step-00000003")
    rewrite(found / "step-00000004", step=step)
    (found / "step-00000004").rename(found / f"step-{step:08d}")
    with pytest.raises(CheckpointError, match=r"it says step [\d,]+, and the (run has|optimizer of policy took 4 updates)"):
        start(epochs=10)


def test_a_run_that_went_on_from_an_older_one_ends_with_the_same_weights(
    found: Path, train: Callable[..., Policy], toys: ModuleType
) -> None:
    whole = {name: tensor.clone() for name, tensor in load_file(shard_of(found / "step-00000004")).items()}
    flip(shard_of(found / "step-00000004"))
    train(toys.policy(11, seed=99))
    again = load_file(shard_of(found / "step-00000004"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert sorted(path.name for path in found.iterdir()) == ["step-00000003", "step-00000004"]


def test_the_older_whole_ones_stay_while_a_broken_newer_one_is_there(
    found: Path, start: Start, toys: ModuleType, tmp_path: Path
) -> None:
    flip(shard_of(found / "step-00000004"))
    shutil.copytree(found / "step-00000004", found / "step-00000009")
    run = start(epochs=3)
    run.save()
    names = sorted(path.name for path in found.iterdir())
    assert names == ["step-00000003", "step-00000004", "step-00000009"]


def test_none(tmp_path: Path, start: Start) -> None:
    assert checkpoint.newest(tmp_path / "absent") is None
    assert start()._step == 0


def test_drafts_are_no_checkpoints_and_go(found: Path) -> None:
    (found / "step-00000004").rename(found / "step-00000004.tmp")
    newest = checkpoint.newest(found)
    assert newest is not None
    assert newest.step == 3
    checkpoint.clear(found)
    assert [path.name for path in found.iterdir()] == ["step-00000003"]


def test_a_full_disk_loses_nothing(train: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = saved.write

    def full(one: saved.Saved) -> None:
        if one.step == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        right(one)

    monkeypatch.setattr(saved, "write", full)
    with pytest.raises(CheckpointError, match=r"step-00000003 cannot be written: .*No space left on device; the ones before"):
        train()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("place", ["in torch's writer", "in a thread of ours"])
def test_ctrl_c_while_one_is_written_is_ctrl_c(
    train: Callable[..., Policy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    import safetensors.torch

    module, name = (safetensors.torch, "save") if place == "in torch's writer" else (saved, "write")
    right, calls = getattr(module, name), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return right(*arguments, **named)

    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_no_room_is_said_before_the_first_step(tmp_path: Path) -> None:
    checkpoint.refuse_full_disk(tmp_path / "new", 1000)
    with pytest.raises(PreflightError, match=r"checkpoints need 360000\.0 GB in .*; give another --output"):
        checkpoint.refuse_full_disk(tmp_path, 10**13)


def test_nothing_of_pickle_is_called(found: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a checkpoint calls neither ``pickle`` nor ``torch.load``."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("a pickle is read")

    filesystem = sys.modules["torch.distributed.checkpoint.filesystem"]
    planner = sys.modules["torch.distributed.checkpoint.default_planner"]
    for module in (pickle, filesystem.pickle):  # type: ignore[attr-defined]
        monkeypatch.setattr(module, "load", refuse)
        monkeypatch.setattr(module, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(planner.torch, "load", refuse)  # type: ignore[attr-defined]
    assert start()._step == STEPS
