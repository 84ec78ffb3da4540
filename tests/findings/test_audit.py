"""The audit: it sees no flip of a deterministic engine and every flip of a shaky one, and widens the interval by them."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.errors import DataError, UserError
from tulu_eval.findings import audit as module
from tulu_eval.findings.audit import Repetition, audit, measured_flip_rate, summarize
from tulu_eval.findings.table import arrange
from tulu_eval.findings.verify import verify
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import RunOutcome, execute
from tulu_eval.stats import FLIP_RATE, wilson

QUIET = Progress(quiet=True)


@pytest.fixture
def finished(order: Order) -> RunOutcome:
    return execute(make_plan(dataclasses.replace(order, limit=6), load_suite()), QUIET)


def test_float32_on_one_machine_does_not_flip(finished: RunOutcome, order: Order) -> None:
    found = audit(finished.folder, load_suite(), QUIET, items=4, model=order.model, data=order.data)
    assert [one.name for one in found.repetitions] == ["one row at a time", "full batch", "no shared prefix"]
    assert (found.flips, found.trials, len(found.items)) == (0, 12, 4)
    assert all(not one.changed for one in found.repetitions)
    row = finished.results[0]
    assert found.widened == pytest.approx((row.low, row.high))
    assert found.rate == wilson(0, 12)
    assert measured_flip_rate(read_run(finished.folder)) == FLIP_RATE, "twelve trials say nothing against the general allowance"


def test_the_model_is_loaded_once_and_decodes_in_three_ways(
    finished: RunOutcome, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, generate = TransformersBackend.load.__func__, TransformersBackend.generate  # type: ignore[attr-defined]
    loads: list[str] = []
    ways: list[tuple[int, bool]] = []

    def counted(cls: type[TransformersBackend], model: object, *rest: object) -> TransformersBackend:
        loads.append(str(model))
        found: TransformersBackend = load(cls, model, *rest)
        return found

    def told(self: TransformersBackend, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        ways.append((self._batch_size(requests, decoding), self._shared))
        return generate(self, requests, decoding)

    monkeypatch.setattr(TransformersBackend, "load", classmethod(counted))
    monkeypatch.setattr(TransformersBackend, "generate", told)
    audit(finished.folder, load_suite(), QUIET, items=4, model=order.model, data=order.data)
    assert (len(loads), ways) == (1, [(1, True), (4, True), (4, False)])


def test_a_run_that_was_given_a_name_is_repeated(order: Order) -> None:
    """The name is part of what a completion's key is made of."""
    named = execute(make_plan(dataclasses.replace(order, limit=2, name="mine"), load_suite()), QUIET)
    assert audit(named.folder, load_suite(), QUIET, items=2, model=order.model, data=order.data).flips == 0


def test_a_name_that_differs_is_said(finished: RunOutcome, order: Order, tmp_path: Path) -> None:
    moved = shutil.copytree(order.model, tmp_path / "elsewhere" / "model")
    with pytest.raises(UserError, match=r"^the model's name here differs from the run's; give the run's own with --model"):
        audit(finished.folder, load_suite(), QUIET, items=1, model=str(moved), data=order.data)


def test_a_shaky_engine_is_seen(finished: RunOutcome, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = TransformersBackend.generate

    def shaky(self: TransformersBackend, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for number, completion in enumerate(generate(self, requests, decoding)):
            other = dataclasses.replace(completion, token_ids=(*completion.token_ids[:2], 9), text="So the answer is 1.")
            yield other if number == 0 else completion

    monkeypatch.setattr(TransformersBackend, "generate", shaky)
    found = audit(finished.folder, load_suite(), QUIET, items=4, model=order.model, data=order.data)
    assert [len(one.changed) for one in found.repetitions] == [1, 1, 1]
    assert {token for one in found.repetitions for token in one.first.values()} == {2}
    assert json.loads((finished.folder / module.FILE).read_text())["trials"] == 12


def test_widening_adds_the_noise_in_quadrature(finished: RunOutcome) -> None:
    row = dataclasses.replace(finished.results[0], value=50.0, low=40.0, high=62.0, n=100)
    found = summarize((Repetition("x", ("a",), ("a",), {"a": 0}),), ("a", "b", "c", "d"), row)
    noise = 1.959963984540054 * 100 * math.sqrt(0.25 / 100)
    assert found.widened == pytest.approx((50 - math.hypot(10, noise), 50 + math.hypot(12, noise)))


def write_audit(run: StoredRun, flips: int, items: int, ways: int = 3) -> dict[str, Any]:
    """Writes an audit of ``items`` items of a run, repeated in ``ways`` ways, with ``flips`` flips in all; returns it."""
    ids = run.manifest.planned[:items]
    flipped = [ids[: max(0, min(items, flips - way * items))] for way in range(ways)]
    repetitions = tuple(Repetition(f"way {way}", one, one, {}) for way, one in enumerate(flipped))
    data = {"format": 1, **msgspec.to_builtins(summarize(repetitions, ids, run.results[0]))}
    (run.folder / module.FILE).write_text(json.dumps(data))
    return data


@pytest.mark.parametrize(
    ("flips", "items", "ways", "allowed"),
    [(0, 200, 5, wilson(0, 1000).high), (0, 4, 3, FLIP_RATE), (3, 10, 3, 0.1), (6, 2, 3, 1.0)],
)
def test_verification_allows_what_was_seen(
    make_run: Callable[..., Path], flips: int, items: int, ways: int, allowed: float
) -> None:
    run = read_run(make_run())
    assert measured_flip_rate(run) is None
    write_audit(run, flips, items, ways)
    assert measured_flip_rate(run) == pytest.approx(allowed)
    used = verify(run, load_suite()).allowance
    assert used is not None
    assert (used.rate, used.items, used.measured) == (pytest.approx(allowed), 200, True)


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "of no flips": lambda data: {**data, "flips": 0},
    "of many trials": lambda data: {**data, "trials": 10**8},
    "of a number without an end": lambda data: {**data, "trials": float("inf")},
    "of nothing": lambda data: {**data, "flips": 0, "trials": 0, "items": [], "repetitions": []},
    "of another format": lambda data: {**data, "format": 9},
    "of another run": lambda data: {**data, "row": {**data["row"], "signature": "gsm8k:card-200|n:1"}},
    "of other items": lambda data: {**data, "items": [f"row-{at}" for at in range(10)]},
    "of numbers alone": lambda data: {"format": 1, "flips": 0, "trials": 600},
    "a list": lambda data: [data],
    "of texts": lambda data: {**data, "flips": "3", "trials": "30"},
}


@pytest.mark.parametrize("forged", FORGED)
def test_an_audit_that_was_not_made_of_this_run_is_refused(make_run: Callable[..., Path], forged: str) -> None:
    run = read_run(make_run())
    (run.folder / module.FILE).write_text(json.dumps(FORGED[forged](write_audit(run, 3, 10))))
    with pytest.raises(DataError, match=r"audit\.json.* is not "):
        measured_flip_rate(run)
    entry = next(line.entries[0] for line in arrange(load_suite(), [run], []).lines if line.model == run.model)
    assert "audit.json" in entry.reason, "one bad file must not take the table away"


def test_what_cannot_be_audited(finished: RunOutcome, order: Order, llama2_like: Path, tmp_path: Path) -> None:
    suite = load_suite()
    with pytest.raises(UserError, match="--limit must be 1 or more, not 0"):
        audit(finished.folder, suite, QUIET, items=0)
    with pytest.raises(UserError, match=r"^model here differs from the run's; give the run's own with --model and --data$"):
        audit(finished.folder, suite, QUIET, items=1, model=str(llama2_like), data=order.data)
    with pytest.raises(UserError, match="no such run folder"):
        audit(tmp_path / "nothing", suite, QUIET, items=1)
    (finished.folder / module.FILE).write_text("[" * 100000)
    with pytest.raises(UserError, match="is not an audit of this version"):
        measured_flip_rate(read_run(finished.folder))
