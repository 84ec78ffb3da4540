"""What ``tulu-eval train`` says: one line for each mistake, and advice that can be followed word for word."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tulu_eval.training import networks

Train = Callable[..., Result]


class TestMistakes:
    def line(self, result: Result) -> str:
        assert result.exit_code != 0
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        # transformers draws a bar while it loads, unless it is told not to before it is imported.
        lines = [line for line in lines if not line.startswith("Loading weights")]
        assert len(lines) == 1, result.output
        return lines[0]

    def test_what_is_missing_or_too_much(self, train: Train, llama3_like: Path, files: dict[str, Path], tmp_path: Path) -> None:
        rows = files["pairs"]
        assert "names no model; give --model" in self.line(train("rm", "--data", rows))
        assert "give --data rows.jsonl" in self.line(train("rm", "-m", llama3_like))
        assert "--reward-model is for ppo" in self.line(train("rm", "-m", llama3_like, "--reward-model", "x", "--data", rows))
        assert "--split is for the recipe" in self.line(train("rm", "-m", llama3_like, "--split", "x", "--data", rows))
        assert "unknown key 'batchsize'" in self.line(train("rm", "-m", llama3_like, "--data", rows, "--set", "batchsize=1"))
        assert "give --reward-model" in self.line(train("ppo", "-m", llama3_like, "--data", rows))
        assert "too few for one step of 99" in self.line(train("rm", "-m", llama3_like, "--data", rows, "--set", "batch=99"))
        long = train("rm", "-m", llama3_like, "--data", rows, "--set", "max_length=9999")
        assert f"rows may have 9999 tokens, and {llama3_like.parent.name}/{llama3_like.name} has" in self.line(long)
        (tmp_path / "file").write_text("")
        taken = train("rm", "-m", llama3_like, "--data", rows, "-o", tmp_path / "file" / "run")
        assert "/file is no folder; give another --output" in self.line(taken)

    def test_a_policy_for_a_reward_model(self, train: Train, llama3_like: Path, files: dict[str, Path], tmp_path: Path) -> None:
        words = ["-m", llama3_like, "--reward-model", llama3_like, "--data", files["prompts"], "-o", tmp_path]
        assert "is not a reward model" in self.line(train("ppo", *words, "--set", "rollout_batch=16", "-q"))

    def test_another_tokenizer(self, train: Train, llama3_like: Path, llama2_like: Path, files: dict[str, Path]) -> None:
        words = ["-m", llama3_like, "--reward-model", llama2_like, "--data", files["prompts"]]
        assert "has another tokenizer than" in self.line(train("ppo", *words))

    def test_resuming_another_run(self, train: Train, llama3_like: Path, files: dict[str, Path], tmp_path: Path) -> None:
        words = ["-m", llama3_like, "--data", files["sft"], "-o", tmp_path, "-q"]
        assert train("sft", *words).exit_code == 0
        assert "was written with another recipe" in self.line(train("sft", *words, "--set", "clip_norm=2"))
        late = self.line(train("sft", *words, "--set", "learning_rate=1e-3"))
        assert f"{tmp_path} is finished, so another learning_rate would have no effect; give another --output" in late
        assert train("sft", *words, "--set", "max_skipped=7", "--save-every", "3").exit_code == 0
        other = tmp_path / "other.jsonl"
        other.write_text("\n".join(files["sft"].read_text().splitlines()[::-1]))
        assert "was written with another data" in self.line(
            train("sft", "-m", llama3_like, "--data", other, "-o", tmp_path, "-q")
        )
        assert train("sft", *words, "--set", "learning_rate=1e-3", "--fresh").exit_code == 0
        assert train("sft", *words, "--set", "learning_rate=1e-3", "--set", "micro_tokens=1").exit_code == 0


@pytest.fixture(scope="session")
def reward(llama3_like: Path, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small reward model."""
    from tulu_eval.cli import cli

    folder = tmp_path_factory.mktemp("rm")
    words = ["train", "rm", "-r", "tiny", "-m", llama3_like, "--data", files["pairs"], "-o", folder, "--set", "batch=16"]
    assert CliRunner().invoke(cli, [*map(str, words), "--device", "cpu", "-q"]).exit_code == 0
    return folder / "reward_model"


def test_a_policy_with_a_larger_vocabulary_than_its_pickled_reward_model(
    train: Train, llama3_like: Path, reward: Path, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy's favourite token is one that the reward model does not know."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    policy, pickled = tmp_path / "wide", shutil.copytree(reward, tmp_path / "pickled")
    wide = AutoModelForCausalLM.from_pretrained(llama3_like)
    size = wide.config.vocab_size
    wide.resize_token_embeddings(size + 64)
    wide.lm_head.weight.data[:size] = 0.0
    wide.lm_head.weight.data[size:] = 100.0 * wide.model.norm.weight.data.sign()
    wide.save_pretrained(policy)
    AutoTokenizer.from_pretrained(llama3_like).save_pretrained(policy)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    small = ["--set", "rollout_batch=8", "--set", "batch=8", "--set", "max_new_tokens=5", "--set", "warmup=0"]
    words = ["-m", policy, "--reward-model", pickled, "--data", files["prompts"], "-o", tmp_path / "run", *small]
    refused = train("ppo", *words)
    assert refused.exit_code == 2
    assert "--allow-pickle allows it" in refused.stderr
    plan = train("ppo", *words, "--allow-pickle", "--dry-run")
    assert f"note: the policy never draws token ids from {size} to {size + 63}" in plan.stdout
    done = train("ppo", *words, "--allow-pickle", "-q")
    assert done.exit_code == 0, done.output


def advice(result: Result) -> list[list[str]]:
    """Returns the options that a guard's message advises, as the shell would read them: each of its ways to go on."""
    assert result.exit_code == 3, result.output
    said = result.stderr.strip().splitlines()[-1]
    ways = re.findall(r"with ((?:--\S+ \S+? ?)+)(?=,|$|to go on)", said)
    assert ways, said
    return [shlex.split(way) for way in ways]


class TestAdvice:
    @pytest.fixture
    def words(self, llama3_like: Path, reward: Path, files: dict[str, Path], tmp_path: Path) -> list[Any]:
        small = [f"--set={one}" for one in ("rollout_batch=8", "batch=8", "max_new_tokens=5", "warmup=0", "patience=1")]
        own = ["-m", llama3_like, "--reward-model", reward, "--data", files["prompts"], "-o", tmp_path / "run"]
        return [*own, *small, "-q", "--save-every", "1"]

    def test_a_guard_of_ppo(self, train: Train, words: list[Any], tmp_path: Path) -> None:
        slower, as_before = advice(train("ppo", *words, "--set", "eos_floor=1.0"))
        assert slower == ["--set", "learning_rate=5e-06", "--set", "final_learning_rate=5e-06"]
        again = train("ppo", *words, "--set", "eos_floor=1.0", *slower)
        assert "stopped after step 2" in again.stderr
        assert advice(again)[0][1] == "learning_rate=2.5e-06"
        done = train("ppo", *words, "--set", "eos_floor=1.0", *slower, *as_before)
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert [line["learning_rate"] for line in lines] == [1e-5, 5e-6, 5e-6]
        manifest = json.loads((tmp_path / "run" / "policy" / "training.json").read_text())
        assert [(one["step"], one["setting"], one["before"], one["after"]) for one in manifest["changes"]] == [
            (1, "learning_rate", 1e-5, 5e-6),
            (1, "final_learning_rate", 1e-5, 5e-6),
            (2, "eos_floor", 1.0, 0.0),
        ]
        assert json.loads((tmp_path / "run" / "manifest.json").read_text())["changes"] == manifest["changes"]
        assert "| eos_floor | 2 | 1 | 0 |" in (tmp_path / "run" / "policy" / "README.md").read_text()

    def test_too_much_kl(self, train: Train, words: list[Any]) -> None:
        words += ["--set", "learning_rate=0.1", "--set", "final_learning_rate=0.1", "--set", "kl_ceiling=0.0"]
        _, as_before = advice(train("ppo", *words))
        assert as_before[1].startswith("kl_ceiling=")
        assert train("ppo", *words, *as_before).exit_code in (0, 3)

    def test_updates_that_are_not_finite(
        self, train: Train, llama3_like: Path, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ["-m", llama3_like, "--data", files["sft"], "-o", tmp_path, "-q", "--set", "batch=8", "--set", "max_skipped=2"]
        with monkeypatch.context() as patch:
            right = networks.Policy.forward
            patch.setattr(networks.Policy, "forward", lambda *given: right(*given) * math.nan)
            (slower,) = advice(train("sft", *words))
        assert slower[:2] == ["--set", "learning_rate=5e-05"]
        assert train("sft", *words, *slower).exit_code == 0
