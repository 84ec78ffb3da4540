"""What a printed cell can have been: the count behind it, and the numbers of items that can print it.

A cell is a percentage rounded to a few decimals. Whether a tie was rounded up or to even is not known, so both are allowed.
The idea of checking printed means against their granularity is GRIM: Brown and Heathers (2017), Social Psychological and
Personality Science 8, 363-369.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def cell_count(value_percent: float, n: int, decimals: int = 1) -> int:
    """Returns the number of right items that a printed cell stands for; the nearest one where several print the same.

    Args:
        value_percent: The cell as printed, e.g. 67.0.
        n: Items behind it.
        decimals: Decimals it is printed with.

    Raises:
        ValueError: No count of n prints this value, e.g. 67.3 at n = 200.
    """
    if n < 1:
        raise ValueError(f"a cell needs at least one item, not {n}")
    value = _printed(value_percent, decimals)
    count = round(value * n / 100)
    if _prints(count, n, value, decimals):
        return count
    near = sorted({math.floor(value * n / 100), math.ceil(value * n / 100)})
    cells = " or ".join(f"{100 * k / n:.{decimals + 1}f} ({k}/{n})" for k in near)
    raise ValueError(f"{value_percent:.{decimals}f} cannot be the percentage of {n} items: the nearest are {cells}")


def compatible_sizes(values_percent: Sequence[float], largest: int, decimals: int = 1) -> tuple[int, ...]:
    """Returns every n from 1 to ``largest`` for which each printed cell is some count of n, rounded.

    Args:
        values_percent: The cells as printed.
        largest: Largest n to try.
        decimals: Decimals they are printed with.
    """
    values = [_printed(value, decimals) for value in values_percent]
    return tuple(n for n in range(1, largest + 1) if all(_prints(round(v * n / 100), n, v, decimals) for v in values))


def _printed(value_percent: float, decimals: int) -> Fraction:
    """Returns the decimal number that was printed, not the binary one nearest to it."""
    if not 0.0 <= value_percent <= 100.0:
        raise ValueError(f"a percentage lies between 0 and 100, not at {value_percent}")
    value = Fraction(repr(value_percent))
    if (value * 10**decimals).denominator != 1:
        raise ValueError(f"{value_percent} has more than {decimals} decimals")
    return value


def _prints(count: int, n: int, value: Fraction, decimals: int) -> bool:
    return 0 <= count <= n and abs(Fraction(100 * count, n) - value) <= Fraction(1, 2 * 10**decimals)
