"""Benchmarks and backends by name: ours, others', and those that cannot be used, in one line."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tulu_eval import plugins
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import PreflightError, UnknownName
from tulu_eval.runs import catalog

Declare = Callable[[str, str], None]


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Declare:
    """Declares something as an entry point ``odd`` of a group, as another package would."""

    def call(group: str, value: str) -> None:
        entries = (*importlib.metadata.entry_points(group=group), EntryPoint("odd", value, group))
        monkeypatch.setattr(plugins, "declared", lambda asked: entries if asked == group else ())

    return call


def test_ours_are_found() -> None:
    assert isinstance(catalog.benchmark("gsm8k"), GSM8K)
    assert catalog.backend("transformers") is TransformersBackend
    assert {"gsm8k", "gsm-symbolic", "alpaca-eval"} <= set(plugins.names(plugins.BENCHMARKS))
    assert plugins.names(plugins.BACKENDS) == ["openai", "transformers", "vllm"]


def test_another_package_s_is_found(declare: Declare) -> None:
    declare(plugins.BENCHMARKS, "tulu_eval.benchmarks.gsm8k:GSM8K")
    assert isinstance(catalog.benchmark("odd"), GSM8K)
    assert "odd" in plugins.names(plugins.BENCHMARKS)


def test_a_name_that_is_none_is_said_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown benchmark 'gsm9k'\. Did you mean 'gsm8k'"):
        catalog.benchmark("gsm9k")
    with pytest.raises(UnknownName, match=r"unknown backend 'vlm'\. Did you mean 'vllm'"):
        catalog.backend("vlm")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:X", "the {kind} 'odd' cannot be imported: No module named 'no_such_package'"),
        ("tulu_eval.records:NoSuchName", "the {kind} 'odd' cannot be imported: module 'tulu_eval.records' has no attribute"),
        ("tulu_eval.records:Decoding", "the entry point 'odd' of tulu_eval.{kind}s is not a subclass of {base}"),
        ("tulu_eval.records:content_hash", "the entry point 'odd' of tulu_eval.{kind}s is not a subclass of {base}"),
    ],
)
@pytest.mark.parametrize("kind", ["benchmark", "backend"])
def test_what_cannot_be_used_is_one_line(declare: Declare, kind: str, value: str, message: str) -> None:
    declare(f"tulu_eval.{kind}s", value)
    with pytest.raises(PreflightError) as caught:
        getattr(catalog, kind)("odd")
    assert str(caught.value).startswith(message.format(kind=kind, base=kind.capitalize()))


def test_what_a_plug_in_prints_when_it_is_imported_is_no_output(
    declare: Declare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "talkative.py").write_text("from tulu_eval.benchmarks.gsm8k import GSM8K as One\nprint('hello')\n")
    monkeypatch.syspath_prepend(tmp_path)
    declare(plugins.BENCHMARKS, "talkative:One")
    assert isinstance(catalog.benchmark("odd"), GSM8K)
    assert capsys.readouterr() == ("", "hello\n")
