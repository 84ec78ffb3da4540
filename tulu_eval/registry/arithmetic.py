"""Whether printed numbers fit each other: shares of a number of items, means of a row, equal numbers of two rows. Pure.

A printed number stands for every value that rounds to it, and a half may be rounded up or down.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

FEWEST_TERMS = 3
"""A row with fewer numbers beside its average is an excerpt of the table that the average is of."""

LARGEST_CHANCE = 0.1
"""Two rows count as suspiciously equal if fewer pairs than this are expected to agree so by chance."""

FARTHEST = 1000
"""Items below n at which :func:`sizes` stops."""

_DECIMALS = 9
"""A number with more decimals is a computer's, whose last ones are not exact."""


def half_unit(printed: Decimal) -> float:
    """Returns how far a value may lie from the number that it is printed as: half a unit of its last digit."""
    return 0.5 / 10.0 ** min(decimals(printed), _DECIMALS)


def decimals(printed: Decimal) -> int:
    """Returns the number of digits after the point."""
    return max(0, -int(printed.as_tuple().exponent))


def is_share(percent: Decimal, n: int, parts: int = 1) -> bool:
    """Whether a printed percentage can be a share of n items, in whole numbers (the GRIM test, Brown and Heathers 2017).

    ``parts`` are the parts of an item that count: 1 where it is right or wrong, 2 where a tie counts one half.
    """
    total, scale = n * parts, 10 ** decimals(percent)
    exact = int(percent * scale) * total  # a share k of total is this if k is exact / (100 * scale)
    below = exact // (100 * scale)
    slack = total * max(1, scale // 10**_DECIMALS)
    return any(2 * abs(100 * scale * k - exact) <= slack for k in (below, below + 1) if 0 <= k <= total)


def sizes(percent: Decimal, n: int, parts: int = 1, count: int = 2) -> tuple[int, ...]:
    """Returns the largest numbers of items below n of which a printed percentage can be a share.

    There are at most ``count``, none of them :data:`FARTHEST` below n: dropped items explain them, and these are few.
    """
    below = range(n - 1, max(0, n - 1 - FARTHEST), -1)
    return tuple(itertools.islice((size for size in below if is_share(percent, size, parts)), count))


class Term(NamedTuple):
    """A number of a row of which an average may be the mean.

    Attributes:
        percent: As printed, in percent.
        group: Columns of one group may count as one column.
        lower: Whether a lower number is better, so that 100 minus it may count.
    """

    name: str
    percent: Decimal
    group: str
    lower: bool = False


class AverageRule(NamedTuple):
    """How an average comes from a row.

    Attributes:
        inverted: Whether 100 minus the number counts where lower is better.
        grouped: Whether the columns of a group count as one, their mean.
    """

    inverted: bool
    grouped: bool

    def weights(self, terms: Sequence[Term]) -> tuple[float, ...]:
        """Returns each term's weight; they add up to 1."""
        names = [term.group if self.grouped else str(place) for place, term in enumerate(terms)]
        return tuple(1 / (len(set(names)) * names.count(name)) for name in names)

    def mean(self, terms: Sequence[Term]) -> float:
        """Returns the mean of at least one number, in percent."""
        values = [100 - float(one.percent) if self.inverted and one.lower else float(one.percent) for one in terms]
        return math.fsum(weight * value for weight, value in zip(self.weights(terms), values, strict=True))

    def gives(self, printed: Decimal, terms: Sequence[Term]) -> bool:
        """Whether an average can be printed so: by how far the unrounded terms and itself may lie from what is printed."""
        halves = (weight * half_unit(one.percent) for weight, one in zip(self.weights(terms), terms, strict=True))
        return abs(self.mean(terms) - float(printed)) <= math.fsum(halves) + half_unit(printed) + 1e-9

    def words(self, terms: Sequence[Term]) -> str:
        """Returns the rule for a row with these terms; ``inverted`` is 100 minus the number."""
        inverted = list(dict.fromkeys(one.group for one in terms if one.lower)) if self.inverted else []
        counts = Counter(one.group for one in terms)
        joined = [group for group, count in counts.items() if count > 1] if self.grouped else []
        count = len(counts) if self.grouped else len(terms)
        if inverted == joined:
            marks = [f"{' and '.join(joined)} inverted and as one"] if joined else []
        else:
            marks = [f"{' and '.join(names)} {how}" for names, how in ((inverted, "inverted"), (joined, "as one")) if names]
        return ", ".join((f"mean of {count} columns", *marks))


def rules(terms: Sequence[Term]) -> Iterator[AverageRule]:
    """Yields the rules that differ for a row: the plain mean first; inverted and grouped ones where there is what they need."""
    inverted = (False, True) if any(one.lower for one in terms) else (False,)
    groups = {one.group for one in terms}
    grouped = (False, True) if 1 < len(groups) < len(terms) else (False,)
    yield from (AverageRule(*each) for each in itertools.product(inverted, grouped))


class ColumnSpread(NamedTuple):
    """How finely a column tells its rows apart.

    Attributes:
        step: Distance of neighbouring printed values, in percent.
        spread: Standard deviation of the column's values, in percent.
        n: Items behind each value; ``None`` if unknown.
    """

    step: float
    spread: float
    n: int | None

    def chance(self, percent: Decimal) -> float:
        """Returns the chance, 0 to 1, that two rows print a value: of two normal draws within a step of each other.

        Their standard deviation is the column's, or the standard error of a share of n items if that is smaller: rows that are
        equally good still differ by the error. The smaller one makes equality likelier, so that fewer pairs are found.
        """
        share = min(max(float(percent) / 100, 0.0), 1.0)
        error = math.inf if self.n is None else 100 * math.sqrt(share * (1 - share) / self.n)
        deviation = min(self.spread, error)
        return min(1.0, self.step / (2 * math.sqrt(math.pi) * deviation)) if deviation else 1.0


def spread_of(printed: Sequence[Decimal], n: int | None = None, parts: int = 1) -> ColumnSpread:
    """Returns the spread of a column's printed percentages, at least one; ``n`` and ``parts`` as for :func:`is_share`."""
    values = [float(one) for one in printed]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / max(1, len(values) - 1))
    step = float(2 * max(map(half_unit, printed)))
    return ColumnSpread(step if n is None else max(step, 100 / (n * parts)), spread, n)


class EqualRows(NamedTuple):
    """Two rows that print the same in columns in which this is unlikely.

    Attributes:
        chance: Number of pairs, of all that were looked at, expected to agree in these columns by chance.
    """

    first: str
    second: str
    columns: tuple[str, ...]
    chance: float


def equal_rows(
    table: Mapping[str, Mapping[str, Decimal]], pairs: Iterable[tuple[str, str]], spreads: Mapping[str, ColumnSpread]
) -> Iterator[EqualRows]:
    """Yields the pairs of rows that agree in more columns, or finer ones, than chance explains.

    A pair counts if the number of pairs times the product of the chances of the columns in which it agrees is at most
    :data:`LARGEST_CHANCE`. So one coarse column never counts, and two of them may.

    Args:
        table: Printed percentages by row and column.
        pairs: Pairs of rows to look at, e.g. a model and the one that it was made from.
        spreads: Of each column.
    """
    listed = list(pairs)
    for first, second in listed:
        one, other = table[first], table[second]
        columns = tuple(name for name in one if name in other and one[name] == other[name])
        chance = len(listed) * math.prod(spreads[name].chance(one[name]) for name in columns)
        if columns and chance <= LARGEST_CHANCE:
            yield EqualRows(first, second, columns, chance)
