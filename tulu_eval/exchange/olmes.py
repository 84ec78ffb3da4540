"""Reads the answers that olmes writes, with the requests and the settings beside them.

olmes (allenai/olmes, read in the copy behzadshomali/olmes @ 99cf8bb7: ``OUTPUT_FORMATS.md``, ``run_eval.py``) writes three
files per task into its ``--output-dir``. ``task-000-gsm8k-predictions.jsonl`` has the answers, one line per item::

    {"doc_id": 0, "native_id": 0, "metrics": {"exact_match": 1.0, "model_answer": "18", ...}, "label": "18",
     "model_output": [{"continuation": " She sells ...", "num_tokens": 93, ...}], "task_hash": ..., "model_hash": ...}

or, for choices, a log-probability per choice: ``"model_output": [{"sum_logits": -1.5, "num_tokens": 1, ...}, ...]``. The
questions are in ``task-000-gsm8k-requests.jsonl``, one line per request, which olmes writes only with ``--save-raw-requests
true``::

    {"request_type": "generate_until", "doc_id": 0, "native_id": 0, "idx": 0, "label": "18",
     "doc": {"question": ..., "answer": ...},
     "request": {"context": PROMPT, "stop_sequences": [...], "generation_kwargs": {...}}}

PROMPT is a text, or for a chat model ``{"messages": [...], "assistant_prefix": "Answer:"}``, from which the model's template
makes the text. The settings are in ``task-000-gsm8k-metrics.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.exchange import lm_eval
from tulu_eval.exchange.foreign_answers import Foreign, ForeignAnswer
from tulu_eval.exchange.lm_eval import NOTHING_GENERATED
from tulu_eval.exchange.olmes_docs import question_of
from tulu_eval.files import Row
from tulu_eval.logprobs import LOGPROB_RANGE
from tulu_eval.records import Likelihood
from tulu_eval.store.signature import UNKNOWN

OLMES = "olmes"
FIELDS = frozenset({"doc_id", "native_id", "metrics", "model_output", "task_hash"})
"""Fields that identify a row of predictions."""

REQUEST_FIELDS = frozenset({"request_type", "doc", "request", "doc_id", "idx"})
"""Fields that identify a row of requests."""

_FILE = re.compile(r"task-(?P<place>\d{3,})-(?P<task>.+)-predictions\.jsonl")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = ("load_in_4bit", "load_in_8bit", "quantization_config", "autogptq")
_HARMLESS = frozenset({"repeats", "truncate_context", "min_acceptable_gen_toks"})
"""Settings of generation that do not change how a token is drawn."""

_ALTERING = ("max_length", "process_output", "vllm_logit_bias", "add_bos_token", "chat_template")
"""Arguments of the model that change prompts or answers and have no field in a manifest; prompts are cut to ``max_length``."""


class _Asked(NamedTuple):
    """What was sent to the model for one choice or text: the request's row and its part ``request``."""

    row: Row
    request: Mapping[str, Any]


def read(path: Path, rows: Sequence[Row]) -> Foreign:
    """Returns the content of a file of predictions.

    Raises:
        DataError: If the requests are not beside it or are another run's, or if a row has another form than olmes' or more than
            a ledger can hold; the message names the line.
    """
    named = _FILE.fullmatch(path.name.removesuffix(".gz"))
    if named is None:
        raise DataError(path, "is olmes' and is not called task-NNN-TASK-predictions.jsonl: its requests cannot be found")
    stem = path.name.partition("-predictions.jsonl")[0]
    asked = _requests(path.with_name(f"{stem}-requests.jsonl"))
    metrics = _metrics(path.with_name(f"{stem}-metrics.json"), rows[0])
    task = named["task"].partition(":")[0]
    answers = tuple(_answer(row, task, asked, metrics) for row in rows)
    model = _table(metrics.get("model_config"))
    engine = _known(model.get("model_type"))
    sent = [one.request for requests in asked.values() for one in requests]
    chosen = all(one.likelihoods for one in answers)
    shared = _settings(sent)
    adapter = _known(model["peft"]).rstrip("/").rpartition("/")[2] if model.get("peft") else ""
    return Foreign(
        harness=OLMES,
        version=UNKNOWN,
        task=_known(_table(_table(metrics.get("task_config")).get("metadata")).get("alias"), named["task"]),
        answers=answers,
        lines=len(rows),
        decoding=NOTHING_GENERATED if chosen else lm_eval.decoding(shared, engine),  # olmes has lm-eval 0.4.3's engines
        engine=engine,
        other_decoding=_others(shared, model),
        quantization=next((name for name in _WEIGHTS if model.get(name)), "") if model else UNKNOWN,
        adapter=adapter if model else UNKNOWN,
        limit=_limit(metrics),
        revision=revision if _COMMIT.fullmatch(revision := _known(model.get("revision"))) else UNKNOWN,
        dtype=_known(model.get("dtype")).removeprefix("torch.").replace("auto", UNKNOWN),
        template_sha256=UNKNOWN if any(one.turns for one in answers) else "none",
        called=_known(model.get("model"), "").rstrip("/").rpartition("/")[2],
    )


def _requests(path: Path) -> dict[object, list[_Asked]]:
    """Returns the requests of each document, in the order of its choices.

    Raises:
        DataError: If there is no such file, or a row is no request.
    """
    if not path.exists():
        raise DataError(path, "is not there, and it has the questions: run olmes with --save-raw-requests true")
    found: dict[object, list[tuple[int, _Asked]]] = {}
    for row in files.json_rows(path, nan=True):
        if not row.data.keys() >= REQUEST_FIELDS or not isinstance(row.data["request"], dict):
            raise row.error("is no request of olmes")
        place = row.data["idx"]
        if isinstance(place, bool) or not isinstance(place, int):
            raise row.error("its 'idx' is not a whole number")
        found.setdefault(_id(row), []).append((place, _Asked(row, row.data["request"])))
    ordered = {document: sorted(requests, key=lambda one: one[0]) for document, requests in found.items()}
    for requests in ordered.values():
        if [place for place, _ in requests] != list(range(len(requests))):
            raise requests[0][1].row.error("its document's requests are not numbered 0, 1, 2, ... by 'idx'")
    return {document: [one for _, one in requests] for document, requests in ordered.items()}


def _id(row: Row) -> tuple[str, str]:
    return repr(row.data["doc_id"]), repr(row.data.get("native_id"))


def _metrics(path: Path, first: Row) -> dict[str, Any]:
    """Returns the content of the file of settings; empty if there is none.

    Raises:
        DataError: If it belongs to another run of the task.
    """
    if not path.exists():
        return {}
    found = _table(files.read_json(path, nan=True))
    if found.get("task_hash") != first.data["task_hash"] or found.get("model_hash") != first.data.get("model_hash"):
        raise DataError(path, "is of another run than the predictions beside it: task_hash or model_hash differ")
    return found


def _answer(row: Row, task: str, asked: Mapping[object, list[_Asked]], metrics: Mapping[str, Any]) -> ForeignAnswer:
    requests = asked.get(_id(row))
    if not requests:
        raise row.error("has a 'doc_id' and 'native_id' that none of the requests beside it has")
    outputs = row.data["model_output"]
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs) or len(outputs) != len(requests):
        raise row.error(f"its 'model_output' has not one answer for each of its {len(requests)} requests")
    first = requests[0].row
    question = question_of(Row(first.place, _table(first.data["doc"])), task, _table(metrics.get("task_config")))
    line = row.place.number or 0
    if first.data["request_type"] == "loglikelihood":
        likelihoods = tuple(_likelihood(row, one, output) for one, output in zip(requests, outputs, strict=True))
        text = max(likelihoods, key=lambda one: one.total).text
        prompt, turns = _context(first, requests[0].request)
        return ForeignAnswer(line, question.text, question.answer, prompt, text, None, turns, question.group, likelihoods)
    if len(outputs) > 1:
        raise row.error(f"has {len(outputs)} answers to one item (repeats); a ledger has one")
    text = outputs[0].get("continuation")
    if not isinstance(text, str):
        raise row.error("its 'model_output' has no 'continuation'")
    prompt, turns = _context(first, requests[0].request)
    extracted = outputs[0].get("model_answer") if task == "gsm8k" else None  # of other tasks olmes' rule is none of ours
    prediction = extracted if isinstance(extracted, str) else None
    return ForeignAnswer(line, question.text, question.answer, prompt, text, prediction, turns, question.group)


def _likelihood(row: Row, asked: _Asked, output: Mapping[str, Any]) -> Likelihood:
    continuation, total = asked.request.get("continuation"), output.get("sum_logits")
    if not isinstance(continuation, str):
        raise asked.row.error("its 'request' has no 'continuation'")
    if isinstance(total, bool) or not isinstance(total, (int, float)) or not LOGPROB_RANGE[0] <= total <= LOGPROB_RANGE[1]:
        raise row.error("its 'sum_logits' are not log-probabilities of its choices")
    return Likelihood(continuation, (float(total),))


def _context(row: Row, request: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Returns the prompt as a text, or ``None`` and the contents of messages, the start of the answer last."""
    context = request.get("context")
    if isinstance(context, str):
        return context, ()
    messages = _table(context).get("messages")
    found = [_table(one).get("content") for one in messages] if isinstance(messages, list) else []
    texts = [one for one in found if isinstance(one, str)]
    if not texts or len(texts) < len(found):
        raise row.error("its 'context' is neither a text nor messages")
    prefix = _table(context).get("assistant_prefix")
    return None, (*texts, *([prefix] if isinstance(prefix, str) and prefix else []))


def _settings(requests: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Returns the settings of generation, which lm-eval calls ``until`` and so on; ``None`` if requests differ in them."""
    found = [{**_table(one.get("generation_kwargs")), "until": one.get("stop_sequences")} for one in requests]
    if not found or any(one != found[0] for one in found):
        return None
    return {name: value for name, value in found[0].items() if name not in _HARMLESS}


def _others(settings: Mapping[str, Any] | None, model: Mapping[str, Any]) -> tuple[str, ...]:
    of_model = tuple(f"{name}={model[name]}"[:80] for name in _ALTERING if model.get(name))
    return (*lm_eval.others(settings), *of_model)


def _limit(metrics: Mapping[str, Any]) -> float | str | None:
    config = _table(metrics.get("task_config"))
    if "limit" not in config:
        return UNKNOWN if not config else None
    limit = config["limit"]
    return limit if limit is None or (isinstance(limit, (int, float)) and not isinstance(limit, bool)) else UNKNOWN


def _known(value: Any, otherwise: str = UNKNOWN) -> str:
    return value if isinstance(value, str) and value else otherwise


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
