"""Rules that only the suite's own files can break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tulu_eval.errors import DataError
from tulu_eval.registry import load_suite
from tulu_eval.registry.rules import check_card
from tulu_eval.registry.suite_schema import read_file

MODELS = {model.hub_id: model for model in load_suite().models}
ROW = '[[family_row]]\nprinted_split = "nectar"\nsplit = "nectar"\n'


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("https://huggingface.co/allenai/tulu-v2.5-dpo-13b-nectr", "allenai/tulu-v2.5-dpo-13b-nectr"),
        ("https://example.org/allenai/tulu-2-13b", "https://example.org/allenai/tulu-2-13b"),
    ],
)
def test_a_link_of_the_card_to_no_model_is_refused(tmp_path: Path, target: str, shown: str) -> None:
    file = tmp_path / "card.toml"
    file.write_text(f'{ROW}dpo = "[a]({target})"\n', encoding="utf-8")
    with pytest.raises(DataError) as caught:
        check_card([], list(read_file(file)), MODELS, tmp_path)
    assert str(caught.value) == f"{file}:1: [[family_row]] nectar: 'dpo' links to {shown!r}, which is not in the registry"


def test_a_link_of_the_card_to_a_model_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "card.toml"
    file.write_text(f'{ROW}dpo = "[a](https://huggingface.co/allenai/tulu-v2.5-dpo-13b-nectar)"\n', encoding="utf-8")
    check_card([], list(read_file(file)), MODELS, tmp_path)
