"""Runs that cannot be lost: resume, SIGKILL, Ctrl-C, a lock, a full disk, another model's samples."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import pickle
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import Backend
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.errors import DataError, EngineError, UserError
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.registry import load_suite
from tulu_eval.runs.generation import InterruptedRunError
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute, execute_all
from tulu_eval.runs.score import score
from tulu_eval.stats import wilson
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.tally import Tally

QUIET = Progress(quiet=True)


def plan_of(order: Order, **changes: Any) -> Plan:
    """The plan, with 24 new tokens so that it runs in a moment."""
    plan = make_plan(dataclasses.replace(order, **changes), load_suite())
    return dataclasses.replace(plan, decoding=dataclasses.replace(plan.decoding, max_new_tokens=24))


def result_bytes(folder: Path) -> bytes:
    return (folder / files.RESULT).read_bytes()


def items(folder: Path) -> list[str]:
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        return sorted(sample.item for sample in ledger.samples())


def test_a_run_leaves_manifest_samples_and_result(order: Order) -> None:
    plan = plan_of(order)
    outcome = execute(plan, QUIET)
    assert (outcome.generated, outcome.tally) == (12, Tally(12, 12, 0))
    assert {row.scorer for row in outcome.results} == {"last-number", "stated-answer"}
    assert all(row.n == row.n_protocol == 12 and sum(row.counts.values()) == 12 for row in outcome.results)
    manifest = files.read_manifest(outcome.folder)
    assert manifest.status == "complete"
    assert manifest.eos_ids == (1,), "the tokenizer's, though the model's generation_config says 40"
    assert manifest.sessions[0].new_tokens
    assert manifest.template.form == "tulu"
    assert str(order.output) not in (outcome.folder / files.MANIFEST).read_text()
    assert files.read_results(outcome.folder).rows == outcome.results


def test_a_second_run_generates_nothing_and_changes_no_result(order: Order) -> None:
    first = execute(plan_of(order), QUIET)
    before = result_bytes(first.folder)
    second = execute(plan_of(order), QUIET)
    assert (second.generated, second.folder) == (0, first.folder)
    assert result_bytes(first.folder) == before
    assert len(files.read_manifest(first.folder).sessions) == 1


def test_samples_of_another_limit_are_taken_over(order: Order) -> None:
    small = execute(plan_of(order, limit=5), QUIET)
    assert small.results[0].n == 5
    assert small.results[0].partial
    whole = execute(plan_of(order), QUIET)
    assert whole.generated == 7
    alone = execute(plan_of(order, output=order.output / "alone"), QUIET)
    assert result_bytes(alone.folder) == result_bytes(whole.folder)


def test_another_model_or_setting_never_meets_these_samples(order: Order, tmp_path: Path) -> None:
    first = execute(plan_of(order), QUIET)
    other = Path(shutil.copytree(order.model, tmp_path / Path(order.model).name))
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    for changed in (
        plan_of(order, model=str(other)),
        plan_of(order, settings=dataclasses.replace(order.settings, dtype="bfloat16")),
    ):
        outcome = execute(changed, QUIET)
        assert outcome.generated == 12
        assert outcome.folder != first.folder


def test_fresh_sets_the_old_ledger_aside(order: Order) -> None:
    first = execute(plan_of(order), QUIET)
    again = execute(plan_of(order), QUIET, fresh=True)
    assert again.generated == 12
    assert len(list(first.folder.glob("*-samples.jsonl"))) == 1


def test_score_grades_again_without_a_model(order: Order) -> None:
    outcome = execute(plan_of(order), QUIET)
    before = result_bytes(outcome.folder)
    (outcome.folder / files.RESULT).unlink()
    assert score(outcome.folder).results == outcome.results
    assert result_bytes(outcome.folder) == before


KILLED = """
import dataclasses, hashlib, pickle, sys, time
from tulu_eval.records import Completion
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

class Quick(ScriptedBackend):
    name = "transformers"

    def answer(self, request, decoding):
        time.sleep(0.003)
        said = int(hashlib.sha256(request.key.encode()).hexdigest(), 16) % 30
        return Completion(request.key, f" So the answer is {said}.", (said,), "stop", 0.1)

with open(sys.argv[1], "rb") as file:
    plan = pickle.load(file)
assert "torch" not in sys.modules
execute(dataclasses.replace(plan, backend=Quick), Progress(quiet=True))
"""


def lines(folder: Path) -> int:
    ledger = folder / files.LEDGER
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


def test_sigkill_at_twenty_random_moments(order: Order, tmp_path: Path, programs: Any) -> None:
    """Kills a program twenty times everywhere in its run, then lets it finish: the same result, the same set of samples.

    Its engine answers from the request alone: a start without torch takes a fraction of a second. ``test_merge.py`` kills a
    real one.
    """
    rows = [{"question": f"What is {number} + 1?", "answer": f"#### {number + 1}"} for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(plan: Plan) -> Any:
        (tmp_path / "plan").write_bytes(pickle.dumps(dataclasses.replace(plan, backend=Backend)))
        return programs.start(sys.executable, "-c", KILLED, tmp_path / "plan")

    plan = plan_of(order, data=tmp_path / "rows.jsonl")
    whole = plan_of(order, data=tmp_path / "rows.jsonl", output=order.output / "whole")
    assert start(whole).communicate()[1] == ""
    draw, killed = random.Random(7), 0
    while killed < 20:
        if lines(plan.folder) == 60 or draw.random() < 0.2:  # begin anew, so that kills fall everywhere in a run
            shutil.rmtree(plan.folder, ignore_errors=True)
        target = draw.randint(lines(plan.folder), 60)
        child = start(plan)
        while child.poll() is None and lines(plan.folder) < target:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.01))
        child.kill()
        _, errors = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), errors
        killed += child.returncode != 0
    assert start(plan).communicate()[1] == ""
    assert result_bytes(plan.folder) == result_bytes(whole.folder)
    assert items(plan.folder) == items(whole.folder)
    assert lines(plan.folder) == lines(whole.folder) == 60


class Scripted(TransformersBackend):
    """The real backend, with something done after a number of completions."""

    after = 5

    def happen(self) -> None:
        raise KeyboardInterrupt

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for number, completion in enumerate(super().generate(requests, decoding)):
            if number == self.after:
                self.happen()
            yield completion


class Dying(Scripted):
    def happen(self) -> None:
        raise EngineError("the engine died: out of luck")


class Lazy(Scripted):
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        yield from list(super(Scripted, self).generate(requests, decoding))[: self.after]


class Doubling(Scripted):
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for completion in super(Scripted, self).generate(requests, decoding):
            yield completion
            yield completion


@pytest.mark.parametrize(
    ("backend", "error", "message", "kept"),
    [
        (Scripted, InterruptedRunError, "interrupted: 5 of 12 samples are kept in", 5),
        (Dying, EngineError, "the engine died: out of luck", 5),
        (Lazy, EngineError, "ended without answering 7 requests", 5),
        (Doubling, EngineError, "answered a request twice", 1),
    ],
)
def test_what_is_finished_is_kept_whatever_ends_the_run(
    order: Order, backend: type[Scripted], error: type[UserError], message: str, kept: int
) -> None:
    plan = plan_of(order)
    with pytest.raises(error) as caught:
        execute(dataclasses.replace(plan, backend=backend), QUIET)
    assert message in str(caught.value)
    manifest = files.read_manifest(plan.folder)
    assert manifest.status == "incomplete"
    assert manifest.sessions[-1].samples == kept
    assert not (plan.folder / files.RESULT).exists()
    with pytest.raises(DataError, match=r"has no result\.json"):
        files.read_results(plan.folder)
    done = execute(plan, QUIET)
    assert done.generated == 12 - kept
    assert items(plan.folder) == sorted(f"row-{number}" for number in range(12))


class FailingRow(Scripted):
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for number, completion in enumerate(super(Scripted, self).generate(requests, decoding)):
            yield dataclasses.replace(completion, finish_reason="error", error="bad luck") if number == 3 else completion


def test_a_failed_row_is_counted_and_redone(order: Order) -> None:
    plan = plan_of(order)
    outcome = execute(dataclasses.replace(plan, backend=FailingRow), QUIET)
    assert outcome.tally == Tally(12, 11, 1, "bad luck")
    row = outcome.results[0]
    assert (row.low, row.high) == (100 * wilson(0, 12).low, 100 * wilson(1, 12).high), "wrong or right, nobody knows"
    assert outcome.results[0].counts["engine_error"] == 1
    assert outcome.results[0].n == 12
    again = execute(plan, QUIET)
    assert (again.generated, again.tally.failed) == (1, 0)
    assert again.results[0].counts["engine_error"] == 0


def test_two_processes_do_not_share_a_run(order: Order) -> None:
    plan = plan_of(order)
    plan.folder.mkdir(parents=True)
    with (plan.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is writing to"):
            execute(plan, QUIET)
    assert not (plan.folder / files.MANIFEST).exists()


def test_a_folder_of_other_settings_or_versions_is_refused(order: Order) -> None:
    plan = plan_of(order)
    execute(plan, QUIET)
    path = plan.folder / files.MANIFEST
    data = json.loads(path.read_text())
    for change, message in (({"settings_sha256": "0"}, "other settings"), ({"format": 99}, "is of format 99")):
        path.write_text(json.dumps({**data, **change}))
        with pytest.raises(DataError, match=message):
            execute(plan, QUIET)


def test_a_result_edited_by_hand_is_named(order: Order) -> None:
    outcome = execute(plan_of(order), QUIET)
    path = outcome.folder / files.RESULT
    data = json.loads(path.read_text())
    data["results"][0]["value"] += 10
    path.write_text(json.dumps(data))
    with pytest.raises(DataError, match="was changed after it was written"):
        files.read_results(outcome.folder)


def test_a_full_quota_ends_in_one_line_and_the_run_goes_on(order: Order) -> None:
    """The operating system's own limit on the size of files this process writes; it cuts a write short as a full disk does."""
    plan = plan_of(order)
    plan.folder.mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(UserError, match=r"samples\.jsonl failed: File too large|manifest\.json cannot be written"):
            execute(plan, QUIET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    done = execute(plan, QUIET)
    assert items(plan.folder) == sorted(f"row-{number}" for number in range(12))
    assert done.tally.failed == 0


def test_two_benchmarks_share_one_engine_start(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = TransformersBackend.load.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(TransformersBackend, "load", classmethod(lambda cls, *args: loads.append(args) or load(cls, *args)))
    plans = [plan_of(order), plan_of(order, benchmark="gsm-symbolic", protocol=None, data=None, limit=3)]
    outcomes = execute_all(plans, QUIET)
    assert [outcome.generated for outcome in outcomes] == [12, 3]
    assert len(loads) == 1
    assert loads[0][-1] == max(plan.max_length for plan in plans)
    assert [outcome.generated for outcome in execute_all(plans, QUIET)] == [0, 0]
    assert len(loads) == 1, "nothing to do needs no engine"
