"""The baseline's side, found by outputs in spite of wrong names; and preferences checked against raw completions."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.errors import DataError
from tulu_eval.judging.annotations import read_annotations
from tulu_eval.judging.judge_recipe import swapped
from tulu_eval.judging.numbers import by_original_judge, label, results, signature
from tulu_eval.judging.session import ScoredOutputs, score_files
from tulu_eval.judging.win_rates import Scoring

Rows = list[dict[str, Any]]
LC, RAW = 28.155196141629148, 17.188240356708075
"""What the public leaderboard prints for claude-2."""


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "alpaca_eval"


@pytest.fixture(scope="module")
def published(folder: Path) -> Rows:
    return json.loads((folder / "models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def rows(published: Rows) -> Rows:
    return copy.deepcopy(published)


@pytest.fixture
def scored(folder: Path, tmp_path: Path) -> Callable[[Rows], ScoredOutputs]:
    """Scores rows as a file, without a bootstrap."""

    def call(rows: Rows) -> ScoredOutputs:
        (tmp_path / "a.json").write_text(json.dumps(rows))
        return score_files(tmp_path / "a.json", None, Scoring(folder / "df_gamed_rederived.csv", draws=0))

    return call


def exchange(row: dict[str, Any], *, names: bool = True, preference: bool = True) -> None:
    """Exchanges a row's sides."""
    row["output_1"], row["output_2"] = row["output_2"], row["output_1"]
    if names:
        row["generator_1"], row["generator_2"] = row["generator_2"], row["generator_1"]
    if preference:
        row["preference"] = 3.0 - row["preference"]


def refused(rows: Rows, tmp_path: Path) -> str:
    (tmp_path / "bad.json").write_text(json.dumps(rows))
    with pytest.raises(DataError) as caught:
        read_annotations(tmp_path / "bad.json")
    assert "\n" not in str(caught.value)
    return str(caught.value).split(": ", 1)[1]


@pytest.mark.parametrize(
    "names",
    [
        (None, None),
        ("", ""),
        ("x", "x"),
        ("gpt4_1106_preview", "gpt4_1106_preview"),
        (None, "mine"),
        ("", None),
        ("gpt-4", "mine"),
    ],
)
def test_names_change_no_number(
    rows: Rows, scored: Callable[[Rows], ScoredOutputs], names: tuple[str | None, str | None]
) -> None:
    for row in rows:
        row["generator_1"], row["generator_2"] = names
    found = scored(rows)
    assert found.score.lc is not None
    assert found.score.lc.value == pytest.approx(LC, abs=1e-8)
    assert found.annotations.model == ("" if names[1] == "gpt4_1106_preview" else names[1] or "")
    assert "|b:gpt4_1106_preview@170a7549|" in signature(found.score)
    assert all(map(by_original_judge, results(found.score)))


def test_names_that_are_absent_altogether_change_no_number(rows: Rows, scored: Callable[[Rows], ScoredOutputs]) -> None:
    for row in rows:
        del row["generator_1"], row["generator_2"]
    assert scored(rows).score.lc == scored(rows).score.lc
    assert signature(scored(rows).score).count("b:gpt4_1106_preview@") == 1


def test_exchanged_sides_are_turned_round_and_filed_apart(rows: Rows, scored: Callable[[Rows], ScoredOutputs]) -> None:
    for row in rows:
        exchange(row)
    found = scored(rows)
    assert found.score.lc is not None
    assert found.score.lc.value == pytest.approx(LC, abs=1e-8)
    assert found.score.win_rate.win_rate == pytest.approx(RAW, abs=1e-9)
    assert found.annotations.model == "claude-2"
    assert "805 of 805 rows have the model as output_1" in found.flags[-1]
    assert label(found.score) == "gpt-4-1106-preview, sides exchanged"
    assert "|sides:exchanged|" in signature(found.score)
    assert not any(map(by_original_judge, results(found.score)))


def test_a_judge_that_was_asked_so_is_turned_round_too(rows: Rows, scored: Callable[[Rows], ScoredOutputs]) -> None:
    """Preferences and raw completions as stored, columns exchanged: as if the judge had been asked with the model first."""
    for row in rows:
        exchange(row, preference=False)
    assert scored(rows).score.win_rate.win_rate == pytest.approx(100 - RAW, abs=1e-9)


def test_sides_may_differ_from_row_to_row(rows: Rows, scored: Callable[[Rows], ScoredOutputs]) -> None:
    for row in rows[1::2]:
        exchange(row)
    found = scored(rows)
    assert found.score.lc is not None
    assert found.score.lc.value == pytest.approx(LC, abs=1e-8)
    assert "402 of 805 rows have the model as output_1" in found.flags[0]


def test_two_ways_of_exchanging_in_one_file_are_refused(rows: Rows, tmp_path: Path) -> None:
    for row in rows:
        exchange(row)
    rows[100]["preference"] = 3.0 - rows[100]["preference"]
    assert refused(rows, tmp_path).startswith("row 101: preference ")


def test_another_baseline_is_filed_apart(rows: Rows, scored: Callable[[Rows], ScoredOutputs], folder: Path) -> None:
    theirs = json.loads((folder / "models/tulu-2-dpo-7b/model_outputs.json").read_text())
    texts = {row["instruction"]: row["output"] for row in theirs}
    for row in rows:
        row["output_1"] = texts[row["instruction"]]
    found = scored(rows)
    baseline = found.score.terms.baseline
    assert baseline is not None
    assert (baseline.name, baseline.published) == ("unknown", False)
    assert label(found.score) == f"gpt-4-1106-preview, against {baseline.label}"
    assert f"|b:{baseline.label}|" in signature(found.score)
    assert not any(map(by_original_judge, results(found.score)))
    assert found.flags[0] == "the file says that the baseline is gpt4_1106_preview, which has other outputs"


def test_alpaca_eval_1s_baseline_is_known_by_name(rows: Rows, scored: Callable[[Rows], ScoredOutputs], folder: Path) -> None:
    texts = {row["instruction"]: row["output"] for row in json.loads((folder / "alpaca_eval_set.json").read_text())}
    for row in rows:
        row["output_1"], row["generator_1"] = texts[row["instruction"]], ""
    assert label(scored(rows).score) == "gpt-4-1106-preview, against text_davinci_003@849ca621"


def test_the_baseline_against_itself_has_50_whatever_it_is_called(rows: Rows, scored: Callable[[Rows], ScoredOutputs]) -> None:
    for row in rows:
        row.update(output_2=row["output_1"], preference=1.5, generator_2="mine", raw_completion=None)
    found = scored(rows).score
    assert found.lc is not None
    assert (found.lc.value, found.counts["identical"]) == (50.0, 805)


@pytest.mark.parametrize("names", [(None, None), ("x", "x"), ("x", None), (None, "x")])
def test_neither_outputs_nor_names_tell(rows: Rows, tmp_path: Path, names: tuple[str | None, str | None]) -> None:
    for row in rows:
        row["output_1"], row["generator_1"], row["generator_2"] = "something else", *names
    assert refused(rows, tmp_path).startswith("the baseline is unknown: neither output_1 nor output_2 are the outputs of")


def test_names_against_outputs_are_refused(rows: Rows, tmp_path: Path) -> None:
    message = "its names or its outputs are exchanged: the outputs under the name claude-2 are those of gpt4_1106_preview"
    names = copy.deepcopy(rows)
    for row in names:
        row["generator_1"], row["generator_2"] = row["generator_2"], row["generator_1"]
    assert refused(names, tmp_path).startswith(message)
    for row in rows:
        exchange(row, names=False)
    assert refused(rows, tmp_path).startswith(message)


def test_a_mix_of_baselines_is_refused_with_its_row(rows: Rows, tmp_path: Path) -> None:
    rows[41]["output_1"] += " "
    assert refused(rows, tmp_path) == (
        "has outputs of the baseline gpt4_1106_preview in 804 of 805 rows and none in row 42; check whether somebody changed "
        "an output"
    )


def test_two_models_in_a_file_are_refused(rows: Rows, tmp_path: Path) -> None:
    rows[0]["generator_2"] = "another"
    assert refused(rows, tmp_path) == "has 2 different names of the model: 'another', 'claude-2'"
    rows[0]["generator_2"] = ["claude-2"]
    assert refused(rows, tmp_path) == "'generator_2' is ['claude-2'], which is not a name"


@pytest.mark.parametrize("change", [1e-8, -0.4, 0.3])
def test_a_preference_that_its_raw_completion_does_not_give_is_refused(rows: Rows, tmp_path: Path, change: float) -> None:
    at = next(n for n, row in enumerate(rows) if row["raw_completion"] and 1.4 < row["preference"] < 1.7)
    stored = rows[at]["preference"]
    rows[at]["preference"] += change
    words = refused(rows, tmp_path).split()
    assert words[:3] == ["row", f"{at + 1}:", "preference"]
    assert float(words[3]) == stored + change
    assert float(words[-1]) == pytest.approx(stored, abs=1e-9)


def test_a_raw_completion_without_a_verdict_gives_no_preference(rows: Rows, tmp_path: Path) -> None:
    rows[3]["raw_completion"]["logprobs"]["content"][0]["top_logprobs"] = [{"token": "The", "logprob": -0.1}]
    assert refused(rows, tmp_path).endswith("does not match its raw completion: no verdict")


def test_preferences_without_raw_completions_are_taken_and_said(rows: Rows, scored: Callable[[Rows], ScoredOutputs]) -> None:
    for row in rows[:100]:
        row["raw_completion"] = None
    assert scored(rows).flags == ["100 of 805 preferences are unchecked: there is no raw completion with log-probabilities"]


def test_equal_outputs_are_a_tie(rows: Rows, tmp_path: Path) -> None:
    rows[3].update(output_2=rows[3]["output_1"], preference=2.0)
    assert refused(rows, tmp_path) == "row 4: preference 2.0 between two equal outputs; it must be 1.5"


def test_stored_rankings_give_alpaca_eval_1s_win_rate_and_no_lc(rows: Rows, folder: Path, tmp_path: Path) -> None:
    texts = {row["instruction"]: row["output"] for row in json.loads((folder / "alpaca_eval_set.json").read_text())}
    for place, row in enumerate(rows):
        rank = 1 + (place % 4 > 0)
        said = f"[{{'model': 'model_1', 'rank': {rank}}}, {{'model': 'model_2', 'rank': {3 - rank}}}]"
        row |= {"output_1": texts[row["instruction"]], "generator_1": "text_davinci_003", "annotator": "alpaca_eval_gpt4"}
        row |= {"preference": float(3 - rank if swapped(row["instruction"]) else rank), "raw_completion": said}
        if row["output_1"] == row["output_2"]:
            row |= {"preference": 1.5, "raw_completion": None}
    found = scored_file(rows, tmp_path)
    (row,) = results(found.score)
    assert (row.metric, row.scorer, row.n) == ("alpaca_eval_1_win_rate", "gpt-4", 805)
    assert row.value == pytest.approx(100 * sum(one["preference"] - 1 for one in rows) / 805)
    assert by_original_judge(row)
    assert "|judge:gpt-4|by:ranking|prompt:" in row.signature
    assert row.signature.endswith("|b:text_davinci_003@849ca621")
    assert (found.flags, found.score.why_no_lc) == ([], "AlpacaEval 1 has none")
    rows[8]["preference"] = 3.0 - rows[8]["preference"]
    assert refused(rows, tmp_path).startswith("row 9: preference ")


def scored_file(rows: Rows, tmp_path: Path) -> ScoredOutputs:
    """Scores rows as a file; no gamed rows are read."""
    (tmp_path / "ranked.json").write_text(json.dumps(rows))
    return score_files(tmp_path / "ranked.json", None, Scoring(tmp_path / "there is no such file"))
