"""ToxiGen's labels by a tiny classifier with random weights, against transformers' own answers to each text alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tulu_eval
from tulu_eval.benchmarks.toxigen import GROUPS
from tulu_eval.errors import EngineError, PreflightError, UserError
from tulu_eval.records import Completion
from tulu_eval.registry import load_suite
from tulu_eval.runs.class_judge import prepare
from tulu_eval.runs.labelling import LabelledRun
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run, sound
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

pytestmark = pytest.mark.usefixtures("own_places")
N = 40


@pytest.fixture
def classifier(llama3_like: Path, tmp_path: Path) -> Path:
    """A folder with a classifier of two labels that takes 64 tokens."""
    import torch
    import transformers

    folder = tmp_path / "classifier"
    folder.mkdir()
    for path in llama3_like.glob("*token*"):
        shutil.copy(path, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"model_max_length": 64, "pad_token": settings["eos_token"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id, num_labels=2, initializer_range=0.5,
    )  # fmt: skip
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for group in GROUPS:
        (folder / f"hate_{group}_1k.txt").write_text("".join(f"- {group} {place}\\n-\n" for place in range(500)))
    return folder


@pytest.fixture
def run(data: Path, order: Any) -> Path:
    """40 answers, one of them longer than the classifier takes, and one engine error."""
    asked = dataclasses.replace(order, benchmark="toxigen", protocol=None, data=data, limit=N)
    plan = make_plan(asked, load_suite())
    places = {one.request.key: place for place, one in enumerate(plan.planned)}

    def answer(request: Any, decoding: Any) -> Completion:
        place = places[request.key]
        text = "" if place == 2 else f"Answer {place}. " * (60 if place == 5 else 1)
        end = "error" if place == 2 else "stop"
        return Completion(request.key, text, (), end, 0.1, "died" if end == "error" else "")

    scripted = ScriptedBackend.of(answer, name="transformers")
    return execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder


def test_a_classifier_labels_a_run_as_transformers_labels_each_text(run: Path, data: Path, classifier: Path) -> None:
    import torch
    import transformers

    models = {"classifier": classifier}
    plan = tulu_eval.plan_judging(run, data=data, judge_models=models)
    assert (plan.estimate.requests, plan.prompts[0]) == (N - 1, "Answer 0. ")
    done = tulu_eval.judge(run, data=data, judge_models=models, progress=False)
    assert isinstance(done, LabelledRun)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(classifier)
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    texts = {one.item: one.completion.text for one in sound(read_run(run)).samples()}
    toxic = 0
    for label in done.labels:
        with torch.no_grad():
            rows = tokenizer([texts[label.id]], truncation=True, return_tensors="pt")
            expected = float(model(**rows).logits.softmax(-1)[0, 1])
        assert label.values["classifier"] == pytest.approx(expected, abs=1e-5)
        toxic += expected > 0.5
    assert 0 < toxic < N - 1, "the random weights give both labels"
    rows = {row.metric: row for row in sound(read_run(run)).results}
    assert rows["toxic_by_other_judge"].value == pytest.approx(100 * toxic / N)
    assert rows["harmless_by_other_judge"].value == pytest.approx(100 * (N - 1 - toxic) / N)
    assert rows["toxic_by_other_judge"].counts["engine_error"] == 1
    assert rows["toxic_by_other_judge"].high >= 100 * (toxic + 1) / N


def test_no_label_comes_from_weights_that_are_not_there(run: Path, data: Path, classifier: Path) -> None:
    """transformers gives a model without a head one of random numbers, and warns."""
    import safetensors.torch

    weights = safetensors.torch.load_file(classifier / "model.safetensors")
    safetensors.torch.save_file(
        {name: one for name, one in weights.items() if name != "score.weight"},
        classifier / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    with pytest.raises(EngineError, match=r"lacks the weights score\.weight"):
        tulu_eval.judge(run, data=data, judge_models={"classifier": classifier}, progress=False)


def test_a_number_that_is_none_is_no_label(run: Path, data: Path, classifier: Path) -> None:
    import safetensors.torch

    weights = safetensors.torch.load_file(classifier / "model.safetensors")
    weights["score.weight"] = weights["score.weight"] * float("nan")
    safetensors.torch.save_file(weights, classifier / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="no answer has a label; the first: endpoint its probability is not finite"):
        tulu_eval.judge(run, data=data, judge_models={"classifier": classifier}, progress=False)


def test_what_is_no_classifier_of_two_labels_is_said(run: Path, data: Path, classifier: Path) -> None:
    with pytest.raises(UserError, match="the classifier of toxigen runs in transformers"):
        tulu_eval.judge(run, data=data, judge_models={"classifier": classifier}, backend="vllm")
    with pytest.raises(UserError, match="the judges of toxigen are classifier"):
        tulu_eval.judge(run, data=data, judge_models={"truth": classifier})
    path = classifier / "config.json"
    config = json.loads(path.read_text())
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    path.write_text(json.dumps(config))
    with pytest.raises(EngineError, match="cannot be loaded as a classifier"):
        tulu_eval.judge(run, data=data, judge_models={"classifier": classifier}, progress=False)
    path = classifier / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["model_max_length"]
    path.write_text(json.dumps(settings))
    with pytest.raises(PreflightError, match="does not say how many tokens"):
        prepare(str(classifier), {"a": "b"}, load_suite())
