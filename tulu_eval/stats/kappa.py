"""How far two sets of labels of the same items agree: the share of equal labels, and Cohen's kappa with an interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tulu_eval.stats.intervals import Interval, wilson, z_value


class LabelAgreement(NamedTuple):
    """The agreement of two sets of labels.

    Attributes:
        confusion: Number of items by the pair of their labels, the first set's first.
        equal: Share of items with equal labels, 0 to 1.
        interval: Wilson's 95 % interval of ``equal``.
        kappa: Cohen's kappa, at most 1; 0 is chance, and also where one set has one label only.
        low: Lower end of kappa's 95 % interval.
        high: Upper end.
    """

    n: int
    confusion: dict[tuple[str, str], int]
    equal: float
    interval: Interval
    kappa: float
    low: float
    high: float


def label_agreement(first: Sequence[str], second: Sequence[str]) -> LabelAgreement:
    """Returns the agreement of two sets of labels.

    Kappa's interval is normal, with the variance of Fleiss, Cohen and Everitt (Psychological Bulletin 72, 1969, equation 13).

    Raises:
        ValueError: If there are no labels, or the sets have other sizes.
    """
    if not first:
        raise ValueError("there are no labels")
    confusion = Counter(zip(first, second, strict=True))
    n = len(first)
    rows, columns = ({name: count / n for name, count in Counter(side).items()} for side in (first, second))
    same = sum(count for (one, other), count in confusion.items() if one == other)
    equal, chance = same / n, sum(share * columns.get(name, 0.0) for name, share in rows.items())
    if chance == 1:
        return LabelAgreement(n, dict(confusion), equal, wilson(same, n), 0.0, 0.0, 0.0)
    kappa = (equal - chance) / (1 - chance)
    spread = 0.0
    for (one, other), count in confusion.items():
        both = columns.get(one, 0.0) + rows.get(other, 0.0)
        spread += count / n * ((one == other) - both * (1 - kappa)) ** 2
    variance = (spread - (kappa - chance * (1 - kappa)) ** 2) / (n * (1 - chance) ** 2)
    half = z_value(0.95) * math.sqrt(max(0.0, variance))
    return LabelAgreement(n, dict(confusion), equal, wilson(same, n), kappa, max(-1.0, kappa - half), min(1.0, kappa + half))
