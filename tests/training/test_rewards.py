"""What --reward means, and that a mixture is a weighted sum whose parts are logged."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tulu_eval import plugins
from tulu_eval.errors import PreflightError, UnknownName, UserError
from tulu_eval.training import ppo
from tulu_eval.training.networks import collate
from tulu_eval.training.rewards import Mixture, ModelReward, RewardPart, parse
from tulu_eval.training.rollout import PolicyEngine


@pytest.mark.parametrize(
    ("texts", "url", "parts"),
    [
        ((), "", [("model", "", 1.0)]),
        ((), "http://x/", [("server", "", 1.0)]),
        (("rule:gsm8k",), "", [("rule", "gsm8k", 1.0)]),
        (("rule:gsm8k:stated-answer=2", "model=-0.5"), "", [("rule", "gsm8k:stated-answer", 2.0), ("model", "", -0.5)]),
        (("server=0.1", "model"), "http://x/", [("server", "", 0.1), ("model", "", 1.0)]),
    ],
)
def test_words(texts: tuple[str, ...], url: str, parts: list[Any]) -> None:
    assert [tuple(part) for part in parse(texts, url)] == parts


@pytest.mark.parametrize(
    ("texts", "url", "message"),
    [
        (("model=many",), "", "--reward model=many: write NAME, NAME:ARGUMENT or NAME=WEIGHT"),
        (("model=0",), "", "with a finite weight that is not 0"),
        (("model=nan",), "", "with a finite weight"),
        (("=1",), "", "--reward =1: write NAME"),
        (("model", "model=2"), "", "--reward model is there twice"),
        (("model",), "http://x/", "--reward-url is the address of the reward 'server'"),
    ],
)
def test_words_that_mean_nothing(texts: tuple[str, ...], url: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(texts, url)


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"model", "rule", "server"} <= set(plugins.names("tulu_eval.rewards"))
    assert RewardPart("model", "", 1.0).kind is ModelReward
    with pytest.raises(UnknownName, match=r"unknown reward 'modle'\. Did you mean 'model'"):
        _ = RewardPart("modle", "", 1.0).kind
    odd = EntryPoint("odd", "json:dumps", "tulu_eval.rewards")
    monkeypatch.setattr(plugins, "declared", lambda group: (odd,))
    with pytest.raises(PreflightError, match=r"the entry point 'odd' of tulu_eval\.rewards is not a subclass of Reward"):
        _ = RewardPart("odd", "", 1.0).kind


def test_a_mixture_is_the_weighted_sum_and_each_part_is_logged(toys: ModuleType, tmp_path: Path) -> None:
    scorer = toys.scorer(11, trained=False)
    length = toys.Paid(lambda batch: batch.mask.sum(1).float())
    mixture = Mixture({"model": (1.0, ModelReward(scorer)), "length": (-0.25, length)})
    batch = collate([toys.tokens([2, 3, 4], 2), toys.tokens([2, 5], 1)], torch.device("cpu"))
    parts = mixture.parts([], batch)
    assert parts[:, 1].tolist() == [2.0, 1.0]
    torch.testing.assert_close(mixture.total(parts), parts[:, 0] - 0.25 * parts[:, 1])
    assert mixture.flops([toys.tokens([2, 3])]) == scorer.flops([toys.tokens([2, 3])])

    made = toys.recipe("ppo", rollout_batch=8, batch=4, micro_tokens=12, max_new_tokens=4, no_eos_reward=None, warmup=0.0)
    four = ppo.Models(toys.policy(11), toys.policy(11, trained=False), toys.scorer(11), mixture)
    run = toys.trainer(tmp_path, made, {"policy": four.policy, "value": four.value}, 8, per_step=8, updates=2)
    ppo.train(run, four, PolicyEngine(four.policy, [1], 8), [toys.tokens([2])] * 8, made)
    (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert line["reward_length"] == pytest.approx(line["length"])
    assert line["score"] == pytest.approx(line["reward_model"] - 0.25 * line["length"], abs=1e-5)
