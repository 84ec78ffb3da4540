"""The count behind a printed cell, and the numbers of items for which a cell can be printed.

A cell is a percentage rounded to a few decimals. The source may have rounded a tie up or to even, so both are allowed.
GRIM is the idea of checking printed means against their granularity: Brown and Heathers (2017), Social Psychological and
Personality Science 8, 363-369.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def cell_count(value_percent: float, n: int, decimals: int = 1) -> int:
    """Returns the number of right items behind a printed cell; the nearest count if several print the same.

    Args:
        value_percent: The cell as printed, e.g. 67.0.
        n: Items behind the cell.
        decimals: Printed decimals.

    Raises:
        ValueError: If no count of n prints this value, e.g. 67.3 at n = 200.
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
    """Returns every n from 1 to ``largest`` for which each printed cell is a rounded count of n.

    Args:
        values_percent: The cells as printed.
        largest: Largest n to try.
        decimals: Printed decimals.
    """
    values = [_printed(value, decimals) for value in values_percent]
    return tuple(n for n in range(1, largest + 1) if all(_prints(round(v * n / 100), n, v, decimals) for v in values))


def _printed(value_percent: float, decimals: int) -> Fraction:
    """Returns the printed decimal number, not the nearest binary one."""
    if not 0.0 <= value_percent <= 100.0:
        raise ValueError(f"a percentage lies between 0 and 100, not at {value_percent}")
    value = Fraction(repr(value_percent))
    if (value * 10**decimals).denominator != 1:
        raise ValueError(f"{value_percent} has more than {decimals} decimals")
    return value


def _prints(count: int, n: int, value: Fraction, decimals: int) -> bool:
    return 0 <= count <= n and abs(Fraction(100 * count, n) - value) <= Fraction(1, 2 * 10**decimals)
