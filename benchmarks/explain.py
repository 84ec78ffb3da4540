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
import random
import statistics
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from explain_planting import Bench, Case, Given, Truth, ask, judged, plant
from explain_proof import Effect, Filter, Line, Proof, cases_table, effects_table, table

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


def line_of(bench: Bench, case: Case, found: Explanation, seconds: float) -> Line:
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
        case.truth.names, case.given, case.truth.effect, judged(case, found), found.named, claims, found.rivals, missed,
        len(pairs), found.generated, found.everything, seconds, found.sentence,
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
            began = time.process_time()
            answer = ask(bench, case, bench.work / "cases" / f"{kind}-{at}")
            found = line_of(bench, case, answer, time.process_time() - began)
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(msgspec.json.encode(found))
        lines.append(msgspec.json.decode(kept.read_bytes(), type=Line))
        print(kind, at, lines[-1], flush=True)
    return lines


def code_hash() -> str:
    """Returns a hash of the package and of this bench, since other code may come to other answers."""
    places = [Path(tulu_eval.__file__).parent.rglob("*.py"), Path(__file__).parent.glob("explain*.py")]
    return content_hash([file.read_text(encoding="utf-8") for some in places for file in sorted(some)])


def filters() -> dict[str, Filter]:
    """Returns the effect of lm-eval's filters on the committed run: by direct scoring and by the free part of `explain`.

    The number to explain is far off, so that the free changes are all listed.
    """
    samples = list(tulu_eval.load_run(RUN).samples())
    answer = tulu_eval.explain(RUN, number="20.0", n=len(samples), max_items=0, progress=False)
    rows = {row.names: row for row in answer.tried}
    found: dict[str, Filter] = {}
    for name, grade in FILTERS.items():
        pairs = [(grade(one.target, one.completion.text).score, grade_last_number(one.target, one.completion.text).score)
                 for one in samples]  # fmt: skip
        row = rows[name,]
        up, down = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        effect = 100 * statistics.fmean(a - b for a, b in pairs)
        found[name] = Filter(len(pairs), effect, up, down, row.effect, row.low, row.high)
    return found


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
    effects = tuple(Effect("+".join(one.names), one.printed, len(one.scores), one.effect) for one in bench.effects())
    proof = Proof(order.seed, bench.truth().printed, effects, {}, {})
    print("\n".join(effects_table(proof)), flush=True)
    hidden = plant(bench, draw, order.singles, order.doubles)
    bare = "two settings, a bare number"
    planted: dict[str, Iterable[Case]] = {
        **{kind: cases for kind, cases in hidden.items() if kind != bare},
        "nothing, simulated": simulated_nulls(bench, draw, order.simulated),
        "nothing, real": real_nulls(bench),
        bare: hidden[bare],  # last, since it takes longest
    }
    lines = {kind: run_cases(bench, some, kind, order.seed) for kind, some in planted.items()}
    proof = dataclasses.replace(proof, cases=lines, filters=filters())
    print("\n".join((*cases_table(proof), *table(lines), str(proof.filters))))
    if order.json:
        order.json.write_bytes(msgspec.json.format(msgspec.json.encode(proof), indent=1))


if __name__ == "__main__":
    main()
