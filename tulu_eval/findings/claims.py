"""A bare number and its n: which counts of right items print as it does, and at which n any does.

The idea is that of the GRIM test: Brown and Heathers (2017), Social Psychological and Personality Science 8, 363-369.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from decimal import Decimal

from tulu_eval.errors import UserError

LARGEST = 10_000_000
"""Largest n of a claim; a larger one is a slip."""

NEARBY = 0.1
"""How far from n another n is looked for that could give the number, as a share of n: a few items that failed were left out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A number that somebody states of n items, in percent.

    Attributes:
        printed: The number as it stands, with its digits.
        least: Smallest number of right items that is printed so.
        most: Largest one.
    """

    printed: str
    n: int
    least: int
    most: int

    @property
    def right(self) -> float:
        """The middle of the possible counts."""
        return (self.least + self.most) / 2

    def distance(self, right: float) -> float:
        """Returns how many items a count lies from the nearest possible one; 0 within them."""
        return max(self.least - right, right - self.most, 0.0)


def counts(printed: str, n: int) -> tuple[int, int] | None:
    """Returns the smallest and the largest count of n that is printed so in percent, halves rounded either way; or ``None``."""
    value = Decimal(printed)
    exponent = value.as_tuple().exponent
    half = Decimal(5).scaleb((exponent if isinstance(exponent, int) else 0) - 1)
    least = max(0, math.ceil((value - half) * n / 100))
    most = min(n, math.floor((value + half) * n / 100))
    return (least, most) if least <= most else None


def read_claim(printed: str, n: int, sizes: Iterable[int] = ()) -> Claim:
    """Returns a claim that is possible.

    ``sizes`` are other numbers of items that the error message tries, such as those of the benchmark's protocols.

    Raises:
        UserError: If the number is no percentage, or no count of n items is printed so.
    """
    text = printed.strip().removesuffix("%").strip()
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,10})?", text) or not 0 <= Decimal(text) <= 100:
        raise UserError(f"--number {printed!r} is no percentage, such as 40.0")
    if not 1 <= n <= LARGEST:
        raise UserError(f"--n {n}: a number is of 1 to {LARGEST:,} items")
    found = counts(text, n)
    if found is None:
        near = nearby(text, n)
        could = [f"{size:,}" for size in sorted({*near, *(size for size in sizes if counts(text, size))})]
        hint = f"; it could be of {', '.join(could)}" if could else ""
        raise UserError(f"{text} % of {n:,} items is impossible: no count of right items is printed so{hint}")
    return Claim(text, n, *found)


def nearby(printed: str, n: int, most: int = 4) -> tuple[int, ...]:
    """Returns at most ``most`` numbers of items, the nearest to n first, of which a count is printed so."""
    reach = max(1, round(NEARBY * n))
    others = sorted((size for size in range(max(1, n - reach), n + reach + 1) if size != n), key=lambda size: abs(size - n))
    found = (size for size in others if counts(printed, size) is not None)
    return tuple(size for size, _ in zip(found, range(most), strict=False))
