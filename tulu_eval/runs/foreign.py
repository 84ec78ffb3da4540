"""Answers that another harness kept, read from its own files.

lm-eval (EleutherAI/lm-evaluation-harness 0.4.13, ``--log_samples``) writes ``samples_TASK_DATE.jsonl``, one line an item and
filter::

    {"doc_id": 0, "doc": {"question": ..., "answer": ...}, "resps": [[" She sells ..."]], "filter": "strict-match",
     "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": ...}}}, "exact_match": 0.0, ...}

with ``results_DATE.json`` beside it, which has versions and the model. open-instruct (allenai/open-instruct @ ea3467db,
``eval/gsm/run_eval.py``) writes ``predictions.jsonl``, which has neither prompts nor settings::

    {"question": ..., "answer": "18", "model_output": " Janet sells ...", "prediction": "18"}
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.caching import read_json
from tulu_eval.errors import DataError

LIMIT = 1 << 30
"""Bytes of the largest file; lm-eval's of GSM8K's 1319 items with two filters and eight exemplars has about 10 MB."""

LM_EVAL, OPEN_INSTRUCT = "lm-eval", "open-instruct"
_FIELDS = {LM_EVAL: {"doc", "resps", "arguments"}, OPEN_INSTRUCT: {"question", "answer", "model_output", "prediction"}}
"""Fields by which a row of each harness is known."""

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens")
"""Names under which a task or ``--gen_kwargs`` limits the new tokens; lm-eval's models know all three."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a model wrote to one item.

    Attributes:
        line: One-based, in the file.
        question: As the file has it.
        answer: The right one, as the file has it: a whole solution or the number alone.
        prompt: All that the model was given; None where it was not kept.
        text: What it wrote.
        prediction: What the harness read out of that; None where it was not kept.
    """

    line: int
    question: str
    answer: str
    prompt: str | None
    text: str
    prediction: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """A file of another harness. What it does not say is None or ``unknown``, never guessed.

    Attributes:
        harness: Its name.
        version: Its version.
        task: Its name of the task.
        answers: One an item, in the file's order; an item that is there twice has two.
        lines: Lines of the file.
        decoding: As a manifest has it.
        revision: Commit of the model on the hub.
        parameters: Of the model; 0 where not known.
        dtype: Of the weights.
        template_sha256: Hash of the chat template; ``none`` where none was applied.
        called: What the harness calls the model; no path.
    """

    harness: str
    version: str
    task: str
    answers: tuple[Answer, ...]
    lines: int
    decoding: dict[str, Any]
    revision: str = "unknown"
    parameters: int = 0
    dtype: str = "unknown"
    template_sha256: str = "unknown"
    called: str = ""


def read_foreign(path: Path) -> Foreign:
    """Returns what a file of another harness says; the harness is known by the rows.

    Raises:
        DataError: It cannot be read, is of no harness known here, or has what a ledger cannot hold; with its line.
    """
    if path.is_file() and path.stat().st_size > LIMIT:
        raise DataError(path, f"is larger than {LIMIT:,} bytes")
    rows = [row.data for row in files.json_rows(path, nan=True)]
    harness = next((name for name, fields in _FIELDS.items() if fields <= rows[0].keys()), None)
    if harness is None:
        fields = ", ".join(sorted(map(repr, rows[0]))[:6]) or "no field"
        raise DataError(
            path,
            f"is of no harness known here (a row has {fields}); known are lm-eval's samples_TASK_DATE.jsonl "
            "(--log_samples) and open-instruct's predictions.jsonl",
            1,
        )
    for number, row in enumerate(rows, start=1):
        if missing := sorted(_FIELDS[harness] - row.keys()):
            raise DataError(path, f"has no {missing[0]!r}, which every row of {harness} has", number)
    return _lm_eval(path, rows) if harness == LM_EVAL else _open_instruct(path, rows)


def _open_instruct(path: Path, rows: Sequence[dict[str, Any]]) -> Foreign:
    answers = []
    for number, row in enumerate(rows, start=1):
        question, answer, output, read = (
            _text(path, number, row, name) for name in ("question", "answer", "model_output", "prediction")
        )
        answers.append(Answer(number, question, answer, None, output, read))
    return Foreign(OPEN_INSTRUCT, "unknown", "gsm", tuple(answers), len(rows), _decoding(None))


def _lm_eval(path: Path, rows: Sequence[dict[str, Any]]) -> Foreign:
    name = _SAMPLES.fullmatch(path.name)
    results = read_json(path.with_name(f"results_{name['date']}.json")) if name else {}
    config = _table(results.get("config"))
    answers, settings = [], []
    for number, row in _once_an_item(path, rows):
        doc = _table(row["doc"])
        prompt, kwargs = _arguments(path, number, row["arguments"])
        question, answer = (_text(path, number, doc, field) for field in ("question", "answer"))
        answers.append(Answer(number, question, answer, prompt, _response(path, number, row["resps"]), None))
        settings.append(kwargs)
    parameters = config.get("model_num_parameters")
    template = _known(results.get("chat_template_sha")) if results.get("chat_template") else "none"
    return Foreign(
        harness=LM_EVAL,
        version=_known(results.get("lm_eval_version")),
        task=name["task"] if name else "unknown",
        answers=tuple(answers),
        lines=len(rows),
        decoding=_decoding(settings[0] if all(one == settings[0] for one in settings) else None),
        revision=_known(config.get("model_sha")),
        parameters=parameters if isinstance(parameters, int) and parameters > 0 else 0,
        dtype=_known(config.get("model_dtype")).removeprefix("torch."),
        template_sha256=template if results else "unknown",
        called=_known(results.get("model_name")).rstrip("/").rpartition("/")[2],
    )


def _once_an_item(path: Path, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields one row an item: lm-eval repeats an item's row for each of the task's filters, with the same responses."""
    first: dict[str, tuple[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        key, kind = repr(row.get("doc_id", number)), repr(row.get("filter"))
        if key not in first or first[key][0] == kind:
            first.setdefault(key, (kind, row["resps"]))
            yield number, row
        elif row["resps"] != first[key][1]:
            raise DataError(path, f"has other responses to item {key} under filter {kind} than under {first[key][0]}", number)


def _arguments(path: Path, number: int, found: Any) -> tuple[str, dict[str, Any]]:
    """Returns prompt and settings; a table of tables, in older versions a list of pairs."""
    if isinstance(found, dict):
        pair = [value for name, value in sorted(_table(found.get("gen_args_0")).items()) if name in ("arg_0", "arg_1")]
    else:
        pair = found[0] if isinstance(found, list) and found and isinstance(found[0], list) else []
    if len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], dict):
        raise DataError(
            path, "its 'arguments' are not a prompt and settings of generation, as a task of multiple choice has", number
        )
    return pair[0], pair[1]


def _response(path: Path, number: int, found: Any) -> str:
    groups = found if isinstance(found, list) else []
    texts = [text for group in groups for text in (group if isinstance(group, list) else [group])]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(path, "its 'resps' are not texts", number)
    if len(texts) > 1:
        raise DataError(path, f"has {len(texts)} responses to one item (repeats); a ledger has one", number)
    return str(texts[0])


def _decoding(kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the decoding as a manifest has it, None for what was not kept. Without sampling lm-eval decodes greedily."""
    if kwargs is None:
        return dict.fromkeys(("max_new_tokens", "temperature", "top_p", "top_k", "stop", "seed"))
    sampled = bool(kwargs.get("do_sample", False))
    stop = kwargs.get("until")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else None
    return {
        "max_new_tokens": next((kwargs[name] for name in _TOKENS if isinstance(kwargs.get(name), int)), None),
        "temperature": _number(kwargs.get("temperature")) if sampled else 0.0,
        "top_p": _number(kwargs.get("top_p")) if sampled else 1.0,
        "top_k": kwargs.get("top_k") if sampled and isinstance(kwargs.get("top_k"), int) else None if sampled else 0,
        "stop": None if stops is None else [str(one) for one in stops],
        "seed": None if sampled else 0,
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _known(value: Any) -> str:
    return value if isinstance(value, str) and value else "unknown"


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(path: Path, number: int, row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise DataError(path, f"field {field!r} is missing or not a text", number)
    return value
