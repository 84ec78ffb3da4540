"""The peer's half of ``ppo_step.py``: TRL's PPOTrainer on a task that is described in a folder. Prints one line of JSON.

It runs in TRL's own environment and imports nothing of tulu-eval. What it measures, it measures from outside: processor time of
the process at the end of each update, tokens of the responses as TRL itself cuts them at their end token.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import trl
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


class Counting(torch.nn.Module):
    """The token-count task's reward, in the form in which TRL takes a reward model: what it says behind each token."""

    base_model_prefix = "backbone"

    def __init__(self, target: int, weight: float) -> None:
        super().__init__()
        self.backbone = Counts(target, weight)
        self.score = torch.nn.Identity()


class Counts(torch.nn.Module):
    """Counts a token so far, in the place of a model's hidden states."""

    def __init__(self, target: int, weight: float) -> None:
        super().__init__()
        self.target, self.weight = target, weight

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        """Returns the weighted count behind each token [rows, length, 1]."""
        counts = (input_ids == self.target).cumsum(1).unsqueeze(-1) * self.weight
        return SimpleNamespace(hidden_states=[counts.float()])


def main() -> None:
    """Trains as the folder's task says; prints what it took as JSON."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    policy, reference = (LlamaForCausalLM.from_pretrained(folder / "policy") for _ in range(2))
    value, reward = (LlamaForSequenceClassification.from_pretrained(folder / "reward_model") for _ in range(2))
    prompts, pad = json.loads((folder / "prompts.json").read_text()), task["pad"]
    lengths: list[int] = []
    right = ppo_trainer.truncate_response

    def truncate(stop: int, filling: int, responses: torch.Tensor) -> torch.Tensor:
        cut = right(stop, filling, responses)
        lengths.append(int((cut != filling).sum()))
        return cut

    ppo_trainer.truncate_response = truncate
    updates: list[dict[str, float]] = []

    class Watch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.spent = sum(os.times()[:2])

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            self.logs = logs

        def on_step_end(self, *_: Any, **__: Any) -> None:
            spent, began = sum(os.times()[:2]), self.spent
            tokens = sum(lengths) if task["eos"] is not None else task["batch"] * task["response"]
            updates.append(
                {
                    "cpu": spent - began,
                    "tokens": tokens,
                    "score": self.logs["objective/scores"],
                    "kl": self.logs["objective/kl"],
                }
            )
            lengths.clear()
            self.spent = spent

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        return {"input_ids": torch.tensor([[pad] * (longest - len(row["input_ids"])) + row["input_ids"] for row in rows])}

    config = PPOConfig(
        output_dir=str(folder / "trl"), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
        num_sample_generations=0, save_strategy="no", disable_tqdm=True, seed=task["seed"],
        per_device_train_batch_size=task["micro"], gradient_accumulation_steps=task["batch"] // task["micro"],
        local_rollout_forward_batch_size=task["micro"], total_episodes=task["batch"] * task["updates"],
        response_length=task["response"], stop_token_id=task["eos"], temperature=1.0, num_ppo_epochs=1, num_mini_batches=1,
        learning_rate=task["learning_rate"], lr_scheduler_type="constant", warmup_steps=0, adam_beta1=0.9, adam_beta2=0.95,
        adam_epsilon=1e-8, weight_decay=0.0, kl_coef=task["kl_coef"], kl_estimator="k1", vf_coef=0.1, cliprange=0.2,
        cliprange_value=0.2, gamma=1.0, lam=0.95, whiten_rewards=False, missing_eos_penalty=None,
    )  # fmt: skip
    scorer = Counting(task["target"], task["weight"]) if task["target"] is not None else reward
    tokenizer: Any = SimpleNamespace(pad_token_id=pad, eos_token_id=-1 if task["eos"] is None else task["eos"])
    import datasets

    trainer = PPOTrainer(
        config, tokenizer, policy, reference, scorer,
        datasets.Dataset.from_list([{"input_ids": prompt} for prompt in prompts]), value, data_collator=collate,
        callbacks=[Watch()],
    )  # fmt: skip
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    versions = f"trl {trl.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(json.dumps({"updates": updates, "peak": peak, "before": before, "versions": versions}))


if __name__ == "__main__":
    main()
