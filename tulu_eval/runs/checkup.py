"""What ``tulu-eval doctor`` looks at."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from tulu_eval.caching import cache_folder
from tulu_eval.runs import environment

EXTRAS = {
    "gguf": ("gguf", "reads GGUF files"),
    "symbolic": ("reasoning_gym", "the benchmark gsm-symbolic"),
    "ifeval": ("langdetect", "the checkers of the benchmark ifeval"),
    "vllm": ("vllm", "the backend vllm"),
    "alpaca": ("alpaca_eval", "the judge prompts of alpaca-eval"),
}
"""Extra of pyproject.toml: the module that shows that it is installed, and what it adds."""


def look() -> dict[str, Any]:
    """Returns versions, machine, devices, hub, disks and extras as plain data."""
    return {
        "packages": environment.packages(),
        "machine": environment.machine(),
        "devices": environment.devices(),
        "hub": _hub(),
        "disk_free_gb": {"model cache": _free(_hub_cache()), "own cache": _free(cache_folder()), "here": _free(Path())},
        "extras": {
            name: {"installed": importlib.util.find_spec(module) is not None, "adds": adds}
            for name, (module, adds) in EXTRAS.items()
        },
    }


def as_text(found: dict[str, Any]) -> str:
    """Returns the findings for people."""
    blocks = {
        "packages": [f"{name} {version}" for name, version in found["packages"].items()],
        "machine": [f"{name} {value}" for name, value in found["machine"].items()],
        "devices": found["devices"],
        "hub": [found["hub"]],
        "disk free": [f"{name} {gigabytes:.0f} GB" for name, gigabytes in found["disk_free_gb"].items()],
        "extras": [
            f"{name}: {extra['adds']} ({'installed' if extra['installed'] else _advice(name)})"
            for name, extra in found["extras"].items()
        ],
    }
    return "\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in blocks.items())


def _advice(extra: str) -> str:
    return f"missing: pip install 'tulu-eval[{extra}]'"


def _hub() -> str:
    import socket
    import urllib.parse

    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "offline mode (HF_HUB_OFFLINE)"
    host = urllib.parse.urlsplit(constants.ENDPOINT)
    try:
        with socket.create_connection((host.hostname or "", host.port or 443), timeout=3):
            return "reachable"
    except OSError as error:
        return f"unreachable ({error.strerror or error}); models come from the local cache, folders and packages"


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _free(folder: Path) -> float:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return round(shutil.disk_usage(folder).free / 1e9, 1)
