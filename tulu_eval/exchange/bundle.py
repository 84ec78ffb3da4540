"""A run as one file that a reviewer can check alone: no network, no GPU, no model.

::

    bundle.json     what the file is: benchmark, model, number of samples
    manifest.json   the run's manifest, byte for byte
    items.jsonl     id, right answer and hash of the prompt of every answered item
    prompt.txt      the constant beginning of every prompt; missing if its hash is not the manifest's
    samples.jsonl   the ledger: every completion
    result.json     the numbers
    SHA256SUMS      hashes of all parts above, in the form that sha256sum reads

The same run gives the same bytes (:mod:`tulu_eval.exchange.archive`). Anybody can make a bundle that agrees with itself, so a
bundle has an id, the sha256 of ``SHA256SUMS``. Who has the id from the author can tell that nothing was changed since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tulu_eval import files
from tulu_eval.errors import DataError, UserError, few
from tulu_eval.exchange import archive
from tulu_eval.records import Result, to_json
from tulu_eval.runs import catalog
from tulu_eval.runs.reading import StoredRun, finished, read_run
from tulu_eval.store.identity import safe_name
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest import LEDGER, MANIFEST, RESULT
from tulu_eval.store.schema import Name
from tulu_eval.store.tally import Tally
from tulu_eval.version import __version__

FORMAT = 1
HEAD, ITEMS, PROMPT, SUMS = "bundle.json", "items.jsonl", "prompt.txt", "SHA256SUMS"
PARTS = (HEAD, MANIFEST, ITEMS, PROMPT, LEDGER, RESULT, SUMS)


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was made.

    Attributes:
        id: The sha256 of its sums.
        unhashed: Why a forgery of the run would not be seen, one line; empty for a run with all hashes.
    """

    data: bytes
    id: str
    name: str
    unhashed: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class BundleHead:
    """``bundle.json``; only ``format`` is needed to tell whether this version reads the bundle."""

    format: int
    made_by: str = ""
    check_with: str = ""
    benchmark: str = ""
    model: str = ""
    samples: int = 0


class BundledItem(files.Record, frozen=True):
    """A line of ``items.jsonl``; ``target`` is the right answer."""

    id: str
    target: str
    prompt_sha256: Name


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What :func:`verify` found.

    Attributes:
        id: The sha256 of the bundle's sums.
        model: Name under which the run is filed; empty if parts were changed.
        benchmark: Empty if parts were changed.
        samples: Number of samples that were graded again.
        results: The numbers as computed here; empty if parts were changed.
        notes: What could not be computed again, with the reason, one line each.
        problems: What is wrong, one line each; empty for a good bundle.
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
        DataError: If the folder has no finished run, or somebody changed its files.
        UserError: If the run's texts may not be published, or it is too large.
    """
    run = finished(read_run(folder))
    benchmark = catalog.benchmark(run.benchmark, run.manifest.protocol.name)
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
    made_by, check_with = f"tulu-eval {__version__}", "tulu-eval verify-bundle FILE"
    head = BundleHead(FORMAT, made_by, check_with, run.benchmark, run.model, len(items))
    prompt = benchmark.constant_prompt().encode()
    known = hashlib.sha256(prompt).hexdigest().startswith(run.manifest.protocol.prompt_id)
    parts = {
        HEAD: (json.dumps(dataclasses.asdict(head), indent=1) + "\n").encode(),
        MANIFEST: files.read_bytes(folder / MANIFEST),
        ITEMS: "".join(to_json(item) + "\n" for item in items).encode(),
        **({PROMPT: prompt} if known else {}),
        LEDGER: lines,
        RESULT: files.read_bytes(folder / RESULT),
    }
    parts[SUMS] = _sums(parts)
    data = archive.pack(parts)
    if len(data) > archive.LIMIT:
        raise UserError(f"{folder}: the parts are too large for one archive")
    name = f"{safe_name(run.model)}-{run.benchmark}-{folder.resolve().name}.zip"
    return Bundle(data, hashlib.sha256(parts[SUMS]).hexdigest(), name, run.unhashed)


def write(made: Bundle, path: Path) -> None:
    """Writes a bundle atomically; a file with the same bytes stays as it is.

    Raises:
        UserError: If another file has this name, or the file cannot be written.
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
    """Checks every byte of a bundle and computes its numbers again; leaves no file behind.

    Raises:
        DataError: If the file cannot be read as a bundle of this version.
    """
    parts, whole = archive.unpack(path, PARTS)
    if missing := [name for name in PARTS if name not in parts and name != PROMPT]:
        raise DataError(path, f"has no {' and no '.join(missing)}, so it is no bundle of a run")
    id_ = hashlib.sha256(parts[SUMS]).hexdigest()
    if not whole or _sums(parts) != parts[SUMS]:
        return Checked(id_, "", "", 0, Tally(0, 0, 0), (), (), _changed(parts))
    with tempfile.TemporaryDirectory(prefix="tulu-eval-") as place:
        try:
            head = files.decode(parts[HEAD], BundleHead, files.Place(HEAD))
            if head.format != FORMAT:
                raise DataError(HEAD, f"is of format {head.format}; tulu-eval {__version__} reads format {FORMAT}")
            for name in (MANIFEST, LEDGER, RESULT):
                Path(place, name).write_bytes(parts[name])
            return _recomputed(id_, read_run(Path(place)), head, parts)
        except DataError as error:
            raise DataError(path, str(error).replace(f"{place}/", "").replace(place, "the run")) from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(path, f"its parts have their sums but are not those of a run: {error!r}") from error


def _sums(parts: Mapping[str, bytes]) -> bytes:
    """Returns ``SHA256SUMS`` for all other parts."""
    hashes = ((name, hashlib.sha256(data).hexdigest()) for name, data in parts.items() if name != SUMS)
    return "".join(f"{digest}  {name}\n" for name, digest in hashes).encode()


def _changed(parts: Mapping[str, bytes]) -> tuple[str, ...]:
    """Returns a line for each part that has another sum than ``SHA256SUMS`` says; if none has, one line for the file."""
    wrong = [name for name, data in parts.items() if _sums({name: data}) not in parts[SUMS]]
    return tuple(f"{name} is not what {SUMS} says" for name in wrong) or (
        f"bytes of {SUMS}, or beside the parts, were changed",
    )


def _recomputed(id_: str, run: StoredRun, head: BundleHead, parts: Mapping[str, bytes]) -> Checked:
    """Compares a run, whose grades and numbers :func:`read_run` has computed again, with the bundle's other parts."""
    lines = enumerate(parts[ITEMS].splitlines(), start=1)
    items = [files.decode(line, BundledItem, files.Place(ITEMS, number)) for number, line in lines]
    golds = {item.id: (item.target, item.prompt_sha256) for item in items}
    samples = {sample.item: (sample.target, sample.prompt_sha256) for sample in run.samples()}
    problems = [*run.doubts, *_prompt_problems(run, parts)]
    if run.tally.unfinished and not run.doubts:
        problems.append(run.tally.unfinished)
    if others := [item for item, asked in samples.items() if golds.get(item) != asked]:
        problems.append(f"{ITEMS} has another right answer or prompt than {LEDGER} for {few(others)}")
    if not problems:  # otherwise these follow from them
        problems += _head_problems(run, head)
        if unanswered := [item for item in golds if item not in samples]:
            problems.append(f"{LEDGER} has no sample of {few(unanswered)}, which {ITEMS} has")
    return Checked(id_, run.model, run.benchmark, len(samples), run.tally, run.results, run.notes, tuple(problems))


def _head_problems(run: StoredRun, head: BundleHead) -> Iterator[str]:
    for name, value in (("benchmark", run.benchmark), ("model", run.model), ("samples", run.tally.done + run.tally.failed)):
        if getattr(head, name) != value:
            yield f"{HEAD} says {name} {getattr(head, name)!r}, and the run has {value!r}"


def _prompt_problems(run: StoredRun, parts: Mapping[str, bytes]) -> Iterator[str]:
    wanted = run.manifest.protocol.prompt_id
    if PROMPT in parts and not hashlib.sha256(parts[PROMPT]).hexdigest().startswith(wanted):
        yield f"{PROMPT} is not the prompt that {MANIFEST} has the hash of ({wanted})"
