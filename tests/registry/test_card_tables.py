"""The card's two tables and its contradictions, against the card itself, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tulu_eval.registry import Contradiction, Link, load_suite, plain

SUITE = load_suite()
LINK = re.compile(r"\[([^\]]*)\]\(https://huggingface\.co/([^)]*)\)")

ON_THE_CARD = {
    "card-title-size": 26,
    "card-reward-model-size": 30,
    "card-row-1-label": 53,
    "card-link-8b-uf-rm": 32,
    "card-link-mixed-prompts": 33,
    "card-link-this-model": 34,
    "card-finetuned-from": 42,
    "card-license": 21,
    "card-training-data": 45,
    "ppo-13b-gsm8k": 54,
    "target-gsm8k": 53,
    "card-best-overall": 34,
    "dpo-13b-label": 55,
    "card-ppo-13b-rm-data": 54,
    "card-family-header": 68,
    "card-family-equals": 71,
    "card-extra-prompts-cell": 74,
    "card-extra-prompts-footnote": 91,
    "card-family-without-llama-3": 67,
    "card-no-value-model": 68,
    "nectar-60k-dpo": 78,
    "card-split-shp2": 81,
    "card-split-names": 82,
    "card-dpo-trainer": 94,
    "card-llama-2-corpus": 97,
    "card-hyperparameters": 101,
    "kl-coefficient": 106,
    "card-scores-used": 29,
    "card-bibtex": 112,
    "card-metadata": 14,
    "card-input-format": 63,
    "card-bold-maxima": 53,
}
"""Everything the card says twice and differently, and the line of the seed card where its pattern first finds it."""


@pytest.fixture(scope="module")
def card(shared: Path) -> str:
    return (shared / "seed" / "model_card.md").read_text(encoding="utf-8")


def rows_after(card: str, header: str) -> list[list[str]]:
    """Returns the cells of the Markdown table under a header line, read without the registry's own code."""
    lines = card.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith(header)) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip()[1:-1].split("|")])
    return rows


def test_every_row_and_cell_of_the_results_table_is_there(card: str) -> None:
    rows = rows_after(card, "| Model | Size | Alignment |")
    assert len(rows) == 5
    assert [list(row.printed) for row in SUITE.card_rows] == rows


def test_every_row_and_cell_of_the_family_table_is_there(card: str) -> None:
    rows = rows_after(card, "[Preference Data]")
    assert len(rows) == 21
    assert [list(row.printed) for row in SUITE.family_rows] == rows


def test_every_link_of_the_family_table_leads_to_a_model_of_its_column(card: str) -> None:
    stages = ("DPO", "PPO", "RM", "value")
    links = 0
    for row, cells in zip(SUITE.family_rows, rows_after(card, "[Preference Data]"), strict=True):
        for link, cell, stage in zip(row.links, cells[1:], stages, strict=True):
            found = LINK.match(cell)
            assert (link is None) == (found is None) == (cell in ("", "=", "N/A"))
            if link is not None and found is not None:
                links += 1
                assert (link.text, link.hub_id) == (found.group(1), found.group(2))
                assert link.suffix == cell[found.end() :].strip()
                model = SUITE.find(link.target)
                assert (model.hub_id, model.stage) == (link.hub_id, stage)
                assert model.preference_split == row.split
    assert links == 39


def test_a_family_row_agrees_with_what_its_models_say_of_each_other() -> None:
    for row in SUITE.family_rows:
        _, ppo, reward, value = row.links
        if ppo is None:
            assert reward is None
            continue
        assert reward is not None
        model = SUITE.find(ppo.target)
        assert model.reward_model == reward.hub_id
        assert model.preference_split == row.split
        assert model.value_model == (value.hub_id if value else None)


def test_card_rows_resolve_by_the_record_and_not_by_their_label() -> None:
    resolved = {plain(row.label): (row.model, row.identity) for row in SUITE.card_rows}
    assert resolved == {
        "Tulu V2.5 PPO Llama 3 70B (this model)": ("allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm", "certain"),
        "Tulu V2.5 PPO 13B": ("allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm", "certain"),
        "Tulu V2 DPO 13B": ("allenai/tulu-v2.5-dpo-13b-uf-mean", "inferred"),
        "Tulu V2 SFT 13B": ("allenai/tulu-2-13b", "certain"),
        "Tulu V2 DPO 70B": ("allenai/tulu-2-dpo-70b", "certain"),
    }


def test_the_numbers_of_the_card_are_those_of_its_rows() -> None:
    printed = [(cell.model, cell.printed) for cell in SUITE.cells() if cell.source.key == "card"]
    assert printed == [(row.model, plain(number)) for row in SUITE.card_rows for number in (row.gsm8k, row.alpaca_eval)]


@pytest.mark.parametrize("id_", ON_THE_CARD)
def test_a_contradiction_is_found_in_the_card_where_it_stands(card: str, id_: str) -> None:
    contradiction = next(entry for entry in SUITE.contradictions() if entry.id == id_)
    assert contradiction.first_source == "card"
    found = re.search(contradiction.pattern, card, re.MULTILINE)
    assert found is not None
    assert card.count("\n", 0, found.start()) + 1 == ON_THE_CARD[id_]


def test_the_contradictions_on_the_card_are_all_listed_here() -> None:
    assert {entry.id for entry in SUITE.contradictions() if entry.first_source == "card"} == set(ON_THE_CARD)


def test_a_contradiction_is_two_statements_and_one_line_of_advice() -> None:
    for entry in SUITE.contradictions():
        assert entry.first != entry.second
        for text in (entry.first, entry.second, entry.advice):
            assert text.endswith(".")
            assert "\n" not in text


def contradictions_of(name: str) -> set[str]:
    return {entry.id for entry in SUITE.contradictions(SUITE.find(name))}


def test_contradictions_of_a_model() -> None:
    assert {"target-gsm8k", "card-reward-model-size", "kl-coefficient"} <= contradictions_of(
        "llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"
    )
    assert "dpo-13b-label" in contradictions_of("tulu-2-dpo-13b")
    assert "dpo-13b-label" in contradictions_of("tulu-v2.5-dpo-13b-uf-mean")
    assert contradictions_of("Meta-Llama-3-8B") == set()


def test_the_numbers_that_a_contradiction_names_are_those_in_its_statements() -> None:
    """A cell made ``contradicted`` has its value, as printed or rounded, in one of the two statements."""
    for entry in SUITE.contradictions():
        for ref in entry.cells:
            cell = next(cell for cell in SUITE.cells() if cell.place == (ref.model, ref.metric, ref.source))
            assert cell.standing == "contradicted"
            assert entry.id in cell.contradictions
            assert says(entry, cell.printed, cell.value)


def says(entry: Contradiction, printed: str, value: float) -> bool:
    return any(number in entry.first + entry.second for number in (printed, f"{value:.2f}"))


@pytest.mark.parametrize(
    ("cell", "link"),
    [
        ("[a](https://huggingface.co/o/b)", Link("a", "https://huggingface.co/o/b", "")),
        ("[a](https://huggingface.co/o/b) * x", Link("a", "https://huggingface.co/o/b", "* x")),
        ("=", None),
        ("", None),
    ],
)
def test_a_cells_link(cell: str, link: Link | None) -> None:
    assert Link.read(cell) == link


def test_an_address_elsewhere_is_no_hub_id() -> None:
    assert Link("a", "https://example.org/o/b", "").hub_id == ""
