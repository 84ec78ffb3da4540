"""Numbers of a card's tables that do not fit each other, and tables in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.model_card import check
from tulu_eval.model_card.card_file import read_card
from tulu_eval.registry import load_suite

SUITE = load_suite()
TITLES = {
    "MMLU_5shot": "MMLU 5-shot",
    "GSM8K_8shot_CoT": "GSM8k 8-shot cot",
    "BBH_3shot_CoT": "BBH 3-shot cot",
    "TydiQA_GP_1shot": "TydiQA 1-shot Gold Passage",
    "Codex_HumanEval_P@10": "Codex HumanEval Pass@10",
    "AlpacaEval1_WR": "AlpacaEval 1",
    "AlpacaEval2_LC": "AlpacaEval 2 LC",
    "TruthfulQA_Info+True": "TruthfulQA %Info+True",
    "IFEval_loose": "IFEval loose acc",
    "XSTest_safe_but_refused": "XSTest safe but refused",
    "XSTest_unsafe_but_followed": "XSTest unsafe but follow",
    "Average": "Average",
}


def found(tmp_path: Path, *tables: str) -> list[check.Finding]:
    path = tmp_path / "README.md"
    path.write_text("---\nmodel-index: []\n---\n" + "\n\n".join(tables) + "\n")
    card = read_card(path)
    return [one for one in check.check(card, SUITE, None) if one.source == check.ARITHMETIC]


def table(*rows: str) -> str:
    return "\n".join(["| " + rows[0] + " |", "|" + "---|" * (rows[0].count("|") + 1), *(f"| {row} |" for row in rows[1:])])


def llama_3_card() -> str:
    """The table of the Llama-3 cards as the registry has it, in their form."""
    rows: dict[str, dict[str, str]] = {}
    for cell in SUITE.cells():
        if cell.source.key == "llama-3-cards":
            rows.setdefault(cell.model, {})[cell.metric_key] = cell.printed
    return table(
        " | ".join(["Model", *TITLES.values()]),
        *(" | ".join([name, *(row.get(key, "-") for key in TITLES)]) for name, row in rows.items()),
    )


def test_the_llama_3_cards_table_has_the_registrys_findings(tmp_path: Path) -> None:
    names = [(one.check, one.says) for one in found(tmp_path, llama_3_card())]
    assert [says for name, says in names if name == "impossible-share"] == [
        "The table prints AlpacaEval 1 79.40 for allenai/llama-3-tulu-2-8b.",
        "The table prints AlpacaEval 1 93.02 for allenai/llama-3-tulu-2-dpo-8b.",
        "The table prints AlpacaEval 1 94.65 for meta-llama/Meta-Llama-3-8B-Instruct.",
    ]
    assert "average-of-row" not in dict(names)  # one column per benchmark gives all seven, as in the registry
    assert sorted(says.partition(": ")[2] for name, says in names if name == "equal-rows") == [
        "BBH 3-shot cot 0.801.",
        "XSTest safe but refused 0.092 and XSTest unsafe but follow 0.165.",
    ]
    assert len(names) == 5


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (("Model | GSM8K", "a | 48.72"), ["impossible-share"]),  # neither of 200 nor of 1319
        (("Model | GSM8K", "a | 48.5", "b | 48.75"), []),  # 97 of 200, 643 of 1319
        (("Model | Riddles (n = 30)", "a | 0.467", "b | 0.480"), ["impossible-share"]),
        (("Model | A | B | C | Average", "a | 50 | 60 | 70 | 60.4", "b | 50 | 61 | 73 | 65"), ["average-of-row"]),
        (("Model | A | B | Average", "a | 50 | 60 | 70"), []),  # an excerpt
        (("Model | A | B | C | MT-Bench | Average", "a | 50 | 60 | 70 | 7.5 | 63.75"), []),
        (("Model | A | B | C | Avg. length | Avg.", "a | .5 | 0.50 | 0.60 | 1500 | 55.0"), []),
        (("Model | A | B | C | Average", "a | 0.500 | 0.610 | 0.70 | 60.3"), []),
        (("Model | A | B", "a | 50.123 | 7.11", "b | 50.123 | 9.25", "c | 20.5 | 8.1"), ["equal-rows"]),
        (("Task | A | B", "a | 50.123 | 7.11", "b | 50.123 | 9.25", "c | 20.5 | 8.1"), []),  # rows are no models
        (("Model | A | B", "a | 50 | 7", "b | 50 | 9", "c | 45 | 8"), []),
        (("Name | Metric | Value | n", "x | exact match | 48.7 | 200", "x | lc win rate | 48.7 | 200"), ["impossible-share"]),
    ],
)
def test_what_is_found_in_a_table(tmp_path: Path, rows: tuple[str, ...], names: list[str]) -> None:
    assert [one.check for one in found(tmp_path, table(*rows))] == names


def test_tables_do_not_mix(tmp_path: Path) -> None:
    one = table("Model | A", "a | 50.123", "b | 20.511")
    other = table("Model | A", "c | 50.123", "d | 10.022")
    assert not found(tmp_path, one, other)


@settings(max_examples=50)
@given(st.lists(st.lists(st.text(alphabet="0123456789.|-: nAverage%", max_size=12), min_size=3, max_size=3), max_size=6))
def test_any_table_can_be_read(tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]) -> None:
    rows = ["Model | A (n = 7) | Average", *(" | ".join(row) for row in cells)]
    for one in found(tmp_path_factory.mktemp("card"), table(*rows)):
        assert one.line > 4
