"""Run by tests as a program: forks processes that train together, so that torch is imported once. Prints JSON.

``workers.py gradients FOLDER`` and ``workers.py resume FOLDER WORLD KILLS``. The parent computes nothing itself, because a
process with torch's threads must not be forked.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import toys

from tulu_eval.training import checkpoint, dpo, parallel, ppo, reward_model, sft
from tulu_eval.training.loop import Trainer
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import PolicyEngine

VOCABULARY, SEED = 13, 7


def fork(world: int, work: Callable[[Ranks], None]) -> list[int]:
    """Starts ``world`` processes that do a piece of work together; returns their ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(world):
        child = os.fork()
        if child:
            children.append(child)
            continue
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            LOCAL_WORLD_SIZE=str(world),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        torch.set_num_threads(1)
        status = 1
        try:
            with parallel.ranks("cpu") as ranks:
                work(ranks)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return children


def finish(children: list[int]) -> None:
    """Waits for processes, all of which must succeed."""
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        sys.exit(f"a process failed: {statuses}")


def conversations(n: int) -> list[Any]:
    draw = random.Random(1)
    rows = []
    for _ in range(n):
        prompt = [2] + [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(4))]
        answer = [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, 9))] + [1]
        rows.append(toys.tokens(prompt + answer, len(answer)))
    return rows


def models(ranks: Ranks, *names: str) -> dict[str, Any]:
    """Returns models, the same on every number of ranks, sharded."""
    made = {}
    for name in names:
        trained = name in ("policy", "value", "reward_model")
        if name in ("policy", "reference"):
            seed = SEED if name == "policy" else SEED + 1
            made[name] = parallel.shard(partial(toys.policy, VOCABULARY, seed, trained=trained, layers=2), ranks, "next_logits")
        else:
            made[name] = parallel.shard(partial(toys.scorer, VOCABULARY, SEED + 2, trained=trained, layers=2), ranks)
    return made


def train(stage: str, folder: Path, ranks: Ranks, *, micro_tokens: int, epochs: int = 1, save_every: int = 10**9) -> Trainer:
    """Trains a stage of the toys through its own loop."""
    rows = conversations(16)
    pairs = [toys.Pair(rows[2 * i], rows[2 * i + 1]) for i in range(8)]
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
        four = ppo.Models(trained["policy"], frozen["reference"], trained["value"], ppo.RewardModel(frozen["reward"]))
        run = toys.trainer(folder, made, trained, 16, per_step=16, updates=2, **how)
        prompts = [toys.tokens(row.ids[~row.mask].tolist()) for row in rows]
        ppo.train(run, four, PolicyEngine(four.policy, [1], 8), prompts, made)
    return run


def gradients(folder: Path) -> None:
    """Writes the gradients of each stage's first update for several numbers of ranks and sizes of micro-batch."""
    for world, micro_tokens in ((1, 4096), (1, 24), (2, 24), (4, 1)):
        finish(fork(world, lambda ranks, size=micro_tokens: record(folder, ranks, size)))


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


def resume(folder: Path, world: int, kills: int) -> None:
    """Prints the final hash of an uninterrupted run, and of runs that were killed at random moments, ``kills`` times in all."""
    started = time.monotonic()
    finish(fork(world, lambda ranks: ppo_run(folder / "whole", ranks)))
    seconds = time.monotonic() - started
    hashes, killed, drafts, draw = [], 0, 0, random.Random(world)
    while killed < kills:
        at = folder / f"killed-{len(hashes)}"
        children = fork(world, lambda ranks, at=at: ppo_run(at, ranks))
        end = time.monotonic() + draw.uniform(0.1, 0.9) * seconds
        while time.monotonic() < end and not (at / "hash").exists():
            time.sleep(0.002)
        if (at / "hash").exists():
            finish(children)
            hashes.append((at / "hash").read_text())
            continue
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        killed += 1
        drafts += len(list(at.glob("checkpoints/*.tmp")))
    last = folder / f"killed-{len(hashes)}"
    finish(fork(world, lambda ranks: ppo_run(last, ranks)))
    hashes.append((last / "hash").read_text())
    result = {"whole": (folder / "whole" / "hash").read_text(), "killed": hashes, "drafts": drafts, "seconds": seconds}
    if world > 1:
        finish(fork(1, lambda ranks: load_alone(folder / "whole", ranks)))
        result["alone"] = (folder / "whole" / "alone").read_text()
    print(json.dumps(result))


def load_alone(folder: Path, ranks: Ranks) -> None:
    """Loads the last checkpoint of several ranks on one."""
    copy = folder.with_name("alone")
    shutil.copytree(folder, copy)
    saved = checkpoint.newest(copy / "checkpoints")
    assert saved is not None
    run = train("ppo", copy, ranks, micro_tokens=128, epochs=saved.step)
    (folder / "alone").write_text(final_hash(ranks, run))


if __name__ == "__main__":
    if sys.argv[1] == "gradients":
        gradients(Path(sys.argv[2]))
    else:
        resume(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
