"""Which device a setting means, and that torch is asked only where it has to be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tulu_eval.backends.hf import device
from tulu_eval.errors import UnknownName


def test_drivers_are_known_by_their_device_files(tmp_path: Path) -> None:
    assert device.without_accelerator(tmp_path) == (sys.platform == "linux")
    (tmp_path / "nvidia0").touch()
    assert not device.without_accelerator(tmp_path)


def test_torch_agrees_that_there_is_none() -> None:
    import torch

    if device.without_accelerator():
        assert not torch.cuda.is_available()
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.resolve_device("auto") == expected


def test_unknown_device() -> None:
    with pytest.raises(UnknownName, match="tpu"):
        device.resolve_device("tpu")
