"""Reads run folders for all verbs, and finds everything in a folder that does not follow from the rest of it.

Every verb reads runs through :func:`read_run`. It computes everything again that can be computed: the hashes of protocol and
settings, the run's samples (by the keys in the manifest), their grades, the rows, and the rows of judges. It also reads folders
that were forged, mixed, swapped or cut, and lists their errors as ``doubts``; :func:`sound` refuses such a run with the same
words for every verb. It writes nothing but the cache of readings, and loads no model.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tulu_eval import files, plugins
from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.benchmarks.labelled import JudgedBenchmark
from tulu_eval.errors import DataError, UserError
from tulu_eval.records import Result
from tulu_eval.runs import catalog, remembered, rereading
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.judged_check import JUDGED, JUDGING, JUDGMENTS, JudgedResult, lc_ranges, outputs_by_hash, read_judged
from tulu_eval.runs.remembered import Reading
from tulu_eval.runs.rereading import NOT_AS_MADE, Reread
from tulu_eval.runs.run_plan import SHARDS
from tulu_eval.runs.stored_labels import LABELS, answers_of, read_labelled
from tulu_eval.store.digests import DIGESTS, hash_of_all, read_digests
from tulu_eval.store.ledger import Asked, Ledger
from tulu_eval.store.manifest import LEDGER, MANIFEST, RESULT, Recorded, read_manifest, read_results
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.packed import there
from tulu_eval.store.sample_line import Sample
from tulu_eval.store.setup_schema import OutputsOnly
from tulu_eval.store.tally import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is on disk.

    Attributes:
        about: The run's manifest, or the few facts about a file of outputs.
        results: Rows of the run and then those of its judges; computed from the samples if the benchmark is installed here.
        doubts: Statements of the files that do not follow from the rest, one line each; empty for a run that nobody changed.
        notes: Numbers that could not be computed again, with the reason, one line each.
        regraded: Whether the rows use grades of another version of the benchmark than the ledger's.
        unhashed: Reason why a forgery would not be seen, one line that ``notes`` has too; empty for a run with all hashes.
        lc_ranges: Smallest and largest value of each length-controlled row over the constants C of published numbers, by
            signature.
    """

    folder: Path
    about: Manifest | OutputsOnly = dataclasses.field(repr=False)
    results: tuple[Result, ...]
    tally: Tally
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    regraded: bool = False
    unhashed: str = ""
    lc_ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The run's manifest; raises DataError if the folder has only win rates of a file of outputs, whose run is unknown."""
        if not isinstance(self.about, Manifest):
            raise DataError(self.folder, "has the win rates of a file of outputs, of which no run is known")
        return self.about

    @property
    def model(self) -> str:
        """Name of the model: hub id, name in the registry, or name of a local model."""
        return self.about.model.name

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return self.about.benchmark.name

    @property
    def imported(self) -> str:
        """Name of the harness whose file the run was imported from; empty for a run of our own."""
        return self.about.backend if isinstance(self.about, Manifest) and self.about.imported else ""

    @property
    def of_files(self) -> bool:
        """Whether the folder has only win rates of a file of outputs, whose run is unknown."""
        return isinstance(self.about, OutputsOnly)

    @property
    def source(self) -> str:
        """``outputs of a file`` or ``re-scored`` if the run is unknown; empty for a run."""
        return self.about.source if isinstance(self.about, OutputsOnly) else ""

    @property
    def ended(self) -> str:
        """Time at which the last session ended, ISO 8601 in UTC; empty if the manifest has no such time."""
        if isinstance(self.about, OutputsOnly):
            return self.about.finished
        return (self.about.sessions[-1].finished or "") if self.about.sessions else ""

    @property
    def asked(self) -> Asked | None:
        """Key and item of each sample that the run asked for; ``None`` if an older manifest does not list them."""
        return rereading.pinned(self.manifest)

    def members(self, protocol: str | None) -> frozenset[str]:
        """Returns the ids of the run's items of a protocol; empty for a protocol that the run does not cover."""
        if protocol is None or isinstance(self.about, OutputsOnly):
            return frozenset()
        members = {catalog.protocol_name(self.benchmark, name): ids for name, ids in self.about.items.items()}
        return frozenset(members.get(catalog.protocol_name(self.benchmark, protocol), ()))

    def samples(self) -> Iterator[Sample]:
        """Yields every sample that the run asked for, in the order of the ledger, with the grades that the rows use.

        Raises:
            DataError: If the run was published without its samples.
        """
        if not there(self.folder / LEDGER):
            raise DataError(self.folder, f"was published without its samples: it has {DIGESTS} in place of {LEDGER}")
        with Ledger(self.folder / LEDGER, read_only=True) as ledger:
            if not self.regraded:
                yield from ledger.samples(self.asked)
                return
            benchmark = catalog.benchmark(self.benchmark, self.manifest.protocol.name)
            grader = Grader.of(benchmark, self.manifest)
            for sample in ledger.samples(self.asked):
                yield grader.grade(sample)


def read_run(folder: Path) -> StoredRun:
    """Returns a run as it is on disk, or a judge's folder that is not in a run folder.

    Raises:
        DataError: If the folder is neither, or its manifest cannot be read or has another version.
    """
    if (folder / JUDGING).exists() and not (folder / MANIFEST).exists():
        from tulu_eval.runs import rescored

        return rescored.read(folder)
    manifest = read_manifest(folder)
    benchmark = _installed(manifest)
    try:
        name = remembered.name_of(folder, benchmark)
        found = remembered.recall(name)
        if found is None:
            found = _read(folder, manifest, benchmark)
            if remembered.name_of(folder, benchmark) == name:  # otherwise a file changed during the reading
                remembered.note(name, found)
    except OSError as error:
        raise DataError(folder, f"cannot be read: {error.strerror}") from error
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return StoredRun(folder, manifest, **(fields | {"results": today(found.results)}))


def today(rows: Iterable[Result]) -> tuple[Result, ...]:
    """Returns rows with the current names of their protocols; their signatures keep the old names."""
    return tuple(dataclasses.replace(row, protocol=catalog.protocol_name(row.benchmark, row.protocol)) for row in rows)


def _read(folder: Path, manifest: Manifest, benchmark: Benchmark | None) -> Reading:
    recorded, doubts = _recorded(folder)
    found = _reread(folder, manifest, recorded, benchmark)
    rows, wrong = rereading.rows(manifest, benchmark, found, recorded)
    judges, of_judges = _judged(folder, manifest, benchmark)
    unhashed = rereading.unhashed(manifest, recorded)
    return Reading(
        results=(*rows, *itertools.chain.from_iterable(one.rows for one in judges.values())),
        tally=found.tally,
        # Wrong samples give wrong rows, so doubts about the rows would repeat doubts about the samples.
        doubts=(*rereading.of_manifest(manifest, recorded, benchmark), *(found.doubts or wrong), *doubts, *of_judges),
        notes=(
            *filter(None, [unhashed]),
            *found.notes,
            *(f"{name}: {line}" for name, one in judges.items() for line in one.unchecked),
        ),
        regraded=found.regraded,
        unhashed=unhashed,
        lc_ranges=dict(itertools.chain.from_iterable(lc_ranges(one).items() for one in judges.values())),
    )


def sound(run: StoredRun) -> StoredRun:
    """Returns a run if nobody changed it; raises DataError if it has doubts."""
    if run.doubts:
        raise DataError(run.folder, f"{NOT_AS_MADE}: {'; '.join(run.doubts)}")
    return run


def finished(run: StoredRun) -> StoredRun:
    """Returns a run if nobody changed it and it tried all planned items; raises DataError if it was stopped or has doubts."""
    sound(run)
    if run.tally.unfinished:
        raise DataError(run.folder, f"{run.tally.unfinished}; the run's own command goes on from there")
    return run


def read_answers(folder: Path) -> StoredRun:
    """Returns a run without rows, so that its samples can be graded again; checks the samples and ignores the stored rows.

    Raises:
        DataError: If the folder is not a run's, has no samples, or has other samples than the run made.
    """
    manifest = read_manifest(folder)
    if not there(folder / LEDGER):
        published = f" (it was published without its samples: it has {DIGESTS})" if (folder / DIGESTS).exists() else ""
        raise DataError(folder, f"has no {LEDGER}, so there is nothing to grade{published}")
    recorded, _ = _recorded(folder)
    benchmark = _installed(manifest)
    found = _reread(folder, manifest, recorded, benchmark)
    doubts = (*rereading.of_manifest(manifest, recorded, benchmark), *found.doubts)
    run = StoredRun(folder, manifest, (), found.tally, doubts, unhashed=rereading.unhashed(manifest, recorded))
    if not run.doubts and not (found.tally.done + found.tally.failed):
        raise DataError(folder / LEDGER, "has no samples")
    return sound(run)


def find_runs(
    results: Path, each: Callable[[Sequence[Path]], Iterable[Path]] = iter
) -> tuple[tuple[StoredRun, ...], tuple[str, ...]]:
    """Returns the sound runs under a folder, and one line per run that was changed or cannot be read.

    The runs include unfinished ones, which the verb must mark as such, and win rates of files of outputs.

    Args:
        results: Folder to search; nothing is found if it is missing.
        each: Function that yields the run folders one by one; it may show the progress of reading them.
    """
    if not results.exists():
        return (), ()
    found, problems = files.find(results, (MANIFEST, JUDGING))
    # A shard is not a run; 'tulu-eval merge' makes a run of the shards.
    folders = [path.parent for path in found[MANIFEST] if path.parent.parent.name != SHARDS]
    folders += [path.parent for path in found[JUDGING] if not (path.parents[2] / MANIFEST).exists()]
    runs: list[StoredRun] = []
    for folder in each(folders):
        try:
            runs.append(sound(read_run(folder)))
        except UserError as error:
            problems.append(str(error))
    return tuple(runs), tuple(problems)


def _installed(manifest: Manifest) -> Benchmark | None:
    name, protocol = manifest.benchmark.name, manifest.protocol.name
    return catalog.benchmark(name, protocol) if name in plugins.names(plugins.BENCHMARKS) else None


def _recorded(folder: Path) -> tuple[Recorded | None, list[str]]:
    """Returns the content of ``result.json``, ``None`` if it is missing or was changed, and a line if it was changed."""
    if not (folder / RESULT).exists():
        return None, []
    try:
        return read_results(folder), []
    except DataError as error:
        return None, [str(error).removeprefix(f"{folder}/")]


def _reread(folder: Path, manifest: Manifest, recorded: Recorded | None, benchmark: Benchmark | None) -> Reread:
    if there(folder / LEDGER):
        with Ledger(folder / LEDGER, read_only=True) as ledger:
            return rereading.of_ledger(ledger, manifest, recorded, benchmark)
    if (folder / DIGESTS).exists():
        digests = read_digests(folder)
        found = rereading.of_digests(digests, manifest, benchmark)
        if recorded and hash_of_all(digests) != recorded.samples_sha256:
            return dataclasses.replace(found, doubts=(f"{DIGESTS} is not what {RESULT} was computed from", *found.doubts))
        return found
    if recorded is None:
        return Reread(Tally(len(manifest.planned), 0, 0))
    return Reread(Tally(len(manifest.planned), 0, 0), doubts=(f"{LEDGER} is missing, so {RESULT} cannot be checked",))


def _judged(folder: Path, manifest: Manifest, benchmark: Benchmark | None) -> tuple[dict[str, JudgedResult], list[str]]:
    """Returns the numbers of a run's judges by the judge's folder, computed from their judgments, and the doubts about them."""
    read: dict[str, JudgedResult] = {}
    doubts: list[str] = []
    named = (path for name in (RESULT, JUDGING, JUDGMENTS, LABELS) for path in folder.glob(f"{JUDGED}/*/{name}"))
    judges = sorted({path.parent for path in named})  # a judge without a result, or with a broken link, gives a doubt
    asked = rereading.pinned(manifest)
    labelled = benchmark.labelled() if isinstance(benchmark, JudgedBenchmark) else None
    outputs = outputs_by_hash(folder, asked) if judges and labelled is None else {}
    answers = answers_of(folder, asked) if judges and labelled is not None else {}
    for judge in judges:
        name = judge.relative_to(folder).as_posix()
        try:
            found = read_judged(judge, outputs) if labelled is None else read_labelled(judge, manifest, labelled, answers)
        except DataError as error:
            doubts.append(str(error).removeprefix(f"{folder}/"))
            continue
        read[name] = found
        doubts += [f"{name}/{line}" for line in found.doubts]
    return read, doubts
