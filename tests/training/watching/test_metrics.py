"""A run's lines about its steps: none is duplicated or lost after a kill, and a long run writes as fast as a short one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tulu_eval.training.watching import metrics


def steps(path: Path) -> list[int]:
    return [line["step"] for line in metrics.read(path)]


def test_a_step_that_is_made_again_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (0, 1, 2, 3, 1, 2):
        metrics.append(path, step, {"loss": 1.0})
    assert steps(path) == [0, 1, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("size", [1, metrics.TAIL - 20, metrics.TAIL, 5 * metrics.TAIL])
def test_the_last_line_is_found_however_long_it_is(tmp_path: Path, size: int) -> None:
    path = tmp_path / "samples.jsonl"
    for step in range(3):
        metrics.append(path, step, {"samples": "x" * size})
    metrics.append(path, 2, {"samples": "again"})
    assert steps(path) == [0, 1, 2]


@pytest.mark.parametrize(
    "cut",
    [
        b'{"step": 2',
        b'{"step": 2}x',
        b'{"step": true}',
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"step": 1, "step": 9}',
        b'"' * 70_000,
    ],
)
def test_a_line_that_is_none_is_left_out_and_replaced(tmp_path: Path, cut: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(2):
        metrics.append(path, step, {})
    whole = path.read_bytes()
    path.write_bytes(whole + cut)
    if cut != b"\xff":  # what is no text is told
        assert steps(path) == [0, 1]
        metrics.append(path, 2, {})
        assert steps(path) == [0, 1, 2]
        assert path.read_bytes().startswith(whole)


def test_a_step_takes_no_longer_in_a_long_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole file was read at every step: 100,000 steps of 1 kB would have read 5 TB."""
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "note": "x" * 1000}) + "\n" for step in range(1000)))
    read = 0
    whole = metrics.files.open_regular

    def counted(path: Path) -> object:
        file = whole(path)

        class Counting:
            def __enter__(self) -> Counting:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def seek(self, *place: int) -> int:
                return file.seek(*place)

            def read(self, size: int) -> bytes:
                nonlocal read
                read += size
                return file.read(size)

        return Counting()

    monkeypatch.setattr(metrics.files, "open_regular", counted)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("the whole file was read"))
    metrics.append(path, 1000, {})
    assert 0 < read <= metrics.TAIL
