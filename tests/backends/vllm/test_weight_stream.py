"""Weights go through a socket whole, and an end whose other end is gone or silent says so in a line. Runs without vllm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from multiprocessing.connection import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tulu_eval.backends.vllm import weight_stream
from tulu_eval.backends.vllm.process import EngineProcess
from tulu_eval.errors import EngineError


@pytest.fixture
def ends() -> Iterator[tuple[weight_stream.WeightSender, Any]]:
    sender = weight_stream.WeightSender()
    connection = weight_stream.connect(sender.address)
    sender.accept()
    assert not Path(sender.address).parent.exists()
    yield sender, connection
    connection.close()
    sender.close()


def test_tensors_arrive_bit_for_bit_and_are_counted(ends: tuple[weight_stream.WeightSender, Any]) -> None:
    sender, connection = ends
    sent = [torch.randn(700, 900), torch.randn(3).bfloat16(), torch.tensor(2.5), torch.randn(4, 5).t(), torch.empty(0)]
    got = [torch.full(tensor.shape, 7.0, dtype=tensor.dtype) for tensor in sent]
    reader = threading.Thread(target=lambda: [weight_stream.fill(tensor, connection) for tensor in got])
    reader.start()
    assert all(sender.send(tensor) for tensor in sent)
    reader.join(10)
    assert all(torch.equal(one, other) for one, other in zip(sent, got, strict=True))
    assert sender.sent == sum(tensor.nbytes for tensor in sent)


def test_a_trainer_that_is_gone(ends: tuple[weight_stream.WeightSender, Any]) -> None:
    sender, connection = ends
    sender.send(torch.zeros(4))
    sender.close()
    with pytest.raises(ConnectionError, match="the trainer closed the connection"):
        weight_stream.fill(torch.zeros(8), connection)


def test_an_engine_that_is_gone(ends: tuple[weight_stream.WeightSender, Any]) -> None:
    sender, connection = ends
    connection.close()
    assert not sender.send(torch.zeros(1 << 20))


def test_a_folder_too_deep_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(EngineError, match="set TMPDIR to a shorter path"):
        weight_stream.WeightSender()


def test_ends_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_stream, "TRANSFER_SECONDS", 0.1)
    sender = weight_stream.WeightSender()
    with pytest.raises(EngineError, match="vLLM did not connect to the trainer"):
        sender.accept()
    assert Path(sender.address).parent.stat().st_mode & 0o077 == 0
    connection = weight_stream.connect(sender.address)
    sender.accept()
    with pytest.raises(TimeoutError):
        weight_stream.fill(torch.zeros(8), connection)
    with pytest.raises(EngineError, match="vLLM took no weights"):
        sender.send(torch.zeros(1 << 22))
    sender.close()
    connection.close()


def test_an_engine_that_does_not_answer() -> None:
    engine = EngineProcess.__new__(EngineProcess)
    engine.connection, theirs = Pipe()
    engine._log = SimpleNamespace(name="engine.log")  # type: ignore[assignment]
    with theirs, pytest.raises(EngineError, match=r"vLLM did not answer within 0 s \(log: engine.log\)"):
        engine.receive(0.1)
    engine.connection.close()
