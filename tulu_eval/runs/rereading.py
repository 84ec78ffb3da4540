"""Computes grades and rows again from a run's samples, and finds the differences from what the run's files contain."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.records import Result, content_hash
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.requests import every
from tulu_eval.runs.scoring import make_rows, tally_of
from tulu_eval.store.digests import DIGESTS, Digest
from tulu_eval.store.identity import settings_hash
from tulu_eval.store.ledger import Asked, Ledger
from tulu_eval.store.manifest import LEDGER, MANIFEST, RESULT, Recorded, asked_hash, combined, manifest_hash
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.sample_line import Marks, asked_of, decode, encode, marks, parts, timeless
from tulu_eval.store.setup_schema import plain
from tulu_eval.store.tally import Tally

NOT_AS_MADE = "is not as it was made; put its files back, or make the run again with --fresh"
"""Beginning of every verb's line about a run with doubts; it advises nothing that would only hide the doubts."""

BLANK = ("empty", "engine_error")
"""Statuses of samples that have no text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reread:
    """The result of reading a run's samples again.

    Attributes:
        marks: Marks by item with the grades that the rows use; ``None`` if neither the files nor this installation have them.
        doubts: Errors in the samples, one line each.
        notes: Numbers that could not be computed again, with the reason, one line each.
        regraded: Whether the rows use grades of another version of the benchmark than the ledger's.
    """

    tally: Tally
    marks: Mapping[str, Marks] | None = None
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    regraded: bool = False


@dataclasses.dataclass(slots=True)
class _Read:
    """The samples of a ledger with two grades each: the ledger's, and the installed benchmark's.

    Attributes:
        kept: Marks by item, from the ledger's grades.
        fresh: Marks by item, from the installed benchmark's grades; empty if it is not installed.
        otherwise: Items whose two grades differ.
        asked: Item, key, right answer and hash of the prompt, by item.
        answers: Hash of each line without its grades.
        as_kept: Hash of each line with the ledger's grades.
        as_fresh: Hash of each line with the installed benchmark's grades.
        causes: Error of each sample on which the engine failed.
    """

    kept: dict[str, Marks] = dataclasses.field(default_factory=dict)
    fresh: dict[str, Marks] = dataclasses.field(default_factory=dict)
    otherwise: list[str] = dataclasses.field(default_factory=list)
    asked: dict[str, tuple[str, str, str, str]] = dataclasses.field(default_factory=dict)
    answers: list[bytes] = dataclasses.field(default_factory=list)
    as_kept: list[bytes] = dataclasses.field(default_factory=list)
    as_fresh: list[bytes] = dataclasses.field(default_factory=list)
    causes: list[str] = dataclasses.field(default_factory=list)

    def note(self, line: bytes, grader: Grader | None) -> None:
        """Adds a line of the ledger; raises ValueError if the line is not a sample."""
        item, found, answer = parts(line)
        self.kept[item] = found
        self.answers.append(hashlib.sha256(answer).digest())
        self.as_kept.append(hashlib.sha256(timeless(line)).digest())
        sample = decode(line)
        self.asked[item] = asked_of(sample)
        if found.status == "engine_error":
            self.causes.append(sample.completion.error)
        if grader is not None:
            fresh = grader.grade(sample)
            self.fresh[item] = fresh.marks
            if fresh == sample:
                self.as_fresh.append(self.as_kept[-1])
            else:
                self.otherwise.append(item)
                self.as_fresh.append(hashlib.sha256(timeless(encode(fresh))).digest())


def pinned(manifest: Manifest) -> Asked | None:
    """Returns key and item of each sample that a run asked for; ``None`` if an older manifest does not list them."""
    return None if manifest.keys is UNSET else list(zip(manifest.keys, manifest.planned, strict=False))


def of_ledger(ledger: Ledger, manifest: Manifest, recorded: Recorded | None, benchmark: Benchmark | None) -> Reread:
    """Returns the reading of a ledger's samples; grades each again if the benchmark is installed."""
    asked = pinned(manifest)
    doubts = list(_of_lines(ledger, manifest, asked))
    read = _Read()
    executes = benchmark is not None and benchmark.executes
    grader = Grader.of(benchmark, manifest) if benchmark and not executes else None
    for line in ledger.lines(asked):
        try:
            read.note(line, grader)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            doubts.append(f"{LEDGER}: a line is no sample: {error}")
    made, now = manifest.benchmark.version, benchmark.version if benchmark else None
    graders = _graders(read, recorded, made, now)
    noted = {recorded.answers_sha256 if recorded else "", manifest.answers_sha256 or ""} - {""}
    if not ledger.corrupt and (graders is None or noted - {combined(read.answers)}):
        doubts.append(f"{LEDGER} is not what {RESULT} was computed from")
    by: int = made if graders is None else graders
    if benchmark is not None and by == made == now and read.otherwise:
        wrong = f"{len(read.otherwise)} of {len(read.kept)} grades are not what {benchmark.name} gives"
        doubts.append(f"{LEDGER}: {wrong} (first: {read.otherwise[0]})")
    if asked is None and recorded is None:
        doubts.append(f"{MANIFEST} is of an older version, and there is no {RESULT} to tell which samples are the run's")
    doubts += _of_asked(read, manifest)
    found = read.fresh if by == now and not executes else read.kept if by == made or executes else None
    notes = (_EXECUTED,) if executes else () if by == now else (_older(manifest, by, now),)
    tally = tally_of(manifest, read.kept, read.causes)
    return Reread(tally, found, tuple(doubts), notes, regraded=by == now != made)


def _graders(read: _Read, recorded: Recorded | None, made: int, now: int | None) -> int | None:
    """Returns the version of the benchmark whose grades the rows use; ``None`` if the samples do not give these rows.

    ``recorded`` is the content of ``result.json``, ``None`` if it is missing; ``made`` is the version of the benchmark in the
    manifest, ``now`` that of the installed one, ``None`` if it is not installed.
    """
    if recorded is None:
        return made if now is None else now
    if recorded.graded_by is not None:
        return recorded.graded_by
    if combined(read.as_kept) == recorded.samples_sha256:  # an older file has no version, but a hash over the grades
        return made
    return now if combined(read.as_fresh) == recorded.samples_sha256 else None


_EXECUTED = "its grades come from running programs, which only 'run' and 'score' do; they were not made again"


def _older(manifest: Manifest, by: int, now: int | None) -> str:
    name = manifest.benchmark.name
    if now is None:
        return f"{name} is not installed here, so grades and rows were not computed again"
    return f"its rows stand on version {by} of {name}, and {now} is installed; 'tulu-eval score' grades its samples again"


def _of_lines(ledger: Ledger, manifest: Manifest, asked: Asked | None) -> Iterator[str]:
    if ledger.corrupt:
        lines = ", ".join(map(str, ledger.corrupt[:5]))
        yield f"{LEDGER}: {len(ledger.corrupt)} lines are corrupt or changed by hand (first: {lines})"
    if asked is not None:
        strange = ledger.strangers(asked)
        if strange:
            yield f"{LEDGER}: {len(strange)} samples are not those that the run asked for (first: {strange[0]})"
        return
    items = Counter(marks(line)[0] for line in ledger.lines())
    planned = set(manifest.planned)
    if strange := [item for item in items if item not in planned]:
        yield f"{LEDGER}: {len(strange)} samples are not those that the run asked for (first: {strange[0]})"
    if twice := [item for item, count in items.items() if count > 1]:
        yield f"{LEDGER}: {len(twice)} items have samples of several prompts or settings (first: {twice[0]})"


def _of_asked(read: _Read, manifest: Manifest) -> Iterator[str]:
    """Yields a line if a sample has another right answer or prompt than the manifest's hashes."""
    noted = dict(zip(manifest.planned, manifest.asked or (), strict=False))
    wrong = [item for item, asked in read.asked.items() if noted and asked_hash(asked) != noted.get(item)]
    if wrong:
        yield f"{LEDGER}: right answers or prompts are not those that the run asked (first: {wrong[0]})"


def of_digests(digests: Sequence[Digest], manifest: Manifest, benchmark: Benchmark | None) -> Reread:
    """Returns the reading of the digests of a run without samples.

    It has marks only if the benchmark's grades follow from a sample's status, since digests have no text.
    """
    planned = set(manifest.planned)
    doubts = []
    if strange := [one.item for one in digests if one.item not in planned]:
        doubts.append(f"{DIGESTS}: {len(strange)} samples are not those that the run asked for (first: {strange[0]})")
    if odd := [one.item for one in digests if not one.characters and one.status not in BLANK]:
        doubts.append(f"{DIGESTS}: {len(odd)} samples without a character are not counted as empty (first: {odd[0]})")
    classes = {one.item: Marks(one.status, ()) for one in digests}
    tally = tally_of(manifest, classes)
    made, now = manifest.benchmark.version, benchmark.version if benchmark else None
    if benchmark is None or made != now:
        return Reread(tally, None, tuple(doubts), (_older(manifest, made, now),))
    found: dict[str, Marks] = {}
    for one in digests:
        scores = benchmark.scores_of_class(one.status)
        if scores is None:
            return Reread(
                tally, None, tuple(doubts), ("it was published without its samples, so grades were not computed again",)
            )
        found[one.item] = Marks(one.status, scores)
    return Reread(tally, found, tuple(doubts))


def of_manifest(manifest: Manifest, recorded: Recorded | None, benchmark: Benchmark | None) -> Iterator[str]:
    """Yields the contradictions of a manifest to its own hashes, to its protocol, and to the hash in ``result.json``."""
    protocol = plain(manifest.protocol)
    if protocol.pop("sha256") != content_hash(protocol):
        yield f"{MANIFEST}: the protocol was changed after it was written (its hash differs)"
    if not manifest.settings.adapter and manifest.settings_sha256 != settings_hash(manifest):
        yield f"{MANIFEST}: model, prompt, template or decoding was changed after it was written (settings_sha256 differs)"
    elif recorded and recorded.manifest_sha256 and recorded.manifest_sha256 != manifest_hash(manifest):
        yield f"{MANIFEST} is not the one that {RESULT} was computed under"
    if manifest.keys is not UNSET and len(manifest.keys) != len(manifest.planned):
        yield f"{MANIFEST}: it has {len(manifest.keys)} keys, and {len(manifest.planned)} planned items"
    if manifest.asked is not UNSET and len(manifest.asked) != len(manifest.planned):
        yield f"{MANIFEST}: it has {len(manifest.asked)} hashes of what was asked, and {len(manifest.planned)} planned items"
    if not _items_fit(manifest, benchmark):
        how = "counts" if manifest.imported else "limit and shard"
        yield f"{MANIFEST}: its items are not those of its protocol, {how}"


def unhashed(manifest: Manifest, recorded: Recorded | None) -> str:
    """Returns a note if a run lacks hashes that all runs since :data:`HASHED_SINCE` have; empty if it has them.

    No verb refuses a run for that, since older runs lack them, and the hashes that exist are checked. But somebody who removes
    the hashes from a forged run makes it look like an older run.
    """
    noted = {f"{MANIFEST}'s {name}": getattr(manifest, name) is not UNSET for name in ("keys", "asked", "answers_sha256")}
    if recorded is not None:
        noted |= {f"{RESULT}'s {name}": bool(getattr(recorded, name)) for name in ("answers_sha256", "manifest_sha256")}
        noted[f"{RESULT}'s graded_by"] = recorded.graded_by is not None
    else:
        noted.pop(f"{MANIFEST}'s answers_sha256")  # a run writes it together with the result
    missing = [name for name, there in noted.items() if not there]
    if not missing:
        return ""
    what = "has no hashes" if len(missing) == len(noted) else f"lacks hashes ({', '.join(missing)})"
    return f"{what}: it was made before {HASHED_SINCE}, or they were taken out, so that a forgery would not be seen"


HASHED_SINCE = "2026-11-30"
"""Day of the first version that wrote all hashes."""


def _items_fit(manifest: Manifest, benchmark: Benchmark | None) -> bool:
    """Whether a manifest's items fit its protocols.

    Each protocol must have its recipe's number of items, and these must be the first items of the run's own protocol. The
    planned items must be the first ones up to the limit, or every Nth of these for a shard. An imported run may have planned
    any items in this order; the numbers of planned and of missing items must be those that the import counted.
    """
    protocol, items, planned = manifest.protocol, manifest.items, manifest.planned
    whole = items.get(protocol.name, ())
    samples = protocol.samples or 1
    known = {name for name in items if name in {*benchmark.protocols, *benchmark.aliases}} if benchmark else set()
    sizes = {name: benchmark.protocol(name).n * samples for name in known} if benchmark else {}
    sizes[protocol.name] = protocol.n * samples
    if manifest.imported:
        answered = set(planned)
        first = tuple(item for item in whole if item in answered)
        counts = {"answers": len(planned), "missing": len(whole) - len(planned)}
        if any(getattr(manifest.imported, name) not in (UNSET, count) for name, count in counts.items()):
            return False
    else:
        part, parts = manifest.shard or (1, 1)
        if not (manifest.limit is None or isinstance(manifest.limit, int)) or not parts or not part:
            return False
        first = tuple(every(whole[: manifest.limit and manifest.limit * samples], samples, part, parts))
    sized = all(ids == whole[: len(ids)] and len(ids) == (sizes.get(name) or len(ids)) for name, ids in items.items())
    return sized and planned == first


def rows(
    manifest: Manifest, benchmark: Benchmark | None, found: Reread, recorded: Recorded | None
) -> tuple[tuple[Result, ...], list[str]]:
    """Returns a run's rows, computed again if the benchmark and the marks are known, and a line if the file's rows differ."""
    if benchmark is None or found.marks is None:
        return recorded.rows if recorded else (), []
    if strange := sorted(set(manifest.items) - {*benchmark.protocols, *benchmark.aliases}):
        return recorded.rows if recorded else (), [f"{MANIFEST}: {benchmark.name} has no protocol {strange[0]}"]
    made = make_rows(manifest, benchmark, found.marks)
    if recorded is None or _same(made, recorded):
        return made, []
    return made, [f"{RESULT}: its rows are not what the samples give"]


def _same(made: Sequence[Result], recorded: Recorded) -> bool:
    """Whether rows equal those of a file; ignores the intervals of failures in an older file, which used another rule."""
    if len(made) != len(recorded.rows):
        return False
    for one, other in zip(made, recorded.rows, strict=True):
        if not recorded.manifest_sha256 and one.interval != other.interval and one.failed:
            one = dataclasses.replace(one, interval=other.interval, low=other.low, high=other.high)
        if one != other:
            return False
    return True
