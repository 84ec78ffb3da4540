"""AlpacaEval's 805 instructions and the baseline's outputs, from the hub at a pinned revision and sha256, or from a file.

The data is CC-BY-NC-4.0 and is not part of this package, which only has hashes. ``alpaca_instructions.txt`` has the first 16
hex digits of each instruction's sha256, in the data set's order, so that code can find a row's place without the text.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.benchmarks.alpaca_baselines import BASELINE, DAVINCI, UNKNOWN, find_known, identify, output_hash
from tulu_eval.benchmarks.base import file_of_hub
from tulu_eval.errors import DataError

REPOSITORY = "tatsu-lab/alpaca_eval"
REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
"""Revision of the data set on the Hugging Face hub; third-party projects pin it together with the hashes below."""

SIZE = 805

ALPACA_EVAL_2 = "alpacaeval2-805"
"""The protocol behind AlpacaEval 2's leaderboard."""

BASELINE_FILE = "alpaca_eval_gpt4_baseline.json"
BASELINE_FILES = {BASELINE: BASELINE_FILE, DAVINCI: "alpaca_eval.json"}
"""Files of the data set by the baseline whose outputs they have. Of the second no hash is known; its outputs identify it."""

BASELINE_SHA256 = "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
"""The file is byte-identical to ``results/gpt4_1106_preview/model_outputs.json`` of tatsu-lab/alpaca_eval."""

INSTRUCTIONS_SHA256 = "80812b0556445b687866e773d710c204bfba95387db0af79d373912c3c667af9"
"""Hash of the 805 instructions joined by newlines, in the data set's order; computed from the file above."""

INSTRUCTIONS_FILE = Path(__file__).with_name("alpaca_instructions.txt")


@dataclasses.dataclass(frozen=True, slots=True)
class EvalRow:
    """One row of the evaluation set.

    Attributes:
        instruction: The unstripped instruction.
        dataset: One of the data set's five sources, e.g. ``koala``.
    """

    instruction: str
    baseline: str
    dataset: str


def instruction_hash(instruction: str) -> str:
    """Returns the first 16 hex digits of the sha256 of an instruction."""
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@functools.cache
def positions() -> dict[str, int]:
    """Returns the 0-based place in the data set by :func:`instruction_hash`."""
    lines = INSTRUCTIONS_FILE.read_text(encoding="ascii").split()
    return {digest: place for place, digest in enumerate(lines)}


def position(instruction: str) -> int | None:
    """Returns an instruction's 0-based place among the 805; ``None`` if no instruction is equal byte for byte."""
    return positions().get(instruction_hash(instruction))


def file_hash(path: Path) -> str:
    """Returns the sha256 of a small file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(name: str, flag: str) -> Path:
    """Returns the local path of a file of the pinned data set; downloads the file if it is not in the hub's cache.

    ``flag`` is the command line option that takes a copy of the file, for the error message.

    Raises:
        PreflightError: If the file is neither reachable nor cached.
    """
    return file_of_hub(REPOSITORY, name, REVISION, f"give a copy of {name} with {flag}")


def load_baseline(data: Path | None = None, name: str = BASELINE) -> list[EvalRow]:
    """Returns the 805 rows with a known baseline's outputs, in order, from the hub or from a copy of its file.

    ``data`` is a copy of the baseline's file in :data:`BASELINE_FILES`; ``None`` fetches the pinned one.

    Raises:
        DataError: If the instructions or the outputs differ from those of the baseline.
    """
    path = fetch(BASELINE_FILES[name], "--data") if data is None else data
    rows = read_rows(path, ("instruction", "output", "dataset"))
    if data is None and name == BASELINE and file_hash(path) != BASELINE_SHA256:
        raise DataError(path, f"has a different sha256 from the pinned {BASELINE_FILE}")
    found = check_instructions(path, [EvalRow(row["instruction"], row["output"], row["dataset"]) for row in rows])
    outputs = {place: output_hash(row.baseline) for place, row in enumerate(found)}
    baseline, wanted = identify(outputs), find_known(name)
    if baseline != wanted.baseline:
        wrong = [place for place, digest in outputs.items() if digest != wanted.outputs[place]]
        whose = (
            f"is of the baseline {baseline.label}, whose outputs are" if baseline.name != UNKNOWN else "has outputs that are"
        )
        raise DataError(
            path,
            f"{whose} not those of the baseline {name}: {len(wrong)} of {SIZE} differ, the first is row {wrong[0] + 1}",
        )
    return found


def check_instructions(path: Path, rows: list[EvalRow]) -> list[EvalRow]:
    """Returns the rows if they are the 805 instructions in order; else raises DataError, which names the first that differs."""
    whole = "\n".join(row.instruction for row in rows)
    if hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest() == INSTRUCTIONS_SHA256:
        return rows
    if len(rows) != SIZE:
        raise DataError(path, f"has {len(rows)} rows, not AlpacaEval's {SIZE}")
    first = next((number for number, row in enumerate(rows) if position(row.instruction) != number), 0)
    raise DataError(path, f"row {first + 1} is not instruction {first + 1} of AlpacaEval (changed, foreign or out of order)")


def read_rows(path: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the objects of a JSON list, JSON lines or a parquet file; each has the ``fields`` as texts.

    The function accepts NaN, which pandas writes, and lone surrogates, which a model may have written.

    Raises:
        DataError: If the file cannot be read, is empty, or a row lacks one of the texts; the message names the line or row.
    """
    return [row.data for row in files.json_rows(path, fields, nan=True, halves=True)]
