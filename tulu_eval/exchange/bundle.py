"""A run as one file that a reviewer can check alone: no network, no GPU, no model.

::

    bundle.json     what this is: benchmark, model, number of samples
    manifest.json   of the run, as it is
    items.jsonl     id, right answer and hash of the prompt of every item that was answered
    prompt.txt      what every prompt begins with; left out where it is not the one that the manifest has the hash of
    samples.jsonl   the ledger: every completion
    result.json     the numbers
    SHA256SUMS      of all of these, in the form that sha256sum reads

The same run gives the same bytes (:mod:`tulu_eval.exchange.archive`). Anybody can make a bundle that agrees with itself, so the
bundle has an id, the sha256 of ``SHA256SUMS``: whoever has it from the author knows that nothing was changed since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError, UserError
from tulu_eval.exchange import archive
from tulu_eval.exchange.archive import Archive, Part, locate
from tulu_eval.records import Result, to_json
from tulu_eval.runs import catalog, schema
from tulu_eval.runs.ledger import Ledger, intact
from tulu_eval.runs.manifest import LEDGER, MANIFEST, RESULT
from tulu_eval.runs.reading import StoredRun, finished, read_run
from tulu_eval.runs.run_plan import safe_name
from tulu_eval.runs.tally import Tally
from tulu_eval.version import __version__

FORMAT = 1
HEAD, ITEMS, PROMPT, SUMS = "bundle.json", "items.jsonl", "prompt.txt", "SHA256SUMS"
PARTS = (HEAD, MANIFEST, ITEMS, PROMPT, LEDGER, RESULT, SUMS)
SHOWN = 5
"""Problems of one kind that are named; the rest is counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was made: its bytes, its id, and a file name for it."""

    data: bytes
    id: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What :func:`verify` found.

    Attributes:
        id: The bundle's id, of the sums as they are in it.
        model: Name that the run is filed under; empty where parts were changed.
        benchmark: Its name; empty where parts were changed.
        samples: Samples that were graded again.
        tally: How much of the run is there.
        results: The numbers as computed here; none where parts were changed.
        notes: What could not be computed again and why, one line each.
        problems: What is wrong, one line each; none in a good bundle.
    """

    id: str
    model: str
    benchmark: str
    samples: int
    tally: Tally
    results: tuple[Result, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def make(folder: Path) -> Bundle:
    """Returns a finished run as a bundle.

    Raises:
        DataError: Not a finished run, or one whose files were changed by hand.
        UserError: Its numbers cannot be computed from an archive alone.
    """
    run = finished(read_run(folder))
    benchmark = catalog.benchmark(run.benchmark, run.manifest["protocol"]["name"])
    if not benchmark.publishable:
        raise UserError(
            f"{folder} is a run of {run.benchmark}, whose texts may not be published (AlpacaEval's are CC-BY-NC-4.0), so it is "
            "not bundled. result.json, digests.jsonl and judged/*/judgments.jsonl have hashes for texts: hand over those"
        )
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        lines = b"".join(ledger.lines(run.asked))
        items = [
            {"id": one.item, "target": one.target, "prompt_sha256": one.prompt_sha256} for one in ledger.samples(run.asked)
        ]
    head = {
        "format": FORMAT,
        "made_by": f"tulu-eval {__version__}",
        "check_with": "tulu-eval verify-bundle FILE",
        "benchmark": run.benchmark,
        "model": run.model,
        "samples": len(items),
    }
    prompt = benchmark.constant_prompt().encode()
    known = hashlib.sha256(prompt).hexdigest().startswith(run.manifest["protocol"]["prompt_id"])
    parts = {
        HEAD: (json.dumps(head, indent=1) + "\n").encode(),
        MANIFEST: files.read_bytes(folder / MANIFEST),
        ITEMS: "".join(to_json(item) + "\n" for item in items).encode(),
        **({PROMPT: prompt} if known else {}),
        LEDGER: lines,
        RESULT: files.read_bytes(folder / RESULT),
    }
    parts[SUMS] = _sums(parts)
    try:
        data = archive.pack(parts)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from error
    name = f"{safe_name(run.model)}-{run.benchmark}-{folder.resolve().name}.zip"
    return Bundle(data, hashlib.sha256(parts[SUMS]).hexdigest(), name)


def write(made: Bundle, path: Path) -> None:
    """Writes a bundle in one step; one with the same bytes may be there already.

    Raises:
        UserError: Another file is there, or the file cannot be written.
    """
    files.remove_leftovers(path)
    try:
        there = path.exists()
        same = path.is_file() and path.read_bytes() == made.data
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    if there and not same:
        raise UserError(f"{path} exists and is not this bundle; give another name with --output")
    if not there:
        files.write_bytes(path, made.data)


def verify(path: Path) -> Checked:
    """Checks every byte of a bundle and computes its numbers again; writes nothing that stays.

    Raises:
        DataError: It cannot be read as a bundle of this version.
    """
    found = archive.unpack(path, PARTS)
    if missing := [name for name in PARTS if name not in found.parts and name != PROMPT]:
        raise DataError(path, f"has no {' and no '.join(missing)}, so it is no bundle of a run")
    data = {name: part.data for name, part in found.parts.items()}
    id_ = hashlib.sha256(data[SUMS]).hexdigest()
    changed = tuple(_changed(found))
    if changed:
        return Checked(id_, "", "", 0, Tally(0, 0, 0), (), (), changed)
    head = _json(path, HEAD, data[HEAD])
    if head.get("format") != FORMAT:
        raise DataError(path, f"is a bundle of format {head.get('format')!r}; tulu-eval {__version__} reads format {FORMAT}")
    with tempfile.TemporaryDirectory(prefix="tulu-eval-") as place:
        for name in (MANIFEST, LEDGER, RESULT):
            Path(place, name).write_bytes(data[name])
        try:
            return _recomputed(id_, read_run(Path(place)), head, data)
        except DataError as error:
            raise DataError(path, str(error).replace(f"{place}/", "").replace(place, "the run")) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(path, f"its parts are not those of a run, though whole: {error!r}") from error


def _sums(parts: Mapping[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items()).encode()


def _changed(found: Archive) -> Iterator[str]:
    """Yields a line for each part that is not what the sums say, and for what else was changed in the file."""
    parts = found.parts
    damaged = {name for name, part in parts.items() if zlib.crc32(part.data) != part.crc}
    lines = parts[SUMS].data.decode("utf-8", "replace").splitlines()
    noted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if SUMS in damaged:
        yield _where(SUMS, parts[SUMS], None)
    elif list(noted) != [name for name in parts if name != SUMS]:
        yield f"{SUMS} names other parts than the archive has"
    for name, part in parts.items():
        if name == SUMS or (SUMS in damaged and name not in damaged):
            continue
        if noted.get(name) != hashlib.sha256(part.data).hexdigest():
            yield _where(name, part, noted.get(name))
        elif name in damaged:
            yield f"the archive's checksum of {name} was changed; the part is whole"
    if found.odd is not None:
        yield f"byte {found.odd} of the file, beside the parts, was changed"


def _where(name: str, part: Part, digest: str | None) -> str:
    """Returns what was changed in a part: the byte where it was one, else the lines of a ledger, else the part."""
    place, was = locate(part) or (-1, 0)
    mended = part.data[:place] + bytes([was]) + part.data[place + 1 :] if place >= 0 else b""
    if mended and digest in (None, hashlib.sha256(mended).hexdigest()):
        line = part.data.count(b"\n", 0, place) + 1
        return f"byte {place} of {name} was changed (line {line}): it is {bytes([part.data[place]])!r} and was {bytes([was])!r}"
    if name == LEDGER:
        bad = [number for number, text in enumerate(part.data.splitlines(keepends=True), start=1) if not intact(text)]
        if bad:
            return f"{name} was changed on line {_few(bad)}"
    return f"{name} is not what {SUMS} says"


def _few(things: Sequence[object]) -> str:
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return ", ".join(map(str, things[:SHOWN])) + more


def _json(path: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        found = files.parse_json(data, files.Place(name))
    except DataError as error:
        raise DataError(path, f"its part {name} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(path, f"its part {name} is not a JSON object")
    return found


def _recomputed(id_: str, run: StoredRun, head: Mapping[str, Any], data: Mapping[str, bytes]) -> Checked:
    """Reads the run as every verb does, grades computed again, and holds the bundle's other parts against it."""
    lines = enumerate(data[ITEMS].splitlines(), start=1)
    items = [files.decode(line, schema.BundledItem, files.Place(ITEMS, number)) for number, line in lines]
    golds = {item.id: (item.target, item.prompt_sha256) for item in items}
    samples = {sample.item: (sample.target, sample.prompt_sha256) for sample in run.samples()}
    problems = [*run.doubts, *_prompt_problems(run, data)]
    if run.tally.unfinished and not run.doubts:
        problems.append(run.tally.unfinished)
    if others := [item for item, asked in samples.items() if golds.get(item) != asked]:
        problems.append(f"{ITEMS} has another right answer or prompt than {LEDGER} for {_few(others)}")
    if not problems:  # else these follow from them
        problems += _head_problems(run, head)
        if unanswered := [item for item in golds if item not in samples]:
            problems.append(f"{LEDGER} has no sample of {_few(unanswered)}, which {ITEMS} has")
    return Checked(id_, run.model, run.benchmark, len(samples), run.tally, run.results, run.notes, tuple(problems))


def _head_problems(run: StoredRun, head: Mapping[str, Any]) -> Iterator[str]:
    for name, value in (("benchmark", run.benchmark), ("model", run.model), ("samples", run.tally.done + run.tally.failed)):
        if head.get(name) != value:
            yield f"{HEAD} says {name} {head.get(name)!r}, and the run has {value!r}"


def _prompt_problems(run: StoredRun, data: Mapping[str, bytes]) -> Iterator[str]:
    wanted = run.manifest["protocol"]["prompt_id"]
    if PROMPT in data and not hashlib.sha256(data[PROMPT]).hexdigest().startswith(wanted):
        yield f"{PROMPT} is not the prompt that {MANIFEST} has the hash of ({wanted})"
