"""The audit: a deterministic engine shows no flips, a shaky one shows each, and the interval is widened by them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tulu_eval.backends.transformers import TransformersBackend
from tulu_eval.errors import UserError
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.registry import load_suite
from tulu_eval.runs import audit as module
from tulu_eval.runs.audit import Repetition, audit, measured_flip_rate, summarize
from tulu_eval.runs.plan import Order, make_plan
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.runner import Outcome, execute
from tulu_eval.stats import FLIP_RATE, wilson

QUIET = Progress(quiet=True)


@pytest.fixture
def finished(order: Order) -> Outcome:
    return execute(make_plan(dataclasses.replace(order, limit=6), load_suite()), QUIET)


def test_float32_on_one_machine_does_not_flip(finished: Outcome, order: Order) -> None:
    found = audit(finished.folder, load_suite(), QUIET, items=4, model=order.model, data=order.data)
    assert [one.name for one in found.repetitions] == ["one row at a time", "full batch", "no shared prefix"]
    assert (found.flips, found.trials, len(found.items)) == (0, 12, 4)
    assert all(not one.changed for one in found.repetitions)
    row = finished.results[0]
    assert found.widened == pytest.approx((row.low, row.high))
    assert found.rate == wilson(0, 12)
    assert measured_flip_rate(finished.folder) == FLIP_RATE, "twelve trials say nothing against the general allowance"


def test_a_shaky_engine_is_seen(finished: Outcome, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_widening_adds_the_noise_in_quadrature(finished: Outcome) -> None:
    row = dataclasses.replace(finished.results[0], value=50.0, low=40.0, high=62.0, n=100)
    found = summarize((Repetition("x", ("a",), ("a",), {"a": 0}),), ("a", "b", "c", "d"), row)
    noise = 1.959963984540054 * 100 * math.sqrt(0.25 / 100)
    assert found.widened == pytest.approx((50 - math.hypot(10, noise), 50 + math.hypot(12, noise)))


@pytest.mark.parametrize(
    ("flips", "trials", "high", "allowed"),
    [(0, 960, 0.004, wilson(0, 960).high), (0, 12, 0.24, FLIP_RATE), (3, 30, 0.26, 0.1), (0, 960, 0.9, wilson(0, 960).high)],
)
def test_verification_allows_what_was_seen(tmp_path: Path, flips: int, trials: int, high: float, allowed: float) -> None:
    assert measured_flip_rate(tmp_path) is None
    (tmp_path / module.FILE).write_text(json.dumps({"rate": [0.0, high], "flips": flips, "trials": trials}))
    assert measured_flip_rate(tmp_path) == pytest.approx(allowed)


def test_what_cannot_be_audited(finished: Outcome, order: Order, llama2_like: Path, tmp_path: Path) -> None:
    suite = load_suite()
    with pytest.raises(UserError, match="--items must be 1 or more, not 0"):
        audit(finished.folder, suite, QUIET, items=0)
    with pytest.raises(UserError, match=r"^model here differs from the run's; give the run's own with --model and --data$"):
        audit(finished.folder, suite, QUIET, items=1, model=str(llama2_like), data=order.data)
    with pytest.raises(UserError, match="no such run folder"):
        audit(tmp_path / "nothing", suite, QUIET, items=1)
    (tmp_path / module.FILE).write_text("{}")
    with pytest.raises(UserError, match="is not an audit of this version"):
        measured_flip_rate(tmp_path)
