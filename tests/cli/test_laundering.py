"""No verb makes a forged run whole: not by grading it again, not by going on with it, not by putting it together anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.scoring import write_rows
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest import read_manifest
from tulu_eval.store.sample_line import Sample, decode, encode

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
NOT_ITS_OWN = "samples.jsonl is not what result.json was computed from"


def rewrite(folder: Path, change: Callable[[Sample], Sample]) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(b"".join(encode(change(decode(line))) for line in path.read_bytes().splitlines(keepends=True)))


def better(sample: Sample) -> Sample:
    if sample.completion.finish_reason == "error":
        return sample
    text = f" So the answer is {sample.target}."
    return dataclasses.replace(sample, completion=dataclasses.replace(sample.completion, text=text))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_result_of_other_answers_than_the_manifest_has(make_run: MakeRun, invoke: Run) -> None:
    """The result is forged with every hash of its own; the manifest's hash of the answers stays."""
    folder = make_run(right=10, limit=20)
    manifest = read_manifest(folder)
    rewrite(folder, better)
    with Ledger(folder / "samples.jsonl", read_only=True) as ledger:
        write_rows(folder, manifest, GSM8K(), ledger.lines())
    for words in (("verify", folder, "--partial"), ("score", folder)):
        done = invoke(*words)
        assert (done.exit_code, done.stdout, NOT_ITS_OWN in done.stderr) == (2, "", True)


def _first_half(manifest: dict[str, Any]) -> None:
    manifest["items"]["card-200"] = manifest["items"]["card-200"][:10]


def _other_order(manifest: dict[str, Any]) -> None:
    manifest["items"]["card-200"].reverse()


@pytest.mark.parametrize("change", [_first_half, _other_order])
def test_the_items_that_were_right_are_not_the_protocol(
    make_run: MakeRun, invoke: Run, change: Callable[[dict[str, Any]], None]
) -> None:
    """Without a result nothing but the protocol itself says which items it has."""
    folder = make_run(right=10, limit=20)
    (folder / "result.json").unlink()
    edit_manifest(folder, change)
    for words in (("score", folder), ("verify", folder)):
        done = invoke(*words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "manifest.json: its items are not those of its protocol, limit and shard" in done.stderr


def test_failures_that_are_tried_again_do_not_make_forged_answers_whole(make_run: MakeRun) -> None:
    folder = make_run(right=10, limit=20, failed=3)
    rewrite(folder, better)
    with pytest.raises(DataError, match=rf"is not as it was made.*{NOT_ITS_OWN}"):
        make_run(right=10, limit=20, failed=0)


def test_failures_of_a_run_as_it_was_made_are_tried_again(make_run: MakeRun) -> None:
    folder = make_run(right=10, limit=20, failed=3)
    assert read_run(folder).tally.failed == 3
    make_run(right=10, limit=20, failed=0)
    assert (read_run(folder).tally.failed, read_run(folder).results[0].value) == (0, 50.0)


def test_shards_decide_what_their_run_has(make_alpaca_run: Any, invoke: Run, tmp_path: Path, shared: Path) -> None:
    """A run that was forged after its shards were put together is that of its shards again."""
    data = shared / "data/alpaca_eval/alpaca_eval_gpt4_baseline.json"
    shards = [make_alpaca_run(tmp_path / "parts", 4, None, shard=(part, 2)) for part in (1, 2)]
    assert invoke("merge", *shards, "--data", data).exit_code == 0
    folder = shards[0].parent.parent
    good = [(folder / name).read_bytes() for name in ("result.json", "model_outputs.json")]
    rewrite(folder, better)
    assert read_run(folder).doubts == (NOT_ITS_OWN,)
    assert invoke("merge", *shards, "--data", data).exit_code == 0
    assert [(folder / name).read_bytes() for name in ("result.json", "model_outputs.json")] == good
    assert read_run(folder).doubts == ()
