"""Reads the answers in files that other harnesses write.

lm-eval's are those of :mod:`tulu_eval.exchange.lm_eval_samples`, olmes' those of :mod:`tulu_eval.exchange.olmes`.
open-instruct (allenai/open-instruct @ ea3467db, ``eval/gsm/run_eval.py``) writes ``predictions.jsonl``, which has neither
prompts nor settings::

    {"question": ..., "answer": "18", "model_output": " Janet sells ...", "prediction": "18"}

Google's IFEval, and whoever keeps as little, has prompts and responses alone::

    {"prompt": "Write a 300+ word summary ...", "response": "Raymond III was ..."}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tulu_eval import files
from tulu_eval.errors import DataError, few
from tulu_eval.exchange import lm_eval_samples, olmes
from tulu_eval.exchange.foreign_answers import Foreign, ForeignAnswer
from tulu_eval.exchange.lm_eval import ForeignDecoding
from tulu_eval.exchange.lm_eval_samples import LM_EVAL
from tulu_eval.exchange.olmes import OLMES
from tulu_eval.files import Row
from tulu_eval.store.signature import UNKNOWN

OPEN_INSTRUCT, RESPONSES = "open-instruct", "responses"
_FIELDS = {
    LM_EVAL: {"doc", "resps", "arguments"},
    OLMES: olmes.FIELDS,
    OPEN_INSTRUCT: {"question", "answer", "model_output", "prediction"},
    RESPONSES: {"prompt", "response"},
}
"""Fields that identify a row of each harness; ``responses`` is any harness that keeps only prompts and responses."""


NUMBERS = "has lm-eval's numbers and no answers: give samples_TASK_DATE.jsonl (--log_samples)"
"""What is said of lm-eval's ``results_DATE.json``, which may be indented and so is no JSON lines."""


def read_foreign(path: Path) -> Foreign:
    """Returns the content of another harness's file; the rows' fields tell which harness wrote it.

    Raises:
        DataError: If the file cannot be read, no known harness wrote it, or a ledger cannot hold a row; the message names the
            line.
    """
    if path.is_dir():
        raise DataError(path, _what_to_give(path))
    try:
        rows = list(files.json_rows(path, nan=True))
    except DataError as error:
        raise DataError(path, NUMBERS) if path.match("results_*.json") else error from None
    harness = next((name for name, fields in _FIELDS.items() if fields <= rows[0].data.keys()), None)
    if harness is None and rows[0].data.keys() >= olmes.REQUEST_FIELDS:
        raise rows[0].error("is a request of olmes: give the file of -predictions.jsonl beside it")
    if harness is None and {"results", "configs"} <= rows[0].data.keys():
        raise DataError(path, NUMBERS)
    if harness is None:
        fields = ", ".join(repr(name[:40]) for name in sorted(rows[0].data)[:6]) or "no field"
        raise rows[0].error(
            f"is of no harness known here (a row has {fields}); known are lm-eval's samples_TASK_DATE.jsonl "
            "(--log_samples), olmes' task-NNN-TASK-predictions.jsonl, open-instruct's predictions.jsonl, and rows with "
            "'prompt' and 'response'"
        )
    for row in rows:
        if missing := sorted(_FIELDS[harness] - row.data.keys()):
            raise row.error(f"has no {missing[0]!r}, which every row of {harness} has")
    readers = {LM_EVAL: lm_eval_samples.read, OLMES: olmes.read, OPEN_INSTRUCT: _open_instruct, RESPONSES: _responses}
    return readers[harness](path, rows)


def _what_to_give(folder: Path) -> str:
    """Returns what to give in place of a folder: the files of answers in it."""
    found = sorted(str(path) for name in ("samples_*.jsonl", "*predictions.jsonl") for path in folder.rglob(name))
    given = f"; give a file: {few(found)}" if found else " with no file of answers (lm-eval: --log_samples)"
    return f"is a folder{given}"


def _open_instruct(path: Path, rows: Sequence[Row]) -> Foreign:
    answers = tuple(
        ForeignAnswer(
            row.place.number or 0,
            row.text("question"),
            row.text("answer"),
            None,
            row.text("model_output"),
            row.text("prediction"),
        )
        for row in rows
    )
    return Foreign(OPEN_INSTRUCT, UNKNOWN, "gsm", answers, len(rows), ForeignDecoding())


def _responses(path: Path, rows: Sequence[Row]) -> Foreign:
    found = [(row.place.number or 0, row.text("prompt"), row.text("response")) for row in rows]
    answers = tuple(ForeignAnswer(line, prompt, None, None, text, None, (prompt,)) for line, prompt, text in found)
    return Foreign(RESPONSES, UNKNOWN, UNKNOWN, answers, len(rows), ForeignDecoding())
