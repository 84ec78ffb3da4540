"""A training step on a CUDA device with dummy weights: seconds by part, MFU, peak memory; PPO, DPO and SFT.

Started by ``benchmarks/gpu.sh``.

The shape is Llama 3.2 1B's. PPO's policy, reference, reward and value model have that shape each; a random policy writes
responses of up to 256 tokens, so nearly all of them reach the limit. Passes are in bfloat16, weights and moments of trained
models in float32, as in every recipe. The first step of each stage is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tulu_eval.training import dpo, loading, networks, ppo, recipes, sft
from tulu_eval.training.loop import LoopSettings, Trainer
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine
from tulu_eval.training.rows.data import PreferencePair
from tulu_eval.training.stages import Stage
from tulu_eval.training.text import Tokens

SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "rope_theta": 500000.0, "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 512, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""``1b`` is Llama 3.2 1B's config.json."""

EOS = 1
ALWAYS = ("seconds", "tokens_per_second", "mfu")


def write_models(folder: Path, shape: str, device: str) -> None:
    """Writes a policy and a reward model with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=8192, num_labels=1, bos_token_id=None, eos_token_id=None, pad_token_id=None
    )
    for name, kind in (("policy", LlamaForCausalLM), ("reward_model", LlamaForSequenceClassification)):
        with torch.device(device):
            model = kind(config)
        model.to(torch.bfloat16).save_pretrained(folder / name)


def draw_rows(count: int, shortest: int, longest: int, vocabulary: int, answer: int) -> list[Tokens]:
    """Returns random rows; the last ``answer`` tokens of each count."""
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        length = draw.randint(shortest, longest)
        ids = np.array([draw.randrange(2, vocabulary) for _ in range(length)], dtype=np.int32)
        rows.append(Tokens(ids, np.arange(length) >= length - answer))
    return rows


class Bench:
    """Runs stages and keeps what each step reported.

    Args:
        folder: With the models.
        given: The command line.
    """

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        self._folder, self._given = folder, given
        self._ranks = Ranks(device=torch.device(given.device))
        self._vocabulary: int = SHAPES[given.shape]["vocab_size"]

    def recipe(self, stage: Stage, **changes: Any) -> Any:
        """Returns a recipe of a stage with the batch and token budget of this benchmark."""
        base = recipes.load(stage, "tiny").recipe
        compute = "bfloat16" if self._given.device == "cuda" else "float32"
        same = {"batch": self._given.batch, "micro_tokens": self._given.micro_tokens, "compute_dtype": compute, "epochs": 1}
        return dataclasses.replace(base, **same, **changes)

    def policy(self, recipe: Any, *, trained: bool) -> networks.Policy:
        """Loads the policy onto the device."""
        return loading.load_policy(self._folder / "policy", compute=recipe.compute_dtype, trained=trained, ranks=self._ranks)

    def scorer(self, recipe: Any, *, trained: bool) -> networks.Scorer:
        """Loads the reward model onto the device."""
        return loading.load_scorer(
            self._folder / "reward_model", compute=recipe.compute_dtype, trained=trained, ranks=self._ranks
        )

    def train(self, stage: str, recipe: Any, trained: dict[str, Any], rows: int, work: Callable[[Trainer], None]) -> str:
        """Trains and returns the row of the table."""
        steps: list[dict[str, float]] = []
        report = LoopSettings(self._folder / stage, {}, 10**9, report=lambda _step, _steps, numbers: steps.append(numbers))
        report.folder.mkdir()
        trainer = Trainer(recipe, self._ranks, trained, rows, recipe.batch, 1, report)
        trainer.save = lambda: None  # type: ignore[method-assign]  # a checkpoint of random weights is not what is measured
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        work(trainer)
        counted = steps[1:] or steps
        parts = [key for key in counted[0] if key.startswith("seconds_")]
        middle = {key: statistics.median(step[key] for step in counted) for key in (*ALWAYS, *parts)}
        shares = ", ".join(f"{key.removeprefix('seconds_')} {middle[key]:.2f}" for key in parts)
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if self._given.device == "cuda" else "-"
        spread = f"{min(step['seconds'] for step in counted):.2f}–{max(step['seconds'] for step in counted):.2f}"
        return (
            f"| {stage} | {middle['seconds']:.2f} ({spread}) | {shares} | {middle['tokens_per_second']:,.0f} "
            f"| {100 * middle['mfu']:.1f} % | {memory} | {time.perf_counter() - began:.0f} |"
        )

    def ppo(self) -> str:
        """PPO: rollouts with the policy itself, then one update of policy and value model."""
        new = self._given.new_tokens
        made = self.recipe(
            "ppo", rollout_batch=self._given.batch, rollouts_per_prompt=1, max_new_tokens=new, temperature=1.0, top_k=0,
            top_p=1.0, no_eos_reward=None, kl_ceiling=1e9, eos_floor=0.0, inner_epochs=1,
        )  # fmt: skip
        four = ppo.Models(
            self.policy(made, trained=True), self.policy(made, trained=False), self.scorer(made, trained=True),
            Mixture.of_model(self.scorer(made, trained=False)),
        )  # fmt: skip
        prompts = draw_rows(self._given.steps * made.batch, 64, 256, self._vocabulary, 0)
        engine = PolicyEngine(four.policy, [EOS], made.batch)
        trained = {"policy": four.policy, "value": four.value}
        return self.train("PPO", made, trained, len(prompts), lambda trainer: ppo.train(trainer, four, engine, prompts, made))

    def dpo(self) -> str:
        """DPO on pairs of about 400 tokens a side."""
        made = self.recipe("dpo")
        policy, reference = (self.policy(made, trained=trained) for trained in (True, False))
        sides = draw_rows(2 * self._given.steps * made.batch, 200, 600, self._vocabulary, 150)
        pairs = [PreferencePair(*two) for two in zip(sides[::2], sides[1::2], strict=True)]
        work: Callable[[Trainer], None] = lambda trainer: dpo.train(trainer, policy, reference, pairs, made.beta)  # noqa: E731
        return self.train("DPO", made, {"policy": policy}, len(pairs), work)

    def sft(self) -> str:
        """SFT on rows of about 800 tokens."""
        made = self.recipe("sft")
        policy = self.policy(made, trained=True)
        rows = draw_rows(self._given.steps * made.batch, 400, 1200, self._vocabulary, 300)
        return self.train("SFT", made, {"policy": policy}, len(rows), lambda trainer: sft.train(trainer, policy, rows))


def main() -> None:
    """Trains a few steps of each stage and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny shape on the CPU, to see that it runs")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64, help="rows, pairs or rollouts of an update")
    parser.add_argument("--micro-tokens", type=int, default=16384)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="the first is not counted")
    given = parser.parse_args()
    if given.dry_run:
        given.shape, given.device, given.batch, given.new_tokens, given.steps = "tiny", "cpu", 4, 8, 2
    name = torch.cuda.get_device_name() if given.device == "cuda" else given.device
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{name}, {versions}, {given.shape} shape, batch {given.batch}\n")
    print("| stage | seconds a step, median (min–max) | parts | tokens/s | MFU | peak memory, GiB | all steps, s |")
    print("|---|---:|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder, given.shape, given.device)
        bench = Bench(folder, given)
        for stage in (bench.sft, bench.dpo, bench.ppo):
            print(stage(), flush=True)
            if given.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
