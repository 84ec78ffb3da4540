"""Builds the wheel and the sdist, installs each into a new environment, and uses it there: ``python scripts/check_release.py``.

The environment sees the packages of the Python that runs this script, but not its tulu-eval: nothing is downloaded. What is
checked: version, registry, a dry run, a page, and that every data file of the package is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRY_RUN = ("run", "sums", "--protocol", "four-shot", "--model", "smollm2-135m-instruct", "--limit", "2", "--dry-run")


def main() -> None:
    """Builds, installs and tries both archives; raises CalledProcessError or SystemExit if one cannot be used."""
    with tempfile.TemporaryDirectory() as folder:
        dist = Path(folder) / "dist"
        _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(ROOT)], Path(folder))
        for archive in sorted(dist.iterdir()):
            _try(archive, Path(folder) / archive.name.replace(".", "-"))
            print(f"{archive.name}: installed, and it works", flush=True)


def _try(archive: Path, place: Path) -> None:
    """Installs an archive into a new environment, and has its command say what a user would ask first."""
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    inside = Path(_said([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], place).strip())
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    (inside / "here.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    _run([*pip, "--no-build-isolation", "--ignore-installed", str(archive)], place)
    lacking = sorted(_files(ROOT / "tulu_eval") - _files(inside / "tulu_eval"))
    if lacking:
        raise SystemExit(f"{archive.name} lacks {', '.join(lacking)}")
    command = str(place / "bin" / "tulu-eval")
    version = (ROOT / "tulu_eval" / "version.py").read_text(encoding="utf-8").split('"')[-2]
    if version not in _said([command, "--version"], place):
        raise SystemExit(f"{archive.name}: --version does not say {version}")
    where = _said([str(python), "-c", "import tulu_eval; print(tulu_eval.__file__)"], place)
    if not where.startswith(str(inside)):
        raise SystemExit(f"{archive.name}: another tulu_eval is imported: {where}")
    _run([command, "models"], place)
    _run([command, *DRY_RUN], place)
    (place / "results").mkdir()
    _run([command, "report", "--results", "results"], place)


def _files(folder: Path) -> set[str]:
    """Returns the files of a folder without compiled ones: modules, TOML, what the page is made of, ``py.typed``."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if "__pycache__" not in path.parts}


def _run(words: list[str], folder: Path) -> None:
    _said(words, folder)


def _said(words: list[str], folder: Path) -> str:
    """Returns what a command says; shows all of it if the command fails."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=folder, env=offline, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
