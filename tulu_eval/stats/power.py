"""What the tests and their power are for: level, power, and the points of the normal distribution that belong to them."""

from __future__ import annotations

from statistics import NormalDist

ALPHA = 0.05
"""Chance that a test calls two equal things different."""

POWER = 0.80
"""Chance of being found that makes a difference detectable. Cohen (1988), Statistical Power Analysis, 2nd ed., p. 56."""

Z_ALPHA = NormalDist().inv_cdf(1 - ALPHA / 2)
Z_POWER = NormalDist().inv_cdf(POWER)
