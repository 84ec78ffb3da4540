"""What arithmetic finds in the registry's own numbers, and in a user's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.registry import load_suite
from tulu_eval.registry.lint import AVERAGE

SUITE = load_suite()
WRITTEN = {entry.id for entry in SUITE.contradictions() if entry.first_source != entry.second_source or entry.pattern}
RULE = "mean of 9 columns, xstest inverted, alpaca-eval and xstest as one"
BASE_RULE = "mean of 8 columns, xstest inverted and as one"
"""The same rule for rows without AlpacaEval."""
COMPUTED = {entry.id: entry for entry in SUITE.contradictions()[-6:]}


def test_the_computed_contradictions_are_these_and_stand_behind_the_written_ones() -> None:
    assert list(COMPUTED) == [
        "share-alpacaeval1-wr-llama-3-tulu-2-8b",
        "share-alpacaeval1-wr-llama-3-tulu-2-dpo-8b",
        "share-alpacaeval1-wr-meta-llama-3-8b-instruct",
        "share-alpacaeval1-wr-tulu-2-dpo-13b",
        "equal-xstest-llama-3-tulu-2-dpo-8b",
        "equal-bbh-meta-llama-3-70b-instruct",
    ]
    assert not WRITTEN & set(COMPUTED)
    for text, name in (
        ("801 or 796", "llama-3-tulu-2-8b"),
        ("802", "llama-3-tulu-2-dpo-8b"),
        ("804 or 803", "meta-llama-3-8b-instruct"),
    ):
        assert text in COMPUTED[f"share-alpacaeval1-wr-{name}"].second
    # a single coarse column: both have 0.140 of XSTest's 200 unsafe prompts
    assert not any("dpo-70b" in name for name in COMPUTED if name.startswith("equal"))


@pytest.mark.parametrize(
    ("model", "rules"),
    [
        ("Meta-Llama-3-70B", [BASE_RULE]),
        ("Meta-Llama-3-8B", [BASE_RULE]),
        ("Meta-Llama-3-70B-Instruct", ["mean of 11 columns, xstest inverted", RULE]),
        ("llama-3-tulu-2-8b", [RULE]),
        ("llama-3-tulu-2-dpo-8b", [RULE]),
        ("llama-3-tulu-2-dpo-70b", [RULE]),
        ("Meta-Llama-3-8B-Instruct", [RULE]),
    ],
)
def test_one_column_per_benchmark_explains_all_averages_of_the_llama_3_cards(model: str, rules: list[str]) -> None:
    (check,) = SUITE.averages(SUITE.find(model))
    assert [one.words for one in check.fitting] == rules
    values = {one.words: round(one.value, 2) for one in check.values}
    if model == "llama-3-tulu-2-8b":  # the figure of eleven columns was worked out by hand
        assert values["mean of 11 columns, xstest inverted"] == 60.59
        assert values[RULE] == 59.4  # 59.39 is printed: the columns were rounded first


def test_every_average_of_the_papers_tables_is_the_plain_mean_of_six_columns() -> None:
    checks = [check for check in SUITE.averages() if check.metric == "paper_Average"]
    assert len(checks) == 23
    assert {one.words for check in checks for one in check.fitting} == {"mean of 6 columns"}
    assert all(check.fitting for check in checks)


def test_an_average_beside_two_columns_is_not_checked() -> None:
    cells = [cell for cell in SUITE.cells() if cell.metric == AVERAGE]
    assert len(cells) - len(SUITE.averages()) == 2
    assert {
        cell.source.key for cell in cells if cell.place not in {(c.model, c.metric, c.source) for c in SUITE.averages()}
    } == {"card-13b-70b-uf-rm"}


MINE = """
[[source]]
key = "report"
document = "our report"

[[model]]
hub_id = "us/start"
stage = "SFT"
size = "8B"
family = "ours"

[[model]]
hub_id = "us/made"
stage = "DPO"
size = "8B"
family = "ours"
base = "us/start"

[[table]]
source = "report"
columns = ["MMLU_5shot", "TydiQA_GP_1shot", "AlpacaEval1_WR", "Average"]
rows = [
  ["us/start", "60.61", "56.24", "{win_rate}", "{average}"],
  ["us/made",  "61.02", "{tydiqa}", "80.00", ""],
]
"""


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, []),
        ({"win_rate": "79.40"}, ["share-alpacaeval1-wr-start"]),
        ({"average": "66.66"}, ["average-start"]),
        ({"tydiqa": "56.24"}, []),  # of two rows that are equal nobody can say how far a column spreads
    ],
)
def test_numbers_of_a_user_are_checked_too(tmp_path: Path, changed: dict[str, str], found: list[str]) -> None:
    path = tmp_path / "mine.toml"
    fields = {"win_rate": "79.38", "average": "65.41", "tydiqa": "50.11"} | changed
    if changed.get("win_rate"):
        fields["average"] = "65.42"
    path.write_text(MINE.format(**fields))
    suite = load_suite(path)
    assert [entry.id for entry in suite.contradictions() if set(entry.models) & {"us/start", "us/made"}] == found
    standing = {cell.metric_key: cell.standing for cell in suite.cells(suite.find("us/start"))}
    assert [key for key, value in standing.items() if value == "contradicted"] == [
        {"share": "AlpacaEval1_WR", "average": "Average"}[name.partition("-")[0]] for name in found
    ]
