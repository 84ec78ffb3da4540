"""Examines this installation: packages, machine, devices, hub, sandbox, disks and extras."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from tulu_eval.caching import cache_folder
from tulu_eval.errors import PreflightError, UserError
from tulu_eval.extras import EXTRAS, installed
from tulu_eval.sandbox import Execution, check_sandbox
from tulu_eval.store import environment


@dataclasses.dataclass(frozen=True, slots=True)
class Extra:
    """One extra of pyproject.toml.

    Attributes:
        installed: Whether its module can be imported.
        adds: The purpose of the extra in a few words.
    """

    installed: bool
    adds: str


@dataclasses.dataclass(frozen=True, slots=True)
class Installation:
    """The state of this installation.

    Attributes:
        packages: Versions of the installed packages that can change a number.
        machine: Processor, cores, memory in GiB, system and Python's version; no host name.
        devices: One line per accelerator and one for the processor.
        hub: Whether the Hugging Face Hub answers, and the reason if it does not.
        sandbox: Whether programs that a model wrote can run, and the reason if they cannot.
        disk_free_gb: Free space in 10^9 bytes for the hub's cache, for this package's cache and in the working folder; why
            there is no cache, if there is no home folder.
        extras: Extras of pyproject.toml by name.
    """

    packages: dict[str, str]
    machine: dict[str, str | int]
    devices: list[str]
    hub: str
    sandbox: str
    disk_free_gb: dict[str, float | str]
    extras: dict[str, Extra]


def examine() -> Installation:
    """Returns the state of this installation; waits at most 3 s for the hub."""
    return Installation(
        packages=environment.packages(),
        machine=environment.machine(),
        devices=environment.devices(),
        hub=_hub(),
        sandbox=_sandbox(),
        disk_free_gb={"model cache": _free(_hub_cache()), "own cache": _own_cache_free(), "here": _free(Path())},
        extras={name: Extra(installed(name), adds) for name, (_, adds) in EXTRAS.items()},
    )


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


def _sandbox() -> str:
    try:
        check_sandbox(Execution())
    except PreflightError as error:
        return error.command_line
    return "programs that a model wrote can run (bubblewrap)"


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _own_cache_free() -> float | str:
    """Returns the free space for this package's cache, or why there is none."""
    try:
        return _free(cache_folder())
    except UserError as error:
        return error.command_line


def _free(folder: Path) -> float:
    """Returns the free space in 10^9 bytes of the disk on which a folder is, or would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return round(shutil.disk_usage(folder).free / 1e9, 1)
