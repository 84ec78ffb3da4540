"""What every backend has from its base class: settings that are its own, and kinds of requests that it refuses."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from tulu_eval.backends.base import COMMON_SETTINGS, Backend, EngineSettings
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.backends.openai.backend import OpenAIBackend
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.errors import PreflightError
from tulu_eval.records import Kind
from tulu_eval.testing import ScriptedBackend

OWN = (TransformersBackend, VllmBackend, OpenAIBackend)


def test_every_setting_belongs_to_some_backend_and_every_claimed_one_exists() -> None:
    fields = {field.name for field in dataclasses.fields(EngineSettings)}
    claimed = COMMON_SETTINGS.union(*(backend.own_settings or () for backend in OWN))
    assert claimed == fields - {"cluster"}  # of every engine in this program


@pytest.mark.parametrize("backend", OWN)
def test_a_cluster_is_for_every_engine_but_a_server(backend: type[Backend]) -> None:
    settings = EngineSettings(cluster="ray", data_parallel=0)
    if backend.local:
        backend.check_settings(settings)
    else:
        with pytest.raises(PreflightError, match=f"is no setting of --backend {backend.name}"):
            backend.check_settings(settings)


@pytest.mark.parametrize("backend", OWN)
def test_a_setting_of_another_backend_is_refused_in_one_line(backend: type[Backend]) -> None:
    backend.check_settings(EngineSettings(batch_size=3, trust_remote_code=True, allow_pickle=True))
    assert backend.own_settings is not None
    for name in ("device", "quantization", "served"):
        changed = dataclasses.replace(EngineSettings(), **{name: "x"})
        if name in backend.own_settings:
            backend.check_settings(changed)
            continue
        option = {"served": "base-url"}.get(name, name)
        with pytest.raises(PreflightError, match=f"^--{option} is no setting of --backend {backend.name}$"):
            backend.check_settings(changed)


class Older(ScriptedBackend):
    """A plug-in made before there were other kinds."""

    kinds = Backend.kinds
    choose = Backend.choose
    score = Backend.score


def test_a_backend_that_names_no_kinds_generates_only() -> None:
    Older.check_kind("generate", EngineSettings())
    engine = Older()
    lines = {
        "choose": "--backend scripted cannot give the log-probabilities of next tokens, which this benchmark needs; use another"
        " backend",
        "score": "--backend scripted cannot give the log-probabilities of given texts, which this benchmark needs; use another"
        " backend",
    }
    assert {"generate", *lines} == set(get_args(Kind))
    for kind, call in (("choose", engine.choose), ("score", engine.score)):
        for refuse in (lambda kind=kind: Older.check_kind(kind, EngineSettings()), lambda call=call: call([])):
            with pytest.raises(PreflightError) as caught:
                refuse()
            assert str(caught.value) == lines[kind]
