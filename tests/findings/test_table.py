"""The card's table: every row, the right run of several, groups, other models, other judges, folders that cannot be used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.errors import DataError
from tulu_eval.findings.table import CollectedTable, TableCell, arrange, collect
from tulu_eval.findings.verify import verify
from tulu_eval.judging.judge_recipe import ORIGINAL_JUDGE, PROMPT_SHA256
from tulu_eval.records import STATUSES, Result
from tulu_eval.registry import load_suite
from tulu_eval.reports import board
from tulu_eval.reports import table as report
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.store import manifest as files

MakeRun = Callable[..., Path]
PPO_13B, SFT_13B, DPO_70B = (
    "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm",
    "allenai/tulu-2-13b",
    "allenai/tulu-2-dpo-70b",
)


def gsm8k(table: CollectedTable, model: str) -> TableCell:
    return next(line.entries[0] for line in table.lines if line.model == model)


def judged(folder: Path, judge: str, metrics: tuple[str, ...] = ("lc_win_rate", "win_rate")) -> StoredRun:
    """Returns a run with the benchmark AlpacaEval and win rates by a judge."""
    run = read_run(folder)
    items = {"alpacaeval2-805": run.manifest.planned}
    manifest = replace(run.manifest, benchmark=replace(run.manifest.benchmark, name="alpaca-eval"), items=items)
    counts = {status: 805 if status == "ok" else 0 for status in STATUSES}
    signature = f"alpaca-eval|n:805/805|judge:{judge}|by:logprobs|prompt:{PROMPT_SHA256[:8]}|b:{known()[0].baseline.label}"
    rows = [
        Result(
            "alpaca-eval", "alpacaeval2-805", judge, metric, 20.0, 805, 805, 805, 18.0, 22.0, "bootstrap95", counts, signature
        )
        for metric in metrics
    ]
    return dataclasses.replace(run, about=manifest, results=tuple(rows))


def test_the_five_rows_are_there_though_nothing_was_measured(tmp_path: Path) -> None:
    table = collect(load_suite(), tmp_path / "nowhere")
    assert [line.label for line in table.lines] == [
        "Tulu V2.5 PPO Llama 3 70B (this model)",
        "Tulu V2.5 PPO 13B",
        "Tulu V2 DPO 13B",
        "Tulu V2 SFT 13B",
        "Tulu V2 DPO 70B",
    ]
    printed = [[entry.cell.printed for entry in line.entries if entry.cell] for line in table.lines]
    assert printed == [["48.5", "28.8"], ["67.0", "26.7"], ["50.5", "16.0"], ["46.0", "10.4"], ["71.5", "21.2"]]
    assert all(entry.measured is None and entry.comparison is None for line in table.lines for entry in line.entries)
    assert [line.entries[0].group for line in table.lines] == ["B", "A", "B", "B", "A"]
    first = table.lines[0].entries[0].interval
    assert first is not None
    assert [round(end, 1) for end in first] == [41.7, 55.4]


def test_a_measured_row_has_its_verdict_against_the_cards_cell_only(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    entry = gsm8k(collect(load_suite(), tmp_path / "results"), PPO_13B)
    assert entry.measured is not None
    assert entry.comparison is not None
    assert (entry.measured.row.value, entry.comparison.agreement.verdict) == (60.5, "inconsistent")
    assert (entry.measured_group, entry.reason) == ("", "")


def test_of_several_runs_the_one_with_most_items_then_the_newest(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=30, limit=50, output="results/a")
    old = make_run(right=120, output="results/b")
    new = make_run(right=119, output="results/c")
    for folder, ended in ((old, "2026-01-01T00:00:00+00:00"), (new, "2026-01-02T00:00:00+00:00")):
        data = json.loads((folder / files.MANIFEST).read_text())
        data["sessions"][-1]["finished"] = ended
        (folder / files.MANIFEST).write_text(json.dumps(data))
    measured = gsm8k(collect(load_suite(), tmp_path / "results"), PPO_13B).measured
    assert measured is not None
    assert (measured.runs, measured.row.n, measured.run.folder) == (3, 200, new)


def test_a_partial_run_is_shown_without_verdict_and_failures_beside_the_value(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=30, limit=50)
    failed = make_run(right=100, failed=2, model=SFT_13B)
    table = collect(load_suite(), tmp_path / "results")
    assert (gsm8k(table, PPO_13B).reason, gsm8k(table, PPO_13B).comparison) == ("partial (50 of 200)", None)
    found = gsm8k(table, SFT_13B).comparison
    assert found is not None
    assert found == verify(read_run(failed), load_suite()).comparisons[0]
    assert "49.0 (2 failed) [42.2, 56.9], n = 200" in report.write(table, load_suite(), "markdown")


def test_all_items_stand_beside_the_published_ones(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=lambda place: place % 200 < 121, protocol="full")
    measured = gsm8k(collect(load_suite(), tmp_path / "results"), PPO_13B).measured
    assert measured is not None
    assert measured.full is not None
    assert (measured.row.n, measured.full.n, measured.full.scorer) == (200, 1319, "last-number")


def test_other_models_follow_and_never_take_a_row_of_the_card(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=10, model="smollm2-135m-instruct", revision="sha256:1")
    make_run(right=92, model="tulu-2-13b", revision="sha256:2")
    make_run(right=92, model=SFT_13B, quantization="fp8")
    make_run(right=150, model="someone/else")
    table = collect(load_suite(), tmp_path / "results")
    assert [(line.label, line.size, line.alignment, line.on_card) for line in table.lines[5:]] == [
        ("smollm2-135m-instruct", "135M", "instruct", False),
        ("allenai/tulu-2-13b (own weights)", "13B", "SFT", False),
        ("someone/else", "13.0B", "-", False),
        ("tulu-2-13b", "13.0B", "-", False),
    ]
    assert gsm8k(table, SFT_13B).measured is None
    assert [line.entries[0].measured_group for line in table.lines[5:]] == ["C", "B", "A", "B"]
    others = {line.label: line.entries[0] for line in table.lines[5:]}
    assert [label for label, entry in others.items() if entry.cell] == ["allenai/tulu-2-13b (own weights)"]
    own = others["allenai/tulu-2-13b (own weights)"]
    assert own.cell is not None
    assert own.comparison is not None
    assert (own.cell.printed, own.comparison.agreement.method) == ("46.0", "Fisher exact"), "as verify says it"


def test_a_protocol_that_a_card_of_its_own_has_is_a_column(make_run: MakeRun) -> None:
    folder = make_run(
        right=18, protocol="lighteval", model="smollm2-135m-instruct", revision="sha256:1", form="chat",
        write=lambda place, is_right: f"#### {place + 1 if is_right else 0}",
    )  # fmt: skip
    table = arrange(load_suite(), [read_run(folder)], ())
    assert [column.metric_key for column in table.columns] == ["GSM8K_8shot_CoT", "AlpacaEval2_LC", "GSM8K_5shot_lighteval"]
    (line,) = (line for line in table.lines if line.label == "smollm2-135m-instruct")
    own = line.entries[2]
    assert own.cell is not None
    assert own.comparison is not None
    assert (own.cell.printed, own.comparison.row.n, own.comparison.agreement.verdict) == ("1.4", 1319, "consistent")
    assert line.entries[0].measured is None


def test_another_judge_is_another_column(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        judged(make_run(model=DPO_70B), ORIGINAL_JUDGE),
        judged(make_run(model=DPO_70B, output="other"), "some-judge"),
        judged(make_run(model=SFT_13B), ORIGINAL_JUDGE, metrics=("win_rate",)),
    ]
    table = arrange(load_suite(), runs, ())
    assert [(column.metric, column.judge) for column in table.columns] == [
        ("exact_match", ""), ("lc_win_rate", ""), ("lc_win_rate", "some-judge"), ("win_rate", ""),
    ]  # fmt: skip
    of = {line.model: line.entries for line in table.lines}
    assert of[DPO_70B][1].comparison is not None
    assert of[DPO_70B][1].comparison.agreement.method == "normal"
    assert of[DPO_70B][2].measured is not None
    assert (of[DPO_70B][2].cell, of[DPO_70B][2].comparison) == (None, None)
    assert [entry.measured is None for entry in of[SFT_13B]] == [True, True, True, False]
    assert of[DPO_70B][3].measured is not None, "a column of raw win rates has those of all runs"


@pytest.mark.parametrize("judge", [ORIGINAL_JUDGE, "some-judge"])
def test_a_raw_win_rate_never_stands_among_length_controlled_ones(make_run: MakeRun, judge: str) -> None:
    runs = [
        judged(make_run(model=SFT_13B), judge, metrics=("win_rate",)),
        judged(make_run(model=DPO_70B), ORIGINAL_JUDGE),
        judged(make_run(model="someone/else"), judge, metrics=("win_rate",)),
    ]
    table = arrange(load_suite(), runs, ())
    for line in table.lines:
        for column, entry in zip(table.columns, line.entries, strict=True):
            if entry.measured is not None:
                assert entry.measured.row.metric == column.metric
                assert (column.judge or ORIGINAL_JUDGE) == entry.measured.row.scorer
    named = "" if judge == ORIGINAL_JUDGE else ", judge some-judge,"
    titles = report.write(table, load_suite(), "markdown").splitlines()[0]
    assert f"| AlpacaEval 2 win rate{named} measured |" in " ".join(titles.split())


def test_the_report_has_a_chart_for_each_metric_and_judge(make_run: MakeRun) -> None:
    """135 million parameters seemed to win: 99.0, raw, by another judge, on the axis of the published numbers."""
    small = make_run(model="smollm2-135m-instruct", revision="sha256:1")
    runs = [
        judged(small, "some-judge", metrics=("win_rate", "win_rate_calibrated")),
        judged(make_run(model=SFT_13B), "some-judge"),
        judged(make_run(model=DPO_70B), ORIGINAL_JUDGE),
    ]
    suite = load_suite()
    table = arrange(suite, runs, ())
    assert {chart["name"]: chart["axis"] for chart in board.charts(table, suite)} == {
        "GSM8K": "GSM8K, percent",
        "AlpacaEval 2 LC": f"AlpacaEval 2 LC, percent, judged by {ORIGINAL_JUDGE} as published",
        "AlpacaEval 2 LC, judge some-judge": "AlpacaEval 2 LC, percent, judged by some-judge",
        "AlpacaEval 2 win rate, judge some-judge": "AlpacaEval 2 win rate, percent, judged by some-judge",
        "AlpacaEval 2 win rate, judge some-judge calibrated": (
            f"AlpacaEval 2 win rate, percent, judged by some-judge, mapped to the scale of {ORIGINAL_JUDGE}"
        ),
    }
    assert {chart["unit"] for chart in board.charts(table, suite)} == {"percent"}
    kinds: dict[str, set[tuple[str, str]]] = {}
    for row in board.rows(table, suite, {}):
        if row["published"]:
            kinds.setdefault(row["chart"], set()).add(("published", ""))
        if row["measured"]:
            kinds.setdefault(row["chart"], set()).add((row["measured"]["metric"], row["measured"]["scorer"]))
    assert kinds == {
        "GSM8K": {("published", "")},
        "AlpacaEval 2 LC": {("published", ""), ("lc_win_rate", ORIGINAL_JUDGE)},
        "AlpacaEval 2 LC, judge some-judge": {("lc_win_rate", "some-judge")},
        "AlpacaEval 2 win rate, judge some-judge": {("win_rate", "some-judge")},
        "AlpacaEval 2 win rate, judge some-judge calibrated": {("win_rate_calibrated", "some-judge")},
    }


def test_a_calibrated_number_is_a_column_of_its_own_named_after_its_judge(make_run: MakeRun, tmp_path: Path) -> None:
    run = judged(make_run(model=DPO_70B), "some-judge", metrics=("lc_win_rate", "win_rate", "win_rate_calibrated"))
    table = arrange(load_suite(), [run], ())
    assert [(column.metric_key, column.judge, column.calibrated) for column in table.columns] == [
        ("GSM8K_8shot_CoT", "", False),
        ("AlpacaEval2_LC", "", False),
        ("AlpacaEval2_LC", "some-judge", False),
        ("AlpacaEval2_WR", "some-judge", True),
    ]
    entries = next(line.entries for line in table.lines if line.model == DPO_70B)
    assert [entry.measured and entry.measured.row.metric for entry in entries] == [
        None, None, "lc_win_rate", "win_rate_calibrated",
    ]  # fmt: skip
    assert (entries[3].cell, entries[3].comparison) == (None, None)
    text = report.write(table, load_suite(), "markdown")
    titles = [cell.strip() for cell in text.splitlines()[0].split("|")]
    assert {
        "AlpacaEval 2 LC, judge some-judge, measured",
        "AlpacaEval 2 win rate, judge some-judge calibrated, estimated",
    } < set(titles)
    assert "- Judged by some-judge: another scale than the published numbers'." in text
    assert "- Calibrated: a raw win rate mapped to the published judge's scale" in text


def test_folders_that_cannot_be_used_are_named_and_others_counted(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    spoiled = make_run(right=120, model=SFT_13B)
    data = json.loads((spoiled / files.RESULT).read_text())
    data["results"][0]["value"] = 99.0
    (spoiled / files.RESULT).write_text(json.dumps(data))
    unfinished = make_run(right=120, model=DPO_70B)
    (unfinished / files.RESULT).unlink()
    kept = (unfinished / files.LEDGER).read_bytes().splitlines(keepends=True)
    (unfinished / files.LEDGER).write_bytes(b"".join(kept[:30]))
    manifest = json.loads((unfinished / files.MANIFEST).read_text())
    del manifest["answers_sha256"], manifest["tally"]
    (unfinished / files.MANIFEST).write_text(json.dumps(manifest))
    elsewhere = make_run(right=1, model="someone/else")
    manifest = json.loads((elsewhere / files.MANIFEST).read_text())
    manifest["benchmark"]["name"] = "gsm-symbolic"
    (elsewhere / files.MANIFEST).write_text(json.dumps(manifest))
    table = collect(load_suite(), tmp_path / "results")
    assert len(table.problems) == 3
    assert sum("result.json: was changed after it was written" in line for line in table.problems) == 1
    assert sum("unfinished: 30 of 200 planned samples are there" in line for line in table.problems) == 1
    assert sum("manifest.json: model, prompt, template or decoding was changed" in line for line in table.problems) == 1
    assert table.elsewhere == {}
    assert gsm8k(table, DPO_70B).measured is None
    assert gsm8k(table, PPO_13B).measured is not None


@pytest.mark.parametrize("count", [0, 1])
def test_one_measured_number_has_no_group(make_run: MakeRun, tmp_path: Path, count: int) -> None:
    for _ in range(count):
        make_run(right=121)
    table = collect(load_suite(), tmp_path / "results")
    assert {line.entries[0].measured_group for line in table.lines} == {""}


def test_two_checkpoints_of_one_name_are_two_lines(make_run: MakeRun, tmp_path: Path) -> None:
    """The weights tell checkpoints apart: two that a user gives one name have a row each."""
    make_run(right=100, model="mine", revision="aaaaaaaa")
    make_run(right=20, model="mine", revision="bbbbbbbb")
    make_run(right=40, model="other", revision="sha256:cccccccc")
    make_run(right=40, model="other", revision="sha256:cccccccc", dtype="float32")
    lines = collect(load_suite(), tmp_path / "results").lines[5:]
    measured = [(line.label, line.entries[0].measured) for line in lines]
    assert [(label, one and one.row.value, one and one.runs) for label, one in measured] == [
        ("mine (weights waaaaaaa)", 50.0, 1), ("mine (weights wbbbbbbb)", 10.0, 1), ("other", 20.0, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"format": 1, "model": 5}', '{"format": 1, "model": "nope"}', "[" * 99999])
def test_a_note_that_names_no_model_is_a_problem_of_the_table(make_run: MakeRun, tmp_path: Path, note: str) -> None:
    folder = make_run(right=10, model="mine", revision="sha256:1")
    (folder / "compared_as.json").write_text(note)
    table = collect(load_suite(), tmp_path / "results")
    (problem,) = table.problems
    assert problem.startswith(f"{folder / 'compared_as.json'}:")
    with pytest.raises(DataError) as caught:
        verify(read_run(folder), load_suite())
    assert str(caught.value) == problem, "in the same words"
