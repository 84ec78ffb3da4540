"""The known baselines' hashes are those of the real files, and outputs are known by them alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tulu_eval.benchmarks.alpaca_baselines import UNKNOWN, identify, known, matches, output_hash

FILES = {"gpt4_1106_preview": "alpaca_eval_gpt4_baseline.json", "text_davinci_003": "alpaca_eval_set.json"}


@pytest.fixture(scope="module")
def outputs(shared: Path) -> dict[str, list[str]]:
    """Outputs by baseline, from the real files."""
    folder = shared / "data" / "alpaca_eval"
    return {name: [row["output"] for row in json.loads((folder / file).read_text())] for name, file in FILES.items()}


def test_hashes_and_lengths_are_the_real_files(outputs: dict[str, list[str]]) -> None:
    assert [one.baseline.name for one in known()] == list(FILES)
    for one in known():
        texts = outputs[one.baseline.name]
        assert one.outputs == tuple(map(output_hash, texts))
        assert one.characters == tuple(map(len, texts))
    assert [one.baseline.label for one in known()] == ["gpt4_1106_preview@170a7549", "text_davinci_003@849ca621"]
    assert [one.baseline.published for one in known()] == [True, False]


def test_a_few_outputs_are_enough_and_one_other_is_too_many(outputs: dict[str, list[str]]) -> None:
    for one in known():
        some = {place: output_hash(outputs[one.baseline.name][place]) for place in range(3, 805, 7)}
        assert identify(some) == one.baseline
        some[10] = output_hash(outputs[one.baseline.name][10] + " ")
        assert identify(some).name == UNKNOWN
        assert len(matches(one, some)) == len(some) - 1


def test_an_unknown_baseline_is_known_again_in_any_order() -> None:
    first = identify({4: output_hash("a"), 9: output_hash("b")})
    assert first == identify({9: output_hash("b"), 4: output_hash("a")})
    assert first != identify({4: output_hash("b"), 9: output_hash("a")})
    assert first.label == f"unknown@{first.sha256[:8]}"
