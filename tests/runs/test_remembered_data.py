"""A run's data is found again by its content, wherever the run was started, and a changed file is refused in one line."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from tulu_eval.errors import UserError
from tulu_eval.findings.audit import audit, order_of
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.runs.remembered_data import remembered_data
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute

QUIET = Progress(quiet=True)


@pytest.fixture
def own_rows(rows: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(rows, tmp_path / "rows.jsonl"))


@pytest.fixture
def run(order: Order, own_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredRun:
    """A run whose data was given by a path that holds in its folder alone; the test works in another."""
    monkeypatch.chdir(tmp_path)
    made = execute(make_plan(dataclasses.replace(order, limit=4, data=Path("rows.jsonl")), load_suite()), QUIET)
    monkeypatch.chdir("/")
    return read_run(made.folder)


def test_the_data_need_not_be_said_again(run: StoredRun, order: Order, own_rows: Path) -> None:
    assert remembered_data(run.manifest) == own_rows.resolve()
    assert order_of(run.manifest, order.model, None).data == own_rows.resolve()
    assert audit(run.folder, load_suite(), QUIET, items=1, model=order.model).trials == 3
    assert PromptSource({}).prompts(run, list(run.samples())).proven


def test_no_path_is_in_the_folder(run: StoredRun, tmp_path: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in run.folder.iterdir() if path.suffix in (".json", ".jsonl")]
    assert len(texts) == 3
    assert not [text for text in texts if str(tmp_path) in text or "rows.jsonl" in text.replace('"rows.jsonl"', "")]


def test_a_changed_file_is_said_in_one_line(run: StoredRun, order: Order, own_rows: Path) -> None:
    own_rows.write_text(own_rows.read_text() + own_rows.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError) as caught:
        audit(run.folder, load_suite(), QUIET, items=1, model=order.model)
    assert str(caught.value) == "rows.jsonl has changed since the run read it; --data names a file with the run's items"
    with pytest.raises(UserError, match=r"^rows.jsonl has changed since the run read it"):
        PromptSource({}).prompts(run, list(run.samples()))


def test_a_file_that_is_gone_is_as_one_never_known(run: StoredRun, own_rows: Path, rows: Path) -> None:
    own_rows.unlink()
    assert remembered_data(run.manifest) is None
    assert PromptSource({"gsm8k": rows}).prompts(run, list(run.samples())).proven
