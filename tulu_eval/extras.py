"""The extras of pyproject.toml: what each adds, and one line for all that a call needs and that are not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from tulu_eval.errors import PreflightError

EXTRAS = {
    "gguf": ("gguf", "reads GGUF files"),
    "ifeval": ("langdetect", "the benchmark ifeval"),
    "symbolic": ("reasoning_gym", "the benchmark gsm-symbolic"),
    "tensorboard": ("tensorboard", "curves of a training in TensorBoard"),
    "vllm": ("vllm", "the backend vllm"),
    "alpaca": ("alpaca_eval", "the judge prompts of alpaca-eval"),
    "ray": ("ray", "engines on the nodes of a cluster, --cluster"),
}
"""For each extra a module that can be imported if the extra is installed, and what the extra adds."""


def installed(extra: str) -> bool:
    """Returns whether an extra's module can be imported; imports nothing."""
    return importlib.util.find_spec(EXTRAS[extra][0]) is not None


def check_all(needed: Iterable[str]) -> None:
    """Raises PreflightError with one line for all of several missing extras.

    A single one is refused where it is used, in words of its own.
    """
    missing = sorted({extra for extra in needed if extra and not installed(extra)})
    if len(missing) > 1:
        adds = "; ".join(f"{extra} ({EXTRAS[extra][1]})" for extra in missing)
        raise PreflightError(f"not installed: {adds}: pip install 'tulu-eval[{','.join(missing)}]'")
