"""What came of the cases of ``explain.py`` as typed records, with the tables of README.md that are made of them."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping

from explain_planting import Given, Outcome

OUTCOMES: tuple[Outcome, ...] = ("named", "in part", "cannot tell, it is among them", "cannot tell", "wrong")


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A case and what came of it.

    Attributes:
        hidden: Names of the hidden settings; empty for a null.
        effect: Their effect in points on all items.
        claims: Settings that were said to explain the gap or to contribute.
        rivals: Settings of which it could not be told which explains it.
        missed: Intervals that do not hold the effect on all items, of those that can be checked.
        checked: Number of intervals that can be checked: of single settings with an effect on the same items.
        generated: Items spent; a full run of every hypothesis takes ``everything``.
        seconds: Processor seconds of the whole answer; what an earlier case generated is not generated again.
    """

    hidden: tuple[str, ...]
    given: Given
    effect: float
    outcome: Outcome
    named: tuple[str, ...]
    claims: tuple[tuple[str, ...], ...]
    rivals: tuple[tuple[str, ...], ...]
    missed: int
    checked: int
    generated: int
    everything: int
    seconds: float
    sentence: str


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """What one setting does on all items: its number in percent of n items, and the points to the recipe's."""

    name: str
    printed: str
    n: int
    points: float


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """The effect in points of one of lm-eval's filters on the committed run: by direct scoring, and by `explain`."""

    n: int
    effect: float
    up: int
    down: int
    explain: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """All figures of one run of ``explain.py``.

    Attributes:
        seed: Seed of the planting.
        recipe: Number of the recipe itself, in percent.
        cases: Cases by kind.
        filters: lm-eval's filters, by the name of the hypothesis that scores as each does.
    """

    seed: int
    recipe: str
    effects: tuple[Effect, ...]
    cases: dict[str, list[Line]]
    filters: dict[str, Filter]


def effects_table(proof: Proof) -> Iterator[str]:
    """Yields what every setting does on all items, as Markdown."""
    yield "| setting | on all items | effect, points |"
    yield "|---|---|---|"
    for one in sorted(proof.effects, key=lambda one: one.points):
        yield f"| `{one.name}` | {one.printed} % of {one.n} | {one.points:+.1f} |"


def cases_table(proof: Proof) -> Iterator[str]:
    """Yields every case with a hidden setting, as Markdown."""
    yield "| hidden | effect, points | given as | outcome | items spent | s |"
    yield "|---|---|---|---|---|---|"
    for row in (row for rows in proof.cases.values() for row in rows if row.hidden):
        hidden = " + ".join(f"`{name}`" for name in row.hidden)
        yield f"| {hidden} | {row.effect:+.1f} | {row.given} | {row.outcome} | {row.generated:,} | {row.seconds:.0f} |"


def table(lines: Mapping[str, list[Line]]) -> Iterator[str]:
    """Yields the confusion table and the items spent, as Markdown."""
    yield "| planted | cases | " + " | ".join(OUTCOMES) + " | with a claim on another setting | items spent / all | s |"
    yield "|---|---|" + "---|" * (len(OUTCOMES) + 3)
    for kind, rows in lines.items():
        if not rows:
            continue
        counts = Counter(row.outcome for row in rows)
        false = sum(any(not set(names) <= set(row.hidden) for names in row.claims) for row in rows)
        shares = [row.generated / row.everything for row in rows if row.everything]
        cells = [str(counts[one]) if rows[0].hidden else "-" for one in OUTCOMES]
        spent = f"{statistics.fmean(shares):.1%}, at most {max(shares):.1%}" if shares else "-"
        seconds = f"{statistics.fmean(row.seconds for row in rows):.1f}"
        yield f"| {kind} | {len(rows)} | {' | '.join(cells)} | {false} | {spent} | {seconds} |"
    every = [row for rows in lines.values() for row in rows]
    missed, checked = sum(row.missed for row in every), sum(row.checked for row in every)
    yield f"\nIntervals of single settings that miss the effect on all items: {missed} of {checked:,}."
