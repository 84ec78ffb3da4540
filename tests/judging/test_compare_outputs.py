"""Outputs beside published ones, without a judge."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.compare_outputs import compare_outputs, first_difference
from tulu_eval.judging.outputs import Outputs, read_outputs


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "data" / "alpaca_eval"


def test_a_models_own_outputs_keep_every_judgment(folder):
    mine = read_outputs(folder / "models" / "claude-2" / "model_outputs.json")
    record = read_annotations(folder / "models" / "claude-2" / "annotations_weighted_alpaca_eval_gpt4_turbo.json")
    found = compare_outputs(mine, record)
    assert str(found) == (
        "805 of 805 outputs are equal in every character (805 up to white space); length ratio 1.000; "
        "805 of 805 published judgments still apply"
    )
    assert found.median_divergence is None


def test_changed_outputs_are_found_where_they_part(folder):
    published = read_outputs(folder / "models" / "tulu-2-dpo-7b" / "model_outputs.json")
    texts = dict(published.by_place)
    texts[0] = texts[0][:17] + "§" + texts[0][18:]
    texts[1] += "\n"
    del texts[2]
    found = compare_outputs(Outputs("mine", texts), published)
    assert (found.n, found.exact, found.stripped, found.still_apply, found.record) == (804, 802, 803, 802, 805)
    assert found.divergence == ((0, 17), (1, len(published.by_place[1])))


def test_two_models_share_next_to_nothing(folder):
    left, right = (read_outputs(folder / "models" / f"tulu-2-dpo-{size}" / "model_outputs.json") for size in ("7b", "70b"))
    found = compare_outputs(left, right)
    assert found.exact < 10
    assert found.length_ratio == pytest.approx(1663 / 1418, abs=0.001)  # the leaderboard's mean lengths


def test_nothing_in_common_is_one_line():
    with pytest.raises(UserError, match="none of AlpacaEval's 805 instructions in common"):
        compare_outputs(Outputs("a", {1: "x"}), Outputs("b", {2: "x"}))


@settings(deadline=None)
@given(st.text(), st.text())
def test_first_difference(left, right):
    at = first_difference(left, right)
    assert (at is None) == (left == right)
    if at is not None:
        assert left[:at] == right[:at]
        assert left[at : at + 1] != right[at : at + 1]


def test_the_room_opens_without_heavy_packages():
    code = (
        "import sys, pkgutil, importlib, tulu_eval.judging as room\n"
        "for found in pkgutil.iter_modules(room.__path__): importlib.import_module('tulu_eval.judging.' + found.name)\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'sklearn', 'torch', 'openai', 'alpaca_eval', 'vllm', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
