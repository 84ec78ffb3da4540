"""Reads the answers in files that other harnesses write.

lm-eval (EleutherAI/lm-evaluation-harness 0.4.13, ``--log_samples``) writes ``samples_TASK_DATE.jsonl``, one line
per item and filter::

    {"doc_id": 0, "doc": {"question": ..., "answer": ...}, "resps": [[" She sells ..."]], "filter": "strict-match",
     "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": ...}}}, "exact_match": 0.0, ...}

and beside it ``results_DATE.json``, which has versions and the model. open-instruct (allenai/open-instruct @ ea3467db,
``eval/gsm/run_eval.py``) writes ``predictions.jsonl``, which has neither prompts nor settings::

    {"question": ..., "answer": "18", "model_output": " Janet sells ...", "prediction": "18"}

Google's IFEval, and whoever keeps as little, has prompts and responses alone::

    {"prompt": "Write a 300+ word summary ...", "response": "Raymond III was ..."}
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.exchange import lm_eval
from tulu_eval.exchange.lm_eval import ForeignDecoding
from tulu_eval.files import Row
from tulu_eval.store.signature import UNKNOWN

LM_EVAL, OPEN_INSTRUCT, RESPONSES = "lm-eval", "open-instruct", "responses"
_FIELDS = {
    LM_EVAL: {"doc", "resps", "arguments"},
    OPEN_INSTRUCT: {"question", "answer", "model_output", "prediction"},
    RESPONSES: {"prompt", "response"},
}
"""Fields that identify a row of each harness; ``responses`` is any harness that keeps only prompts and responses."""

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignAnswer:
    """A model's answer to one item.

    Attributes:
        line: One-based line in the file.
        question: The question as in the file.
        answer: The right answer as in the file: a whole solution or the number alone; ``None`` if the file has none.
        prompt: The whole prompt; ``None`` if the harness did not keep it, or a server's template made it.
        text: The model's text; empty if the file has null, which lm-eval writes for a server that sent no content.
        prediction: The answer that the harness extracted; ``None`` if it did not keep it.
        turns: Contents of the messages to a chat server; empty for any other model.
    """

    line: int
    question: str
    answer: str | None
    prompt: str | None
    text: str
    prediction: str | None
    turns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """A file of another harness. What the file does not say is ``unknown`` or ``None``; nothing is guessed.

    Attributes:
        task: The harness's name of the task.
        answers: Answers in the file's order: one per item, two for an item that the file has twice.
        engine: The harness's name of the engine.
        other_decoding: Sampling settings that a manifest has no field for, as ``name=value``.
        quantization: Name of the method; empty for unquantised weights.
        adapter: Name of the adapter; empty for none.
        limit: The harness's limit of items; ``None`` for no limit.
        nulls: Number of answers that are null in the file.
        revision: Commit of the model on the hub.
        parameters: Number of the model's parameters; 0 if unknown.
        dtype: The weights' dtype, e.g. ``bfloat16``.
        template_sha256: Hash of the chat template; ``none`` for a prompt without one.
        called: The harness's name of the model, without a path.
    """

    harness: str
    version: str
    task: str
    answers: tuple[ForeignAnswer, ...]
    lines: int
    decoding: ForeignDecoding
    engine: str = UNKNOWN
    other_decoding: tuple[str, ...] = ()
    quantization: str = UNKNOWN
    adapter: str = UNKNOWN
    limit: float | str | None = UNKNOWN
    nulls: int = 0
    revision: str = UNKNOWN
    parameters: int = 0
    dtype: str = UNKNOWN
    template_sha256: str = UNKNOWN
    called: str = ""


def read_foreign(path: Path) -> Foreign:
    """Returns the content of another harness's file; the rows' fields tell which harness wrote it.

    Raises:
        DataError: If the file cannot be read, no known harness wrote it, or a ledger cannot hold a row; the message names the
            line.
    """
    rows = list(files.json_rows(path, nan=True))
    harness = next((name for name, fields in _FIELDS.items() if fields <= rows[0].data.keys()), None)
    if harness is None:
        fields = ", ".join(repr(name[:40]) for name in sorted(rows[0].data)[:6]) or "no field"
        raise rows[0].error(
            f"is of no harness known here (a row has {fields}); known are lm-eval's samples_TASK_DATE.jsonl "
            "(--log_samples), open-instruct's predictions.jsonl, and rows with 'prompt' and 'response'"
        )
    for row in rows:
        if missing := sorted(_FIELDS[harness] - row.data.keys()):
            raise row.error(f"has no {missing[0]!r}, which every row of {harness} has")
    return {LM_EVAL: _lm_eval, OPEN_INSTRUCT: _open_instruct, RESPONSES: _responses}[harness](path, rows)


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


def _lm_eval(path: Path, rows: Sequence[Row]) -> Foreign:
    name = _SAMPLES.fullmatch(path.name.removesuffix(".gz"))
    results = _results(path.with_name(f"results_{name['date']}.json")) if name else {}
    config = _table(results.get("config"))
    answers, settings, nulls = [], [], 0
    for row in _once_an_item(rows):
        doc = Row(row.place, _table(row.data["doc"]))
        prompt, turns, kwargs = _arguments(row)
        response = _response(row)
        nulls += response is None
        bare = "prompt" in doc.data and "question" not in doc.data  # IFEval's documents have no right answer
        question = doc.text("prompt" if bare else "question")
        answer = None if bare else doc.text("answer")
        answers.append(ForeignAnswer(row.place.number or 0, question, answer, prompt, response or "", None, turns))
        settings.append(kwargs)
    quantization, adapter = lm_eval.altered(config)
    engine, parameters = _known(config.get("model")), config.get("model_num_parameters")
    shared = settings[0] if all(one == settings[0] for one in settings) else None
    return Foreign(
        harness=LM_EVAL,
        version=_known(results.get("lm_eval_version")),
        task=name["task"] if name else UNKNOWN,
        answers=tuple(answers),
        lines=len(rows),
        decoding=lm_eval.decoding(shared, engine),
        engine=engine,
        other_decoding=lm_eval.others(shared),
        quantization=quantization,
        adapter=adapter,
        limit=_limit(config),
        nulls=nulls,
        revision=_known(config.get("model_sha")),
        parameters=parameters if isinstance(parameters, int) and 0 < parameters < 1 << 60 else 0,
        dtype=_known(config.get("model_dtype")).removeprefix("torch."),
        template_sha256=UNKNOWN if any(one.turns for one in answers) else _template(results),
        called=_known(results.get("model_name")).rstrip("/").rpartition("/")[2],
    )


def _results(path: Path) -> dict[str, Any]:
    """Returns the content of lm-eval's ``results_DATE.json``; empty if there is no such file."""
    if not path.exists():
        return {}
    return _table(files.read_json(path, nan=True))


def _template(results: Mapping[str, Any]) -> str:
    """Returns the hash of the chat template; ``none`` if the harness used none."""
    if "chat_template" not in results:
        return UNKNOWN
    return _known(results.get("chat_template_sha")) if results["chat_template"] else "none"


def _limit(config: Mapping[str, Any]) -> float | str | None:
    limit = config.get("limit", UNKNOWN)
    return limit if limit is None or (isinstance(limit, (int, float)) and not isinstance(limit, bool)) else UNKNOWN


def _once_an_item(rows: Sequence[Row]) -> Iterator[Row]:
    """Yields one row per item: lm-eval repeats an item's row for each of the task's filters, with the same responses."""
    first: dict[str, tuple[str, Any]] = {}
    for row in rows:
        key, kind = repr(row.data.get("doc_id", row.place.number)), repr(row.data.get("filter"))
        if key not in first or first[key][0] == kind:
            first.setdefault(key, (kind, row.data["resps"]))
            yield row
        elif row.data["resps"] != first[key][1]:
            raise row.error(f"has other responses to item {key[:40]} under filter {kind[:40]} than under {first[key][0][:40]}")


def _arguments(row: Row) -> tuple[str | None, tuple[str, ...], dict[str, Any]]:
    """Returns the prompt, the contents of messages, and the settings, from the two arguments of a generation request."""
    found = row.data["arguments"]
    if isinstance(found, dict):
        pair = [value for name, value in sorted(_table(found.get("gen_args_0")).items()) if name in ("arg_0", "arg_1")]
    else:  # before 0.4.4
        pair = found[0] if isinstance(found, list) and found and isinstance(found[0], list) else []
    turns = _turns(pair[0]) if len(pair) == 2 else ()
    if len(pair) != 2 or not isinstance(pair[1], dict) or not (turns or isinstance(pair[0], str)):
        raise row.error("its 'arguments' are not a prompt and settings of generation, as a task of multiple choice has")
    return (None if turns else pair[0]), turns, pair[1]


def _turns(prompt: Any) -> tuple[str, ...]:
    """Returns the contents of messages to a chat server; empty for any other prompt.

    lm-eval sends a list of messages or, as ``JsonChatStr``, their JSON. The latter is a tuple of one text, which is a list of
    one text in the file (models/api_models.py of 0.4.13).
    """
    messages: Any = prompt
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        try:
            messages = files.parse_json(prompt[0], files.Place("arguments"))
        except DataError:
            return ()
    if not isinstance(messages, list):
        return ()
    texts = []
    for message in messages:
        content = _table(message).get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        texts.append("".join(text for part in parts if isinstance(text := _table(part).get("text"), str)))
    return tuple(texts) if any(texts) else ()


def _response(row: Row) -> str | None:
    found = row.data["resps"]
    groups = found if isinstance(found, list) else []
    texts = [text for group in groups for text in (group if isinstance(group, list) else [group])]
    if not texts or not all(text is None or isinstance(text, str) for text in texts):
        raise row.error("its 'resps' are not texts")
    if len(texts) > 1:
        raise row.error(f"has {len(texts)} responses to one item (repeats); a ledger has one")
    return None if texts[0] is None else str(texts[0])


def _known(value: Any) -> str:
    return value if isinstance(value, str) and value else UNKNOWN


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
