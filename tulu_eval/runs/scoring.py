"""Computes rows from samples: one row per covered protocol and scorer, with n, interval, failure counts and signature."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from msgspec.structs import replace

from tulu_eval.benchmarks.base import Benchmark, PassAt, count_statuses
from tulu_eval.records import FAILURES, Result
from tulu_eval.runs.requests import item_of
from tulu_eval.stats import clustered, pass_at_k, wilson
from tulu_eval.store.causes import commonest
from tulu_eval.store.digests import Digest, digest, write_digests
from tulu_eval.store.manifest import Recorded, combined, manifest_hash, samples_hash, write_results
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.sample_line import Marks, decode, parts
from tulu_eval.store.schema import StoredTally
from tulu_eval.store.setup_schema import stored
from tulu_eval.store.signature import signature
from tulu_eval.store.tally import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class ScoredRows:
    """The rows of a run, and the manifest that belongs to them.

    Attributes:
        results: One row per covered protocol and scorer.
        manifest: The run's manifest with the tally and the hash of the answers; the caller must write it.
    """

    results: tuple[Result, ...]
    tally: Tally
    manifest: Manifest


def write_rows(folder: Path, manifest: Manifest, benchmark: Benchmark, lines: Iterable[bytes]) -> ScoredRows:
    """Computes the rows of a run from the lines of its graded samples, and writes them to ``result.json``.

    It also writes ``digests.jsonl`` if the benchmark's samples may not be published.
    """
    found: dict[str, Marks] = {}
    digests: list[Digest] = []
    answers: list[bytes] = []
    causes: list[str] = []

    def noted() -> Iterator[bytes]:
        for line in lines:
            item, one, answer = parts(line)
            found[item] = one
            answers.append(hashlib.sha256(answer).digest())
            if one.status == "engine_error":
                causes.append(decode(line).completion.error)
            if not benchmark.publishable:
                digests.append(digest(line))
            yield line

    whole = samples_hash(noted())
    results, tally = make_rows(manifest, benchmark, found), tally_of(manifest, found, causes)
    if digests:
        write_digests(folder, digests)
    answered = combined(answers)
    manifest = replace(manifest, tally=stored(tally, StoredTally), answers_sha256=answered)
    recorded = Recorded(results, whole, answered, manifest_hash(manifest), benchmark.version)
    write_results(folder, recorded, tally)
    return ScoredRows(results, tally, manifest)


def tally_of(manifest: Manifest, found: Mapping[str, Marks], causes: Iterable[str] = ()) -> Tally:
    """Returns the numbers of planned, answered and failed items, and the most common of the failures' errors."""
    planned = manifest.planned
    failed = sum(found[item].status in FAILURES for item in planned if item in found)
    cause = commonest(causes)
    said = "" if cause is None else " ".join(cause.text.split())
    if cause is not None and cause.count > 1:
        said = f"{cause.count} times: {said}"
    return Tally(len(planned), sum(item in found for item in planned) - failed, failed, said)


def make_rows(manifest: Manifest, benchmark: Benchmark, found: Mapping[str, Marks]) -> tuple[Result, ...]:
    """Returns one row per covered protocol with graded items and per scorer; the benchmark's published scorer comes first.

    A scorer of a part of the items has a row if any item of the part is graded.

    Short answers finish first, so the samples of a stopped run are no random sample. Its rows therefore use only the items
    before the first one that lacks a sample, in the protocol's order, and they have no interval.
    """
    results = []
    planned, samples = set(manifest.planned), manifest.protocol.samples or 1
    for protocol, ids in manifest.items.items():
        wanted = [name for name in ids if name in planned]
        present = list(itertools.takewhile(found.__contains__, wanted))
        graded: dict[str, Sequence[Marks]] = {}
        alone: dict[Marks, tuple[Marks]] = {}  # one object for all equal marks
        for start in range(0, len(present) - samples + 1, samples):
            name = present[start]
            if samples == 1:
                graded[name] = alone.setdefault(found[name], (found[name],))
            else:
                graded[item_of(name, samples)] = [found[one] for one in present[start : start + samples]]
        missing = len(wanted) // samples - len(graded), len(ids) // samples - len(graded)
        for place, scorer in enumerate(benchmark.scorers):
            part = benchmark.aggregates.get(scorer) == "part"
            own = {item: marks for item, marks in graded.items() if not part or _weight(marks[0], place)}
            if own:
                results.append(_row(manifest, benchmark, protocol, place, own, missing))
    return tuple(results)


def _row(
    manifest: Manifest,
    benchmark: Benchmark,
    protocol: str,
    place: int,
    graded: Mapping[str, Sequence[Marks]],
    missing: tuple[int, int],
) -> Result:
    """Returns the row of a protocol and the scorer at ``place`` in the benchmark's scorers.

    ``graded`` has the marks of the samples of each graded item, or of each in the scorer's part, in the protocol's order.
    ``missing`` has the numbers of planned items and of all items of the protocol that are not graded; nobody knows which of
    them are in the scorer's part, so all count.
    """
    scorer, n = benchmark.scorers[place], len(graded)
    marks_of_all = list(itertools.chain.from_iterable(graded.values()))
    failed = sum(one.status in FAILURES for one in marks_of_all)
    value, low, high = _value(benchmark, scorer, place, list(graded.values()))
    samples = manifest.protocol.samples or 1
    counted = samples == 1 and benchmark.aggregates.get(scorer, "part") == "part"
    method = "wilson95" if counted else "clustered95"
    method = "none" if missing[0] else f"{method}, failures wrong to right" if failed else method
    return Result(
        benchmark=benchmark.name,
        protocol=protocol,
        scorer=scorer,
        metric=benchmark.metrics.get(scorer, benchmark.protocol(protocol).metric),
        value=value,
        n=n,
        n_protocol=n + missing[1],
        planned=n + missing[0],
        low=0.0 if method == "none" else 100 * low,
        high=100.0 if method == "none" else 100 * high,
        interval=method,
        counts=count_statuses(one.status for one in marks_of_all),
        signature=signature(manifest, protocol, scorer, list(graded)),
        samples=samples,
    )


def _value(benchmark: Benchmark, scorer: str, place: int, graded: Sequence[Sequence[Marks]]) -> tuple[float, float, float]:
    """Returns a scorer's value in percent, and the ends of its interval as fractions.

    The lower end takes all failures as wrong, the upper end takes them as right.
    """
    how = benchmark.aggregates.get(scorer, "part")
    if how == "part" and all(len(samples) == 1 for samples in graded):
        scores = [one.scores[place] for (one,) in graded]
        right, n = round(sum(scores)), len(scores)
        failed = sum(one.status in FAILURES for (one,) in graded)
        return benchmark.aggregate(scores), wilson(right, n).low, wilson(right + failed, n).high
    drawn = [[one.scores[place] for one in samples] for samples in graded]
    best = [[1.0 if one.status in FAILURES else one.scores[place] for one in samples] for samples in graded]
    weights = [fmean(_weight(one, place) for one in samples) for samples in graded]
    groups = [samples[0].group for samples in graded] if how == "macro" else None
    item = partial(_passed, k=how.k) if isinstance(how, PassAt) else fmean
    found = clustered(list(map(item, drawn)), weights, groups)
    return 100 * found.value, found.low, clustered(list(map(item, best)), weights, groups).high


def _passed(scores: Sequence[float], k: int) -> float:
    """Returns the estimated probability (0 to 1) that at least one of k samples of an item is right."""
    return pass_at_k(sum(score == 1 for score in scores), len(scores), k)


def _weight(one: Marks, place: int) -> float:
    return one.weights[place] if one.weights else 1.0
