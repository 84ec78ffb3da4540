"""Which torch device a setting means."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tulu_eval.errors import PreflightError, UnknownName

DRIVERS = ("nvidia[0-9]*", "kfd", "dxg")
"""Device files of Linux's drivers for CUDA, ROCm, and either in WSL; without one torch finds no accelerator."""


def resolve_device(name: str) -> str:
    """Returns the torch device of a setting; ``auto`` is cuda, then mps, then cpu.

    Imports torch, which takes over a second, only where the answer depends on it.

    Raises:
        UnknownName: If there is no such kind of device.
        PreflightError: If the machine does not have the device.
    """
    if name == "cpu" or (name == "auto" and without_accelerator()):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    kind, _, index = name.partition(":")
    if kind not in there or not re.fullmatch("[0-9]{0,4}", index):
        raise UnknownName("device", name, ["auto", *there])
    if not there[kind] or (kind == "cuda" and index and int(index) >= torch.cuda.device_count()):
        raise PreflightError(f"this machine has no device {name}; use --device auto")
    return name


def without_accelerator(devices: Path = Path("/dev")) -> bool:
    """Returns whether this is a Linux machine without a driver of an accelerator, judged by its device files."""
    return sys.platform == "linux" and not any(found for driver in DRIVERS for found in devices.glob(driver))
