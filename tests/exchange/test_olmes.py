"""Files in the form that olmes' own code writes become runs; its prompts for GSM8K are those of ``olmes-tulu3``, turn by turn.

The form comes from a run of olmes' code (``run_eval.run_eval`` of the
copy behzadshomali/olmes @ 99cf8bb7) on four rows of each data set with a model that always answers the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign_rows import write

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError
from tulu_eval.exchange.foreign import read_foreign
from tulu_eval.exchange.import_file import Imported, import_file
from tulu_eval.registry import load_suite
from tulu_eval.runs.reading import read_run

HASHES = {"task_hash": "5bc2", "model_hash": "922b"}
CONTEXT = {"messages": [{"role": "user", "content": "Question: 1 + 1?"}], "assistant_prefix": "Answer:"}
GREEDY = {"max_gen_toks": 512, "do_sample": False, "temperature": 0.0}


def request(document: int = 0, place: int = 0, **more: Any) -> dict[str, Any]:
    """A request of olmes for GSM8K."""
    return {
        "request_type": "generate_until", "doc": {"question": "1 + 1?", "answer": "#### 2", "short_answer": "2"},
        "request": {"context": CONTEXT, "stop_sequences": ["Question:"], "generation_kwargs": GREEDY}, "idx": place,
        "task_name": "gsm8k", "doc_id": document, "native_id": document, "label": "2", **more,
    }  # fmt: skip


def prediction(document: int = 0, **more: Any) -> dict[str, Any]:
    """What olmes keeps of the answer to it."""
    output = [{"continuation": " So the answer is 2.", "num_tokens": 8, "model_answer": "2"}]
    return {
        "doc_id": document, "native_id": document, "metrics": {"exact_match": 1.0}, "model_output": output, "label": "2",
        **HASHES, **more,
    }  # fmt: skip


def settings(**more: Any) -> dict[str, Any]:
    """What olmes keeps of a task's settings."""
    model = {"model": "org/checkpoint", "revision": "main", "max_length": 2048, "model_type": "vllm"}
    task = {"limit": None, "metadata": {"alias": "gsm8k::tulu"}, "metric_kwargs": {}}
    return {**HASHES, "model_config": model, "task_config": task, **more}


def written(
    folder: Path, predictions: list[Any], requests: list[Any], metrics: Any = None, task: str = "gsm8k", stem: str = "task-000-"
) -> Path:
    write(folder / f"{stem}{task}-requests.jsonl", requests)
    if metrics is not None:
        (folder / f"{stem}{task}-metrics.json").write_text(json.dumps(metrics))
    return write(folder / f"{stem}{task}-predictions.jsonl", predictions)


def imported(path: Path, benchmark: str, data: Path) -> Imported:
    return import_file(path, "checkpoint", benchmark, data, path.parent / "runs", load_suite())


def test_what_the_files_say(tmp_path: Path) -> None:
    found = read_foreign(written(tmp_path, [prediction()], [request()], settings()))
    (answer,) = found.answers
    assert (answer.question, answer.answer, answer.text, answer.prediction) == ("1 + 1?", "2", " So the answer is 2.", "2")
    assert (answer.prompt, answer.turns) == (None, ("Question: 1 + 1?", "Answer:"))
    assert (found.harness, found.task, found.engine, found.called) == ("olmes", "gsm8k::tulu", "vllm", "checkpoint")
    assert (found.decoding.temperature, found.decoding.max_new_tokens, found.decoding.stop) == (0.0, 512, ("Question:",))
    assert (found.quantization, found.adapter, found.limit) == ("", "", None)
    assert found.other_decoding == ("max_length=2048",)  # prompts are cut to this many tokens
    assert found.revision == "unknown"  # a branch is no commit
    assert found.template_sha256 == "unknown"


def test_without_its_settings_they_are_unknown(tmp_path: Path) -> None:
    plain = request(request={"context": "Question: 1 + 1?\nAnswer:", "stop_sequences": [], "generation_kwargs": GREEDY})
    found = read_foreign(written(tmp_path, [prediction()], [plain]))
    assert (found.engine, found.quantization, found.adapter, found.limit) == ("unknown",) * 4
    assert (found.answers[0].prompt, found.answers[0].turns) == ("Question: 1 + 1?\nAnswer:", ())
    assert found.template_sha256 == "none"


def test_other_weights_and_a_commit(tmp_path: Path) -> None:
    model = {"model": "x", "load_in_8bit": True, "peft": "org/lora", "revision": "a" * 40, "dtype": "torch.bfloat16"}
    found = read_foreign(written(tmp_path, [prediction()], [request()], settings(model_config=model)))
    assert (found.quantization, found.adapter, found.revision, found.dtype) == ("load_in_8bit", "lora", "a" * 40, "bfloat16")


def test_requests_that_differ_in_their_settings_have_no_common_decoding(tmp_path: Path) -> None:
    other = request(1, request={"context": "x", "stop_sequences": [], "generation_kwargs": {**GREEDY, "temperature": 0.7}})
    found = read_foreign(written(tmp_path, [prediction(), prediction(1)], [request(), other], settings()))
    assert found.decoding.temperature is None


CHOICE = {"request_type": "loglikelihood"}


@pytest.mark.parametrize(
    ("predictions", "requests", "message"),
    [
        ([prediction(7)], [request()], "predictions.jsonl:1: has a 'doc_id' and 'native_id' that none of the requests"),
        ([prediction(native_id=3)], [request()], "predictions.jsonl:1: has a 'doc_id' and 'native_id' that none"),
        ([prediction()], [request(), request(place=1)], "predictions.jsonl:1: its 'model_output' has not one answer for each"),
        ([prediction(model_output=[{}, {}])], [request(), request(place=1)], "has 2 answers to one item (repeats)"),
        ([prediction(model_output=[{"text": "x"}])], [request()], "its 'model_output' has no 'continuation'"),
        ([prediction(model_output="x")], [request()], "its 'model_output' has not one answer for each"),
        ([prediction()], [request(place=1)], "requests.jsonl:1: its document's requests are not numbered 0, 1, 2"),
        ([prediction()], [request(), request()], "are not numbered 0, 1, 2"),
        ([prediction()], [request(idx="0")], "requests.jsonl:1: its 'idx' is not a whole number"),
        ([prediction()], [{"doc": {}}], "requests.jsonl:1: is no request of olmes"),
        ([prediction()], [request(request="x")], "requests.jsonl:1: is no request of olmes"),
        ([prediction()], [request(request={"context": {"messages": []}})], "its 'context' is neither a text nor messages"),
        ([prediction()], [request(request={"context": 1})], "its 'context' is neither a text nor messages"),
        ([prediction()], [request(**CHOICE)], "its 'request' has no 'continuation'"),
        (
            [prediction(model_output=[{"sum_logits": float("nan")}])],
            [request(**CHOICE, request={"context": "x", "continuation": " A"})],
            "its 'sum_logits' are not log-probabilities of its choices",
        ),
        ([prediction()], [request(doc="cut")], "requests.jsonl:1: field 'question' is missing or not a string"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_taken_is_named_in_one_line(
    tmp_path: Path, predictions: list[Any], requests: list[Any], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        read_foreign(written(tmp_path, predictions, requests))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    path = written(tmp_path, [prediction()], [request()], settings(task_hash="other"))
    with pytest.raises(DataError, match=r"metrics\.json: is of another run than the predictions beside it"):
        read_foreign(path)
    with pytest.raises(
        DataError, match=r"requests\.jsonl:1: is a request of olmes: give the file of -predictions\.jsonl beside it"
    ):
        read_foreign(tmp_path / "task-000-gsm8k-requests.jsonl")
    (tmp_path / "task-000-gsm8k-requests.jsonl").unlink()
    with pytest.raises(DataError, match=r"-requests\.jsonl: is not there, .*run olmes with --save-raw-requests true"):
        read_foreign(path)
    with pytest.raises(DataError, match=r"is not called task-NNN-TASK-predictions\.jsonl"):
        read_foreign(path.rename(tmp_path / "answers.jsonl"))


@pytest.mark.parametrize("change", ["none", "fewer examples", "another example", "no prefix"])
def test_the_protocol_holds_only_with_just_its_turns(shared: Path, tmp_path: Path, change: str) -> None:
    data = shared / "data/gsm8k/test.jsonl"
    benchmark = GSM8K().under("olmes-tulu3")
    items = benchmark.load(benchmark.protocols["olmes-tulu3"], data)[:3]
    requests, predictions = [], []
    for place, item in enumerate(items):
        prompt = benchmark.render(item)
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        prefix = "" if change == "no prefix" else prompt.prefill
        if change == "fewer examples":
            messages = messages[2:]
        if change == "another example":
            messages[1] = {**messages[1], "content": "Answer: 6."}
        context = {"messages": messages, "assistant_prefix": prefix}
        sent = {"context": context, "stop_sequences": ["Question:"], "generation_kwargs": GREEDY}
        doc = {"question": item.question, "answer": item.target, "short_answer": item.target}
        requests.append(request(place, doc=doc, request=sent))
        predictions.append(prediction(place))
    done = imported(written(tmp_path, predictions, requests, settings()), "gsm8k", data)
    assert (done.protocol, len(done.matched.answers)) == ("olmes-tulu3", 3)
    assert done.other_prompts == (change != "none")
    assert read_run(done.folder).manifest.protocol.prompt_id == ("ebdd47cb" if change == "none" else "unknown")


def test_choices_become_likelihoods(shared: Path, tmp_path: Path) -> None:
    question = "A lesion causing compression of the facial nerve at the stylomastoid foramen will cause ipsilateral"
    choices = (
        "paralysis of the facial muscles.", "paralysis of the facial muscles and loss of taste.",
        "paralysis of the facial muscles, loss of taste and lacrimation.",
        "paralysis of the facial muscles, loss of taste, lacrimation and decreased salivation.",
    )  # fmt: skip
    lettered = "".join(f"\n {letter}. {text}" for letter, text in zip("ABCD", choices, strict=True))
    doc = {"index": 0, "query": f"Question: {question}{lettered}\nAnswer:", "choices": list("ABCD"), "gold": 0}
    requests = [
        request(place=place, doc=doc, request={"context": doc["query"], "continuation": f" {letter}"}, **CHOICE)
        for place, letter in enumerate("ABCD")
    ]
    outputs = [{"sum_logits": value, "num_tokens": 1, "is_greedy": False} for value in (-1.5, -2.5, -3.5, -4.5)]
    path = written(tmp_path, [prediction(model_output=outputs)], requests, settings(), task="mmlu_anatomy:mc")
    done = imported(path, "mmlu", shared / "data/suite/mmlu")
    ((item, answer),) = done.matched.answers
    assert (item.id, item.group, answer.text) == ("anatomy-0", "anatomy", " A")
    assert [one.total for one in answer.likelihoods] == [-1.5, -2.5, -3.5, -4.5]
    assert (done.results[0].scorer, done.results[0].value) == ("likeliest-letter", 100.0)
