"""A PPO update against TRL's PPOTrainer, in one run and in turn: equal learning first, then tokens a second and memory.

Three tasks, each from the same folder of weights and prompts, float32, one thread, 64 rollouts an update, one inner epoch:

* ``toy``: a 0.1 M Llama writes 16 of 29 tokens and is paid for one of them; the best objective J* is known in closed form
  (``tests/training/toys.py``). Both must reach the same share of it before their speed means anything.
* ``ragged``: a Llama of 2 layers, width 128 and vocabulary 16000, prompts of 8 to 64 tokens, responses that end by themselves
  (about one token in 32 ends one) or at 128. Reward and value model are of the same shape without the head.
* ``large``: likewise with 4 layers and width 512 (29 M parameters): 16 rollouts an update, about one token in 512 ends one, and
  512 tokens do.

Each repetition is a process of its own. Tokens are response tokens up to the end token, seconds are user and system time of the
process (``os.times``) without the first update, memory is its largest resident set, everything included.

    make setup-trl && python benchmarks/ppo_step.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))

PEER = Path(__file__).parents[1] / ".venv-trl" / "bin" / "python"
ENGINES = ("tulu-eval", "TRL")
LAST = 30
"""Updates at the end of the toy whose mean counts."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What both do.

    Attributes:
        name: ``toy``, ``ragged`` or ``large``.
        vocabulary: Size.
        hidden: Width; the feed-forward part is about 2.7 times as wide, a head 64 wide.
        layers: Number.
        response: Longest, in tokens.
        eos: Token that ends a response; none: nothing does.
        often: About one token of so many is it.
        pad: What TRL fills rows up with; it must not be drawn.
        target: Token that is paid for; none: a reward model scores.
        weight: What it is paid.
        batch: Rollouts of an update.
        micro: Rows that go through TRL's models at once, decoding included.
        updates: Number.
        learning_rate: Constant.
        kl_coef: Weight of the divergence.
        seed: Of weights, prompts and draws.
    """

    name: str
    vocabulary: int
    hidden: int
    layers: int
    response: int
    eos: int | None
    often: int = 32
    pad: int
    target: int | None
    weight: float
    batch: int = 64
    micro: int
    updates: int
    learning_rate: float
    kl_coef: float = 0.05
    seed: int


def toy(seed: int) -> Task:
    """Returns the task with a known optimum."""
    return Task(
        name="toy", vocabulary=29, hidden=64, layers=2, response=16, eos=None, pad=29, target=3, weight=0.05 * math.log(28),
        micro=64, updates=150, learning_rate=1e-3, seed=seed,
    )  # fmt: skip


def ragged(seed: int, updates: int, micro: int) -> Task:
    """Returns the task with responses of different lengths."""
    return Task(
        name="ragged", vocabulary=16000, hidden=128, layers=2, response=128, eos=1, pad=0, target=None, weight=0.0,
        micro=micro, updates=updates, learning_rate=1e-6, seed=seed,
    )  # fmt: skip


def large(seed: int, updates: int, micro: int) -> Task:
    """Returns the task with a larger model and longer responses."""
    return dataclasses.replace(
        ragged(seed, updates, micro), name="large", hidden=512, layers=4, response=512, often=512, batch=16
    )


def write(task: Task, folder: Path) -> None:
    """Writes a task with its weights and prompts."""
    import torch
    from torch import nn
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(task.seed)
    heads = max(2, task.hidden // 64)
    config = LlamaConfig(
        vocab_size=task.vocabulary, hidden_size=task.hidden, intermediate_size=task.hidden * 43 // 16, num_labels=1,
        num_hidden_layers=task.layers, num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=1024,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    policy, reward = LlamaForCausalLM(config), LlamaForSequenceClassification(config)
    with torch.no_grad():
        if task.target is not None:
            nn.init.zeros_(policy.lm_head.weight)
            nn.init.zeros_(reward.score.weight)
        else:
            # Every embedding has the same large first number, which survives to the head and there makes the end likely.
            policy.model.embed_tokens.weight[:, 0] = 10.0
            policy.lm_head.weight[task.eos] = 0.0
            policy.lm_head.weight[task.eos, 0] = math.log(task.vocabulary / task.often) / math.sqrt(task.hidden)
            policy.lm_head.weight[task.pad] = 0.0
            policy.lm_head.weight[task.pad, 0] = -1.0
    policy.save_pretrained(folder / "policy")
    reward.save_pretrained(folder / "reward_model")
    draw = torch.Generator().manual_seed(task.seed)
    prompts = [[2]] * task.batch
    if task.eos is not None:
        lengths = torch.randint(8, 65, (task.batch * task.updates,), generator=draw).tolist()
        prompts = [torch.randint(2, task.vocabulary, (length,), generator=draw).tolist() for length in lengths]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    (folder / "task.json").write_text(json.dumps(dataclasses.asdict(task)))


def run_ours(folder: Path) -> dict[str, Any]:
    """Trains with tulu-eval; returns what ``ppo_step_trl.py`` prints of TRL."""
    import torch
    import toys
    import transformers

    from tulu_eval.training import loading, ppo
    from tulu_eval.training.loop import LoopSettings, Trainer
    from tulu_eval.training.parallel import Ranks
    from tulu_eval.training.rewards import Mixture
    from tulu_eval.training.rollout import PolicyEngine

    torch.set_num_threads(1)
    task = Task(**json.loads((folder / "task.json").read_text()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    policy, reference = (loading.load_policy(folder / "policy", compute="float32", trained=one) for one in (True, False))
    value = loading.load_scorer(folder / "reward_model", compute="float32", trained=True)
    if task.target is not None:
        reward = toys.paid(toys.count_reward(task.weight))
    else:
        reward = Mixture.of_model(loading.load_scorer(folder / "reward_model", compute="float32", trained=False))
    prompts = [toys.tokens(prompt) for prompt in json.loads((folder / "prompts.json").read_text())]
    recipe = toys.recipe(
        "ppo", seed=task.seed, rollout_batch=task.batch, batch=task.batch, micro_tokens=1 << 14, max_new_tokens=task.response,
        temperature=1.0, top_k=0, kl_coef=task.kl_coef, learning_rate=task.learning_rate, adam_b2=0.95, adam_eps=1e-8,
        final_learning_rate=task.learning_rate, warmup=0.0, no_eos_reward=None, gamma=1.0, gae_lambda=0.95, value_coef=0.1,
        epochs=task.updates * task.batch // len(prompts), kl_ceiling=1e9, inner_epochs=1,
    )  # fmt: skip
    updates: list[dict[str, float]] = []
    spent = sum(os.times()[:2])

    def report(_step: int, _steps: int, numbers: dict[str, float]) -> None:
        nonlocal spent
        began, spent = spent, sum(os.times()[:2])
        parts = {key: value for key, value in numbers.items() if key.startswith("seconds") or key == "mfu"}
        updates.append({"cpu": spent - began, **{key: numbers[key] for key in ("tokens", "score", "kl")}, **parts})

    settings = LoopSettings(folder / "ours", {}, 10**9, report=report)
    settings.folder.mkdir(exist_ok=True)
    four = ppo.Models(policy, reference, value, reward)
    trainer = Trainer(recipe, Ranks(), {"policy": policy, "value": value}, len(prompts), task.batch, 1, settings)
    ppo.train(trainer, four, PolicyEngine(policy, [] if task.eos is None else [task.eos], task.batch), prompts, recipe)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    versions = f"tulu-eval, torch {torch.__version__}, transformers {transformers.__version__}"
    return {"updates": updates, "peak": peak, "before": before, "versions": versions}


def measure(engine: str, task: Task, python: Path) -> dict[str, Any]:
    """Runs one repetition in a process of its own.

    Raises:
        SystemExit: It failed; its output ends the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        write(task, Path(folder))
        command = [python, Path(__file__).with_name("ppo_step_trl.py"), folder]
        if engine == ENGINES[0]:
            command = [sys.executable, __file__, "--child", folder]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"updates"')]
        if done.returncode or not lines:
            sys.exit(f"{engine} failed on {task.name}:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(lines[-1])
    later = found["updates"][1:]
    found["rate"] = sum(update["tokens"] for update in later) / sum(update["cpu"] for update in later)
    print(f"{task.name}, {engine}: {found['rate']:.0f} tokens/s, {found['peak'] / 2**20:.0f} MiB", file=sys.stderr)
    return found


def reached(found: dict[str, Any], task: Task) -> float:
    """Returns the share of J* in the last updates of the toy."""
    import toys

    best = toys.token_count_optimum(task.vocabulary, task.response, task.kl_coef).objective
    return statistics.mean(update["score"] - task.kl_coef * update["kl"] for update in found["updates"][-LAST:]) / best


def spread(values: list[float], form: str) -> str:
    """Returns a median with the least and the largest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def table(task: Task, found: dict[str, list[dict[str, Any]]]) -> str:
    """Returns a task's comparison as Markdown."""
    lines = [
        f"\n**{task.name}**: {len(found[ENGINES[0]])} repetitions of {task.updates} updates, TRL's micro-batch {task.micro}\n",
        "| engine | response tokens/CPU s | CPU s an update | peak MiB | of it above the imports | tokens an update | J/J* |",
        "|---|---|---|---|---|---|---|",
    ]
    for engine, runs in found.items():
        cpu = [statistics.median(update["cpu"] for update in run["updates"][1:]) for run in runs]
        tokens = statistics.mean(update["tokens"] for run in runs for update in run["updates"])
        share = spread([reached(run, task) for run in runs], ".3f") if task.target is not None else "-"
        lines.append(
            f"| {engine} | {spread([run['rate'] for run in runs], '.0f')} | {spread(cpu, '.3f')}"
            f" | {spread([run['peak'] / 2**20 for run in runs], '.0f')}"
            f" | {spread([(run['peak'] - run['before']) / 2**20 for run in runs], '.0f')} | {tokens:.0f} | {share} |"
        )
    ours, theirs = (found[engine] for engine in ENGINES)
    for name, key in (("tokens a CPU second", "rate"), ("peak memory", "peak")):
        ratios = [one[key] / other[key] for one, other in zip(ours, theirs, strict=True)]
        lines.append(f"\ntulu-eval's {name} over TRL's: **{spread(ratios, '.2f')}**")
    parts = [key for key in ours[0]["updates"][-1] if key.startswith("seconds_")]
    shares = ", ".join(
        f"{key.removeprefix('seconds_')} {statistics.median(u[key] for run in ours for u in run['updates'][1:]):.3f}"
        for key in parts
    )
    mfu = statistics.median(update["mfu"] for run in ours for update in run["updates"][1:])
    lines.append(f"\ntulu-eval's wall seconds an update: {shares}; MFU {100 * mfu:.0f} %")
    return "\n".join(lines)


def main() -> None:
    """Measures in turn and prints the tables; with ``--child`` (used by itself) one repetition, as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", type=Path, default=PEER, help="Python of an environment with TRL 1.12.0")
    parser.add_argument("--tasks", nargs="+", choices=("toy", "ragged", "large"), default=["toy", "ragged", "large"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--updates", type=int, default=3, help="of ragged and large, the first not counted")
    parser.add_argument("--micro", type=int, default=16, help="rows that go through TRL's models at once there")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    order = parser.parse_args()
    if order.child:
        print(json.dumps(run_ours(order.child)))
        return
    if not order.trl_python.is_file():
        parser.error(f"{order.trl_python} is not there; 'make setup-trl' makes it")
    for name in order.tasks:
        found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
        for seed in range(order.repeats):
            task = toy(seed) if name == "toy" else {"ragged": ragged, "large": large}[name](seed, order.updates, order.micro)
            for engine in ENGINES if seed % 2 == 0 else reversed(ENGINES):
                found[engine].append(measure(engine, task, order.trl_python))
        print(table(task, found))
    versions = "; ".join(found[engine][0]["versions"] for engine in ENGINES)
    print(f"\n{versions}; Python {platform.python_version()}, one thread.")


if __name__ == "__main__":
    main()
