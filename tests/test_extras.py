"""Extras: they are those of the package, and all that are missing are said in one line before anything loads."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

import tulu_eval
from tulu_eval.errors import PreflightError
from tulu_eval.extras import EXTRAS, check_all
from tulu_eval.plugins import BACKENDS, BENCHMARKS, names
from tulu_eval.runs import catalog

MODULES = ("ray", "vllm", "langdetect", "reasoning_gym", "gguf")
ALL = (
    "not installed: gguf (reads GGUF files); ifeval (the benchmark ifeval); ray (engines on the nodes of a cluster, "
    "{cluster}); symbolic (the benchmark gsm-symbolic); vllm (the backend vllm): "
    "pip install 'tulu-eval[gguf,ifeval,ray,symbolic,vllm]'"
)


def test_the_extras_are_those_of_the_package() -> None:
    provided = importlib.metadata.metadata("tulu-eval").get_all("Provides-Extra") or []
    assert set(EXTRAS) == set(provided)


def test_what_says_that_it_needs_an_extra_names_one() -> None:
    said = {catalog.benchmark(name).extra for name in names(BENCHMARKS)}
    said |= {catalog.backend(name).extra for name in names(BACKENDS)}
    assert said == {"", "ifeval", "symbolic", "vllm"}


def test_one_missing_extra_has_words_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    check_all(["ray", "ray", ""])


def test_all_missing_extras_are_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a model is looked for: the one of this call does not exist."""
    for module in MODULES:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PreflightError) as caught:
        tulu_eval.evaluate(["gsm-symbolic", "ifeval"], "none.gguf", backend="vllm", settings={"cluster": "ray"}, progress=False)
    assert str(caught.value) == ALL.format(cluster="cluster")
    assert caught.value.command_line == ALL.format(cluster="--cluster")
    with pytest.raises(PreflightError, match=r"^not installed: ifeval .*; vllm .*: pip install 'tulu-eval\[ifeval,vllm\]'$"):
        tulu_eval.plan("ifeval", "none", backend="vllm")


def test_a_model_of_a_package_needs_gguf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(PreflightError, match=r"tulu-eval\[gguf,symbolic\]"):
        tulu_eval.plan("gsm-symbolic", "smollm2-135m-instruct")
