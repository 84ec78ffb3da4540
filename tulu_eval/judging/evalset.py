"""Which 805 instructions AlpacaEval has, and the published files that scoring needs: by pinned revision and sha256, or by path.

The data is CC-BY-NC-4.0 and is not part of this package; what is here are hashes. ``instructions.txt`` has the first 16 hex
digits of the sha256 of each instruction, in the data set's order, so that a file's rows can be placed without the text.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tulu_eval.errors import DataError, PreflightError

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import Array, Gamed

REPOSITORY = "tatsu-lab/alpaca_eval"
REVISION = "2edc6fad8be6b14ea7230aabfd08188da6b8b814"
"""Of the data set on the Hugging Face hub; pinned by third-party projects together with the hashes below."""

SIZE = 805
BASELINE = "gpt4_1106_preview"
"""Generator of AlpacaEval 2's reference outputs."""

BASELINE_FILE = "alpaca_eval_gpt4_baseline.json"
BASELINE_SHA256 = "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4"
"""Byte-identical with ``results/gpt4_1106_preview/model_outputs.json`` of tatsu-lab/alpaca_eval."""

INSTRUCTIONS_SHA256 = "80812b0556445b687866e773d710c204bfba95387db0af79d373912c3c667af9"
"""Of the 805 instructions joined by newlines, in the data set's order; computed from the file above."""

GAMED_FILE = "df_gamed.csv"
GAMED_SHA256 = {
    "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d": "hub",
    "5ca339e333ee5fe0c692d2565c0c9c32a2732f4d03ee5bb6d3a42108201a7444": "re-derived",
}
"""The hub's file, and one re-derived from published fits: true features, synthetic labels with the true sums."""

INSTRUCTIONS_FILE = Path(__file__).with_name("instructions.txt")


@dataclasses.dataclass(frozen=True, slots=True)
class EvalRow:
    """One row of the evaluation set.

    Attributes:
        instruction: What the model is asked, unstripped.
        baseline: The baseline's output.
        dataset: Which of the five sources it is from, e.g. ``koala``.
    """

    instruction: str
    baseline: str
    dataset: str


@dataclasses.dataclass(frozen=True, slots=True)
class GamedFile:
    """What ``df_gamed.csv`` holds.

    Attributes:
        gamed: The 1610 rows.
        difficulty: Of the 805 instructions in the data set's order; shape (805,).
        source: ``hub`` or ``re-derived``.
        sha256: Of the file.
    """

    gamed: Gamed
    difficulty: Array
    source: str
    sha256: str


def instruction_hash(instruction: str) -> str:
    """Returns the first 16 hex digits of the sha256 of an instruction."""
    return hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@functools.cache
def positions() -> dict[str, int]:
    """Returns the 0-based place in the data set by :func:`instruction_hash`."""
    lines = INSTRUCTIONS_FILE.read_text(encoding="ascii").split()
    return {digest: place for place, digest in enumerate(lines)}


def position(instruction: str) -> int | None:
    """Returns an instruction's place among the 805, or None if it is not one of them, byte for byte."""
    return positions().get(instruction_hash(instruction))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(name: str) -> Path:
    """Returns the local path of a file of the pinned data set, downloading it if it is not in the hub's cache.

    Raises:
        PreflightError: It is neither reachable nor cached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(REPOSITORY, name, repo_type="dataset", revision=REVISION))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, OSError) as error:
        raise PreflightError(
            f"{name} of {REPOSITORY} @ {REVISION[:8]} is neither reachable nor in the hub's cache; give its path instead"
        ) from error


def load_baseline(data: Path | None = None) -> list[EvalRow]:
    """Returns the 805 rows with the baseline's outputs, in order, from the hub or from a copy of its file.

    Args:
        data: A copy of ``alpaca_eval_gpt4_baseline.json``; None fetches the pinned one.

    Raises:
        DataError: The file is not that one.
        PreflightError: The hub cannot be reached.
    """
    path = fetch(BASELINE_FILE) if data is None else data
    rows = read_rows(path, ("instruction", "output", "dataset"))
    if data is None and _sha256(path) != BASELINE_SHA256:
        raise DataError(path, f"has another sha256 than the pinned {BASELINE_FILE}")
    found = check_instructions(path, [EvalRow(row["instruction"], row["output"], row["dataset"]) for row in rows])
    generators = {row.get("generator") for row in rows}
    if generators != {BASELINE}:
        raise DataError(path, f"has the outputs of {sorted(map(str, generators))}, not those of the baseline {BASELINE}")
    return found


def check_instructions(path: Path, rows: list[EvalRow]) -> list[EvalRow]:
    """Returns the rows if they are the 805 instructions in order.

    Raises:
        DataError: They are not; says which row is the first that differs.
    """
    whole = "\n".join(row.instruction for row in rows)
    if hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest() == INSTRUCTIONS_SHA256:
        return rows
    if len(rows) != SIZE:
        raise DataError(path, f"has {len(rows)} rows, not AlpacaEval's {SIZE}")
    first = next((number for number, row in enumerate(rows) if position(row.instruction) != number), 0)
    raise DataError(path, f"row {first + 1} is not instruction {first + 1} of AlpacaEval (changed, foreign or out of order)")


def load_gamed(path: Path | None = None) -> GamedFile:
    """Returns the gamed rows and the difficulties, from the hub or from a file with a known sha256.

    Raises:
        DataError: The file is not one of the known ones.
        PreflightError: The hub cannot be reached.
    """
    import numpy as np

    from tulu_eval.stats.length_control import Gamed

    path = fetch(GAMED_FILE) if path is None else path
    if not path.is_file():
        raise DataError(path, "no such file")
    digest = _sha256(path)
    if digest not in GAMED_SHA256:
        known = ", ".join(f"{one[:16]}..." for one in GAMED_SHA256)
        raise DataError(path, f"is not {GAMED_FILE}: its sha256 is {digest[:16]}..., known are {known}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("preference", "std_delta_len", "instruction_difficulty", "index")
    columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
    difficulty = np.full(SIZE, np.nan)
    for place, value in zip(columns["index"][::-1].astype(int), columns["instruction_difficulty"][::-1], strict=True):
        difficulty[place] = value
    gamed = Gamed(columns["preference"], columns["std_delta_len"], columns["instruction_difficulty"])
    return GamedFile(gamed, difficulty, GAMED_SHA256[digest], digest)


def read_rows(path: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the objects of a JSON list, or of a JSON-lines file, that have these string fields.

    Raises:
        DataError: No such file, not UTF-8 JSON, not a list of objects, or a field missing or not a string.
    """
    if not path.is_file():
        raise DataError(path, "no such file" if not path.exists() else "is not a file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(path, f"is not UTF-8 (byte {error.start + 1})") from error
    rows = _parse(path, text)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(path, f"row {number} is {type(row).__name__}, not an object")
        for field in fields:
            if not isinstance(row.get(field), str):
                raise DataError(path, f"row {number}: field {field!r} is missing or not a string")
    if not rows:
        raise DataError(path, "has no rows")
    return rows


def _parse(path: Path, text: str) -> list[Any]:
    try:
        if text.lstrip()[:1] == "[":
            return list(json.loads(text))
        # split by "\n" alone: str.splitlines() also cuts at U+2028 and others, which JSON leaves as they are
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise DataError(path, f"is neither a JSON list nor JSON lines ({error.msg})", error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise DataError(path, "has a number too long or is nested too deeply") from error
