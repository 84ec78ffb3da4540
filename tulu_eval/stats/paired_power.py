"""Exact power of McNemar's test on shared items: the items that a comparison needs, and the difference that n items detect.

The test is :func:`tulu_eval.stats.mcnemar` at :data:`~tulu_eval.stats.power.ALPHA`, exact and two-sided, as ``compare`` runs
it. It uses discordant items only: items that one of two models has right and the other wrong. Their number D among n items is
binomial, and given D the test rejects with a probability that does not depend on n::

    power(n) = sum over D of P(D of n items are discordant) * P(the test rejects | D)

The only approximation: tails of the first factor below 1e-9 are left out. Power is not monotone in n: it drops a little where
D grows by one and the critical count stays.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from tulu_eval.stats.binomial import WIDTH, at_most, likely_counts
from tulu_eval.stats.power import ALPHA, POWER, Z_ALPHA, Z_POWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@functools.lru_cache(maxsize=256)
def paired_items(difference: float, discordance: float) -> int:
    """Returns the smallest number of shared items from which the test's power stays at :data:`POWER` or more.

    Args:
        difference: Difference of the two proportions, -1 to 1; the sign does not matter.
        discordance: Share of items (0 to 1) that one model has right and the other wrong; at least the difference.

    Raises:
        ValueError: If the difference is 0, or the discordance does not allow it.
    """
    import numpy as np

    difference = abs(difference)
    _check(difference, discordance)
    if difference == 0.0:
        raise ValueError("no number of items shows a difference of 0")
    # Connor (1987), Biometrics 43, 207-211: the normal approximation gives the range to search.
    near = (Z_ALPHA * math.sqrt(discordance) + Z_POWER * math.sqrt(discordance - difference**2)) ** 2 / difference**2
    middle = near * discordance
    first = max(0, int(middle - 16 * math.sqrt(middle) - 40))
    discordant = np.arange(first, int(middle + 24 * math.sqrt(middle) + 80))
    rejects = _rejects(discordant, critical_counts(discordant), difference / discordance)
    # The largest non-decreasing sequence below the probabilities: its mean over D rises with n, so it bounds all larger n.
    rising = np.minimum.accumulate(rejects[::-1])[::-1]
    low, high = 0, int((discordant[-1] - WIDTH * (math.sqrt(discordant[-1]) + 1)) / discordance)
    while high - low > 1:
        n = (low + high) // 2
        low, high = (low, n) if _expected(n, discordance, first, rising) >= POWER else (n, high)
    while _expected(high - 1, discordance, first, rejects) >= POWER:
        high -= 1
    return high


def detectable_paired(n: int, discordance: float) -> float | None:
    """Returns the smallest difference that the test detects with :data:`POWER` on n shared items.

    Returns ``None`` if the test does not detect the largest possible difference, which is the discordance itself.

    Raises:
        ValueError: If there are no items, or the discordance lies outside 0 to 1.
    """
    _check(0.0, discordance)
    discordant, chance = _discordant(n, discordance)
    critical = critical_counts(discordant)

    def shown(excess: float) -> bool:
        return bool(chance @ _rejects(discordant, critical, excess) >= POWER)

    if not shown(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high * discordance


def critical_counts(discordant: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the largest count on the rarer side for which McNemar's exact test rejects, -1 if it never rejects.

    No p-value equals :data:`ALPHA`, because each is an integer divided by a power of two. The count is one of the three nearest
    to that of the normal approximation, as a comparison with ``scipy.stats.binom.ppf`` showed for all D below 200,000.
    """
    import numpy as np

    guess = np.floor(discordant / 2 - Z_ALPHA * np.sqrt(discordant) / 2 - 0.5).astype(np.int64)
    found = guess - 1
    for step in (0, 1):
        found += at_most(np.maximum(guess + step, -1), discordant, 0.5) < ALPHA / 2
    return np.maximum(found, -1)


def _check(difference: float, discordance: float) -> None:
    if not 0.0 <= abs(difference) <= discordance <= 1.0 or discordance == 0.0:
        raise ValueError(f"a difference of {difference} is impossible with {discordance} of the items discordant")


def _discordant(n: int, discordance: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the plausible numbers of discordant items among n, and their probabilities."""
    import numpy as np

    if n < 1:
        raise ValueError(f"the number of items must be 1 or more, not {n}")
    first, chance = likely_counts(n, discordance)
    return np.arange(first, first + len(chance)), chance


def _rejects(discordant: NDArray[np.int64], critical: NDArray[np.int64], excess: float) -> NDArray[np.float64]:
    """Returns P(the test rejects | D) if a discordant item favours one model with probability ``(1 + excess) / 2``."""
    share = (1 + excess) / 2
    return at_most(critical, discordant, share) + at_most(critical, discordant, 1 - share)


def _expected(n: int, discordance: float, first: int, values: NDArray[np.float64]) -> float:
    """Returns the mean of a value over D, the discordant items among n.

    ``values`` gives the value from D = ``first`` on; elsewhere the value is 0.
    """
    start, chance = likely_counts(n, discordance)
    known = values[max(0, start - first) : max(0, start - first + len(chance))]
    skipped = max(0, first - start)
    return float(chance[skipped : skipped + len(known)] @ known[: len(chance) - skipped])
