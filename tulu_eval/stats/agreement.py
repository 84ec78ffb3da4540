"""Does a run agree with a published cell?

Three verdicts, each with one meaning:

* **inconsistent**: the test's p-value is below 0.05. A run that agrees rarely shows a gap this large.
* **consistent**: the p-value is 0.05 or more, *and* the test would have detected a gap of the margin (default: 5 points) with
  80 % power. So a run that is off by the margin or more gets "consistent" at most one time in five.
* **cannot tell**: the p-value is 0.05 or more, and the test has less than 80 % power at the margin. Two hundred independent
  items have less.

What the two numbers share decides which test applies:

=====================================  ===================  ================================================================
items, weights                         method               what chance explains
=====================================  ===================  ================================================================
the published items, same weights      symmetric flips      noise flips items, on average as many to right as to wrong
contain the published, same weights    hypergeometric       the published items are a sample of the run's own outcomes
anything else                          Fisher exact         both are independent samples
two win rates with standard errors     normal               both vary by their standard errors
=====================================  ===================  ================================================================

Fisher's test on shared items is conservative, because items that are hard for one model are hard for most. McNemar's test has
more power, but a published cell does not say which items were right; the explanation gives the range of McNemar's p-value.
Where the run's outcomes on the published items are known, compare those, because the hypergeometric test has much less power.
That test assumes that the published run had the same outcomes as this run. It ignores noise between two runs of the same
weights, which adds little: at most 6 % false alarms with 5 % of the items flipping, as ``benchmarks/calibration.py`` shows for
every test.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from tulu_eval.stats.paired import Pairings, fisher, hypergeometric, hypergeometric_weights, net_flips, pairings
from tulu_eval.stats.power import ALPHA, POWER, Z_ALPHA, Z_POWER
from tulu_eval.stats.unpaired_power import detectable_unpaired

Verdict = Literal["consistent", "inconsistent", "cannot tell"]
Method = Literal["symmetric flips", "hypergeometric", "Fisher exact", "normal"]
Items = Literal["same", "superset", "other"]
"""``same``: the run's items are exactly the published ones. ``superset``: they contain them. ``other``: neither, or unknown."""

MARGIN = 5.0
"""Gap in percentage points that the test must be able to detect before a run is called consistent.

Users report gaps from about this size as "not reproduced": 40.0 for 44.4 (llama-cookbook#810), 28 for 33 (open-instruct#255),
79.8 for 85.4 and 83.8 for 91.8 (open-r1#224).
"""

FLIP_RATE = 0.05
"""Share of items (0 to 1) that may change between two greedy runs of the same weights: batch size, kernels, engine version.

This is an allowance, not a measurement. HumanEval's 164 items gave 31.7, 30.5 and 29.3 at batch 128, 64 and 16
(opencompass#1097): net changes of 2 to 4 items. If 5 % of the items flip, the net change has standard deviation 2.9. A second
run measures the rate.
"""


class Count(NamedTuple):
    """A proportion as counts: ``right`` of ``n`` items."""

    right: int
    n: int


class Mean(NamedTuple):
    """A value and its standard error, both in percent."""

    value: float
    standard_error: float


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a run agrees with a published cell.

    Attributes:
        verdict: The module's docstring defines the three.
        p_value: Two-sided.
        difference: Run minus published, in percentage points.
        detectable: Smallest gap in percentage points, in either direction, that the test detects with 80 % power; ``None`` if
            it detects none.
        margin: Gap in percentage points that the test must be able to detect before the verdict is "consistent".
        explanation: The fields above, in one line.
    """

    verdict: Verdict
    p_value: float
    method: Method
    difference: float
    detectable: float | None
    margin: float
    explanation: str


def agree(
    run: Count | Mean,
    published: Count | Mean,
    *,
    items: Items = "other",
    same_weights: bool = False,
    flip_rate: float = FLIP_RATE,
    margin: float = MARGIN,
) -> Agreement:
    """Returns whether a run agrees with a published cell, by the test that fits what they share.

    Args:
        run: The measured number.
        published: The published number, of the same kind as ``run``.
        items: How the run's items relate to the published ones.
        same_weights: Whether the cell was measured on the run's weights.
        flip_rate: Share of items (0 to 1) that may change between two runs of the same weights; used for the same items only.
        margin: Gap in percentage points that the test must be able to detect before the verdict is "consistent".

    Raises:
        ValueError: If a count is impossible, one number is a count and the other a mean, or the sizes contradict ``items``.
    """
    if isinstance(run, Mean) and isinstance(published, Mean):
        return agree_of_means(run, published, margin=margin)
    if not isinstance(run, Count) or not isinstance(published, Count):
        raise ValueError("only two counts or two means can be compared, not one with the other")
    if items == "same" and same_weights:
        return agree_same_items(run, published, flip_rate=flip_rate, margin=margin)
    if items == "superset" and same_weights:
        return agree_superset(run, published, margin=margin)
    return agree_independent(run, published, shared=items == "same", margin=margin)


def agree_same_items(run: Count, published: Count, *, flip_rate: float = FLIP_RATE, margin: float = MARGIN) -> Agreement:
    """Compares two runs of the same weights on the same items.

    The null hypothesis: each item flips independently with probability ``flip_rate``, to right as likely as to wrong. The
    p-value is the probability of a net change at least as large as the one seen.
    """
    pairing = _same_items(run, published)
    n = run.n
    net = net_flips(n, flip_rate)
    tails = [1.0] + [min(1.0, 2 * float(net[n + gap :].sum())) for gap in range(1, n + 1)]
    critical = next((gap for gap, p in enumerate(tails) if p < ALPHA), n + 1)

    def power(shift: int) -> float:
        return float(net[max(0, n + critical - shift) :].sum())

    return _conclude(
        run,
        published,
        "symmetric flips",
        tails[abs(run.right - published.right)],
        _percent_of(_first_shown(power, n), n),
        margin,
        f"same items and weights, up to {100 * flip_rate:.3g} % of items flipping; {_flips_needed(pairing, n)}",
    )


def agree_superset(run: Count, published: Count, *, margin: float = MARGIN) -> Agreement:
    """Compares a published cell with a run of the same weights whose items contain the published ones; which ones is unknown.

    The null hypothesis: the published items are a draw without replacement from the run's outcomes.

    Raises:
        ValueError: If a count is impossible, or the run has fewer items than the published cell.
    """
    if run.n < published.n:
        raise ValueError(f"{run.n} items of the run cannot contain {published.n} published ones")
    p_value = hypergeometric(published.right, published.n, *run)
    how = f"the published {published.n} as a draw from the run's {run.n} outcomes"
    return _conclude(run, published, "hypergeometric", p_value, _detectable_superset(run, published.n), margin, how)


def agree_independent(run: Count, published: Count, *, shared: bool = False, margin: float = MARGIN) -> Agreement:
    """Compares two counts as independent samples.

    ``shared`` says whether both counts cover the same items with different weights: the test is then conservative, and the
    explanation gives the range of McNemar's p-value. ``margin`` is as for :func:`agree`.
    """
    p_value = fisher(*run, *published)
    how = "independent samples"
    if shared:
        low, high, _ = _same_items(run, published)
        how = f"same items, pairing unpublished (McNemar's p between {low:.2g} and {high:.2g}), taken as independent"
    gap = detectable_unpaired(published.right / published.n, published.n, run.n)
    return _conclude(run, published, "Fisher exact", p_value, None if gap is None else 100 * gap, margin, how)


def agree_of_means(run: Mean, published: Mean, *, margin: float = MARGIN) -> Agreement:
    """Compares two values with a standard error each, e.g. win rates, as independent and normal.

    On the same prompts the two errors are correlated, which makes the test conservative.

    Raises:
        ValueError: If a standard error is negative, or both are 0.
    """
    if not (run.standard_error >= 0.0 and published.standard_error >= 0.0):
        raise ValueError("a standard error is 0 or more")
    error = math.hypot(run.standard_error, published.standard_error)
    if error == 0.0:
        raise ValueError("two means without any standard error cannot be tested")
    p_value = math.erfc(abs(run.value - published.value) / error / math.sqrt(2))
    how = f"standard errors {run.standard_error:.2f} and {published.standard_error:.2f}"
    return _conclude(run, published, "normal", p_value, (Z_ALPHA + Z_POWER) * error, margin, how)


def _conclude(
    run: Count | Mean,
    published: Count | Mean,
    method: Method,
    p_value: float,
    detectable: float | None,
    margin: float,
    how: str,
) -> Agreement:
    difference = _percent(run) - _percent(published)
    if p_value < ALPHA:
        verdict: Verdict = "inconsistent"
        close = "more than chance explains"
    elif detectable is None:
        verdict = "cannot tell"
        close = "no gap would have shown"
    elif detectable <= margin:
        verdict = "consistent"
        close = f"a gap of {margin:g} points would have shown"
    else:
        verdict = "cannot tell"
        close = f"only gaps from {detectable:.1f} points would have shown, and {margin:g} are asked for"
    facts = f"{_describe(run)} against {_describe(published)} published, {difference:+.1f} points ({how})"
    explanation = f"{verdict}: {facts}; {method} p = {p_value:.2g}; {close}"
    return Agreement(verdict, p_value, method, difference, detectable, margin, explanation)


def _same_items(run: Count, published: Count) -> Pairings:
    if run.n != published.n:
        raise ValueError(f"the same items cannot be {run.n} in the run and {published.n} in the published cell")
    return pairings(run.right, published.right, run.n)


def _percent(number: Count | Mean) -> float:
    return number.value if isinstance(number, Mean) else 100 * number.right / number.n


def _describe(number: Count | Mean) -> str:
    counted = f" ({number.right}/{number.n})" if isinstance(number, Count) else ""
    return f"{_percent(number):.1f} %{counted}"


def _flips_needed(pairing: Pairings, n: int) -> str:
    if pairing.flips is None:
        return "no number of flipped items makes this gap chance"
    return f"chance needs {pairing.flips} items flipped ({100 * pairing.flips / n:.1f} %)"


@functools.lru_cache(maxsize=64)
def _detectable_superset(run: Count, n: int) -> float | None:
    """Returns the gap in percentage points that the test detects, ``None`` if it detects none.

    The gap lies between the run and the outcomes from which the n published items were drawn.
    """
    rejected = {k for k in range(n + 1) if hypergeometric(k, n, *run) < ALPHA}

    def power(total_right: int) -> float:
        first, weights = hypergeometric_weights(n, total_right, run.n)
        return sum(weight for k, weight in enumerate(weights, first) if k in rejected) / sum(weights)

    up = _first_shown(lambda shift: power(run.right + shift), run.n - run.right)
    down = _first_shown(lambda shift: power(run.right - shift), run.right)
    return _percent_of(max((shift for shift in (up, down) if shift is not None), default=None), run.n)


def _first_shown(power: Callable[[int], float], room: int) -> int | None:
    """Returns the smallest shift, from 1 to ``room`` items, that the test detects with 80 % power; ``None`` if none."""
    shift = 1 + bisect.bisect_left(range(1, room + 1), POWER, key=power)
    return shift if shift <= room else None


def _percent_of(count: int | None, n: int) -> float | None:
    return None if count is None else 100 * count / n
