"""A benchmark's own scorer as reward: prompts as in the evaluation, scores as the benchmark gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError, PreflightError, UnknownName
from tulu_eval.records import Completion
from tulu_eval.runs import catalog
from tulu_eval.training.networks import collate
from tulu_eval.training.rewards import PromptSettings, RewardSettings
from tulu_eval.training.rollout import Rollout
from tulu_eval.training.rule_reward import RuleReward

ZERO_SHOT = "gsm-symbolic-zero-shot"


@pytest.fixture(scope="module")
def tokenizer(llama3_like: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(llama3_like)  # type: ignore[no-any-return]


def settings(tokenizer: Any, data: Path | None, **more: Any) -> PromptSettings:
    return PromptSettings(**{"data": data, "tokenizer": tokenizer, "bos": True, "max_length": 4000, "vocabulary": 9999, **more})


def test_gsm8k_on_its_training_split(tokenizer: Any, shared: Path, tmp_path: Path) -> None:
    train = shared / "data/gsm8k/train.jsonl"
    items = GSM8K().training_items(train)
    assert len(items) == 7473
    with pytest.raises(DataError, match=r"is GSM8K's test set, which measures; train on its train\.jsonl"):
        GSM8K().training_items(train.with_name("test.jsonl"))
    few = tmp_path / "few.jsonl"
    few.write_text("".join(train.read_text().splitlines(keepends=True)[:8]))
    rows = RuleReward.prompts("gsm8k", settings(tokenizer, few))
    assert [row.target for row in rows.rows] == [item.target for item in items[:8]]
    text = tokenizer.decode(rows.rows[0].ids)
    asked = GSM8K().render(items[0])
    assert text == f"<|begin_of_text|><|user|>\n{asked.user}\n<|assistant|>\nAnswer:"
    bare = RuleReward.prompts("gsm8k", settings(tokenizer, few, bos=False))
    assert bare.rows[0].ids.tolist() == rows.rows[0].ids.tolist()[1:]
    assert rows.sha256 != bare.sha256

    lengths = sorted(map(len, rows.rows))
    short = RuleReward.prompts("gsm8k", settings(tokenizer, few, max_length=lengths[2]))
    assert len(short.rows) + short.dropped[f"over {lengths[2]} tokens"] == 8
    with pytest.raises(DataError, match="all 8 prompts have more than max_length = 9 tokens"):
        RuleReward.prompts("gsm8k", settings(tokenizer, few, max_length=9))
    with pytest.raises(DataError, match=r"item train-0: token \d+ is outside a model's vocabulary of 9"):
        RuleReward.prompts("gsm8k", settings(tokenizer, few, vocabulary=9))


def test_scores_are_the_benchmarks(tokenizer: Any, rows: Path) -> None:
    prompt = RuleReward.prompts(ZERO_SHOT, settings(tokenizer, rows)).rows[3]
    assert prompt.target == "7"
    said = ["So the answer is 7.", "The answer is 7. Or 8?", "I do not know."]
    rollouts = []
    for text in said:
        ids = (*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)
        rollouts.append(Rollout.of(prompt, Completion("k", "", ids, "stop", 0.0)))
    batch = collate([one.tokens for one in rollouts], torch.device("cpu"))
    for argument, expected in ((ZERO_SHOT, [1.0, 0.0, 0.0]), (f"{ZERO_SHOT}:stated-answer", [1.0, 1.0, 0.0])):
        reward = RuleReward.make(RewardSettings(argument, tokenizer, "", lambda: pytest.fail("loads no model")))
        benchmark = catalog.benchmark(ZERO_SHOT)
        place = 1 if ":" in argument else 0
        assert reward.score(rollouts, batch).tolist() == [benchmark.grade("7", text)[place].score for text in said] == expected


def test_what_no_rule_can_grade(tokenizer: Any) -> None:
    assert RuleReward.check("gsm8k", "") == "version 2"
    with pytest.raises(PreflightError, match="--reward rule needs a benchmark, such as rule:gsm8k"):
        RuleReward.check("", "")
    with pytest.raises(UnknownName, match="unknown benchmark 'gsm9k'"):
        RuleReward.check("gsm9k", "")
    with pytest.raises(UnknownName, match="unknown scorer of gsm8k 'exact'"):
        RuleReward.check("gsm8k:exact", "")
    for name in ("mmlu", "truthfulqa"):
        with pytest.raises(PreflightError, match=f"{name} is not graded by the text of an answer alone"):
            RuleReward.check(name, "")
    with pytest.raises(PreflightError, match="bbh has no training split here; give rows of its form with --data FILE"):
        RuleReward.prompts("bbh", settings(tokenizer, None))


class TestTraining:
    @pytest.fixture
    def words(self, llama3_like: Path, rows: Path, tmp_path: Path) -> list[Any]:
        small = ("rollout_batch=12", "batch=12", "max_new_tokens=6", "warmup=0", "no_eos_reward=off", "epochs=2")
        own = ["train", "ppo", "-r", "tiny", "-m", llama3_like, "--data", rows, "-o", tmp_path / "run", "--device", "cpu"]
        return [*own, "--watch-every", "1", "--set=max_length=200", *[f"--set={one}" for one in small]]

    def call(self, *words: Any) -> Result:
        from tulu_eval.cli import cli

        return CliRunner().invoke(cli, list(map(str, words)))

    def test_by_a_rule_alone(self, words: list[Any], tmp_path: Path) -> None:
        plan = self.call(*words, "--reward", f"rule:{ZERO_SHOT}", "--dry-run")
        assert plan.exit_code == 0, plan.output
        assert f"rewards: 1 x rule:{ZERO_SHOT}" in plan.stdout
        assert "reward model, frozen" not in plan.stdout
        assert "value model, trained" in plan.stdout
        done = self.call(*words, "--reward", f"rule:{ZERO_SHOT}")
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert [line["score"] for line in lines] == [line[f"reward_rule:{ZERO_SHOT}"] for line in lines]
        value = load_file(tmp_path / "run" / "value_model" / "model.safetensors")
        assert value["score.weight"].shape == (1, 32)
        manifest = json.loads((tmp_path / "run" / "policy" / "training.json").read_text())
        assert manifest["rewards"] == {f"rule:{ZERO_SHOT}": 1.0}
        assert manifest["identity"]["reward"] == f"1 rule:{ZERO_SHOT} version 2"
        other = self.call(*words, "--reward", f"rule:{ZERO_SHOT}:stated-answer")
        assert other.exit_code == 2
        assert "was written with another reward" in other.stderr

    def test_what_does_not_go_together(self, words: list[Any]) -> None:
        assert "--reward-url is the address" in self.call(*words, "--reward", "model", "--reward-url", "http://x/").stderr
        assert "--reward is for ppo, not sft" in self.call("train", "sft", *words[2:], "--reward", "model").stderr
        two = self.call(*words, "--reward", f"rule:{ZERO_SHOT}", "--reward", "rule:gsm8k", "--set", "max_length=1900")
        assert f"the rewards rule:{ZERO_SHOT} and rule:gsm8k have prompts of their own" in two.stderr
