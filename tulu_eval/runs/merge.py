"""Merges the shards that ``--shard 1/N`` to ``--shard N/N`` made into the run that one process would have made.

It only reads the shards. It writes nothing before it has checked that all of them exist, are finished, and belong to one run.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from tulu_eval.benchmarks.base import Benchmark, Item
from tulu_eval.errors import DataError, UserError
from tulu_eval.records import Result
from tulu_eval.runs import catalog
from tulu_eval.runs.reading import StoredRun, read_run, sound
from tulu_eval.runs.requests import every
from tulu_eval.runs.run_plan import SHARDS
from tulu_eval.runs.scoring import write_rows
from tulu_eval.store import manifest as files
from tulu_eval.store import signature
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest_schema import Manifest, Session
from tulu_eval.store.sample_line import Sample, asked_of, decode, marks, ungraded
from tulu_eval.store.tally import Tally

_SAME = ("model", "benchmark", "protocol", "template", "decoding", "eos_ids", "backend", "dtype", "seed", "limit", "items")
"""Fields of the manifest that all shards of a run share; the hash of the settings covers all else that changes completions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run: number ``part``, from 1 on, of ``parts``."""

    run: StoredRun
    part: int
    parts: int

    @property
    def folder(self) -> Path:
        """The shard's folder."""
        return self.run.folder

    @property
    def manifest(self) -> Manifest:
        """The shard's manifest."""
        return self.run.manifest


@dataclasses.dataclass(frozen=True, slots=True)
class Merged:
    """The result of :func:`merge`.

    Attributes:
        added: Number of samples that the run's ledger did not have, or had with another answer than the shards.
        tally: Numbers of planned, answered and failed items; the shards' own commands try failed ones again.
    """

    folder: Path
    shards: int
    added: int
    tally: Tally
    results: tuple[Result, ...]


def merge(folders: Sequence[Path], output: Path | None = None, data: Path | None = None) -> Merged:
    """Merges the shards of a run and writes the whole run.

    Args:
        folders: Folder of the run, or folders of its shards, which may have been copied anywhere.
        output: Folder of the run to write; by default the run folder that the shards are in.
        data: Data file that the run read, if it read one; needed only for a benchmark that writes files for other tools.

    Raises:
        UserError: If a shard is missing, given twice, unfinished, locked or part of another run; it then writes nothing.
    """
    shards = sorted((_read(folder) for folder in _expand(folders)), key=lambda shard: shard.part)
    _check_one_run(shards)
    _check_parts(shards)
    planned = _interleave(shards)
    target = output or _around(shards)
    manifest = shards[0].manifest
    benchmark = catalog.benchmark(manifest.benchmark.name, manifest.protocol.name)
    items = _items(benchmark, manifest, data)
    with contextlib.ExitStack() as stack:
        for shard in shards:
            stack.enter_context(files.locked(shard.folder))
        lines = _lines(shards, stack)
        stack.enter_context(files.locked(target))
        return _write(target, shards, planned, lines, benchmark, items)


def _expand(folders: Sequence[Path]) -> list[Path]:
    """Returns each given shard's folder, or all in it if it is a run's with shards; raises DataError if there is no shard."""
    found: list[Path] = []
    for folder in folders:
        if (folder / SHARDS).is_dir():
            found += sorted(path.parent for path in (folder / SHARDS).glob(f"*/{files.MANIFEST}"))
        else:
            found.append(folder)
    unique = list({folder.resolve(): folder for folder in found}.values())
    if not unique:
        raise DataError(folders[0], "has no shards; 'tulu-eval run ... --shard 1/N' makes the first")
    return unique


def _read(folder: Path) -> Shard:
    run = read_run(folder)
    if not run.manifest.shard:
        raise DataError(folder, "is a whole run, not a shard of one")
    part, parts = run.manifest.shard
    return Shard(run, part, parts)


def _check_one_run(shards: Sequence[Shard]) -> None:
    first = shards[0]
    for shard in shards[1:]:
        if shard.parts != first.parts:
            raise DataError(shard.folder, f"is one of {shard.parts} shards, and {first.folder} is one of {first.parts}")
        one, other = first.manifest, shard.manifest
        differing = [name for name in _SAME if getattr(one, name) != getattr(other, name)]
        engines = [signature.engine(manifest) for manifest in (one, other) if manifest.engine]
        if not differing and one.settings_sha256 != other.settings_sha256:
            differing = ["settings"]
        if not differing and len(set(engines)) > 1:
            differing = [f"engine ({engines[0]} and {engines[1]})"]
        if differing:
            raise DataError(shard.folder, f"differs from {first.folder} in {', '.join(differing)}; shards are of one run")


def _check_parts(shards: Sequence[Shard]) -> None:
    counts, parts = Counter(shard.part for shard in shards), shards[0].parts
    twice = [part for part, count in counts.items() if count > 1]
    if twice:
        both = " and ".join(str(shard.folder) for shard in shards if shard.part == twice[0])
        raise UserError(f"two folders have shard {twice[0]}/{parts}: {both}; give one of them")
    missing = [part for part in range(1, parts + 1) if part not in counts]
    if missing:
        names = ", ".join(f"{part}/{parts}" for part in missing[:5]) + (", ..." if len(missing) > 5 else "")
        word = "shard is" if len(missing) == 1 else "shards are"
        raise UserError(
            f"{len(missing)} of {parts} {word} missing: {names}; run the same command with --shard {missing[0]}/{parts}"
        )


def _interleave(shards: Sequence[Shard]) -> list[str]:
    """Returns the ids of the run's items in its order; each of N shards has every Nth of them.

    Raises:
        UserError: If the shards have different numbers of items, or an item is in two of them.
    """
    samples = shards[0].manifest.protocol.samples or 1
    whole = [""] * sum(len(shard.manifest.planned) for shard in shards)
    for shard in shards:
        planned = shard.manifest.planned
        places = every(range(len(whole)), samples, shard.part, shard.parts)
        if len(places) != len(planned):
            raise DataError(shard.folder, f"has {len(planned)} items, which do not fit those of the other shards")
        for place, item in zip(places, planned, strict=True):
            whole[place] = item
    again = [item for item, count in Counter(whole).items() if count > 1]
    if again:
        raise UserError(f"the shards overlap: {len(again)} items are in more than one of them, first {again[0]}")
    return whole


def _around(shards: Sequence[Shard]) -> Path:
    """Returns the run folder that the shards are in; raises UserError unless all are in the folder ``shards`` of one run."""
    around = {shard.folder.resolve().parent for shard in shards}
    if len(around) != 1 or next(iter(around)).name != SHARDS:
        raise UserError(f"the shards are not in one folder {SHARDS!r} of a run; say where the run goes with --output FOLDER")
    return shards[0].folder.parent.parent if shards[0].folder.name else around.pop().parent


def _items(benchmark: Benchmark, manifest: Manifest, data: Path | None) -> dict[str, Item]:
    """Returns the items by id if the benchmark writes files for other tools from them, else nothing."""
    if type(benchmark).export is Benchmark.export:
        return {}
    return {item.id: item for item in benchmark.load(benchmark.protocol(manifest.protocol.name), data)}


def _lines(shards: Sequence[Shard], stack: contextlib.ExitStack) -> dict[str, bytes]:
    """Returns the ledger's line of each sample by item; raises UserError if a shard was changed since, or is not finished."""
    found: dict[str, bytes] = {}
    for shard in shards:
        if not shard.run.doubts and shard.run.tally.unfinished:
            again = f"run its command with --shard {shard.part}/{shard.parts} again"
            raise DataError(shard.folder, f"{shard.run.tally.unfinished}; {again}")
        sound(shard.run)
        ledger = stack.enter_context(Ledger(shard.folder / files.LEDGER, read_only=True))
        found.update((marks(line)[0], line) for line in ledger.lines(shard.run.asked))
    return found


def _write(
    target: Path,
    shards: Sequence[Shard],
    planned: Sequence[str],
    lines: dict[str, bytes],
    benchmark: Benchmark,
    items: dict[str, Item],
) -> Merged:
    manifest = _manifest(target, shards, planned)
    samples = [decode(lines[item]) for item in planned]
    asked = [(sample.completion.key, sample.item) for sample in samples]
    manifest = files.with_asked(manifest, map(asked_of, samples))
    files.write_manifest(target, manifest)
    added = 0
    with Ledger(target / files.LEDGER) as ledger:
        kept = {marks(line)[0]: ungraded(line) for line in ledger.lines(asked)}
        for sample in samples:
            if kept.get(sample.item) != ungraded(lines[sample.item]):  # the later of two lines for one sample counts
                ledger.append(sample)
                added += 1
        ledger.set_strangers_aside(asked)
        rows = write_rows(target, manifest, benchmark, ledger.lines(asked))
        for name, text in benchmark.export(_answers(ledger.samples(asked), planned, items), manifest.model.name).items():
            files.write_text(target / name, text)
    files.write_manifest(target, replace(rows.manifest, status="failures" if rows.tally.failed else "complete"))
    return Merged(target, len(shards), added, rows.tally, rows.results)


def _manifest(target: Path, shards: Sequence[Shard], planned: Sequence[str]) -> Manifest:
    """Returns the run's manifest: that of the first shard, with the sessions of all shards and the machine of each session.

    Raises:
        DataError: If the folder has a run with other settings.
    """
    first = shards[0].manifest
    sessions: tuple[Session, ...] = ()
    if (target / files.MANIFEST).exists():
        before = files.read_manifest(target)
        if before.settings_sha256 != first.settings_sha256:
            raise DataError(target, "belongs to a run with other settings; choose another --output")
        sessions = tuple(session for session in before.sessions if not session.shard)
    for shard in shards:
        name, machine, commit = f"{shard.part}/{shard.parts}", shard.manifest.machine, shard.manifest.commit
        own = shard.manifest.sessions
        sessions += tuple(replace(session, shard=name, machine=machine, commit=commit) for session in own)
    return replace(
        first,
        planned=tuple(planned),
        engine=next((shard.manifest.engine for shard in shards if shard.manifest.engine), {}),
        command=files.command_line(),
        sessions=sessions,
        status="incomplete",
        shard=UNSET,
        tally=UNSET,
        answers_sha256=UNSET,
    )


def _answers(samples: Iterator[Sample], planned: Sequence[str], items: dict[str, Item]) -> Iterator[tuple[Item, str]]:
    done = (sample for sample in samples if sample.completion.finish_reason != "error")
    texts = {sample.item: sample.completion.text for sample in done}
    yield from ((items[item], texts[item]) for item in planned if item in texts)
