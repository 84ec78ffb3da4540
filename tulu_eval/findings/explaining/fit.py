"""How well a change fits the goal: probabilities of what is seen if it is the cause, which decide where items are spent."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tulu_eval.stats.paired import net_flips

OTHER_RATES = (0.1, 0.2, 0.3, 0.5)
"""Shares of items that may have other scores under two recipes that are not the same."""

TEXT_RATES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Shares of the texts that the base has otherwise than the goal and that a second run under the goal's own recipe may have as
the goal, from other kernels to the same machine."""

EXACT = 0.5
"""Prior probability that a recipe gives the goal's scores exactly, as greedy decoding on one machine does, not up to flips."""

SLIP = 1e-3
"""Share of items that flip on one machine, too, where batches differ."""

FLIP_RATES = (SLIP, 0.005, 0.02)
"""Shares of items that flip between two engines or batch sizes, as measured (README.md, batch sizes; docs/reproducible.md: 1 of
200). The largest that a comparison allows for comes to them. Were it the only one, a count 4 of 500 items off would be a rival
of the exact one (more than 5 % as likely); with these one 2 items off is, and one 3 off is not."""


def count_fit(expected: float, least: int, most: int, n: int, rate: float) -> float:
    """Returns the log-probability of a claimed count if all items are known: exact, or up to flips, ``rate`` at most."""
    exact = EXACT if least - 0.5 < expected < most + 0.5 else 0.0
    places = [n + count - round(expected) for count in range(least, most + 1)]
    places = [place for place in places if 0 <= place <= 2 * n]
    rates = [*(one for one in FLIP_RATES if one < rate), rate]
    flips = math.fsum(float(net_flips(n, one)[place]) for one in rates for place in places) / len(rates)
    return math.log(max(exact + (1 - EXACT) * flips, 1e-300))


def scores_fit(seen: int, astray: int, rate: float) -> float:
    """Returns a log-likelihood ratio: the goal's scores are those under the change, exactly or up to flips, or another's."""
    own = _mixture(seen, astray, ((SLIP, EXACT), (rate, 1 - EXACT)))
    return own - _mixture(seen, astray, [(one, 1 / len(OTHER_RATES)) for one in OTHER_RATES])


def texts_fit(seen: int, same: int, base: float) -> float:
    """Returns the log-likelihood ratio of that many equal texts under one recipe, and under one no nearer than the base is.

    ``base`` is the share of the base's texts that equal the goal's, above 0 and below 1.
    """
    own = [(min(base + (1 - base) * one, 1 - 1e-6), 1 / len(TEXT_RATES)) for one in TEXT_RATES]
    return _mixture(seen, same, own) - _mixture(seen, same, [(base, 1.0)])


def _mixture(seen: int, hits: int, rates: Sequence[tuple[float, float]]) -> float:
    """Returns the log-likelihood of that many hits if the rate is one of several, each with its prior probability."""
    logs = [math.log(prior) + hits * math.log(rate) + (seen - hits) * math.log1p(-rate) for rate, prior in rates]
    return max(logs) + math.log(math.fsum(math.exp(one - max(logs)) for one in logs))
