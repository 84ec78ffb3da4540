"""Runs verbs on a run folder that was changed, and says what was wrong with how each of them ended."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import signal
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner

from tulu_eval.cli import cli
from tulu_eval.records import content_hash
from tulu_eval.runs import archive, bundle
from tulu_eval.runs.identity import settings_hash
from tulu_eval.runs.manifest import answers_hash, manifest_hash, samples_hash

SECONDS = 20
"""A verb that takes longer hangs: on the unharmed run each takes less than one."""

MODEL = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"

VERBS: dict[str, tuple[str, ...]] = {
    "score": ("score", "{run}"),
    "score --json": ("score", "{run}", "--json"),
    "verify": ("verify", "{run}", "--partial"),
    "verify --json": ("verify", "{run}", "--partial", "--json"),
    "compare": ("compare", "{run}", "{good}"),
    "compare, second": ("compare", "{good}", "{run}", "--json"),
    "audit": ("audit", "{run}", "--model", "{root}/no-model"),
    "table": ("table", "--results", "{root}/results"),
    "table markdown": ("table", "--results", "{root}/results", "--format", "markdown"),
    "table csv": ("table", "--results", "{root}/results", "--format", "csv"),
    "table json": ("table", "--results", "{root}/results", "--format", "json"),
    "report": ("report", "--results", "{root}/results", "--write", "{root}/r.html", "-q"),
    "card": ("card", MODEL, "--published", "--results", "{root}/results"),
    "bundle": ("bundle", "{run}", "--output", "{root}/b.zip"),
    "verify-bundle": ("verify-bundle", "{root}/made.zip"),
    "merge": ("merge", "{shards}"),
    "judge": ("judge", "{run}", "--dry-run"),
}
"""Every verb that reads a run."""

JUDGED_VERBS: dict[str, tuple[str, ...]] = {
    "score": ("score", "{run}"),
    "score --json": ("score", "{run}", "--json"),
    "verify": ("verify", "{run}", "--partial"),
    "compare": ("compare", "{run}", "{good}"),
    "table": ("table", "--results", "{root}/results"),
    "table markdown": ("table", "--results", "{root}/results", "--format", "markdown"),
    "table csv": ("table", "--results", "{root}/results", "--format", "csv"),
    "report": ("report", "--results", "{root}/results", "--write", "{root}/r.html", "-q"),
    "card": ("card", "claude-2", "--results", "{root}/results"),
    "judge": ("judge", "{run}", "--dry-run"),
    "bundle": ("bundle", "{run}", "--output", "{root}/b.zip"),
}
"""Every verb that reads a judge's folder."""

MANY = ("table", "report", "card")
"""Verbs that go through many runs: a wrong one is a line among their problems."""

FREE = ("sessions", "status", "tally", "answers_sha256", "command", "commit", "machine", "engine", "shard")
"""Fields of a manifest that no hash ties down: they may change while a run goes on; no number follows from them.

Everything else of a manifest is pinned by ``result.json``, and all of ``result.json`` by its own hash. Of a sample ``seconds``
is free; ``token_ids``, ``error`` and ``finish_reason`` are pinned by the hash of the answers. A forgery that makes every hash
again cannot be known where the samples do not tell: names of model, engine and settings. It is known where they do: grades,
classes, scores, rows, n and right answers.
"""

UNKNOWABLE = {
    "manifest.json, hashes made again": (),
    "manifest.json, hashes made again and no result": (),
    "judging.json": ("generator", "finished", "notes", "screen", "annotations_sha256", "calibration", "baseline"),
}
"""What no reader can know: by file, the fields; of an empty tuple all. ``judging.json`` has no hash: judge, method and prompt
are in the rows' signatures and the counts are counted again, but whose outputs they were only it says."""


_ID = re.compile(r"[\d,]+ bytes|\bid [0-9a-f]{64}|[0-9a-f]{64}|[\d.]+ MB")
"""Sizes and ids of what was written: they follow from the bytes of files, which differ where the same JSON is written anew."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One change to a run folder.

    Attributes:
        file: What was changed, and how its hashes are.
        field: Path of the field; empty for the file itself.
        kind: What was done.
        apply: Does it to a run folder.
    """

    file: str
    field: str
    kind: str
    apply: Callable[[Path], None]

    def __str__(self) -> str:
        return f"{self.file} {self.field} {self.kind}"


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How a verb ended."""

    code: int
    out: str
    err: str
    failure: str = ""


class HangError(BaseException):
    """A verb took too long; no handler of errors takes it for one of its own."""


class Bench:
    """A folder in which a good run is changed, read by every verb, and put back.

    Args:
        root: The folder.
        good: A good run, which is copied.
        place: Where the copy lies under the folder of results.
        verbs: What reads it.
    """

    def __init__(self, root: Path, good: Path, place: str, verbs: dict[str, tuple[str, ...]]) -> None:
        self.root, self.kept, self.verbs = root, good, verbs
        self.run = root / "results" / place
        self.shards = root / "sharded"
        self.restore()
        self.baseline = {verb: self.call(verb) for verb in verbs}

    def restore(self) -> None:
        """Puts the good run back, and removes what verbs wrote."""
        for place in self.root.iterdir() if self.root.exists() else ():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.copytree(self.kept, self.run)

    def call(self, verb: str) -> Ended:
        """Runs a verb on the folder as it is."""
        if verb == "merge":
            self._shard()
        elif verb == "verify-bundle":
            try:
                self._pack()
            except OSError:
                return Ended(2, "", "")
        places = {"run": self.run, "good": self.kept, "root": self.root, "shards": self.shards}
        words = [word.format(**places) for word in self.verbs[verb]]
        return ended(words)

    def _shard(self) -> None:
        """Makes the run the only shard of one."""
        shard = self.shards / "shards" / "1-of-1"
        shutil.rmtree(self.shards, ignore_errors=True)
        shutil.copytree(self.run, shard, symlinks=True, copy_function=_copied)
        with contextlib.suppress(OSError, ValueError, TypeError):
            path = shard / "manifest.json"
            if path.is_symlink() or not path.is_file():
                return
            text = path.read_text()
            if text.rstrip().endswith("}") and json.loads(text):
                path.write_text(f'{text.rstrip()[:-1]}, "shard": [1, 1]}}')

    def _pack(self) -> None:
        """Makes a bundle of the files as they are, whose sums are right."""
        if any(path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 24 for path in self._files()):
            raise OSError("not to be packed")
        manifest, lines, result = (path.read_bytes() for path in self._files())
        items = []
        with contextlib.suppress(ValueError, KeyError, TypeError):
            for line in lines.splitlines():
                one = json.loads(line)
                items.append({"id": one["item"], "target": one["target"], "prompt_sha256": one["prompt_sha256"]})
        head = {"format": 1, "benchmark": "gsm8k", "model": MODEL, "samples": len(items)}
        parts = {
            bundle.HEAD: json.dumps(head).encode(),
            "manifest.json": manifest,
            bundle.ITEMS: "".join(json.dumps(item) + "\n" for item in items).encode(),
            "samples.jsonl": lines,
            "result.json": result,
        }
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items())
        parts[bundle.SUMS] = sums.encode()
        (self.root / "made.zip").write_bytes(archive.pack(parts))

    def _files(self) -> Iterator[Path]:
        yield from (self.run / name for name in ("manifest.json", "samples.jsonl", "result.json"))

    def attempt(self, case: Case, verb: str) -> str:
        """Returns what is wrong with how a verb ends on a changed run, by kind and in one line; empty if nothing is."""
        try:
            case.apply(self.run)
            found = self.call(verb)
        finally:
            self.restore()
        return self.judged(case, verb, found)

    def judged(self, case: Case, verb: str, found: Ended) -> str:
        """Returns what is wrong with an ending; empty if nothing is."""
        good = self.baseline[verb]
        if found.failure:
            return found.failure
        if found.code not in (0, 1, 2):
            return f"exit code: {found.code}"
        if not verb.startswith(MANY) and len(found.err.splitlines()) > max(1, len(good.err.splitlines())):
            return f"lines: {len(found.err.splitlines())} on stderr: {found.err[:300]!r}"
        steering = [one for one in found.out + found.err if not one.isprintable() and one != "\n"]
        if steering:
            return f"terminal: {steering[0]!r} is printed"
        if "markdown" in verb and "<script>" in re.sub(r"`[^`]*`", "", found.out):  # in code it is a text
            return "markup: a tag is printed"
        if found.code == 0 and good.code == 0 and found.out != good.out and not self._named(case, good, found):
            return f"silent: other output and no line about it: {_difference(good.out, found.out)}"
        return ""

    def _named(self, case: Case, good: Ended, found: Ended) -> bool:
        """Whether what is printed names the change."""
        unknowable = UNKNOWABLE.get(case.file)
        if unknowable is not None and (not unknowable or case.field.split(".")[0] in unknowable):
            return True
        before = {*good.out.splitlines(), *good.err.splitlines()}
        fresh = [line for line in (*found.out.splitlines(), *found.err.splitlines()) if line not in before]
        names = {case.file.split(",")[0].split()[0], str(self.run), *(part for part in case.field.split(".") if len(part) > 3)}
        return any(name in line for line in fresh for name in names)


def ended(words: list[str]) -> Ended:
    """Runs a command in this process, within :data:`SECONDS`."""

    def late(_number: int, frame: FrameType | None) -> None:
        raise HangError("".join(traceback.format_stack(frame)[-2:]).replace("\n", " "))

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        result = CliRunner().invoke(cli, words)
    except HangError as error:
        return Ended(-1, "", "", f"hang: {str(error)[-300:]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    failure = ""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        last = traceback.extract_tb(result.exception.__traceback__)[-1]
        where = next(
            (f"{one.filename.rpartition('tulu_eval/')[2]}:{one.lineno}"
             for one in reversed(traceback.extract_tb(result.exception.__traceback__)) if "tulu_eval/" in one.filename),
            last.name,
        )  # fmt: skip
        failure = f"traceback: {type(result.exception).__name__} at {where}: {str(result.exception)[:120]}"
    return Ended(result.exit_code, _ID.sub("", result.stdout), result.stderr, failure)


def _difference(one: str, other: str) -> str:
    pairs = zip(one.splitlines(), other.splitlines(), strict=False)
    first = next(((a, b) for a, b in pairs if a != b), ("", other[:100]))
    return f"{first[0][:150]!r} became {first[1][:150]!r}"


def _copied(source: str, target: str) -> str:
    if Path(source).is_file() and Path(source).stat().st_size < 1 << 24:
        return str(shutil.copy(source, target))
    return target


# What makes hashes again, as somebody would who forges a run.


def rehash_manifest(data: dict[str, Any]) -> None:
    """Makes the manifest's own hashes right again, where what they stand on is still there."""
    with contextlib.suppress(Exception):
        protocol = {name: value for name, value in data["protocol"].items() if name != "sha256"}
        data["protocol"]["sha256"] = content_hash(protocol)
    with contextlib.suppress(Exception):
        data["settings_sha256"] = settings_hash(data)


def forged_manifest(folder: Path, data: Any) -> None:
    """Writes a manifest, with all hashes in the folder made right again."""
    with contextlib.suppress(Exception):
        rehash_manifest(data)
    text = json.dumps(data)
    (folder / "manifest.json").write_text(text)
    with contextlib.suppress(Exception):
        forged_result(folder, json.loads((folder / "result.json").read_text()), manifest_sha256=manifest_hash(json.loads(text)))


def forged_manifest_alone(folder: Path, data: Any) -> None:
    """Writes a manifest whose own hashes are right, and takes the result away, so that its rows are made of what is forged."""
    forged_manifest(folder, data)
    (folder / "result.json").unlink()


def forged_result(folder: Path, data: Any, **change: Any) -> None:
    """Writes a result whose own hash is right."""
    with contextlib.suppress(Exception):
        data |= change
        data.pop("sha256", None)
        data["sha256"] = content_hash(data)
    (folder / "result.json").write_text(json.dumps(data))


def forged_judgments(folder: Path, lines: list[str]) -> None:
    """Writes judgments, with the result's hash over them made again."""
    text = "".join(lines)
    (folder / "judgments.jsonl").write_text(text)
    with contextlib.suppress(Exception):
        forged_result(folder, json.loads((folder / "result.json").read_text()), samples_sha256=content_hash(text))


def sample_line(text: str) -> bytes:
    """Returns a sample's JSON as a line whose checksum is right."""
    text = text.strip()
    at = text.rfind(', "crc"')
    body = text[:at].encode() if at > 0 else text.rstrip("}").encode()
    body = body.replace(b'": ', b'":').replace(b', "', b',"')
    return body + b',"crc":"%08x"}\n' % zlib.crc32(body)


def forged_samples(folder: Path, lines: list[bytes], *, hashes: bool) -> None:
    """Writes a ledger; with ``hashes`` the result's hashes over it are made again."""
    (folder / "samples.jsonl").write_bytes(b"".join(lines))
    if hashes:
        with contextlib.suppress(Exception):
            change = {"samples_sha256": samples_hash(lines), "answers_sha256": answers_hash(lines)}
            forged_result(folder, json.loads((folder / "result.json").read_text()), **change)
