"""Whether `tulu-eval explain` names the settings that are hidden from it, how many items it spends, and what it claims falsely.

Single settings and pairs are drawn by the seed from all that move the model's score by 5 points or more on all items. Nulls
differ in nothing that matters: 20 real runs with other batch sizes and dtypes, and simulated ones in which items of the base's
own run flip by chance. A claim on a null, or on another setting than the hidden one, is false.

    python benchmarks/explain.py --work explain-work --seed 1 --json explain.json

What came of a case is kept in the folder of work, and the same command with the same code goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec
from explain_planting import Bench, Case, Given, Outcome, Truth, ask, judged, plant

import tulu_eval
from tulu_eval.benchmarks.gsm8k_scorers import grade_flexible_extract, grade_last_number, grade_strict_match
from tulu_eval.findings import explain as search
from tulu_eval.findings.explaining.explanation import Explanation
from tulu_eval.findings.explaining.trials import scores_only
from tulu_eval.records import content_hash
from tulu_eval.stats import mcnemar

SINGLES, DOUBLES = 20, 10
NULLS = tuple((size, dtype) for dtype in ("float32", "bfloat16") for size in (7, 12, 19, 26, 37, 45, 60, 80, 100, 120))
"""Batch sizes and dtypes of the real nulls."""

WAYS: tuple[Given, ...] = ("a number", "texts", "texts and a number")
"""How nulls are given, one after the other."""

FLIPS = 0.02
"""Share of items that flip in a simulated null; two batch sizes of one engine give 0 to 2 % (README.md, batch sizes)."""

RUN = Path(__file__).parents[1] / "results" / "smollm2-135m-instruct" / "gsm8k" / "full-bf64c123"
FILTERS = {"by-flexible-extract": grade_flexible_extract, "by-strict-match": grade_strict_match}


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A case and what came of it.

    Attributes:
        hidden: Names of the hidden settings; empty for a null.
        effect: Their effect in points on all items.
        claims: Settings that were said to explain the gap or to contribute.
        missed: Intervals that do not hold the effect on all items, of those that can be checked.
        checked: Number of intervals that can be checked: of single settings with an effect on the same items.
        generated: Items spent; a full run of every hypothesis takes ``everything``.
    """

    hidden: tuple[str, ...]
    given: str
    effect: float
    outcome: Outcome
    named: tuple[str, ...]
    claims: tuple[tuple[str, ...], ...]
    missed: int
    checked: int
    generated: int
    everything: int
    sentence: str


def line_of(bench: Bench, case: Case, found: Explanation) -> Line:
    """Returns what came of a case."""
    claims = tuple(row.names for row in found.tried if row.verdict in ("explains it", "contributes"))
    known = {one.names: one for one in bench.known()}
    told = case.given in ("texts and a number", "a run that lies, and a number")
    ways = {name for name, one in bench.hypotheses.items() if scores_only(one)}
    pairs = [
        (row, known[row.names].effect) for row in found.tried
        if row.names in known and row.low is not None and len(known[row.names].scores) == found.n
        and not (told and row.names[0] in ways)  # measured on the goal's texts, not on the base's
    ]  # fmt: skip
    missed = sum(not row.low - 0.05 <= effect <= row.high + 0.05 for row, effect in pairs)
    return Line(
        case.truth.names, case.given, case.truth.effect, judged(case, found), found.named, claims, missed, len(pairs),
        found.generated, found.everything, found.sentence,
    )  # fmt: skip


def real_nulls(bench: Bench) -> Iterator[Case]:
    """Yields runs with other batch sizes and dtypes whose score differs by chance alone, given as :data:`WAYS` in turn."""
    own = bench.truth()
    for at, (size, dtype) in enumerate(NULLS):
        run = bench.run(batch_size=size, dtype=dtype)
        samples = {sample.item: sample for sample in run.samples()}
        scores = {item: sample.grades[0].score for item, sample in samples.items()}
        up, down = (sum(sign * (scores[item] - one) > 0 for item, one in own.scores.items()) for sign in (1, -1))
        if mcnemar(up, down) >= 0.05:
            yield Case(Truth((), scores, samples, 100 * (up - down) / len(scores)), WAYS[at % 3])


def simulated_nulls(bench: Bench, draw: random.Random, size: int) -> Iterator[Case]:
    """Yields the base's own answers, but that some items flip by chance: they have another stored answer of other score."""
    own, other = bench.truth(), bench.truth("sampled-1.0")
    ways = [[item for item, one in own.scores.items() if sign * (other.scores[item] - one) > 0] for sign in (1, -1)]
    for at in range(size):
        samples = dict(own.samples)
        count = sum(draw.random() < FLIPS for _ in samples)
        up = sum(draw.random() < 0.5 for _ in range(count))
        for way, some in zip(ways, (up, count - up), strict=True):
            samples.update({item: other.samples[item] for item in draw.sample(way, min(some, len(way)))})
        scores = {item: sample.grades[0].score for item, sample in samples.items()}
        effect = 100 * (statistics.fmean(scores.values()) - statistics.fmean(own.scores.values()))
        yield Case(Truth((), scores, samples, effect), WAYS[at % 3])


def run_cases(bench: Bench, cases: Iterable[Case], kind: str, seed: int) -> list[Line]:
    """Returns what came of cases; the order of the items is another one in each."""
    lines, code = [], code_hash()
    for at, case in enumerate(cases):
        search.SEED = 1000 * seed + at
        kept = bench.work / "lines" / f"{content_hash([code, kind, search.SEED, case.given, case.truth.names])}.json"
        if not kept.exists():
            found = line_of(bench, case, ask(bench, case, bench.work / "cases" / f"{kind}-{at}"))
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(msgspec.json.encode(found))
        lines.append(msgspec.json.decode(kept.read_bytes(), type=Line))
        print(kind, at, lines[-1], flush=True)
    return lines


def code_hash() -> str:
    """Returns a hash of the package and of this bench, since other code may come to other answers."""
    places = [Path(tulu_eval.__file__).parent.rglob("*.py"), Path(__file__).parent.glob("explain*.py")]
    return content_hash([file.read_text(encoding="utf-8") for some in places for file in sorted(some)])


def filters() -> dict[str, dict[str, object]]:
    """Returns the effect of lm-eval's filters on the committed run: by direct scoring and by the free part of `explain`.

    The number to explain is far off, so that the free changes are all listed.
    """
    samples = list(tulu_eval.load_run(RUN).samples())
    answer = tulu_eval.explain(RUN, number="20.0", n=len(samples), max_items=0, progress=False)
    rows = {row.names: row for row in answer.tried}
    found: dict[str, dict[str, object]] = {}
    for name, grade in FILTERS.items():
        pairs = [(grade(one.target, one.completion.text).score, grade_last_number(one.target, one.completion.text).score)
                 for one in samples]  # fmt: skip
        row = rows[name,]
        found[name] = {
            "n": len(pairs), "effect": 100 * statistics.fmean(a - b for a, b in pairs), "up": sum(a > b for a, b in pairs),
            "down": sum(a < b for a, b in pairs), "explain": row.effect, "low": row.low, "high": row.high,
        }  # fmt: skip
    return found


def table(lines: Mapping[str, list[Line]]) -> Iterator[str]:
    """Yields the confusion table and the items spent, as Markdown."""
    outcomes: tuple[Outcome, ...] = ("named", "in part", "cannot tell, it is among them", "cannot tell", "wrong")
    yield "| planted | cases | " + " | ".join(outcomes) + " | with a claim on another setting | items spent / all |"
    yield "|---|---|" + "---|" * (len(outcomes) + 2)
    for kind, rows in lines.items():
        if not rows:
            continue
        counts = Counter(row.outcome for row in rows)
        false = sum(any(not set(names) <= set(row.hidden) for names in row.claims) for row in rows)
        shares = [row.generated / row.everything for row in rows if row.everything]
        cells = [str(counts[one]) if rows[0].hidden else "-" for one in outcomes]
        spent = f"{statistics.fmean(shares):.1%}, at most {max(shares):.1%}" if shares else "-"
        yield f"| {kind} | {len(rows)} | {' | '.join(cells)} | {false} | {spent} |"
    every = [row for rows in lines.values() for row in rows]
    missed, checked = sum(row.missed for row in every), sum(row.checked for row in every)
    yield f"\nIntervals of single settings that miss the effect on all items: {missed} of {checked}."


def main() -> None:
    """Plants, asks and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of model, answers and cases; not in the repository")
    parser.add_argument("--seed", type=int, required=True, help="seed of the planting")
    parser.add_argument("--model-seed", type=int, default=0, help="seed of the model, if it is to be made")
    parser.add_argument("--singles", type=int, default=SINGLES, help="cases of one hidden setting")
    parser.add_argument("--doubles", type=int, default=DOUBLES, help="cases of two")
    parser.add_argument("--simulated", type=int, default=100, help="simulated nulls")
    parser.add_argument("--json", type=Path, help="file for all figures")
    order = parser.parse_args()
    bench = Bench(order.work, order.model_seed)
    draw = random.Random(order.seed)
    effects = bench.effects()
    print("| setting | on all items | effect, points |\n|---|---|---|")
    for one in sorted(effects, key=lambda one: one.effect):
        print(f"| {'+'.join(one.names)} | {one.printed} of {len(one.scores)} | {one.effect:+.1f} |")
    hidden = plant(bench, draw, order.singles, order.doubles)
    bare = "two settings, a bare number"
    planted: dict[str, Iterable[Case]] = {
        **{kind: cases for kind, cases in hidden.items() if kind != bare},
        "nothing, simulated": simulated_nulls(bench, draw, order.simulated),
        "nothing, real": real_nulls(bench),
        bare: hidden[bare],  # last, since it takes longest
    }
    lines = {kind: run_cases(bench, some, kind, order.seed) for kind, some in planted.items()}
    rescored = filters()
    print("\n".join(table(lines)))
    print(json.dumps(rescored, indent=1))
    if order.json:
        figures = {
            "seed": order.seed, "recipe": bench.truth().printed,
            "effects": {"+".join(one.names): one.effect for one in effects},
            "cases": {kind: [dataclasses.asdict(row) for row in rows] for kind, rows in lines.items()}, "filters": rescored,
        }  # fmt: skip
        order.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
