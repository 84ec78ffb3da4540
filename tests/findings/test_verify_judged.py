"""Win rates against published ones: by the published judge, by another, and by another that was calibrated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.benchmarks.alpaca_eval import AlpacaEval
from tulu_eval.errors import UserError
from tulu_eval.findings.verify import Verification, verify
from tulu_eval.judging.judge_recipe import ORIGINAL_JUDGE, PROMPT_SHA256
from tulu_eval.records import STATUSES, Result
from tulu_eval.registry import load_suite
from tulu_eval.reports import verify as verify_report
from tulu_eval.runs.reading import StoredRun, read_run

MakeRun = Callable[..., Path]
DPO_70B, PPO_13B = "allenai/tulu-2-dpo-70b", "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"
WHOLE = {"lc_win_rate": 21.0, "win_rate": 15.0}
Z = 1.959963984540054


def rows(
    judge: str, values: dict[str, float], n: int = 805, interval: str = "bootstrap95", more: str = "", half: float = 2.0
) -> list[Result]:
    """Rows of one judge, by metric."""
    counts = {status: 805 if status == "ok" else 0 for status in STATUSES}
    line = f"alpaca-eval|n:{n}/805|judge:{judge}|by:logprobs|prompt:{PROMPT_SHA256[:8]}|b:{known()[0].baseline.label}{more}"
    return [
        Result(
            "alpaca-eval", "alpacaeval2-805", judge, metric, at, n, 805, n, max(0, at - half), at + half, interval, counts, line
        )
        for metric, at in values.items()
    ]


def judged(folder: Path, *found: Result) -> StoredRun:
    """Returns a run with the benchmark AlpacaEval and judges' rows."""
    run = read_run(folder)
    benchmark = replace(run.manifest.benchmark, name="alpaca-eval", version=AlpacaEval.version)
    items = {"alpacaeval2-805": run.manifest.planned}
    return dataclasses.replace(run, about=replace(run.manifest, benchmark=benchmark, items=items), results=found)


@pytest.fixture
def check(make_run: MakeRun) -> Callable[..., Verification]:
    """Verifies a run with these rows."""

    def call(*found: Result, model: str = DPO_70B, partial: bool = False) -> Verification:
        return verify(judged(make_run(model=model), *found), load_suite(), partial=partial)

    return call


def verdicts(found: Verification) -> dict[tuple[str, str], str]:
    """Verdict by metric of the cell and row's scorer; the main ones and those without a test."""
    made = {(one.cell.metric, one.row.scorer): one.agreement.verdict for one in found.comparisons if one.main}
    return made | {(one.cell.metric, one.row.scorer): "untested" for one in found.untested}


def test_win_rates_of_the_published_judge_are_compared_with_both_errors(check: Callable[..., Verification]) -> None:
    found = check(*rows(ORIGINAL_JUDGE, WHOLE))
    of = {(one.cell.metric, one.cell.source.key): one for one in found.comparisons}
    error = 2 / Z
    raw = of["win_rate", "alpaca-eval-2-leaderboard"].agreement
    expected = math.erfc((15.982854374136648 - 15.0) / math.hypot(error, 1.1457861368237434) / math.sqrt(2))
    assert raw.p_value == pytest.approx(expected)
    assert raw.method == "normal"
    # The leaderboard gives no standard error for LC: the run's own is taken for it, and a note says so.
    lc = of["lc_win_rate", "alpaca-eval-2-leaderboard"].agreement
    assert lc.p_value == pytest.approx(math.erfc((21.238610038371124 - 21.0) / math.hypot(error, error) / math.sqrt(2)))
    assert any("has no standard error" in note for note in found.notes)
    assert found.untested == ()
    assert not any(setting.name.startswith("judge") for setting in found.differences)


def test_another_judge_cannot_tell_and_the_report_says_why(check: Callable[..., Verification]) -> None:
    found = check(*rows("some-judge", WHOLE))
    assert found.comparisons == ()
    assert not found.inconsistent
    assert set(verdicts(found)) == {("lc_win_rate", "some-judge"), ("win_rate", "some-judge")}
    assert [(s.name, s.published, s.run) for s in found.differences if s.changes == "grades"][:1] == [
        ("judge", ORIGINAL_JUDGE, "some-judge")
    ]
    text = " ".join(verify_report.as_text(found).split())
    assert "cannot tell: 21.0 % by some-judge; the published number is gpt-4-1106-preview's, and another judge" in text
    assert "'tulu-eval calibrate-judge' measures how the two relate" in text
    assert verify_report.as_json(found)["untested"][0]["verdict"] == "cannot tell"


def test_the_published_judge_counts_though_another_comes_first(check: Callable[..., Verification]) -> None:
    found = check(*rows("another", WHOLE), *rows(ORIGINAL_JUDGE, WHOLE))
    assert verdicts(found) == {
        ("lc_win_rate", ORIGINAL_JUDGE): "consistent", ("win_rate", ORIGINAL_JUDGE): "consistent",
        ("lc_win_rate", "another"): "untested", ("win_rate", "another"): "untested",
    }  # fmt: skip


CALIBRATED = "|calibrated:400 pairs of {} model{}"


@pytest.mark.parametrize(("value", "expected"), [(15.0, "consistent"), (30.0, "inconsistent")])
def test_a_calibrated_raw_win_rate_is_tested_against_the_published_raw_one(
    check: Callable[..., Verification], value: float, expected: str
) -> None:
    mapped = rows("some-judge", {"win_rate_calibrated": value}, more=CALIBRATED.format(3, "s"))
    found = check(*rows("some-judge", WHOLE), *mapped)
    assert verdicts(found) == {("win_rate", "some-judge"): expected, ("lc_win_rate", "some-judge"): "untested"}
    (lc,) = {one.reason for one in found.untested}
    assert "its calibration maps the raw win rate, not the length-controlled one" in lc
    assert found.inconsistent == (expected == "inconsistent")


def test_a_wide_calibration_cannot_tell(check: Callable[..., Verification]) -> None:
    mapped = rows("some-judge", {"win_rate_calibrated": 15.0}, more=CALIBRATED.format(3, "s"), half=12.0)
    assert verdicts(check(*rows("some-judge", WHOLE), *mapped))["win_rate", "some-judge"] == "cannot tell"


def test_an_interval_cut_at_0_does_not_make_the_error_smaller(check: Callable[..., Verification]) -> None:
    mapped = rows("some-judge", {"win_rate_calibrated": 1.0}, more=CALIBRATED.format(3, "s"), half=9.0)
    (one,) = check(*rows("some-judge", WHOLE), *mapped).comparisons
    p = math.erfc((15.982854374136648 - 1.0) / math.hypot(9 / Z, 1.1457861368237434) / math.sqrt(2))
    assert one.agreement.p_value == pytest.approx(p)


def test_a_calibration_on_one_model_is_none(check: Callable[..., Verification]) -> None:
    mapped = rows("some-judge", {"win_rate_calibrated": 15.0}, more=CALIBRATED.format(1, ""))
    found = check(*rows("some-judge", WHOLE), *mapped)
    assert found.comparisons == ()
    assert any("its calibration stands on one model" in one.reason for one in found.untested)


def test_a_subset_has_no_lc_to_compare(check: Callable[..., Verification]) -> None:
    found = check(*rows("some-judge", {"win_rate": 5.0}, n=64), model=PPO_13B)
    assert {one.reason for one in found.untested} == {"there is no lc_win_rate, for 64 of 805 have a preference"}
    assert " 5.0 (win_rate by some-judge) " in verify_report.as_text(found), (
        "beside a length-controlled number it says what it is"
    )
    assert found.comparisons == ()


def test_without_an_interval_there_is_nothing_to_compare(check: Callable[..., Verification]) -> None:
    with pytest.raises(UserError, match="has no interval"):
        check(*rows(ORIGINAL_JUDGE, WHOLE, interval="none"))
