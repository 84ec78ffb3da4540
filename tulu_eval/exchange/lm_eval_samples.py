"""Reads the samples that lm-eval writes.

lm-eval (EleutherAI/lm-evaluation-harness 0.4.13, ``--log_samples``) writes ``samples_TASK_DATE.jsonl``, one line per item and
filter, for a task that generates::

    {"doc_id": 0, "doc": {"question": ..., "answer": ...}, "resps": [[" She sells ..."]], "filter": "strict-match",
     "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": ...}}}, "exact_match": 0.0, ...}

and for one of multiple choice, with the log-probability of each choice and whether it is what greedy decoding gives, as texts::

    {"doc_id": 0, "doc": {"question": ..., "choices": [...], "answer": 0, "subject": "anatomy"}, "filter": "none",
     "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": " A"}, "gen_args_1": {"arg_0": PROMPT, "arg_1": " B"}, ...},
     "resps": [[["-1.5", "True"]], [["-2.25", "False"]], ...], "filtered_resps": [["-1.5", "True"], ...], "acc": 1.0}

Beside it is ``results_DATE.json``, which has versions and the model. A task with subjects or parts has a file for each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.exchange import lm_eval
from tulu_eval.exchange.foreign_answers import Foreign, ForeignAnswer
from tulu_eval.exchange.lm_eval import NOTHING_GENERATED
from tulu_eval.exchange.lm_eval_docs import question_of
from tulu_eval.files import Row
from tulu_eval.logprobs import LOGPROB_RANGE
from tulu_eval.records import Likelihood
from tulu_eval.store.signature import UNKNOWN

LM_EVAL = "lm-eval"

_SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")


def read(path: Path, rows: Sequence[Row]) -> Foreign:
    """Returns the content of a file of samples.

    Raises:
        DataError: If a row has another form than lm-eval's, or more than a ledger can hold; the message names the line.
    """
    name = _SAMPLES.fullmatch(path.name.removesuffix(".gz"))
    results = _results(path.with_name(f"results_{name['date']}.json")) if name else {}
    config = _table(results.get("config"))
    task = name["task"] if name else UNKNOWN
    once = list(_once_an_item(rows))
    found = [_answer(row, task) for row in once]
    answers = tuple(answer for answer, _ in found)
    settings = [kwargs for _, kwargs in found]
    quantization, adapter = lm_eval.altered(config)
    engine, parameters = _known(config.get("model")), config.get("model_num_parameters")
    shared = settings[0] if all(one == settings[0] for one in settings) else None
    return Foreign(
        harness=LM_EVAL,
        version=_known(results.get("lm_eval_version")),
        task=task,
        answers=answers,
        lines=len(rows),
        decoding=NOTHING_GENERATED if all(one.likelihoods for one in answers) else lm_eval.decoding(shared, engine),
        engine=engine,
        other_decoding=lm_eval.others(shared),
        quantization=quantization,
        adapter=adapter,
        limit=_limit(config),
        nulls=sum(row.data["resps"] in ([[None]], [None]) for row in once),
        revision=_known(config.get("model_sha")),
        parameters=parameters if isinstance(parameters, int) and 0 < parameters < 1 << 60 else 0,
        dtype=_known(config.get("model_dtype")).removeprefix("torch."),
        template_sha256=UNKNOWN if any(one.turns for one in answers) else _template(results),
        called=_known(results.get("model_name")).rstrip("/").rpartition("/")[2],
    )


def _answer(row: Row, task: str) -> tuple[ForeignAnswer, dict[str, Any]]:
    """Returns the answer of a row, and its settings of generation, which log-likelihoods have none of."""
    doc = Row(row.place, _table(row.data["doc"]))
    question = question_of(doc, task)
    likelihoods = _likelihoods(row)
    if likelihoods:
        prompt: str | None = _requests(row)[0][0]
        turns: tuple[str, ...] = ()
        kwargs: dict[str, Any] = {}
        text = max(likelihoods, key=lambda one: one.total).text
    else:
        prompt, turns, kwargs = _arguments(row)
        text = _completed(row, question.text) if "entry_point" in doc.data else _response(row) or ""
    answer = ForeignAnswer(
        row.place.number or 0, question.text, question.answer, prompt, text, None, turns, question.group, likelihoods
    )
    return answer, kwargs


def _requests(row: Row) -> list[list[Any]]:
    """Returns the arguments of each of a row's requests."""
    found = row.data["arguments"]
    if isinstance(found, dict):
        return [[value for _, value in sorted(_table(found.get(f"gen_args_{place}")).items())] for place in range(len(found))]
    return [one if isinstance(one, list) else [] for one in found] if isinstance(found, list) else []


def _likelihoods(row: Row) -> tuple[Likelihood, ...]:
    """Returns how likely each choice of a row is; empty for a row of generated text.

    Raises:
        DataError: If the row's requests are of choices, and its responses are not one log-probability for each of them.
    """
    pairs = _requests(row)
    if not pairs or not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
        return ()
    if len({prompt for prompt, _ in pairs}) > 1:
        raise row.error("asks its choices after several prompts (acc_mutual_info), and a ledger has one prompt")
    found = row.data["resps"]
    if not isinstance(found, list) or len(found) != len(pairs):
        raise row.error(f"has {len(pairs)} choices and not as many 'resps'")
    return tuple(Likelihood(text, (_logprob(row, one),)) for (_, text), one in zip(pairs, found, strict=True))


def _logprob(row: Row, response: Any) -> float:
    """Returns the log-probability in a response, ``[["-1.5", "False"]]`` in the file: the sum over the choice's tokens."""
    while isinstance(response, list) and response and isinstance(response[0], list):
        response = response[0]
    try:
        value = float(response[0]) if isinstance(response, list) and len(response) == 2 else math.nan
    except (TypeError, ValueError):
        value = math.nan
    if not LOGPROB_RANGE[0] <= value <= LOGPROB_RANGE[1]:
        raise row.error("its 'resps' are not log-probabilities of its choices")
    return value


def _completed(row: Row, prompt: str) -> str:
    """Returns what lm-eval runs behind HumanEval's prompt: for ``humaneval_instruct`` the response up to a fence."""
    _response(row)
    found = row.data.get("filtered_resps")
    while isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, str) or not found.startswith(prompt):
        raise row.error("its 'filtered_resps' are not the prompt and its completion")
    return found.removeprefix(prompt)


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
    pair = next(iter(_requests(row)), [])
    turns = _turns(pair[0]) if len(pair) == 2 else ()
    if len(pair) != 2 or not isinstance(pair[1], dict) or not (turns or isinstance(pair[0], str)):
        raise row.error("its 'arguments' are neither a prompt and settings of generation nor a prompt and choices")
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
