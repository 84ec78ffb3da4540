"""Rollouts: the same tokens as transformers', sampled ends, and draws that do not depend on neighbours."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tulu_eval.errors import EngineError
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.training import ppo
from tulu_eval.training.networks import Policy, collate
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine, Rollout, roll_out
from tulu_eval.training.watching.speed import Speed

SAMPLED = Decoding(12, temperature=1.0, seed=3)


def requests(*prompts: list[int]) -> list[Request]:
    return [Request(str(index), tuple(prompt), "") for index, prompt in enumerate(prompts)]


def decode(engine: PolicyEngine, asked: list[Request], decoding: Decoding) -> dict[str, Completion]:
    return {completion.key: completion for completion in engine.generate(asked, decoding)}


@pytest.mark.parametrize("kind", ["rotary", "learned positions"])
def test_greedy_equals_transformers(toys: ModuleType, kind: str) -> None:
    policy = toys.policy(29, layers=2)
    if kind == "learned positions":
        torch.manual_seed(0)
        shape = GPT2Config(vocab_size=29, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
        policy = Policy(GPT2LMHeadModel(shape), torch.float32)
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


def test_no_token_outside_the_vocabulary_is_drawn(toys: ModuleType) -> None:
    policy, asked = toys.policy(9, uniform=True), requests(*([[2]] * 64))
    free, held = (decode(PolicyEngine(policy, [1], 64, drawn), asked, Decoding(4, temperature=1.0)) for drawn in (None, 5))
    assert max(max(one.token_ids) for one in free.values()) == 8
    assert {token for one in held.values() for token in one.token_ids} == set(range(5))


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


def test_truncated_sampling_leaves_the_log_probabilities_whole(toys: ModuleType) -> None:
    """A sampler's own log-probabilities would be higher by the mass that top-k cuts off; ours are the model's."""
    policy = toys.policy(29)
    policy.model.lm_head.weight.data *= 20
    prompt = toys.tokens([2])
    found = list(PolicyEngine(policy, [], rows=64).generate(requests(*([[2]] * 64)), Decoding(1, temperature=0.7, top_k=2)))
    logits = policy.model(input_ids=torch.tensor([[2]])).logits[0, 0].detach()
    best = logits.topk(2).indices.tolist()
    assert {completion.token_ids[0] for completion in found} == set(best)
    for token in best:
        rollout = Rollout.of(prompt, Completion("k", "", (token,), "length", 0.0))
        logprob = policy(collate([rollout.tokens], torch.device("cpu")))[0, 1]
        assert float(logprob.detach()) == pytest.approx(float(logits.log_softmax(0)[token]), abs=1e-6)
        assert float(logprob.detach()) < float(logits.topk(2).values.log_softmax(0)[best.index(token)]) - 0.01


@pytest.mark.parametrize(
    ("answer", "reason", "expected"),
    [([1], "stop", 2.0), ([5, 1], "stop", 2.0), ([5, 6, 7], "length", -10.0), ([1, 5, 6], "length", -10.0)],
)
def test_only_an_answer_that_ended_keeps_its_score(toys: ModuleType, answer: list[int], reason: Any, expected: float) -> None:
    rollout = Rollout.of(toys.tokens([2]), Completion("k", "", tuple(answer), reason, 0.0))
    made = toys.recipe("ppo", no_eos_reward=-10.0)
    four = ppo.Models(
        toys.policy(11), toys.policy(11), toys.scorer(11), toys.paid(lambda batch: torch.full((len(batch.ids),), 2.0))
    )
    speed = Speed(Ranks(), made.compute_dtype)
    seen = ppo.Learner(four, made, Ranks(), speed).score_rollouts([rollout], keep=False)
    assert seen.score.tolist() == [expected]
    assert int(seen.mask.sum()) == len(answer)


def steps_of_ppo(toys: ModuleType, folder: Path, **changes: Any) -> tuple[list[Rollout], list[dict[str, float]]]:
    """Returns the rollouts of a run of one step, and the step's numbers."""
    made = toys.recipe(
        "ppo",
        **{"rollout_batch": 4, "batch": 8, "rollouts_per_prompt": 2, "max_new_tokens": 6, "learning_rate": 0.0, **changes},
    )
    four = ppo.Models(toys.policy(11), toys.policy(11, seed=4), toys.scorer(11), Mixture.of_model(toys.scorer(11, seed=2)))
    updates = 8 // made.batch * made.inner_epochs
    run = toys.trainer(folder, made, {"policy": four.policy, "value": four.value}, 4, per_step=4, updates=updates)
    numbers: list[dict[str, float]] = []
    run.settings = dataclasses.replace(run.settings, report=lambda step, steps, found: numbers.append(found))
    seen: list[Rollout] = []
    engine = PolicyEngine(four.policy, [1], 8)
    right = engine.generate

    def generate(asked: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        done = {completion.key: completion for completion in right(asked, decoding)}
        seen.extend(Rollout.of(toys.tokens(list(request.token_ids)), done[request.key]) for request in asked)
        yield from done.values()

    engine.generate = generate  # type: ignore[method-assign]
    ppo.train(run, four, engine, [toys.tokens([2, n]) for n in (3, 4, 5, 6)], made)
    return seen, numbers


def test_rollouts_of_a_prompt_are_adjacent(toys: ModuleType, tmp_path: Path) -> None:
    seen, _ = steps_of_ppo(toys, tmp_path)
    prompts = [int(rollout.tokens.ids[1]) for rollout in seen]
    assert prompts[::2] == prompts[1::2]
    assert sorted(prompts[::2]) == [3, 4, 5, 6]


def test_numbers_of_a_step_do_not_depend_on_how_it_is_cut(toys: ModuleType, tmp_path: Path) -> None:
    """With a learning rate of 0 the policy is the same for all mini-batches; means are over tokens, not of means."""
    seen, (whole,) = steps_of_ppo(toys, tmp_path / "whole", micro_tokens=128)
    _, (cut,) = steps_of_ppo(toys, tmp_path / "cut", micro_tokens=20, batch=4)
    for name in ("score", "score_deviation", "kl", "kl_per_token", "eos_rate", "length", "entropy", "tokens"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-5), name
    lengths = [int(rollout.tokens.mask.sum()) for rollout in seen]
    assert len(set(lengths)) > 1
    assert whole["length"] == pytest.approx(sum(lengths) / 8)
    assert whole["kl_per_token"] == pytest.approx(whole["kl"] * 8 / sum(lengths))
    assert whole["eos_rate"] == sum(rollout.finished for rollout in seen) / 8


def test_inner_epochs_are_measured_from_the_first(toys: ModuleType, tmp_path: Path) -> None:
    """With one the ratio is 1 and nothing is clipped; with more it moves, and each is an update of the schedule."""
    changes = {"learning_rate": 0.05, "final_learning_rate": 0.05, "warmup": 0.0}
    _, (once,) = steps_of_ppo(toys, tmp_path / "1", **changes)
    assert (once["approximate_kl"], once["clip_fraction"]) == (0.0, 0.0)
    _, (often,) = steps_of_ppo(toys, tmp_path / "3", inner_epochs=3, **changes)
    assert often["approximate_kl"] > 1e-3
    assert often["clip_fraction"] > 0
    _, (anew,) = steps_of_ppo(toys, tmp_path / "anew", inner_epochs=3, inner_order="rollouts", **changes)
    assert (anew["approximate_kl"], anew["clip_fraction"]) == (0.0, 0.0), "EasyLM's order computes the old ones anew"
    assert anew["length"] == once["length"]
    assert anew["policy_gradient_norm"] != once["policy_gradient_norm"]
    _, (rising,) = steps_of_ppo(toys, tmp_path / "4", inner_epochs=4, **{**changes, "warmup": 0.9})
    assert rising["learning_rate"] == pytest.approx(0.05 * 3 / 4)
