"""A packed ledger: read as it is, unpacked to go on, and refused where it is cut, no gzip, or a bomb."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.errors import DataError
from tulu_eval.records import Completion, Grade
from tulu_eval.runs.reading import read_run
from tulu_eval.store import packed as packing
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import Sample, encode


def sample(number: int) -> Sample:
    completion = Completion(f"{number:064x}", "So the answer is 4.", (1, 2, number), "stop", 0.25)
    return Sample(f"test-{number}", "4", "ab" * 32, completion, "ok", (Grade("last-number", "4", True, 1.0),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of three samples, packed."""
    path = tmp_path / "samples.jsonl"
    packing.packed(path).write_bytes(gzip.compress(b"".join(encode(sample(number)) for number in range(3))))
    return path


def test_it_is_read_and_left_as_it_is(path: Path) -> None:
    before = packing.packed(path).read_bytes()
    with Ledger(path, read_only=True) as ledger:
        assert list(ledger.samples()) == [sample(number) for number in range(3)]
        assert len(list(zip(ledger.lines(), ledger.samples(), strict=True))) == 3
    assert packing.there(path)
    assert not path.exists()
    assert packing.packed(path).read_bytes() == before


def test_writing_goes_on_in_the_plain_file(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.has(f"{1:064x}", "test-1")
        ledger.append(sample(3))
    with Ledger(path, read_only=True) as ledger:
        assert [one.item for one in ledger.samples()] == [f"test-{number}" for number in range(4)]
    assert [file.name for file in path.parent.iterdir()] == ["samples.jsonl"]


@pytest.mark.parametrize("read_only", [True, False])
def test_what_cannot_be_unpacked_is_one_line(path: Path, read_only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packing.packed(path).read_bytes()
    for data in (whole[:-9], whole[: len(whole) // 2], b"no gzip", whole[:40] + b"\xff\xff" + whole[42:]):
        packing.packed(path).write_bytes(data)
        with pytest.raises(DataError, match="cannot be unpacked"):
            Ledger(path, read_only=read_only)
        assert packing.packed(path).read_bytes() == data
        assert not path.exists()
    packing.packed(path).write_bytes(whole)
    monkeypatch.setattr(packing, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="unpacks to more than 100 bytes"):
        Ledger(path, read_only=read_only)


def test_a_run_whose_ledger_is_packed_is_the_same_run(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    plain = read_run(folder)
    kept = list(plain.samples())
    path = folder / "samples.jsonl"
    packing.packed(path).write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    again = read_run(folder)
    assert again.results == plain.results
    assert list(again.samples()) == kept
