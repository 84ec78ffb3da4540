"""Shards and what they merge into: the run of one process, byte for byte; and shards that do not belong together."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tulu_eval.errors import DataError, UserError
from tulu_eval.registry import load_suite
from tulu_eval.runs.merge import merge
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import find_runs
from tulu_eval.runs.requests import parse_shard
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import timeless
from tulu_eval.store.tally import Tally

QUIET = Progress(quiet=True)


def plan_of(order: Order, shard: str = "", **changes: Any) -> Plan:
    part = parse_shard(shard) if shard else None
    plan = make_plan(dataclasses.replace(order, shard=part, **changes), load_suite())
    return dataclasses.replace(plan, decoding=dataclasses.replace(plan.decoding, max_new_tokens=12))


def lines(folder: Path) -> list[bytes]:
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        return [timeless(line) for line in ledger.lines()]


def shards_of(order: Order, parts: int) -> list[Path]:
    return [execute(plan_of(order, f"{part}/{parts}"), QUIET).folder for part in range(1, parts + 1)]


@pytest.fixture
def single(order: Order) -> Path:
    """The run of one process, elsewhere, so that no shard takes its samples over."""
    return execute(plan_of(order, output=order.output / "single"), QUIET).folder


def state(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_the_merged_run_is_the_single_run(order: Order, single: Path, parts: int) -> None:
    shards = shards_of(order, parts)
    sizes = [len(files.read_manifest(folder).planned) for folder in shards]
    assert sum(sizes) == 12
    assert max(sizes) - min(sizes) <= 1
    merged = merge([shards[0].parent.parent])
    assert merged.folder.name == single.name
    assert (merged.shards, merged.added, merged.tally) == (parts, 12, Tally(12, 12, 0))
    assert (merged.folder / files.RESULT).read_bytes() == (single / files.RESULT).read_bytes()
    assert sorted(lines(merged.folder)) == sorted(lines(single))
    one, other = files.read_manifest(single), files.read_manifest(merged.folder)
    assert replace(one, sessions=(), command=(), commit="") == replace(other, sessions=(), command=(), commit="")
    assert [session.shard for session in other.sessions] == [f"{part}/{parts}" for part in range(1, parts + 1)]
    before = state(merged.folder)
    assert merge(shards).added == 0
    again = state(merged.folder)
    assert {path for path in before if before[path] != again[path]} == set()
    assert execute(plan_of(order), QUIET).generated == 0


def test_a_shard_that_was_killed_is_named_and_repeated(order: Order, single: Path, programs: Any) -> None:
    shards_of(order, 3)
    plan = plan_of(order, "2/3")
    shutil.rmtree(plan.folder)
    child = programs.start(sys.executable, "-c", KILLED.format(order=order))
    _, errors = child.communicate()
    assert child.returncode == -signal.SIGKILL, errors
    kept = lines(plan.folder)
    assert 0 < len(kept) < 4
    before = state(order.output)
    with pytest.raises(
        DataError, match=rf"unfinished: {len(kept)} of 4 planned samples are there, .*; run its command with --shard 2/3 again"
    ):
        merge([plan.run_folder])
    assert state(order.output) == before
    assert execute(plan, QUIET).generated == 4 - len(kept)
    assert (merge([plan.run_folder]).folder / files.RESULT).read_bytes() == (single / files.RESULT).read_bytes()


KILLED = """
import dataclasses, os, signal
from pathlib import Path, PosixPath
from tulu_eval.backends.base import EngineSettings
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import find_runs
from tulu_eval.runs.runner import execute
from tulu_eval.sandbox import Execution
from tulu_eval.store.tally import Tally

class Killer(Progress):
    def sample(self, sample):
        os.kill(os.getpid(), signal.SIGKILL)

plan = make_plan(dataclasses.replace({order!r}, shard=(2, 3)), load_suite())
plan = dataclasses.replace(plan, decoding=dataclasses.replace(plan.decoding, max_new_tokens=12))
execute(plan, Killer(quiet=True))
"""


def test_what_does_not_belong_together_is_one_line_and_writes_nothing(order: Order, tmp_path: Path) -> None:
    two, three = shards_of(order, 2), shards_of(order, 3)
    short = execute(plan_of(order, "2/2", limit=6), QUIET).folder
    other = execute(plan_of(order, "2/2", settings=dataclasses.replace(order.settings, dtype="bfloat16")), QUIET).folder
    whole = execute(plan_of(order, output=tmp_path / "whole"), QUIET).folder
    copy = Path(shutil.copytree(two[1], tmp_path / "copy"))
    overlapping = Path(shutil.copytree(two[1], tmp_path / "overlapping"))
    engine = Path(shutil.copytree(two[1], tmp_path / "engine"))
    unmade = Path(shutil.copytree(two[1], tmp_path / "unmade"))
    bent = Path(shutil.copytree(two[1], tmp_path / "bent"))
    change(overlapping, planned=files.read_manifest(two[0]).planned)
    change(engine, packages={"transformers": "0.1", "tulu-eval": "0"})
    change(unmade, shard=[2])
    ledger = bent / files.LEDGER
    ledger.write_bytes(ledger.read_bytes().replace(b'"status":"', b'"status":"n', 1))
    cases = [
        ([two[0]], "1 of 2 shard is missing: 2/2; run the same command with --shard 2/2"),
        (three[:1], "2 of 3 shards are missing: 2/3, 3/3"),
        ([two[0], two[1], copy], "two folders have shard 2/2: "),
        ([two[0], three[1]], f"is one of 3 shards, and {two[0]} is one of 2"),
        ([two[0].parent.parent], "is one of "),
        ([two[0], short], f"differs from {two[0]} in limit"),
        ([two[0], other], f"differs from {two[0]} in dtype"),
        ([two[0], engine], "engine (transformers-"),
        ([two[0], overlapping], "the shards overlap: 6 items are in more than one of them, first row-0"),
        ([two[0], whole], "is a whole run, not a shard of one"),
        ([two[0], unmade], "shard: Expected 'array' of length >= 2"),
        ([two[0], copy], "say where the run goes with --output FOLDER"),
        (
            [two[0], bent, "-o"],
            "is not as it was made; put its files back, or make the run again with --fresh: samples.jsonl: 1 lines are corrupt",
        ),
        ([tmp_path / "nowhere"], "nowhere: no such run folder"),
    ]
    before = state(tmp_path)
    for given, message in cases:
        folders = [folder for folder in given if isinstance(folder, Path)]
        with pytest.raises(UserError) as caught:
            merge(folders, tmp_path / "made" if "-o" in given else None)
        assert message in str(caught.value), given
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    assert state(tmp_path) == before
    assert merge([copy, two[0]], tmp_path / "made").added == 12


def change(folder: Path, **values: Any) -> None:
    path = folder / files.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_shard_that_is_being_written_is_waited_for(order: Order) -> None:
    shards = shards_of(order, 2)
    with files.locked(shards[1]), pytest.raises(UserError, match=r"another process is writing to .*2-of-2"):
        merge(shards)


def test_samples_of_other_shards_are_taken_over_and_no_table_counts_a_shard(order: Order) -> None:
    shards_of(order, 2)
    assert find_runs(order.output) == ((), ())
    assert execute(plan_of(order, "2/3"), QUIET).generated == 0
    assert execute(plan_of(order), QUIET).generated == 0
    (run,), problems = find_runs(order.output)
    assert run.results[0].n == 12
    assert not problems


def test_answers_for_other_tools_are_written_for_the_run(make_alpaca_run: Any, order: Order, shared: Path) -> None:
    data = shared / "data/alpaca_eval/alpaca_eval_gpt4_baseline.json"
    whole = make_alpaca_run(order.output / "single", 4)
    texts = {1: {0: "Answer number 0.\n", 1: "Answer number 2.\n"}, 2: {0: "Answer number 1.\n", 1: "Answer number 3.\n"}}
    shards = [make_alpaca_run(order.output / "parts", 4, texts[part], shard=(part, 2)) for part in (1, 2)]
    merged = merge(shards, data=data)
    for name in (files.RESULT, "model_outputs.json"):
        assert (merged.folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "1/3/5", "-1/3", ""])
def test_a_shard_is_a_part_of_a_number(text: str) -> None:
    with pytest.raises(UserError, match="--shard must be I/N with I from 1 to N, such as 3/7"):
        parse_shard(text)


def test_no_more_shards_than_items(order: Order) -> None:
    with pytest.raises(UserError, match="--shard 13/13: there are 12 items, so at most as many shards"):
        plan_of(order, "13/13")
