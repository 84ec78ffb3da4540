"""Shows by simulation that intervals cover and that `verify` raises false alarms as often as they state, and no oftener.

    python benchmarks/calibration.py --draws 10000 --seed 0

Prints one Markdown row per figure: what was simulated, how often it happened, its Monte-Carlo standard error, and the range
that the package states for it. Ends with exit code 1 if a figure lies outside its range by more than three such errors.
The items that `plan` asks for are held against exact power computed here in another way, which has no such error, and against a
simulation. Takes about 40 seconds.

Noise between two runs of the same weights is simulated item by item, not as the tests model it: most items are always
right or always wrong, and some are right three times in four or one time in four.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from tulu_eval.stats import (
    ALPHA,
    FLIP_RATE,
    POWER,
    Count,
    Interval,
    Mean,
    agree,
    fisher,
    mcnemar,
    mean_interval,
    paired_difference,
    paired_items,
    unpaired_items,
    wilson,
)

Draws = NDArray[np.int64]
BELOW = math.nextafter(POWER, 0.0)
"""The largest power that is too little."""

PAIRED = ((1, 0.3), (2, 0.2), (4.5, 0.2), (4.5, 0.3), (10, 0.2), (10, 0.3), (25, 0.3), (50, 0.5), (100, 1.0))
"""Differences in percent points, and shares of items that are right in one model only."""

UNPAIRED = ((1, 0.5), (4.5, 0.4825), (10, 0.72), (10, 0.4825), (50, 0.5), (100, 0.5))
"""Differences in percent points, and the shares of right items around which they lie."""

ERRORS = 3.0
"""Monte-Carlo standard errors by which a figure may lie outside its range: 1 in 370 does by chance at its very edge."""


class Figure(NamedTuple):
    """One simulated frequency and the range stated for it; a probability that was computed has 0 draws."""

    what: str
    frequency: float
    low: float
    high: float
    draws: int

    @property
    def error(self) -> float:
        """Monte-Carlo standard error, at the nearest end of the range where the frequency itself has none; 0 if computed."""
        if not self.draws:
            return 0.0
        p = min(max(self.frequency, self.low), self.high)
        return math.sqrt(p * (1 - p) / self.draws)

    @property
    def inside(self) -> bool:
        """Whether the frequency lies in its range, Monte-Carlo error allowed for."""
        return self.low - ERRORS * self.error <= self.frequency <= self.high + ERRORS * self.error


def share(draws: NDArray[np.int64], event: Callable[..., bool]) -> float:
    """Returns how often the event holds over the rows of ``draws``, shape ``(draws, counts)``; equal rows are asked once."""
    rows, repeats = np.unique(draws, axis=0, return_counts=True)
    return sum(int(times) for row, times in zip(rows.tolist(), repeats, strict=True) if event(*row)) / len(draws)


def covers(method: Callable[..., Interval], truth: float) -> Callable[..., bool]:
    """Returns the event that the interval holds the truth."""

    def event(*counts: int) -> bool:
        low, high = method(*counts)
        return low <= truth <= high

    return event


def coverage(rng: np.random.Generator, draws: int) -> Iterator[Figure]:
    """Yields the coverage of every interval at level 0.95."""
    for n, p in ((50, 0.9), (200, 0.485), (200, 0.67), (1319, 0.613)):
        k = rng.binomial(n, p, (draws, 1))
        yield Figure(
            f"coverage, Wilson, n = {n}, p = {p}", share(k, covers(lambda k, n=n: wilson(k, n), p)), 0.93, 0.9705, draws
        )
    for n, only_a, only_b in ((200, 0.12, 0.10), (200, 0.03, 0.02), (1319, 0.15, 0.105)):
        both = rng.multinomial(n, [only_a, only_b, 1 - only_a - only_b], draws)[:, :2]
        event = covers(lambda a, b, n=n: paired_difference(a, b, n), only_a - only_b)
        what = f"coverage, Tango, n = {n}, discordant {only_a} and {only_b}"
        yield Figure(what, share(both, event), 0.94, 0.975, draws)
    held = [low <= 26.7 <= high for low, high in (mean_interval(v, 1.3) for v in rng.normal(26.7, 1.3, draws))]
    yield Figure("coverage, mean with standard error 1.3", float(np.mean(held)), 0.95, 0.95, draws)


def alarm(run_n: int, published_n: int, **claims: object) -> Callable[[int, int], bool]:
    """Returns the event that `verify` calls a run inconsistent with a published cell."""

    @functools.cache
    def event(run: int, published: int) -> bool:
        return agree(Count(run, run_n), Count(published, published_n), **claims).verdict == "inconsistent"  # type: ignore[arg-type]

    return event


def population(n: int, right: int, flip_rate: float) -> list[int]:
    """Returns how many of n items are always right, right 3 times in 4, once in 4, and never; about ``right`` are right.

    Two answers to a wavering item differ with probability 3/8.
    """
    wavering = round(n * flip_rate * 8 / 3 / 2) * 2
    steady = right - wavering // 2
    return [steady, wavering // 2, wavering // 2, n - wavering - steady]


def answers(rng: np.random.Generator, items: Draws) -> Draws:
    """Returns how many are right in one run each over items of four kinds; shape ``(draws, 4)`` to ``(draws,)``."""
    right: Draws = items[:, 0] + rng.binomial(items[:, 1], 0.75) + rng.binomial(items[:, 2], 0.25)
    return right


def same_items(rng: np.random.Generator, draws: int, run: list[int], published: list[int]) -> Draws:
    """Returns counts of a run and a published cell on the same items; shape ``(draws, 2)``."""
    return np.column_stack([answers(rng, np.tile(kinds, (draws, 1))) for kinds in (run, published)])


def superset(rng: np.random.Generator, draws: int, run: list[int], published: list[int], n: int) -> Draws:
    """Returns counts of a run and of a published cell over n of its items; shape ``(draws, 2)``."""
    drawn = rng.multivariate_hypergeometric(published, n, draws)
    return np.column_stack([answers(rng, np.tile(run, (draws, 1))), answers(rng, drawn)])


def false_alarms(rng: np.random.Generator, draws: int) -> Iterator[Figure]:
    """Yields how often `verify` says inconsistent where the run and the published cell have the same cause."""
    for n, right in ((200, 121), (200, 180), (1319, 808)):
        for rate in (FLIP_RATE, 0.01):
            kinds = population(n, right, rate)
            frequency = share(same_items(rng, draws, kinds, kinds), alarm(n, n, items="same", same_weights=True))
            yield Figure(f"false alarms, symmetric flips, {right} of {n}, {rate:.0%} flip", frequency, 0.0, ALPHA, draws)
    event = alarm(1319, 200, items="superset", same_weights=True)
    for right, rate in ((808, 0.0), (808, FLIP_RATE), (1187, FLIP_RATE)):
        kinds = population(1319, right, rate)
        frequency = share(superset(rng, draws, kinds, kinds, 200), event)
        high = 0.06 if rate else ALPHA
        yield Figure(f"false alarms, hypergeometric, 200 of {right}/1319, {rate:.0%} flip", frequency, 0.0, high, draws)
    for n1, n2, p in ((200, 200, 0.605), (1319, 200, 0.67)):
        pair = np.column_stack([rng.binomial(n1, p, draws), rng.binomial(n2, p, draws)])
        yield Figure(f"false alarms, Fisher, {n1} and {n2}, p = {p}", share(pair, alarm(n1, n2)), 0.0, ALPHA, draws)
    # Two models equally good, items shared: each item has its own difficulty, drawn once.
    difficulty = rng.beta(1.2, 0.8, 200)
    pair = (rng.random((2, draws, 200)) < difficulty).sum(axis=2).T
    yield Figure(
        "false alarms, Fisher, same 200 items, other weights", share(pair, alarm(200, 200, items="same")), 0.0, ALPHA, draws
    )
    values = zip(rng.normal(28.8, 1.2, draws), rng.normal(28.8, 1.3, draws), strict=True)
    rejected = [agree(Mean(a, 1.2), Mean(b, 1.3)).verdict == "inconsistent" for a, b in values]
    yield Figure("false alarms, win rates with errors 1.2 and 1.3", float(np.mean(rejected)), ALPHA, ALPHA, draws)


def power(rng: np.random.Generator, draws: int) -> Iterator[Figure]:
    """Yields how often a gap as large as the stated detectable one is called inconsistent; whole items add some."""
    points = agree(Count(121, 200), Count(121, 200), items="same", same_weights=True).detectable
    pair = same_items(rng, draws, population(200, 121 - round(points * 2), FLIP_RATE), population(200, 121, FLIP_RATE))
    event = alarm(200, 200, items="same", same_weights=True)
    yield Figure(f"power, symmetric flips, n = 200, gap {points:.1f}", share(pair, event), POWER, 0.9, draws)
    points = agree(Count(808, 1319), Count(121, 200), items="superset", same_weights=True).detectable
    published = population(1319, 808 - round(points * 13.19), 0.0)
    pair = superset(rng, draws, population(1319, 808, 0.0), published, 200)
    event = alarm(1319, 200, items="superset", same_weights=True)
    yield Figure(f"power, hypergeometric, 200 of 1319, gap {points:.1f}", share(pair, event), POWER, 0.9, draws)
    points = agree(Count(134, 200), Count(134, 200)).detectable
    pair = np.column_stack([rng.binomial(200, 0.67 - points / 100, draws), rng.binomial(200, 0.67, draws)])
    yield Figure(f"power, Fisher, 200 and 200, gap {points:.1f}", share(pair, alarm(200, 200)), POWER, 0.84, draws)


def exact_paired(n: int, difference: float, discordance: float) -> float:
    """Returns the power of McNemar's exact test by a sum over the number of discordant items, with scipy's distributions."""
    discordant = np.arange(n + 1)
    critical = stats.binom.ppf(ALPHA / 2, discordant, 0.5) - 1
    share = (1 + difference / discordance) / 2
    rejects = stats.binom.cdf(critical, discordant, share) + stats.binom.cdf(critical, discordant, 1 - share)
    return float(stats.binom.pmf(discordant, n, discordance) @ rejects)


def exact_unpaired(n: int, p1: float, p2: float) -> float:
    """Returns the power of Fisher's exact test on n items each by a sum over the total of right items.

    At each total the counts are ordered by their likelihood, as R's ``fisher.test`` does; tails below 1e-10 are left out.
    """
    middle, width = n * (p1 + p2), 6.5 * math.sqrt(n * (p1 * (1 - p1) + p2 * (1 - p2))) + 10
    found = 0.0
    for total in range(max(0, int(middle - width)), min(2 * n, int(middle + width)) + 1):
        reach = 5.0 * math.sqrt(n) + 10
        k = np.arange(max(0, total - n, int(total / 2 - reach)), min(n, total, int(total / 2 + reach)) + 1)
        log = -sum(special.gammaln(part + 1.0) for part in (k, n - k, total - k, n - total + k))
        weight = np.exp(log - log.max())
        weight /= weight.sum()
        ordered = np.sort(weight)
        p_value = np.cumsum(ordered)[np.searchsorted(ordered, weight * (1 + 1e-7), side="right") - 1]
        rejected = k[p_value < ALPHA * (1 - 1e-9)]
        found += float(stats.binom.pmf(rejected, n, p1) @ stats.binom.pmf(total - rejected, n, p2))
    return found


def planned(rng: np.random.Generator, draws: int) -> Iterator[Figure]:
    """Yields the power at the items that `plan` asks for, at 5 % fewer, and over the tenth more that follows."""
    for points, discordance in PAIRED:
        gap = points / 100
        n = paired_items(gap, discordance)
        yield from at_planned(
            f"McNemar, {points} points, {discordance:.0%} discordant",
            n,
            functools.partial(exact_paired, difference=gap, discordance=discordance),
        )
        if n <= 1500:
            both = rng.multinomial(n, [(discordance + gap) / 2, (discordance - gap) / 2, 1 - discordance], draws)[:, :2]
            exact_power = exact_paired(n, gap, discordance)
            frequency = share(both, lambda a, b: mcnemar(a, b) < ALPHA)
            yield Figure(f"power simulated, McNemar, {points} points, n = {n}", frequency, exact_power, exact_power, draws)
    for points, centre in UNPAIRED:
        low, high = centre - points / 200, centre + points / 200
        n = unpaired_items(low, high)
        yield from at_planned(
            f"Fisher, {points} points around {centre:.1%}", n, functools.partial(exact_unpaired, p1=low, p2=high)
        )
        if n <= 500:
            pair = np.column_stack([rng.binomial(n, p, draws) for p in (low, high)])
            exact_power = exact_unpaired(n, low, high)
            frequency = share(pair, lambda a, b, n=n: fisher(a, n, b, n) < ALPHA)
            yield Figure(f"power simulated, Fisher, {points} points, n = {n}", frequency, exact_power, exact_power, draws)


def at_planned(what: str, n: int, exact_power: Callable[[int], float]) -> Iterator[Figure]:
    """Yields exact power at n items, its smallest value a little beyond, and at one and at 5 % fewer, which must be too few."""
    yield Figure(f"exact power, {what}, n = {n}", exact_power(n), POWER, 1.0, 0)
    beyond = [n + step for step in (1, 2, 3, 5, 8, n // 50, n // 20, n // 10)]
    yield Figure("- least of some n up to a tenth more", min(map(exact_power, beyond)), POWER, 1.0, 0)
    yield Figure(f"- one fewer, n = {n - 1}", exact_power(n - 1), 0.0, BELOW, 0)
    fewer = math.floor(0.95 * n)
    yield Figure(f"- 5 % fewer, n = {fewer}", exact_power(fewer), 0.0, BELOW, 0)


def main() -> int:
    """Prints the table and returns 1 if a figure lies outside what is stated."""
    parser = argparse.ArgumentParser(description="Coverage and false-alarm rates by simulation.")
    parser.add_argument("--draws", type=int, default=10000, help="simulated runs a figure")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    outside = 0
    print("| figure | simulated | MC error | stated | |\n|---|---|---|---|---|")
    for part in (coverage, false_alarms, power, planned):
        for figure in part(rng, options.draws):
            stated = f"{figure.low:.4g}" if figure.low == figure.high else f"{figure.low:g} to {figure.high:.4g}"
            mark = "ok" if figure.inside else "OUTSIDE"
            outside += not figure.inside
            print(f"| {figure.what} | {figure.frequency:.4f} | {figure.error:.4f} | {stated} | {mark} |")
    print(f"\n{options.draws} draws a figure, seed {options.seed}: {outside} outside what is stated.")
    return int(outside > 0)


if __name__ == "__main__":
    sys.exit(main())
