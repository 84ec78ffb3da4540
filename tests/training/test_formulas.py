"""The formulas against values from other implementations, brute force and theory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tulu_eval.training import formulas as rl

# Produced by running EasyLM's own functions under jax (beta .05, gamma 1, lambda .95, clips .2, value coefficient .1).
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
SCORE = torch.tensor([1.5, -10.0])
OLD = torch.tensor([[-2.72603, -1.86707, -2.54268, -1.00962], [-0.33623, -1.36702, -4.10794, -0.86769]])
NEW = torch.tensor([[-2.83603, -2.26707, -2.54268, -1.31962], [-0.75623, -1.71702, -3.39794, -1.23769]])
REF = torch.tensor([[-1.79991, -0.70198, -3.78677, -2.39184], [-3.01688, -3.13965, -2.7177, -2.34034]])
OLD_V = torch.tensor([[0.94, 0.21, -1.32, -0.03], [0.36, -0.68, -1.6, -1.07]])
NEW_V = torch.tensor([[0.84, 0.08, -1.43, -0.14], [0.26, -0.57, -1.03, -1.04]])


def close(found: Tensor, expected: list[float], tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), atol=tolerance, rtol=0)


def ragged(rows: int = 5, tokens: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    mask = torch.arange(tokens) < lengths.unsqueeze(1)
    return torch.randn(rows, tokens, generator=generator), torch.randn(rows, tokens, generator=generator), mask


class TestReferenceFixture:
    rewards = rl.shape_rewards(SCORE, rl.kl_estimate(OLD, REF), MASK, 0.05)

    def test_rewards(self) -> None:
        close(self.rewards[MASK], [0.04631, 0.05825, -0.0622, 1.43089, -0.13403, -10.08863])

    def test_advantages_and_returns(self) -> None:
        found = rl.gae(self.rewards, OLD_V, MASK, 1.0, 0.95)
        close(rl.whiten(found.advantages, MASK)[MASK], [0.45572, 0.58261, 0.8595, 0.65998, -1.33969, -1.21812])
        close(found.returns[MASK], [1.21876, 1.22311, 1.29564, 1.43089, -9.75223, -10.08863])

    def test_losses(self) -> None:
        found = rl.gae(self.rewards, OLD_V, MASK, 1.0, 0.95)
        policy = rl.masked_mean(rl.policy_loss(NEW, OLD, rl.whiten(found.advantages, MASK), 0.2), MASK)
        value = rl.masked_mean(rl.value_loss(NEW_V, OLD_V, found.returns, 0.2), MASK)
        assert float(policy) == pytest.approx(-0.0160164, abs=1e-4)
        assert float(value) == pytest.approx(16.8496761, abs=1e-4)
        assert float(policy + 0.1 * value) == pytest.approx(1.6689513, abs=1e-4)
        assert float(rl.masked_mean((NEW - OLD).exp(), MASK)) == pytest.approx(0.7768893, abs=1e-4)


class TestLogprobs:
    def test_equals_cross_entropy_at_any_temperature(self) -> None:
        logits, targets = torch.randn(3, 5, 17), torch.randint(0, 17, (3, 5))
        for temperature in (1.0, 0.7):
            expected = -torch.nn.functional.cross_entropy(
                (logits / temperature).flatten(0, 1), targets.flatten(), reduction="none"
            )
            torch.testing.assert_close(rl.token_logprobs(logits, targets, temperature).flatten(), expected, atol=2e-6, rtol=0)

    def test_of_a_certain_token_is_zero(self) -> None:
        targets = torch.tensor([[2, 0]])
        logits = torch.nn.functional.one_hot(targets, 4).float() * 1e4
        assert torch.equal(rl.token_logprobs(logits, targets), torch.zeros(1, 2))

    def test_bfloat16_in_float32_out(self) -> None:
        x, y, mask = ragged()
        half = x.bfloat16()
        assert rl.token_logprobs(torch.randn(2, 3).bfloat16(), torch.tensor([0, 1])).dtype == torch.float32
        assert rl.kl_estimate(half, half).dtype == torch.float32
        assert rl.policy_loss(half, half, y, 0.2).dtype == torch.float32
        assert rl.value_loss(half, half, y, 0.2).dtype == torch.float32
        assert rl.gae(half, half, mask, 1.0, 0.95).advantages.dtype == torch.float32
        assert rl.preference_loss(half[:, 0], half[:, 1]).loss.dtype == torch.float32
        assert rl.dpo_loss(half[0], half[1], half[2], half[3], 0.1).loss.dtype == torch.float32
        assert rl.sequence_logprobs(half, mask).dtype == torch.float32

    def test_float64_stays(self) -> None:
        assert rl.token_logprobs(torch.randn(2, 3).double(), torch.tensor([0, 1])).dtype == torch.float64


class TestKL:
    def test_expectation_of_k1_is_the_exact_divergence(self) -> None:
        p, q = torch.randn(11).double().log_softmax(0), torch.randn(11).double().log_softmax(0)
        exact = float((p.exp() * (p - q)).sum())
        assert float((p.exp() * rl.kl_estimate(p, q)).sum()) == pytest.approx(exact, abs=1e-12)
        assert float((p.exp() * rl.kl_estimate(p, q, "k3")).sum()) == pytest.approx(exact, abs=1e-12)

    def test_k3_is_never_negative_and_k2_is_near_for_small_divergence(self) -> None:
        generator = torch.Generator().manual_seed(1)
        p = torch.randn(1000, generator=generator)
        assert bool((rl.kl_estimate(p, torch.randn(1000, generator=generator), "k3") >= 0).all())
        near = p + 1e-2 * torch.randn(1000, generator=generator)
        torch.testing.assert_close(rl.kl_estimate(p, near, "k2"), rl.kl_estimate(p, near, "k3"), atol=1e-5, rtol=0)

    def test_sampled_k1_and_k3_agree_within_chance(self) -> None:
        generator = torch.Generator().manual_seed(2)
        p, q = torch.randn(7, generator=generator).log_softmax(0), torch.randn(7, generator=generator).log_softmax(0)
        drawn = torch.multinomial(p.exp(), 20_000, replacement=True, generator=generator)
        gap = rl.kl_estimate(p[drawn], q[drawn]) - rl.kl_estimate(p[drawn], q[drawn], "k3")
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(20_000)


class TestRewards:
    @pytest.mark.parametrize(("finished", "expected"), [(True, 3.0), (False, -10.0)])
    def test_no_end_token_replaces_the_score(self, finished: bool, expected: float) -> None:
        assert float(rl.apply_eos_rule(torch.tensor([3.0]), torch.tensor([finished]), -10.0)) == expected

    def test_rule_can_be_off(self) -> None:
        assert float(rl.apply_eos_rule(torch.tensor([3.0]), torch.tensor([False]), None)) == 3.0

    def test_sum_is_score_less_kl(self) -> None:
        kl, _, mask = ragged()
        score = torch.randn(5)
        rewards = rl.shape_rewards(score, kl, mask, 0.05)
        torch.testing.assert_close(rewards.sum(1), score - 0.05 * torch.where(mask, kl, 0.0).sum(1))
        last = mask.sum(1) - 1
        at_last = rewards.gather(1, last.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(at_last, score - 0.05 * kl.gather(1, last.unsqueeze(1)).squeeze(1))


class TestGAE:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
    def test_equals_the_double_sum(self, seed: int, gamma: float, lam: float) -> None:
        rewards, values, mask = ragged(rows=3, tokens=7, seed=seed)
        found = rl.gae(rewards, values, mask, gamma, lam)
        for row in range(3):
            n = int(mask[row].sum())
            r, v = rewards[row, :n].tolist(), [*values[row, :n].tolist(), 0.0]
            delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
            for t in range(n):
                expected = sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, n))
                assert float(found.advantages[row, t]) == pytest.approx(expected, abs=1e-6)
                assert float(found.returns[row, t]) == pytest.approx(expected + v[t], abs=1e-6)

    def test_lambda_one_returns_are_reward_to_go(self) -> None:
        rewards, values, mask = ragged()
        togo = torch.where(mask, rewards, 0.0).flip(1).cumsum(1).flip(1)
        torch.testing.assert_close(rl.gae(rewards, values, mask, 1.0, 1.0).returns[mask], togo[mask])

    def test_padding_never_leaks(self) -> None:
        rewards, values, mask = ragged()
        junk = torch.full_like(values, 100.0)
        dirty = rl.gae(torch.where(mask, rewards, junk), torch.where(mask, values, junk), mask, 1.0, 0.95)
        clean = rl.gae(rewards, values, mask, 1.0, 0.95)
        assert torch.equal(dirty.advantages, clean.advantages)
        assert not bool(clean.advantages[~mask].any())
        assert not bool(clean.returns[~mask].any())


class TestWhiten:
    def test_mean_zero_and_unbiased_deviation_one(self) -> None:
        x, _, mask = ragged()
        kept = rl.whiten(3 * x + 7, mask)[mask]
        assert abs(float(kept.mean())) < 1e-6
        assert float(kept.std()) == pytest.approx(1.0, abs=1e-5)

    def test_over_ranks_equals_at_once(self) -> None:
        x, _, mask = ragged(rows=8)
        whole = rl.whiten(x, mask)
        sums: list[list[Tensor]] = []

        def collect(part: Tensor) -> Tensor:
            return torch.stack(list(sums[calls.pop(0)])).sum(0)

        first = [
            torch.stack([m.sum().double(), torch.where(m, h.double(), 0.0).sum()])
            for h, m in zip(x.chunk(2), mask.chunk(2), strict=True)
        ]
        mean = (first[0] + first[1])[1] / (first[0] + first[1])[0]
        second = [
            torch.where(m, (h.double() - mean).square(), 0.0).sum() for h, m in zip(x.chunk(2), mask.chunk(2), strict=True)
        ]
        sums += [first, second]
        for half, half_mask, expected in zip(x.chunk(2), mask.chunk(2), whole.chunk(2), strict=True):
            calls = [0, 1]
            torch.testing.assert_close(rl.whiten(half, half_mask, collect), expected, atol=1e-6, rtol=0)

    def test_one_entry_is_zero(self) -> None:
        assert float(rl.whiten(torch.tensor([[5.0]]), torch.tensor([[True]]))) == 0.0

    def test_whitened_rewards_keep_their_mean(self) -> None:
        x, _, mask = ragged()
        found = rl.whiten_rewards(3 * x + 7, mask)
        assert float(found[mask].mean()) == pytest.approx(float((3 * x + 7)[mask].mean()), abs=1e-5)
        assert float(found[mask].std()) == pytest.approx(1.0, abs=1e-4)
        assert bool((found[~mask] == 0).all())

    def test_a_score_is_scaled_after_the_rule_for_missing_ends(self) -> None:
        score = rl.apply_eos_rule(torch.tensor([1.5, 3.0]), torch.tensor([True, False]), -10.0)
        assert rl.scale_score(score, 2.0, 0.5).tolist() == [3.5, -19.5]


class TestPolicyLoss:
    def test_gradient_at_ratio_one_is_the_policy_gradient(self) -> None:
        old, advantages, mask = ragged()
        new = old.clone().requires_grad_()
        rl.masked_mean(rl.policy_loss(new, old, advantages, 0.2), mask).backward()  # type: ignore[no-untyped-call]
        assert new.grad is not None
        torch.testing.assert_close(new.grad, torch.where(mask, -advantages, 0.0) / mask.sum())

    @pytest.mark.parametrize(
        ("advantage", "shift", "moves"), [(1.0, 0.3, False), (1.0, -0.3, True), (-1.0, -0.3, False), (-1.0, 0.3, True)]
    )
    def test_clipped_side_has_no_gradient(self, advantage: float, shift: float, moves: bool) -> None:
        new = torch.tensor(shift, requires_grad=True)
        rl.policy_loss(new, torch.tensor(0.0), torch.tensor(advantage), 0.2).backward()  # type: ignore[no-untyped-call]
        assert new.grad is not None
        assert bool(new.grad != 0) is moves


class TestValueLoss:
    def test_at_the_old_value_is_half_the_squared_error(self) -> None:
        values, returns, _ = ragged()
        torch.testing.assert_close(rl.value_loss(values, values, returns, 0.2), 0.5 * (values - returns).square())

    def test_the_clipped_value_counts_where_it_is_worse(self) -> None:
        found = rl.value_loss(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0), 0.2)
        assert float(found) == pytest.approx(0.5 * 0.8**2)


class TestPairs:
    def test_dpo_at_the_reference_is_ln_2(self) -> None:
        c, r = torch.randn(6), torch.randn(6)
        assert torch.allclose(rl.dpo_loss(c, r, c, r, 0.1).loss, torch.full((6,), math.log(2)))

    def test_dpo_beta_scales_the_margin(self) -> None:
        c, r, rc, rr = torch.randn(4, 6)
        torch.testing.assert_close(rl.dpo_loss(c, r, rc, rr, 0.5).margin, 5 * rl.dpo_loss(c, r, rc, rr, 0.1).margin)

    def test_preference_loss(self) -> None:
        c, r = torch.randn(2, 6)
        assert torch.allclose(rl.preference_loss(c, c).loss, torch.full((6,), math.log(2)))
        torch.testing.assert_close(rl.preference_loss(c + 3, r + 3).loss, rl.preference_loss(c, r).loss)
        torch.testing.assert_close(rl.preference_loss(r, c).loss - rl.preference_loss(c, r).loss, c - r)


class TestReductions:
    def test_parts_add_up_to_the_whole(self) -> None:
        x, _, mask = ragged(rows=8)
        parts = sum(rl.masked_mean(x[a:b], mask[a:b], mask.sum()) for a, b in ((0, 1), (1, 6), (6, 8)))
        torch.testing.assert_close(parts, rl.masked_mean(x, mask))

    def test_explained_variance(self) -> None:
        x, y, mask = ragged()
        assert rl.explained_variance(x, x, mask) == pytest.approx(1.0)
        assert rl.explained_variance(torch.zeros_like(x), x, mask) == pytest.approx(0.0)
        assert rl.explained_variance(y, torch.ones_like(x), mask) != rl.explained_variance(y, x, mask)
        assert math.isnan(rl.explained_variance(y, torch.ones_like(x), mask))


class TestLearningRate:
    def test_constant_after_warmup(self) -> None:
        warmup = rl.warmup_updates(0.1, 928)
        assert warmup == 93
        rates = [rl.learning_rate(k, 928, warmup, 1e-6, 1e-6) for k in (0, 1, 93, 94, 927)]
        assert rates == pytest.approx([0.0, 1e-6 / 93, 1e-6, 1e-6, 1e-6])

    def test_linear_to_the_final_rate(self) -> None:
        warmup = rl.warmup_updates(0.03, 118)
        assert warmup == 4
        rates = [rl.learning_rate(k, 118, warmup, 1e-5, 1e-6) for k in (0, 4, 61, 118)]
        assert rates == pytest.approx([0.0, 1e-5, 5.5e-6, 1e-6])

    def test_no_warmup_and_one_update(self) -> None:
        assert rl.learning_rate(0, 1, 0, 1e-5, 0.0) == 1e-5
        assert rl.warmup_updates(0.1, 10) == 1
