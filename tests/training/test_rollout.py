"""Rollouts: what transformers would decode, ends that were sampled, draws that depend on nothing around them."""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any

import pytest
import torch

from tulu_eval.errors import EngineError
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.training.rollout import PolicyEngine, Rollout, roll_out

SAMPLED = Decoding(12, temperature=1.0, seed=3)


def requests(*prompts: list[int]) -> list[Request]:
    return [Request(str(index), tuple(prompt), "") for index, prompt in enumerate(prompts)]


def decode(engine: PolicyEngine, asked: list[Request], decoding: Decoding) -> dict[str, Completion]:
    return {completion.key: completion for completion in engine.generate(asked, decoding)}


def test_greedy_equals_transformers(toys: ModuleType) -> None:
    policy = toys.policy(29, layers=2)
    policy.model.lm_head.weight.data *= 20
    asked = requests([2, 5, 7], [4], [9, 9, 9, 9, 9, 8])
    found = decode(PolicyEngine(policy, [1], rows=3), asked, Decoding(10))
    for request in asked:
        ids = torch.tensor([request.token_ids])
        expected = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, pad_token_id=0, eos_token_id=1
        )
        assert list(found[request.key].token_ids) == expected[0, len(request.token_ids) :].tolist()


def test_draws_do_not_depend_on_neighbours_or_batches(toys: ModuleType) -> None:
    policy = toys.policy(29)
    asked = requests(*([[2 + n % 5] * (1 + n % 4) for n in range(10)]))
    together = decode(PolicyEngine(policy, [1], rows=10), asked, SAMPLED)
    for engine, part in ((PolicyEngine(policy, [1], rows=3), asked), (PolicyEngine(policy, [1], rows=1), asked[4:7])):
        for key, completion in decode(engine, part, SAMPLED).items():
            assert completion.token_ids == together[key].token_ids


def test_ends_are_sampled_and_truncation_adds_none(toys: ModuleType) -> None:
    policy = toys.policy(4, uniform=True)
    found = decode(PolicyEngine(policy, [1], rows=64), requests(*([[2]] * 64)), Decoding(3, temperature=1.0))
    reasons = Counter(completion.finish_reason for completion in found.values())
    assert reasons["stop"] > 10
    assert reasons["length"] > 10
    for completion in found.values():
        assert (completion.token_ids[-1] == 1) is (completion.finish_reason == "stop")
        assert 1 not in completion.token_ids[:-1]
        assert len(completion.token_ids) == 3 or completion.finish_reason == "stop"


def test_a_rollout_marks_the_answer(toys: ModuleType) -> None:
    rollout = Rollout.of(toys.tokens([2, 5]), Completion("k", "", (7, 1), "stop", 0.0))
    assert rollout.finished
    assert rollout.tokens.ids.tolist() == [2, 5, 7, 1]
    assert rollout.tokens.mask.tolist() == [False, False, True, True]
    assert not Rollout.of(toys.tokens([2]), Completion("k", "", (7, 1), "length", 0.0)).finished


def test_equal_prompts_of_a_step_have_draws_of_their_own(toys: ModuleType) -> None:
    engine = PolicyEngine(toys.policy(29, uniform=True), [], rows=8)
    prompts = [(place, toys.tokens([2])) for place in range(8)]

    def answers(step: int, seed: int = 5, places: slice = slice(None)) -> list[list[int]]:
        return [rollout.tokens.ids.tolist() for rollout in roll_out(engine, prompts[places], SAMPLED, seed, step)]

    assert len(set(map(tuple, answers(0)))) == 8
    assert answers(0) == answers(0)
    assert answers(0)[1::2] == answers(0, places=slice(1, None, 2))
    assert not any(a == b for a, b in zip(answers(0), answers(1), strict=True))
    assert not any(a == b for a, b in zip(answers(0), answers(0, seed=6), strict=True))


def test_sampled_frequencies_follow_the_policy(toys: ModuleType) -> None:
    policy = toys.policy(5, uniform=True)
    counts: Counter[int] = Counter()
    for completion in PolicyEngine(policy, [], rows=256).generate(requests(*([[2]] * 256)), Decoding(8, temperature=0.7)):
        counts.update(completion.token_ids)
    assert all(abs(counts[token] / 2048 - 0.2) < 0.04 for token in range(5))


def test_broken_logits_end_the_run_in_one_line(toys: ModuleType) -> None:
    policy = toys.policy(5)
    policy.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(EngineError, match="the policy's logits are not finite"):
        decode(PolicyEngine(policy, [1], rows=2), requests([2]), SAMPLED)


def test_an_engine_that_fails_a_prompt_ends_the_run(toys: ModuleType) -> None:
    class Failing:
        def generate(self, asked: list[Request], decoding: Decoding) -> Any:
            yield Completion(asked[0].key, "", (), "error", 0.0, "no room")

        def update(self, policy: Any) -> None: ...

    with pytest.raises(EngineError, match="a prompt of step 4 could not be decoded: no room"):
        roll_out(Failing(), [(0, toys.tokens([2]))], SAMPLED, 0, 4)
