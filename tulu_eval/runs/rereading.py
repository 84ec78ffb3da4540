"""What a run's samples come to when everything is computed again, and what then differs from what its files say."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.records import Result, content_hash
from tulu_eval.runs.digests import DIGESTS, Digest
from tulu_eval.runs.identity import settings_hash
from tulu_eval.runs.ledger import Asked, Ledger, Marks, asked_of, decode, encode, marks, timeless, ungraded
from tulu_eval.runs.manifest import LEDGER, MANIFEST, RESULT, Recorded, asked_hash, combined, manifest_hash
from tulu_eval.runs.manifest_schema import Manifest, plain
from tulu_eval.runs.scoring import grade_sample, make_rows, tally_of
from tulu_eval.runs.tally import Tally

NOT_AS_MADE = "is not as it was made; put its files back, or make the run again with --fresh"
"""How every verb begins the line about a run with doubts; it advises nothing that would make the doubts go away."""

BLANK = ("empty", "engine_error")
"""Classes of samples that have no text."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reread:
    """What a run's samples are.

    Attributes:
        tally: How much of the run is there.
        marks: By item, of the grades that the rows stand on; None where neither files nor this installation can tell.
        doubts: What is wrong with the samples, one line each.
        notes: What could not be computed again, one line each.
        regraded: Whether the rows stand on grades of another version of the benchmark than the ledger has.
    """

    tally: Tally
    marks: Mapping[str, Marks] | None = None
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    regraded: bool = False


@dataclasses.dataclass(slots=True)
class _Read:
    """The samples of a ledger: as it has them, and as the benchmark that is installed grades them."""

    kept: dict[str, Marks] = dataclasses.field(default_factory=dict)
    fresh: dict[str, Marks] = dataclasses.field(default_factory=dict)
    otherwise: list[str] = dataclasses.field(default_factory=list)
    asked: dict[str, tuple[str, str, str, str]] = dataclasses.field(default_factory=dict)
    answers: list[bytes] = dataclasses.field(default_factory=list)
    as_kept: list[bytes] = dataclasses.field(default_factory=list)
    as_fresh: list[bytes] = dataclasses.field(default_factory=list)
    causes: list[str] = dataclasses.field(default_factory=list)

    def note(self, line: bytes, benchmark: Benchmark | None) -> None:
        """Takes a line in."""
        item, found = marks(line)
        self.kept[item] = found
        self.answers.append(hashlib.sha256(ungraded(line)).digest())
        self.as_kept.append(hashlib.sha256(timeless(line)).digest())
        sample = decode(line)
        self.asked[item] = asked_of(sample)
        if found.status == "engine_error":
            self.causes.append(sample.completion.error)
        if benchmark is not None:
            fresh = grade_sample(benchmark, sample)
            self.fresh[item] = fresh.marks
            if fresh == sample:
                self.as_fresh.append(self.as_kept[-1])
            else:
                self.otherwise.append(item)
                self.as_fresh.append(hashlib.sha256(timeless(encode(fresh))).digest())


def pinned(manifest: Manifest) -> Asked | None:
    """Returns key and item of each sample that a run asked for; None where an older manifest does not say."""
    return None if manifest.keys is UNSET else list(zip(manifest.keys, manifest.planned, strict=False))


def of_ledger(ledger: Ledger, manifest: Manifest, recorded: Recorded | None, benchmark: Benchmark | None) -> Reread:
    """Returns what a ledger's samples are, each graded again where the benchmark is installed."""
    asked = pinned(manifest)
    doubts = list(_of_lines(ledger, manifest, asked))
    read = _Read()
    for line in ledger.lines(asked):
        try:
            read.note(line, benchmark)
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
    found = read.fresh if by == now else read.kept if by == made else None
    notes = () if by == now else (_older(manifest, by, now),)
    tally = tally_of(manifest, read.kept, read.causes)
    return Reread(tally, found, tuple(doubts), notes, regraded=by == now != made)


def _graders(read: _Read, recorded: Recorded | None, made: int, now: int | None) -> int | None:
    """Returns the version of the benchmark whose grades the rows stand on; None where the samples give no such rows."""
    if recorded is None:
        return made if now is None else now
    if recorded.graded_by is not None:
        return recorded.graded_by
    if combined(read.as_kept) == recorded.samples_sha256:  # of an older file the hash over grades tells
        return made
    return now if combined(read.as_fresh) == recorded.samples_sha256 else None


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
    """Yields a line where right answers or prompts are others than those that were asked."""
    noted = dict(zip(manifest.planned, manifest.asked or (), strict=False))
    wrong = [item for item, asked in read.asked.items() if noted and asked_hash(asked) != noted.get(item)]
    if wrong:
        yield f"{LEDGER}: right answers or prompts are not those that the run asked (first: {wrong[0]})"


def of_digests(digests: Sequence[Digest], manifest: Manifest, benchmark: Benchmark | None) -> Reread:
    """Returns what the digests of samples that were not published say; grades need the text, or a class that decides them."""
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
    """Yields what a manifest says against its own hashes, its protocol, and the one that its result has of it."""
    protocol = plain(manifest.protocol)
    if protocol.pop("sha256") != content_hash(protocol):
        yield f"{MANIFEST}: the protocol was changed after it was written (its hash differs)"
    if not manifest.settings.adapter and manifest.settings_sha256 != settings_hash(manifest):
        yield f"{MANIFEST}: model, prompt, template or decoding was changed after it was written (settings_sha256 differs)"
    elif recorded and recorded.manifest_sha256 and recorded.manifest_sha256 != manifest_hash(manifest):
        yield f"{MANIFEST} is not the one that {RESULT} was computed under"
    if manifest.keys is not UNSET and len(manifest.keys) != len(manifest.planned):
        yield f"{MANIFEST}: it has not one key per planned item"
    if manifest.asked is not UNSET and len(manifest.asked) != len(manifest.planned):
        yield f"{MANIFEST}: it has not one hash of what was asked per planned item"
    if not _items_fit(manifest, benchmark):
        how = "counts" if manifest.imported else "limit and shard"
        yield f"{MANIFEST}: its items are not those of its protocol, {how}"


def unhashed(manifest: Manifest, recorded: Recorded | None) -> str:
    """Returns a note where a run lacks the hashes that every run has had since 2026-11-30; empty where it has them.

    No older run is refused for it, and what is there is held against the rest; but whoever takes the hashes out of a forged
    run makes it look older.
    """
    noted = {f"{MANIFEST}'s {name}": getattr(manifest, name) is not UNSET for name in ("keys", "asked", "answers_sha256")}
    if recorded is not None:
        noted |= {f"{RESULT}'s {name}": bool(getattr(recorded, name)) for name in ("answers_sha256", "manifest_sha256")}
        noted[f"{RESULT}'s graded_by"] = recorded.graded_by is not None
    else:
        noted.pop(f"{MANIFEST}'s answers_sha256")  # it is written with the result
    missing = [name for name, there in noted.items() if not there]
    if not missing:
        return ""
    what = "has no hashes" if len(missing) == len(noted) else f"lacks hashes ({', '.join(missing)})"
    return f"{what}: it was made before {HASHED_SINCE}, or they were taken out, so that a forgery would not be seen"


HASHED_SINCE = "2026-11-30"
"""The day of the first version that wrote all of them."""


def _items_fit(manifest: Manifest, benchmark: Benchmark | None) -> bool:
    """Whether each protocol has as many items as its recipe says, of one order, and the planned ones are the first of it.

    What a file of another harness holds may be any part of them, in their order, as many as it was said to answer.
    """
    protocol, items, planned = manifest.protocol, manifest.items, manifest.planned
    whole = items.get(protocol.name, ())
    known = {name for name in items if name in {*benchmark.protocols, *benchmark.aliases}} if benchmark else set()
    sizes = {name: benchmark.protocol(name).n for name in known} if benchmark else {}
    sizes[protocol.name] = protocol.n
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
        first = whole[: manifest.limit][part - 1 :: parts]
    sized = all(ids == whole[: len(ids)] and len(ids) == (sizes.get(name) or len(ids)) for name, ids in items.items())
    return sized and planned == first


def rows(
    manifest: Manifest, benchmark: Benchmark | None, found: Reread, recorded: Recorded | None
) -> tuple[tuple[Result, ...], list[str]]:
    """Returns a run's rows, computed again where that can be, and a line where the file has others."""
    if benchmark is None or found.marks is None:
        return recorded.rows if recorded else (), []
    if strange := sorted(set(manifest.items) - {*benchmark.protocols, *benchmark.aliases}):
        return recorded.rows if recorded else (), [f"{MANIFEST}: {benchmark.name} has no protocol {strange[0]}"]
    made = make_rows(manifest, benchmark, found.marks)
    if recorded is None or _same(made, recorded):
        return made, []
    return made, [f"{RESULT}: its rows are not what the samples give"]


def _same(made: Sequence[Result], recorded: Recorded) -> bool:
    """Whether rows are those of a file; of an older file intervals may be made by another rule that has another name."""
    if len(made) != len(recorded.rows):
        return False
    for one, other in zip(made, recorded.rows, strict=True):
        if not recorded.manifest_sha256 and one.interval != other.interval and one.failed:
            one = dataclasses.replace(one, interval=other.interval, low=other.low, high=other.high)
        if one != other:
            return False
    return True
