"""The line about speed: arithmetic of shares, and honest where an engine cannot tell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from made_manifest import MANIFEST, made_manifest
from msgspec.structs import replace

from tulu_eval.runs import roofline
from tulu_eval.runs.rates import Rates
from tulu_eval.store.manifest_schema import Manifest, Session

SESSION = {
    "started": "2026-11-30", "ended": "complete",
    "load_seconds": 2.0, "generate_seconds": 10.0, "score_seconds": 0.25, "prompt_tokens": 5000,
    "new_tokens": 1000,
    "usage": {
        "prefill_tokens": 2000, "prefill_seconds": 4.0, "decode_tokens": 1000, "decode_seconds": 5.0, "decode_steps": 50,
    },
}  # fmt: skip


def manifest(**changes: Any) -> Manifest:
    return made_manifest(sessions=(msgspec.convert({**SESSION, **changes}, Session),))


def test_shares_of_the_machines_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "machine_rates", lambda device, dtype, done: Rates(flops=4e12, bytes=40e9))
    assert roofline.line(manifest()) == (
        "start 2.0 s · prefill 4.0 s, 500 tok/s, 25 % of 4.00 TFLOP/s · decoding 5.0 s, 200 tok/s, 50 % of 40 GB/s · "
        "scoring 0.2 s"
    )


def test_an_engine_that_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert roofline.line(manifest(usage=None)) == (
        "start 2.0 s · prefill and decoding 10.0 s: 5,000 prompt tokens (shared ones not all computed), 1,000 new, "
        "100 new tok/s · scoring 0.2 s"
    )


def test_nothing_generated_no_line() -> None:
    assert roofline.line(MANIFEST) == ""
    assert roofline.line(manifest(ended="interrupted")) == ""


def test_devices_share_what_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "machine_rates", lambda device, dtype, done: Rates(flops=4e12, bytes=40e9))
    engine = {"device": "cuda", "tensor_parallel": "2", "data_parallel": "2"}
    line = roofline.line(replace(manifest(), engine=engine))
    assert "6 % of 16.00 TFLOP/s" in line
    assert "12 % of 160 GB/s" in line
