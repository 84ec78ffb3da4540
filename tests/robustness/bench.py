"""Runs verbs on a changed run folder, and checks how each of them ends."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from os.path import commonpath
from pathlib import Path
from typing import Any

from robustness import endings
from robustness.endings import Ended
from robustness.fields import free, unknowable
from robustness.verbs import MANY, MODEL, Verbs

from tulu_eval.exchange import archive, bundle

AGAIN = 10
"""After one of so many cases, the verb reads the unharmed run again and must print the same as before."""


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
    apply: Callable[[Path], Any]

    def __str__(self) -> str:
        return f"{self.file} {self.field} {self.kind}"


class Bench:
    """A folder in which a good run is changed, read by every verb, and put back.

    Args:
        root: The folder.
        good: A good run, which is copied.
        place: Where the copy lies under the folder of results.
        verbs: What reads it.
        other: A good run of the same kind, another one.
        places: Further names in the verbs' words.
    """

    def __init__(self, root: Path, good: Path, place: str, verbs: Verbs, other: Path, **places: Path) -> None:
        self.root, self.kept, self.verbs, self.other = root, good, verbs, other
        self.run = root / "results" / place
        self.shards = root / "sharded"
        self.called = (str(self.run), place)
        self.places = {"run": self.run, "good": self.kept, "root": root, "shards": self.shards, **places}
        self.restore()
        self._plain: dict[tuple[str, bool], Ended] = {}

    def restore(self) -> None:
        """Puts the good run back, and removes what verbs wrote."""
        for place in self.root.iterdir() if self.root.exists() else ():
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.copytree(self.kept, self.run)

    def call(self, verb: str, *, command: bool = False) -> Ended:
        """Runs a verb on the folder as it is, in this process or as a program."""
        if verb == "merge":
            self._shard()
        elif verb == "verify-bundle":
            try:
                self._pack()
            except OSError:
                return Ended(2, "", "not to be packed")
        words = [word.format(**self.places) for word in self.verbs[verb]]
        before = set(files(self.root))
        found = endings.as_command(words, self.environment(), self.root) if command else endings.in_process(words)
        if found.failure:
            return found
        left = sorted(set(files(self.root)) - before)
        half = [one for one in left if found.code == 2 or re.fullmatch(r"\..*\.\d+", one.rpartition("/")[2])]
        if half:
            return dataclasses.replace(found, failure=f"half-written: {half[:3]} after exit code {found.code}")
        page = self.root / "r.html"
        return dataclasses.replace(found, out=found.out + _page(page)) if page.exists() else found

    def environment(self) -> dict[str, str]:
        """Returns the environment of this bench's programs."""
        return endings.environment(self.root.with_name(f"{self.root.name}-cache"))

    def plain(self, verb: str, *, command: bool = False) -> Ended:
        """Returns how a verb ends on the unharmed run."""
        if (verb, command) not in self._plain:
            self._plain[verb, command] = self.call(verb, command=command)
            self.restore()
        return self._plain[verb, command]

    def attempt(self, case: Case, verb: str, *, command: bool = False) -> str:
        """Returns what is wrong with a verb's ending on a changed run, as one line ``kind: text``; empty if nothing is."""
        good = self.plain(verb, command=command)
        try:
            case.apply(self.run)
            found = self.call(verb, command=command)
        finally:
            self.restore()
        failure = self.judged(case, verb, found, good)
        if not failure and zlib.crc32(f"{verb} {case}".encode("utf-8", "surrogatepass")) % AGAIN == 0:
            again = self.call(verb, command=command)
            self.restore()
            if (again.code, again.out) != (good.code, good.out):
                failure = (
                    f"afterwards: the unharmed run gives {again.code} {again.err[:100]!r} {_difference(good.out, again.out)}"
                )
        return failure

    def judged(self, case: Case, verb: str, found: Ended, good: Ended) -> str:
        """Returns what is wrong with an ending; empty if nothing is."""
        lines = 10**6 if verb.startswith(MANY) else max(1, len(good.err.splitlines()))
        failure = endings.wrong(dataclasses.replace(found, out=found.out.partition(PAGE)[0]), lines)
        if failure:
            return failure
        if "markdown" in verb and "<script>" in re.sub(r"`[^`]*`", "", found.out):  # in code it is a text
            return "markup: a tag is printed"
        if found.code == 0 and good.code == 0 and found.out != good.out and not named(case, good, found, self.called):
            return f"silent: other output and no line about it: {_difference(good.out, found.out)}"
        return ""

    def _shard(self) -> None:
        """Makes the run the only shard of one."""
        shard = self.shards / "shards" / "1-of-1"
        shutil.rmtree(self.shards, ignore_errors=True)
        shutil.copytree(self.run, shard, symlinks=True, copy_function=_copied)
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            path = shard / "manifest.json"
            if path.is_symlink() or not path.is_file():
                return
            text = path.read_text()
            if text.rstrip().endswith("}") and json.loads(text):
                path.write_text(f'{text.rstrip()[:-1]}, "shard": [1, 1]}}')

    def _pack(self) -> None:
        """Makes a bundle of the files as they are, with right sums."""
        if any(path.is_symlink() or not path.is_file() or path.stat().st_size > 1 << 24 for path in self._files()):
            raise OSError("not to be packed")
        manifest, lines, result = (path.read_bytes() for path in self._files())
        items = []
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
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


def named(case: Case, good: Ended, found: Ended, places: tuple[str, ...]) -> bool:
    """Returns whether the output names a change, or no reader can know of it.

    Args:
        case: The change.
        good: How the verb ends on the unharmed run.
        found: How it ended.
        places: The run's folder, as messages may call it.
    """
    if unknowable(case.file, case.field):
        return True
    file = case.file.partition(",")[0].split()[0]
    names = (file, *places, case.kind.rpartition(" with ")[2], *_parts(case.field))
    if any(name in line for line in _fresh(found.err, good.err) for name in names):
        return True
    fresh = _fresh(found.out.partition(PAGE)[0], good.out)
    if file in ("samples.jsonl", "manifest.json") and any("unfinished: " in line or '"done": ' in line for line in fresh):
        return True
    if free(file, case.field):  # a free field may be shown as what it is: by its name, and on the page
        own = case.field.partition(".")[0]
        return not fresh or any(own in line for line in fresh)
    dotted = [case.field] if "." in case.field else []
    return any(line.startswith(places[0]) or any(name in line for name in (file, *dotted)) for line in fresh)


def _parts(field: str) -> list[str]:
    """Returns the names in a field's path that are long enough to tell it."""
    return [part for part in field.replace(" ", ".").split(".") if len(part) > 3]


def _fresh(text: str, before: str) -> list[str]:
    """Returns the lines of a text that were not there before."""
    known = set(before.splitlines())
    return [line for line in text.splitlines() if line not in known]


PAGE = "\n<!-- the page -->\n"


def _page(path: Path) -> str:
    """Returns the text of a report with its folders and hashes taken out, to be compared."""
    return PAGE + re.sub(r"[0-9a-f]{64}|\d\d\d\d-\d\d-\d\d[T ][\d:]+", "", path.read_text(encoding="utf-8"))


def files(root: Path) -> Iterator[str]:
    """Yields the paths of everything under a folder, relative to it; follows no links."""
    for folder, folders, names in os.walk(root):
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in (*folders, *names))


def _difference(one: str, other: str) -> str:
    pairs = zip(one.splitlines(), other.splitlines(), strict=False)
    a, b = next(((a, b) for a, b in pairs if a != b), ("", other[:100]))
    at = max(0, len(commonpath([a, b])) - 40)
    return f"{a[at : at + 150]!r} became {b[at : at + 150]!r}"


def _copied(source: str, target: str) -> str:
    if Path(source).is_file() and Path(source).stat().st_size < 1 << 24:
        return str(shutil.copy(source, target))
    return target
