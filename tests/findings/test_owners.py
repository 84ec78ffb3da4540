"""Two checkpoints never share a row of the table, even if they have one name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tulu_eval.findings.owners import owners_of
from tulu_eval.findings.table import collect
from tulu_eval.registry import load_suite
from tulu_eval.runs.reading import StoredRun, read_run

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


@pytest.fixture
def two_commits(make_run: MakeRun) -> list[StoredRun]:
    """Runs of one hub id at two commits with other weights."""
    return [
        read_run(make_run(right=right, model="allenai/tulu-2-13b", revision=at * 40, output=f"results/{at}"))
        for at, right in (("1", 92), ("2", 20))
    ]


def test_two_commits_of_one_hub_id_are_two_owners(two_commits: list[StoredRun], make_run: MakeRun) -> None:
    own = read_run(make_run(right=92, model="mine", revision="cccc", output="own"))
    owners = owners_of([*two_commits, own], load_suite())
    assert list(owners) == ["allenai/tulu-2-13b@1111111", "allenai/tulu-2-13b@2222222", "mine"]
    assert [run.results[0].value for runs in owners.values() for run in runs] == [46.0, 10.0, 46.0]


def with_model(run: StoredRun, **changes: Any) -> StoredRun:
    """Returns a run of the model with these fields changed."""
    return dataclasses.replace(run, about=replace(run.manifest, model=replace(run.manifest.model, **changes)))


def test_two_commits_with_the_same_weights_are_one_row(two_commits: list[StoredRun]) -> None:
    one, other = two_commits
    same = with_model(other, weights_sha256=one.manifest.model.weights_sha256)
    assert list(owners_of([one, same], load_suite())) == ["allenai/tulu-2-13b"]


def test_two_commits_that_begin_alike_are_told_by_their_weights(two_commits: list[StoredRun]) -> None:
    one, other = two_commits
    alike = with_model(other, revision=one.manifest.model.revision)
    assert list(owners_of([one, alike], load_suite())) == [
        "allenai/tulu-2-13b@1111111", "allenai/tulu-2-13b@1111111 (weights w2222222)",
    ]  # fmt: skip


def test_the_table_shows_two_commits_in_two_rows_and_neither_as_the_cards(two_commits: list[StoredRun], tmp_path: Path) -> None:
    suite = load_suite()
    table = collect(suite, tmp_path / "results")
    rows = {line.label: line.entries[0].measured for line in table.lines if line.entries[0].measured}
    assert {name: measured.row.value for name, measured in rows.items() if measured} == {
        "allenai/tulu-2-13b@1111111": 46.0, "allenai/tulu-2-13b@2222222": 10.0,
    }  # fmt: skip
    assert {line.entries[0].cell.printed for line in table.lines if line.label in rows and line.entries[0].cell} == {"46.0"}
    on_card = {row.model for row in suite.card_rows}
    told = ("allenai/tulu-2-13b was measured at 2 commits with other weights; each has a row of its own",)
    assert table.apart == (told if "allenai/tulu-2-13b" in on_card else ())
