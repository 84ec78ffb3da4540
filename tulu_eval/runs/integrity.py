"""Is a finished run what its files say? Everything in it that can be computed again is computed again and compared.

:func:`tulu_eval.runs.finished.read` refuses files that do not belong together. What it lets through is a folder somebody made
consistent by hand, hashes and all: other grades in the ledger, other rows in the result, another recipe in the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.errors import DataError
from tulu_eval.records import content_hash, to_json
from tulu_eval.runs import catalog
from tulu_eval.runs.digests import DIGESTS, Digest, read_digests
from tulu_eval.runs.finished import Finished, read
from tulu_eval.runs.identity import settings_hash
from tulu_eval.runs.ledger import Sample
from tulu_eval.runs.manifest import LEDGER, MANIFEST, RESULT, read_results
from tulu_eval.runs.packed import there
from tulu_eval.runs.scoring import Marks, grade_sample, make_rows

BLANK = ("empty", "engine_error")
"""Classes of samples that have no text."""


def read_sound(folder: Path) -> Finished:
    """Returns a finished run of which everything follows from the rest.

    Raises:
        DataError: Not a finished run, or one that was changed by hand, however consistently.
    """
    run = read(folder)
    if wrong := doubts(run, samples_of(run)):
        raise DataError(folder, f"was changed by hand: {'; '.join(wrong)}")
    return run


def samples_of(run: Finished) -> list[Sample]:
    """Returns a run's samples; none of a run that was published without them."""
    return list(run.samples()) if there(run.folder / LEDGER) else []


def doubts(run: Finished, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Returns what in a run does not follow from the rest of it, one line each; empty if all of it does.

    Grades and rows are not looked at where the benchmark is not installed here or is of another version. Of a run that was
    published without its samples, rows are looked at where the classes of its samples decide them.

    Args:
        run: The run.
        samples: Its samples, as :meth:`Finished.samples` yields them; none of a run that was published without them.
    """
    if run.of_files:
        return ()  # it has judgments alone, and reading it compared those with the rows
    benchmark = gradable(run)
    found = _of_manifest(run.manifest)
    if there(run.folder / LEDGER):
        found += _of_items(run.manifest, LEDGER, [sample.item for sample in samples])
        if benchmark is not None:
            marks = {one.item: Marks(one.status, tuple(grade.score for grade in one.grades)) for one in samples}
            found += [*_of_grades(benchmark, samples), *_of_rows(run, benchmark, LEDGER, marks)]
    else:
        digests = read_digests(run.folder)
        found += [*_of_items(run.manifest, DIGESTS, [one.item for one in digests]), *_of_digests(run, benchmark, digests)]
    return tuple(found)


def gradable(run: Finished) -> Benchmark | None:
    """Returns the benchmark whose grades a run has, or None where it is not installed or is of another version."""
    if run.benchmark not in catalog.names(catalog.BENCHMARKS):
        return None
    benchmark = catalog.benchmark(run.benchmark)
    return benchmark if run.regraded or benchmark.version == run.manifest["benchmark"]["version"] else None


def _of_manifest(manifest: dict[str, Any]) -> list[str]:
    protocol = dict(manifest["protocol"])
    own = protocol.pop("sha256", None)
    found = []
    if own != content_hash(protocol):
        found.append(f"{MANIFEST}: the protocol was changed after it was written (its hash differs)")
    if not manifest["settings"].get("adapter") and manifest.get("settings_sha256") != settings_hash(manifest):
        found.append(
            f"{MANIFEST}: model, prompt, template or decoding was changed after it was written (settings_sha256 differs)"
        )
    return found


def _of_items(manifest: dict[str, Any], file: str, items: Sequence[str]) -> list[str]:
    planned = set(manifest["planned"])
    strange = [item for item in items if item not in planned]
    return [f"{file}: {len(strange)} samples are of items that were not planned (first: {strange[0]})"] if strange else []


def _of_grades(benchmark: Benchmark, samples: Sequence[Sample]) -> list[str]:
    wrong = [sample.item for sample in samples if grade_sample(benchmark, sample) != sample]
    if not wrong:
        return []
    return [f"{LEDGER}: {len(wrong)} of {len(samples)} grades are not what {benchmark.name} gives (first: {wrong[0]})"]


def _of_digests(run: Finished, benchmark: Benchmark | None, digests: Sequence[Digest]) -> list[str]:
    """Returns what classes and lengths say against each other and against the rows; grades need the text, or the class."""
    odd = [one.item for one in digests if not one.characters and one.status not in BLANK]
    found = [f"{DIGESTS}: {len(odd)} samples without a character are not counted as empty (first: {odd[0]})"] if odd else []
    if benchmark is None:
        return found
    marks = {}
    for one in digests:
        scores = benchmark.scores_of_class(one.status)
        if scores is None:
            return found
        marks[one.item] = Marks(one.status, scores)
    return found + _of_rows(run, benchmark, DIGESTS, marks)


def _of_rows(run: Finished, benchmark: Benchmark, file: str, marks: dict[str, Marks]) -> list[str]:
    planned = set(run.manifest["planned"])
    expected = make_rows(run.manifest, benchmark, {item: mark for item, mark in marks.items() if item in planned})
    same = list(map(to_json, read_results(run.folder))) == list(map(to_json, expected))
    return [] if same else [f"{RESULT}: its rows are not what {file} gives"]
