from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest

from tulu_eval.stats import wilson


@pytest.fixture
def calibration():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_is_as_stated(calibration, monkeypatch, capsys):
    monkeypatch.setattr(calibration, "PAIRED", calibration.PAIRED[2:])
    monkeypatch.setattr(calibration, "UNPAIRED", calibration.UNPAIRED[2:])  # the first two take most of a minute
    monkeypatch.setattr("sys.argv", ["calibration", "--draws", "400", "--seed", "1"])
    assert calibration.main() == 0
    out = capsys.readouterr().out
    assert "| coverage, Wilson, n = 200, p = 0.67 |" in out
    assert out.endswith("400 draws a figure, seed 1: 0 outside what is stated.\n")


def test_a_wrong_interval_is_found(calibration, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["calibration", "--draws", "400"])
    monkeypatch.setattr(calibration, "wilson", lambda k, n: wilson(k, n, 0.85))
    monkeypatch.setattr(calibration, "planned", lambda *_: iter(()))
    assert calibration.main() == 1
    assert "OUTSIDE" in capsys.readouterr().out


def test_a_test_that_rejects_too_often_is_found(calibration, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["calibration", "--draws", "400"])
    monkeypatch.setattr("tulu_eval.stats.agreement.ALPHA", 0.12)
    monkeypatch.setattr(calibration, "planned", lambda *_: iter(()))
    assert calibration.main() == 1
    assert "OUTSIDE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("items", "inside"),
    [(168, [True, True, True, True]), (160, [False, False, True, True]), (190, [True, True, False, False])],
    ids=["right", "too few", "too many"],
)
def test_items_that_are_too_few_or_too_many_are_found(calibration, items, inside):
    power = functools.partial(calibration.exact_paired, difference=0.1, discordance=0.2)
    assert [figure.inside for figure in calibration.at_planned("", items, power)] == inside


def test_range_allows_three_errors(calibration):
    def figure(frequency):
        return calibration.Figure("", frequency, 0.0, 0.05, 10000)

    assert figure(0.056).inside  # 0.05 + 3 * 0.0022
    assert not figure(0.058).inside
    assert calibration.Figure("", 1.0, 0.95, 1.0, 100).inside
