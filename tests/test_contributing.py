"""CONTRIBUTING.md does not lie: its blocks run, the release up to the upload, and what it names is there."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import tulu_eval
from tulu_eval import plugins
from tulu_eval.runs import catalog
from tulu_eval.testing import ScriptedBackend

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))

INSTEAD = {
    "make lint test": ("make -n lint test", "this test is part of it"),
    ".venv/bin/python -m pip install twine": ("", "needs the package index"),
    ".venv/bin/python -m twine check --strict dist/*": ("", "needs 16 packages more; the metadata are read below"),
}
"""Commands of the release that are not run here as they stand: what is run instead, and why."""


def test_no_other_block_is_there() -> None:
    """Each of these has a test below; another one needs one."""
    assert re.findall(r"^```(\w+)$", TEXT, re.MULTILINE) == ["python", "toml", "bash"]


def test_the_benchmark_runs_from_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama3_like: Path) -> None:
    (points,) = tomllib.loads(BLOCKS["toml"])["project"]["entry-points"].items()
    installed = tmp_path / "site-packages"
    (installed / "my_package").mkdir(parents=True)
    (installed / "my_package" / "riddles.py").write_text(BLOCKS["python"])
    about = installed / "my_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [f"[{points[0]}]", *(f"{name} = {place}" for name, place in points[1].items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    data = tmp_path / "riddles.jsonl"
    data.write_text("".join(json.dumps({"riddle": f"{n} + 1?", "answer": str(n + 1)}) + "\n" for n in range(100)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(installed)
    plugins.declared.cache_clear()
    engine = ScriptedBackend.of(lambda request, decoding: " 1", name="transformers")
    monkeypatch.setattr(catalog, "backend", lambda name: engine)
    try:
        (run,) = tulu_eval.evaluate("riddles", llama3_like, data=data, progress=False)
    finally:
        plugins.declared.cache_clear()
    assert [(row.scorer, row.n, row.value) for row in run.results] == [("exact", 100, 1.0)]


def test_the_release_up_to_the_upload(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("results/", "tests/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    python = copy / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    commands = [line.partition("#")[0].strip() for line in BLOCKS["bash"].splitlines()]
    assert set(INSTEAD) < set(commands)
    for command in commands:
        words = INSTEAD.get(command, (command, ""))[0]
        done = subprocess.run(words, shell=True, cwd=copy, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, (command, done.stderr)
    (wheel,) = (copy / "dist").glob(f"tulu_eval-{tulu_eval.__version__}-*.whl")
    assert (copy / "dist" / f"tulu_eval-{tulu_eval.__version__}.tar.gz").is_file()
    check_wheel(wheel)
    install_and_examine(wheel, tmp_path)


def check_wheel(wheel: Path) -> None:
    """Checks that a wheel has all files of the package, the licences, and a README that the index can show."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    package = Path(tulu_eval.__file__).parent
    files = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "\nDescription-Content-Type: text/markdown\n" in about
    assert about.endswith((ROOT / "README.md").read_text(encoding="utf-8"))


def install_and_examine(wheel: Path, folder: Path) -> None:
    """Has ``tulu-eval doctor`` run from a wheel that was installed beside the packages that are here."""
    place = folder / "installed"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place), str(wheel)]
    subprocess.run(words, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(place), "HF_HUB_OFFLINE": "1"}
    code = "import tulu_eval.cli; print(tulu_eval.__file__); tulu_eval.cli.main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "doctor"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{place}/tulu_eval/__init__.py\npackages\n  tulu-eval {tulu_eval.__version__}\n")


def test_every_file_that_it_names_is_there() -> None:
    places = {path for folder in ("tulu_eval", "tests", "docs") for path in (ROOT / folder).rglob("*.py")}
    known = [f"/{path.relative_to(ROOT)}" for path in places]
    named = set(re.findall(r"[\w/]+\.py\b", TEXT))
    assert len(named) > 30
    assert [name for name in sorted(named) if not any(place.endswith(f"/{name}") for place in known)] == []


def test_every_room_has_a_line() -> None:
    rooms = {path.name for path in (ROOT / "tulu_eval").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(re.findall(r"^\| `(\w+)/` \|", TEXT, re.MULTILINE))


def test_the_version_is_that_of_the_package() -> None:
    assert importlib.metadata.version("tulu-eval") == tulu_eval.__version__
