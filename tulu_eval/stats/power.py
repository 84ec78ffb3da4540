"""The significance level and the power of all tests, and their quantiles of the standard normal distribution."""

from __future__ import annotations

from statistics import NormalDist

ALPHA = 0.05
"""Significance level: the probability that a test calls two equal things different."""

POWER = 0.80
"""Power at which a difference counts as detectable. Cohen (1988), Statistical Power Analysis, 2nd ed., p. 56."""

Z_ALPHA = NormalDist().inv_cdf(1 - ALPHA / 2)
Z_POWER = NormalDist().inv_cdf(POWER)
