"""The formulas, as pure functions on tensors: no model, no distribution, no recipe.

A response tensor is [rows, tokens]: column t is the t-th token of the response, including the end-of-sequence token, and a
boolean mask of the same shape marks the columns of each row. Entries outside the mask have no effect. The functions compute in
float32 or wider for inputs of any dtype.

EL is hamishivi/EasyLM @ dbf2212c, the code that trained the suite: ``EasyLM/models/llama/llama_train_ppo.py``,
``llama_train_rm.py``, ``llama_train_dpo.py`` and ``optimizers.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tulu_eval.training.at_once import HEAD_ROWS, HEAD_ROWS_CUDA

Reduce = Callable[[Tensor], Tensor]
"""Sums a tensor of partial sums over all ranks."""

WHITEN_EPS = 1e-6
"""Added to the variance in whitening (EL, ``whiten``)."""


class Advantages(NamedTuple):
    """Advantages and returns, both [rows, tokens] and zero outside the mask."""

    advantages: Tensor
    returns: Tensor


class PairLosses(NamedTuple):
    """The losses of pairs, and the margins of their chosen over their rejected sides, both [pairs]."""

    loss: Tensor
    margin: Tensor


def one_process(partial: Tensor) -> Tensor:
    """Returns the tensor itself: the sum over one rank."""
    return partial


def wide(x: Tensor) -> Tensor:
    """Returns a tensor in float32; does not change one in float64."""
    return x if x.dtype == torch.float64 else x.float()


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns the log-probability of each target under its logits, in float32.

    EL does not divide the logits by its sampling temperature of 0.7 (recipe field ``logprob_temperature``). It computes in
    bfloat16, so results differ by rounding.

    Args:
        logits: [..., vocabulary].
        targets: [...], token ids.
        temperature: Divisor of the logits.
    """
    scaled = wide(logits) / temperature
    return scaled.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)


def head_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns :func:`token_logprobs` of ``hidden @ weight.T``, without holding all logits at once.

    In float32 it uses ``torch.nn.functional.linear_cross_entropy`` (torch 2.12). That returns the dtype of its input, and
    bfloat16 is too coarse for log-probabilities, so there the function computes the logits in parts, and again in the backward
    pass.

    Args:
        hidden: [tokens, width], output of the last layer.
        weight: [vocabulary, width].
        targets: [tokens].
        temperature: Divisor of the logits.
    """
    rows = HEAD_ROWS_CUDA if hidden.is_cuda else HEAD_ROWS
    exact = hidden.dtype == weight.dtype == torch.float32
    if exact and hasattr(functional, "linear_cross_entropy") and not torch.are_deterministic_algorithms_enabled():
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=rows, chunking_method=None)
        return -functional.linear_cross_entropy(hidden / temperature, weight, targets, reduction="none", options=options)

    def part(some: Tensor, theirs: Tensor) -> Tensor:
        return token_logprobs(functional.linear(some, weight), theirs, temperature)

    parts = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    return torch.cat([checkpoint(part, *each, use_reentrant=False, preserve_rng_state=False) for each in parts])


def kl_estimate(logprobs: Tensor, reference: Tensor, kind: Literal["k1", "k2", "k3"] = "k1") -> Tensor:
    """Returns an estimate of the KL divergence from the reference at each sampled token, in nats.

    k1 = d, k2 = d²/2, k3 = exp(-d) - 1 + d with d = log p - log p_ref (Schulman, "Approximating KL Divergence", 2020).
    k1 is signed and unbiased; EL puts it in the reward unclamped.
    """
    difference = wide(logprobs) - wide(reference)
    if kind == "k1":
        return difference
    if kind == "k2":
        return 0.5 * difference.square()
    return torch.expm1(-difference) + difference


def apply_eos_rule(score: Tensor, finished: Tensor, no_eos_reward: float | None) -> Tensor:
    """Returns the scores [rows], in which ``no_eos_reward`` (EL: -10) replaces the score of each unfinished response."""
    return score if no_eos_reward is None else torch.where(finished, score, torch.full_like(score, no_eos_reward))


def scale_score(score: Tensor, gain: float, bias: float) -> Tensor:
    """Returns ``gain * score + bias`` (EL: 1 and 0); applied after :func:`apply_eos_rule`."""
    return gain * score + bias


def shape_rewards(score: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Returns the reward of each token: ``-kl_coef * kl``, plus the score at the last token of the response.

    Args:
        score: [rows].
        kl: [rows, tokens], signed.
        mask: [rows, tokens], bool; every row has at least one token.
        kl_coef: EL: 0.05, fixed.

    Returns:
        [rows, tokens], zero outside the mask; a row sums to ``score - kl_coef * sum(kl)``.
    """
    rewards = torch.where(mask, -kl_coef * wide(kl), 0.0)
    last = mask.sum(1) - 1
    return rewards.scatter_add(1, last.unsqueeze(1), wide(score).unsqueeze(1))


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Advantages:
    """Returns generalised advantage estimates and returns (Schulman et al., arXiv 1506.02438, eq. 16).

    delta_t = r_t + gamma V_{t+1} - V_t with V = 0 after the last token, also of truncated responses (EL);
    A_t = delta_t + gamma lam A_{t+1}; R_t = A_t + V_t, before any whitening.

    Args:
        rewards: [rows, tokens].
        values: [rows, tokens], value of the state before each token.
        mask: [rows, tokens], bool.
        gamma: EL: 1.0.
        lam: EL: 0.95.
    """
    rewards, values = torch.where(mask, wide(rewards), 0.0), torch.where(mask, wide(values), 0.0)
    following = functional.pad(values[:, 1:], (0, 1))
    delta = rewards + gamma * following - values
    running = torch.zeros_like(delta[:, 0])
    columns: list[Tensor] = []
    for t in reversed(range(delta.shape[1])):
        running = delta[:, t] + gamma * lam * running
        columns.append(running)
    advantages = torch.where(mask, torch.stack(columns[::-1], dim=1), 0.0)
    return Advantages(advantages, torch.where(mask, advantages + values, 0.0))


def whiten(x: Tensor, mask: Tensor, reduce: Reduce = one_process) -> Tensor:
    """Returns ``(x - mean) / sqrt(variance + 1e-6)`` over all masked entries of all ranks, zero outside the mask.

    The variance is the unbiased one (EL, ``whiten``). A single entry has no variance and is only centred.

    Args:
        x: [rows, tokens].
        mask: [rows, tokens], bool.
        reduce: Sum over all ranks.
    """
    kept = torch.where(mask, x.double(), 0.0)
    count, total = reduce(torch.stack([mask.sum().double(), kept.sum()]))
    mean = total / count
    squares = reduce(torch.where(mask, (kept - mean).square(), 0.0).sum())
    variance = squares / (count - 1).clamp(min=1.0)
    return torch.where(mask, (kept - mean) * torch.rsqrt(variance + WHITEN_EPS), 0.0).to(x.dtype)


def whiten_rewards(rewards: Tensor, mask: Tensor, reduce: Reduce = one_process) -> Tensor:
    """Returns the rewards whitened by :func:`whiten`, plus their mean (Ziegler et al., arXiv 1909.08593; EL: off).

    Args:
        rewards: [rows, tokens].
        mask: [rows, tokens], bool.
        reduce: Sum over all ranks.
    """
    count, total = reduce(torch.stack([mask.sum().double(), torch.where(mask, rewards.double(), 0.0).sum()]))
    return torch.where(mask, whiten(rewards, mask, reduce) + (total / count).to(rewards.dtype), 0.0)


def policy_loss(logprobs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Returns PPO's loss of each token, max(-A r, -A clip(r, 1-c, 1+c)) with r = exp(new - old) (arXiv 1707.06347, eq. 7)."""
    ratio = (wide(logprobs) - wide(old)).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Returns half the squared error of each value, the larger of plain and clipped within ``clip`` of the old value (EL)."""
    values, old = wide(values), wide(old)
    clipped = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def masked_mean(x: Tensor, mask: Tensor, count: Tensor | float | None = None) -> Tensor:
    """Returns the sum of the masked entries divided by ``count``; by default, divided by their number.

    With the count of a whole batch, the results for its parts add up to the mean of the batch.
    """
    return torch.where(mask, x, 0.0).sum() / (mask.sum() if count is None else count)


def sequence_logprobs(logprobs: Tensor, mask: Tensor) -> Tensor:
    """Returns [rows], the sum of each row's masked token log-probabilities."""
    return torch.where(mask, wide(logprobs), 0.0).sum(1)


def dpo_loss(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float) -> PairLosses:
    """Returns -log sigmoid(margin) with margin = beta [(c - r) - (ref_c - ref_r)] (Rafailov et al., arXiv 2305.18290, eq. 7).

    Args:
        chosen: [pairs], log-probability of the chosen response under the policy.
        rejected: [pairs], log-probability of the rejected response under the policy.
        ref_chosen: [pairs], as ``chosen`` under the reference.
        ref_rejected: [pairs], as ``rejected`` under the reference.
        beta: EL: 0.1.
    """
    margin = beta * ((wide(chosen) - wide(rejected)) - (wide(ref_chosen) - wide(ref_rejected)))
    return PairLosses(-functional.logsigmoid(margin), margin)


def preference_loss(chosen: Tensor, rejected: Tensor) -> PairLosses:
    """Returns -log sigmoid(margin) with margin = chosen - rejected, from scores [pairs] (Bradley-Terry; EL without margin)."""
    margin = wide(chosen) - wide(rejected)
    return PairLosses(-functional.logsigmoid(margin), margin)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor, reduce: Reduce = one_process) -> float:
    """Returns 1 - Var(R - V) / Var(R) over all masked entries of all ranks; NaN if the returns do not vary."""

    def variance(x: Tensor) -> Tensor:
        kept = torch.where(mask, x.double(), 0.0)
        count, total = reduce(torch.stack([mask.sum().double(), kept.sum()]))
        return reduce(torch.where(mask, (kept - total / count).square(), 0.0).sum())

    spread = float(variance(returns))
    return 1.0 - float(variance(returns - values)) / spread if spread > 0 else math.nan


def warmup_updates(ratio: float, updates: int) -> int:
    """Returns the number of warm-up updates (EL: ``ceil(ratio * updates per epoch)``)."""
    return math.ceil(round(ratio * updates, 9))


def learning_rate(update: int, updates: int, warmup: int, peak: float, final: float) -> float:
    """Returns the learning rate of an update: linear from 0 to the peak, then linear to ``final``.

    The first update of a warm-up has rate 0, as with optax's ``linear_schedule(0, peak, warmup)`` (EL) and with transformers'
    linear schedule. ``final == peak`` is EL's constant rate. ``update`` counts the earlier ones of all ``updates``, ``warmup``
    those of the warm-up.
    """
    if update < warmup:
        return peak * update / warmup
    done = (update - warmup) / max(1, updates - warmup)
    return peak + (final - peak) * min(1.0, done)
