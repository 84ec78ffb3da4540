"""Two checkpoints never share a row of the table, whatever they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tulu_eval.registry import load_suite
from tulu_eval.runs.collect import collect
from tulu_eval.runs.owners import owners_of
from tulu_eval.runs.reading import read_run

MakeRun = Callable[..., Path]


def test_one_name_and_two_sets_of_weights_are_two_rows(make_run: MakeRun, tmp_path: Path) -> None:
    for at, right in (("a", 20), ("b", 90)):
        make_run(right=right, model="policy", revision=at * 8, output=f"results/{at}")
    table = collect(load_suite(), tmp_path / "results")
    others = {line.label: line.entries[0].measured for line in table.lines[5:]}
    assert sorted(label.partition(" (")[0] for label in others) == ["policy", "policy"]
    assert sorted(measured.row.value for measured in others.values() if measured) == [10.0, 45.0]


def test_one_model_quantised_in_two_ways_is_two_owners(make_run: MakeRun) -> None:
    runs = [read_run(make_run(right=92, model="allenai/tulu-2-13b", quantization=how, output=how)) for how in ("fp8", "awq")]
    owners = owners_of(runs, load_suite())
    assert len(owners) == 2
    assert all(name.startswith("allenai/tulu-2-13b (own weights) (weights w4a372aa, ") for name in owners)


def test_a_released_model_is_one_row_and_one_set_of_weights_keeps_its_plain_name(make_run: MakeRun) -> None:
    released = [read_run(make_run(right=92, model="allenai/tulu-2-13b", revision=at, output=at)) for at in ("1111", "2222")]
    own = read_run(make_run(right=92, model="mine", revision="cccc", output="own"))
    assert list(owners_of([*released, own], load_suite())) == ["allenai/tulu-2-13b", "mine"]
