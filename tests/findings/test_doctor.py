"""What ``doctor`` finds on this machine."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

import tulu_eval
from tulu_eval.errors import PreflightError
from tulu_eval.findings import doctor
from tulu_eval.reports.doctor import as_text


def test_it_finds_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "not" / "there" / "yet"))
    found = tulu_eval.doctor()
    assert found.packages["torch"] == importlib.metadata.version("torch")
    assert found.machine["python"].startswith("3.")  # type: ignore[union-attr]
    assert found.devices[-1].startswith("cpu ")
    assert found.hub == "offline mode (HF_HUB_OFFLINE)"
    assert set(found.disk_free_gb) == {"model cache", "own cache", "here"}
    assert all(isinstance(free, float) and free > 0 for free in found.disk_free_gb.values())
    assert found.extras["gguf"] == doctor.Extra(True, "reads GGUF files")


def test_a_machine_without_a_sandbox_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PreflightError("there is no sandbox here; install bubblewrap")

    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setattr(doctor, "check_sandbox", lambda _: None)
    assert doctor.examine().sandbox == "programs that a model wrote can run (bubblewrap)"
    monkeypatch.setattr(doctor, "check_sandbox", refuse)
    assert doctor.examine().sandbox == "there is no sandbox here; install bubblewrap"


def test_a_user_without_a_home_folder_hears_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    found = doctor.examine()
    assert found.disk_free_gb["own cache"] == "there is no home folder to keep a cache in; set XDG_CACHE_HOME to a folder"
    assert isinstance(found.disk_free_gb["here"], float)
    assert "own cache there is no home folder" in as_text(found)


def test_an_extra_without_its_module_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setitem(doctor.EXTRAS, "gguf", ("no_such_module_anywhere", "reads GGUF files"))
    assert doctor.examine().extras["gguf"] == doctor.Extra(False, "reads GGUF files")


def test_a_hub_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert doctor.examine().hub == "unreachable (Connection refused); models come from the local cache, folders and packages"
