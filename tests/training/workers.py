"""Run by tests as a program: it forks the processes that train together, each as torchrun would start it.

Imports take 5 s of a core, a fork none. Each line of JSON on standard input is answered with a line:

- a job, with ``job`` (of :data:`JOBS`), ``folder``, ``environment`` (torchrun's variables) and ``errors`` (a file for standard
  error), with the id of a new process;
- ``poll`` with such an id, with its exit code, negative after a signal, or null while it runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import safetensors
import torch
import toys
from live_bytes import LiveBytes
from tqdm import tqdm

from tulu_eval.training import dpo, loading, parallel, ppo, reward_model, sft, sharding
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import collate
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine
from tulu_eval.training.saving import checkpoint
from tulu_eval.training.weight_sync import PolicyWeights

VOCABULARY, SEED = 13, 7


def conversations(n: int) -> list[Any]:
    draw = random.Random(1)
    rows = []
    for _ in range(n):
        prompt = [2] + [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(4))]
        answer = [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, 9))] + [1]
        rows.append(toys.tokens(prompt + answer, len(answer)))
    return rows


def models(ranks: Ranks, *names: str) -> dict[str, Any]:
    """Returns sharded models with the same weights for any number of ranks."""
    made = {}
    for name in names:
        trained = name in ("policy", "value", "reward_model")
        if name in ("policy", "reference"):
            seed = SEED if name == "policy" else SEED + 1
            made[name] = sharding.shard(toys.policy(VOCABULARY, seed, trained=trained, layers=2), ranks)
        else:
            made[name] = sharding.shard(toys.scorer(VOCABULARY, SEED + 2, trained=trained, layers=2), ranks)
    return made


def train(stage: str, folder: Path, ranks: Ranks, *, micro_tokens: int, epochs: int = 1, save_every: int = 10**9) -> Trainer:
    """Trains a stage of the toys through its own loop."""
    rows = conversations(16)
    pairs = [toys.PreferencePair(rows[2 * i], rows[2 * i + 1]) for i in range(8)]
    common = {"micro_tokens": micro_tokens, "epochs": epochs, "warmup": 0.0, "learning_rate": 1e-2, "seed": SEED}
    how: dict[str, Any] = {"ranks": ranks, "save_every": save_every}
    if stage == "sft":
        made, trained = toys.recipe("sft", batch=16, **common), models(ranks, "policy")
        run = toys.trainer(folder, made, trained, 16, **how)
        sft.train(run, trained["policy"], rows)
    elif stage == "rm":
        made, trained = toys.recipe("rm", batch=8, **common), models(ranks, "reward_model")
        run = toys.trainer(folder, made, trained, 8, **how)
        reward_model.train(run, trained["reward_model"], pairs)
    elif stage == "dpo":
        made, trained = toys.recipe("dpo", batch=8, **common), models(ranks, "policy")
        run = toys.trainer(folder, made, trained, 8, **how)
        dpo.train(run, trained["policy"], models(ranks, "reference")["reference"], pairs, 0.1)
    else:
        made = toys.recipe("ppo", rollout_batch=16, batch=8, max_new_tokens=6, temperature=1.0, top_k=0, **common)
        trained = models(ranks, "policy", "value")
        frozen = models(ranks, "reference", "reward")
        four = ppo.Models(trained["policy"], frozen["reference"], trained["value"], Mixture.of_model(frozen["reward"]))
        run = toys.trainer(folder, made, trained, 16, per_step=16, updates=2, **how)
        prompts = [toys.tokens(row.ids[~row.mask].tolist()) for row in rows]
        ppo.train(run, four, PolicyEngine(four.policy, [1], 8), prompts, made)
    return run


SIZES = {1: (4096, 24), 2: (24,), 4: (1,)}
"""Micro-batch sizes in tokens to test, by number of ranks."""


def gradients(folder: Path, ranks: Ranks) -> None:
    """Writes the gradients of each stage's first update for each size of micro-batch."""
    for micro_tokens in SIZES[ranks.world]:
        record(folder, ranks, micro_tokens)


def record(folder: Path, ranks: Ranks, micro_tokens: int) -> None:
    found: dict[str, dict[str, torch.Tensor]] = {}
    right = Trainer.update
    for stage in ("sft", "rm", "dpo", "ppo"):

        def recording(self: Trainer, *arguments: Any, stage: str = stage) -> dict[str, float]:
            if stage not in found:
                found[stage] = {}
                for name, one in self._trained.items():
                    for key, parameter in one.model.named_parameters():
                        whole = parameter.grad.full_tensor() if ranks.world > 1 else parameter.grad
                        found[stage][f"{name}.{key}"] = whole.clone()
            return right(self, *arguments)

        Trainer.update = recording
        train(stage, folder / f"run-{ranks.world}-{micro_tokens}-{stage}", ranks, micro_tokens=micro_tokens)
    if ranks.first:
        torch.save(found, folder / f"gradients-{ranks.world}-{micro_tokens}.pt")


def final_hash(ranks: Ranks, run: Trainer) -> str:
    digest = hashlib.sha256()
    for name, one in sorted(run._trained.items()):
        for key, value in sorted(parallel.whole_state(one.model).items()):
            digest.update(f"{name}.{key}".encode() + value.numpy().tobytes())
    return digest.hexdigest()


def ppo_run(folder: Path, ranks: Ranks) -> None:
    run = train("ppo", folder, ranks, micro_tokens=128, epochs=5, save_every=1)
    found = final_hash(ranks, run)
    if ranks.first:
        (folder / "hash").write_text(found)


def load_alone(folder: Path, ranks: Ranks) -> None:
    """Loads the last checkpoint of several ranks on one."""
    copy = folder.with_name("alone")
    shutil.copytree(folder, copy)
    saved = checkpoint.newest(copy / "checkpoints")
    assert saved is not None
    run = train("ppo", copy, ranks, micro_tokens=128, epochs=saved.step)
    (folder / "alone").write_text(final_hash(ranks, run))


def low_precision_weights(folder: Path, ranks: Ranks) -> None:
    """Writes the peak of the bytes of bfloat16 weights, gather buffers included, by depth, and the two largest units."""

    def weight(how: str, tensor: torch.Tensor) -> str:
        born = how.startswith(("aten.empty", "aten._to_copy", "aten.copy", "c10d.", "fsdp."))
        return "weights" if born and tensor.dtype == torch.bfloat16 and tensor.ndim <= 2 else ""

    found = {}
    for depth in (8, 16):
        model = toys.policy(960, SEED, layers=depth)
        model.compute = torch.bfloat16
        sizes = sorted(2 * sum(p.numel() for p in unit.parameters()) for unit in sharding.units(model))
        policy = sharding.shard(model, ranks)
        batch = collate([toys.tokens([2, 5, 7, 3], 3)], ranks.device)
        with LiveBytes(weight) as live:
            for _ in range(2):
                policy(batch).sum().backward()
        found[depth] = {"peak": live.peak, "two largest": sum(sizes[-2:]), "whole": sum(sizes)}
    if ranks.first:
        (folder / f"low-precision-{ranks.world}.json").write_text(json.dumps(found))


class CountedReads:
    """``safetensors.safe_open``, with the bytes that were read through it."""

    read = 0
    right = safetensors.safe_open

    def __init__(self, file: Path, framework: str) -> None:
        self._file = CountedReads.right(file, framework=framework)

    def __enter__(self) -> CountedReads:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def keys(self) -> list[str]:
        return self._file.keys()

    def get_slice(self, name: str) -> Any:
        return CountedSlice(self._file.get_slice(name))


class CountedSlice:
    def __init__(self, opened: Any) -> None:
        self._slice = opened
        self.get_dtype, self.get_shape = opened.get_dtype, opened.get_shape

    def __getitem__(self, rows: slice) -> torch.Tensor:
        found = self._slice[rows]
        CountedReads.read += found.nbytes
        return found


def load(folder: Path, ranks: Ranks) -> None:
    """Writes what ranks loaded of a policy and of a new reward model, and the bytes that each of them read."""
    made = folder / "made"
    if ranks.first:
        toys.policy(VOCABULARY, SEED, layers=2).model.save_pretrained(made)
    ranks.wait()
    safetensors.safe_open = CountedReads
    how: Any = {"compute": "bfloat16", "trained": True, "ranks": ranks}
    policy = loading.load_policy(made, **how)
    read = CountedReads.read
    scorer = loading.load_scorer(made, new_head=(SEED, 0.02), **how)
    safetensors.safe_open = CountedReads.right
    found = {"policy": parallel.whole_state(policy), "scorer": parallel.whole_state(scorer)}
    batch = collate([toys.tokens([2, 5, 7, 3], 3)], ranks.device)
    outputs = {
        "policy": policy(batch).detach(),
        "scorer": scorer(batch).detach(),
        "packed": policy.packed,
        "plain": policy.plain_head,
    }
    torch.save({**found, "read": read, "outputs": outputs}, folder / f"loaded-{ranks.world}-{ranks.rank}.pt")


def memory(folder: Path, ranks: Ranks) -> None:
    low_precision_weights(folder, ranks)
    load(folder, ranks)
    send(folder, ranks)


def send(folder: Path, ranks: Ranks) -> None:
    """Writes what an engine of each rank gets of a policy with 16 layers, and the peak of live bytes that this takes."""
    model = toys.policy(VOCABULARY, SEED, layers=16)
    if ranks.first:
        model.model.save_pretrained(folder / "sixteen")
    policy = sharding.shard(model, ranks)
    got: dict[str, torch.Tensor] = {}
    weights = PolicyWeights(policy, torch.bfloat16)

    def weight(how: str, tensor: torch.Tensor) -> str:
        # DTensor wraps what it gathers in a tensor that has no memory of its own.
        return "weights" if tensor.dtype == torch.bfloat16 and "_wrap_tensor" not in how else ""

    peaks = []
    for _ in range(8):  # gloo's thread may let go of a tensor a moment late, so that the least of eight passes counts
        with LiveBytes(weight) as live:
            for _, tensor in weights:
                del tensor
        peaks.append(live.peak)
    for name, tensor in weights:
        got[name] = tensor.clone()
    found = {"peak": min(peaks), "bytes": weights.bytes, "got": got, "sums": weights.sums}
    torch.save(found, folder / f"sent-{ranks.world}-{ranks.rank}.pt")


JOBS = {"gradients": gradients, "ppo": ppo_run, "load": load_alone, "memory": memory}


def hatch() -> dict[str, Any] | None:
    """Answers the lines of standard input until its end; returns a job in each process that is forked for one."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "poll" in asked:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if not pid:
            return asked
        print(pid, flush=True)
    return None


def main() -> None:
    torch.set_num_threads(1)
    order = hatch()
    if order is None:
        return
    with Path(order["errors"]).open("w") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
    tqdm.set_lock(threading.RLock())  # its own is one of multiprocessing: who is killed with it locks it for all
    os.environ.update(order["environment"])
    with parallel.ranks("cpu") as ranks:
        JOBS[order["job"]](Path(order["folder"]), ranks)


if __name__ == "__main__":
    main()
