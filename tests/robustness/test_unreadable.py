"""Files and folders that a user may not read or write: told in one line. Root may do all, so these run without that power."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from robustness import endings
from robustness.bench import Bench
from robustness.tally import Tally, draw, wanted

NOBODY = 65534
"""The user and group that owns nothing."""

ANOTHER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
POWERLESS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Two ways to be a user for whom permissions hold: another one, or, where that one may not enter the interpreter's folder, root
without the power to pass over permissions."""

VERBS = ("score", "verify", "compare", "table", "report", "card", "bundle", "merge", "judge", "audit")
MODES = {"not readable": 0o000, "only to be read": 0o444, "only to be entered": 0o111}


def cases(bench: Bench) -> list[tuple[str, str, int]]:
    """Returns what may be closed to a user: each file of the run, the run and the folders around it, in each way."""
    names = ("manifest.json", "result.json", "samples.jsonl", ".", "..", "../../..")
    return [(name, kind, mode) for name in names for kind, mode in MODES.items()]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="robustness-"))
    folder.chmod(0o755)
    yield folder
    for place, folders, _ in os.walk(folder):
        for name in folders:
            Path(place, name).chmod(0o755)
    shutil.rmtree(folder)


def ways(place: Path) -> tuple[str, ...]:
    """Returns the words before a command by which permissions hold for it; none where there is no way."""
    closed = place / "closed"
    closed.unlink(missing_ok=True)
    closed.touch(mode=0)
    opens = [sys.executable, "-c", "import sys, tulu_eval.cli; print('ready'); open(sys.argv[1])", str(closed)]
    if shutil.which("setpriv"):
        for way in (ANOTHER, POWERLESS):
            done = subprocess.run([*way, *opens], capture_output=True, text=True, check=False, env=endings.environment(place))
            if done.stdout == "ready\n" and "PermissionError" in done.stderr:
                return way
    return ()


def attempt(bench: Bench, place: Path, tally: Tally, chosen: list[tuple[str, tuple[str, str, int]]]) -> list[str]:
    """Tries each as another user; on the run as it was the same words must work."""
    keys, way = [], ways(place)
    for verb, (name, kind, mode) in chosen:
        key = (verb, name, "", kind)
        keys.append(key)
        if key in tally.before:
            continue
        if not way:
            tally.add(key, "skipped: permissions hold for nobody here", command=True)
            continue
        root = place / "tried"
        shutil.copytree(bench.root, root, symlinks=True)
        good = place / "good"
        if not good.exists():
            shutil.copytree(bench.kept, good)
        for folder, folders, files in os.walk(root) if way == ANOTHER else ():
            for one in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
                os.chown(one, NOBODY, NOBODY)
        run = root / bench.run.relative_to(bench.root)
        names = {"run": run, "good": good, "root": root, "shards": run}
        words = [word.format(**names) for word in bench.verbs[verb]]
        closed = (run / name).resolve()
        closed.chmod(mode)
        cache = place / "cache"
        cache.mkdir(exist_ok=True)
        cache.chmod(0o777)
        shell = f'exec {" ".join(way)} "$@"'
        found = endings.as_command(words, endings.environment(cache, HOME=str(place)), place, shell)
        tally.add(key, _wrong(verb, name, kind, found), command=True)
        closed.chmod(0o755)
        shutil.rmtree(root)
    return tally.failures(keys)


def _wrong(verb: str, name: str, kind: str, found: endings.Ended) -> str:
    failure = endings.wrong(found, 9 if verb in ("table", "report", "card") else 1)
    needed = kind == "not readable" and name in ("manifest.json", "samples.jsonl") and verb not in ("merge", "judge")
    if not failure and needed and found.code == 0 and name not in found.err:
        return f"silent: no word about it: {found.out[:100]!r}"
    return failure


def test_a_share_of_what_is_closed_is_told_in_one_line(bench: Bench, open_place: Path, tally: Tally) -> None:
    if not ways(open_place):
        pytest.skip("permissions hold for nobody here")
    chosen = [("score", cases(bench)[0]), ("table", cases(bench)[6]), ("bundle", cases(bench)[10])]
    failures = attempt(bench, open_place, tally, chosen)
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_that_is_closed_is_told_in_one_line(bench: Bench, open_place: Path, tally: Tally) -> None:
    pairs = [((verb, one[0]), (verb, one)) for verb in VERBS for one in cases(bench)]
    failures = attempt(bench, open_place, tally, draw(pairs, wanted(0.009)))
    assert not failures, "\n".join(failures)
