"""TyDi QA against the recipe written out a second time, on synthetic files in the form of the published ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.tydiqa import DEV, TRAIN, WORDINGS, WORDINGS_SHA256, PassageItem, TydiQA
from tulu_eval.errors import DataError, PreflightError, UserError
from tulu_eval.findings.verify import verify
from tulu_eval.records import Grade
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend

BENCHMARK = TydiQA()
LANGUAGES = ("arabic", "bengali", "english", "finnish", "indonesian", "korean", "russian", "swahili", "telugu")


def article(language: str, name: str, questions: int) -> dict[str, Any]:
    """An article of one paragraph, with the fields of the published files that the recipe does not read."""
    asked = [
        {
            "id": f"{language}-{name}-{place}",
            "question": f"{language} question {place} of {name}?",
            "answers": [{"text": f"answer {place}", "answer_start": 3}, {"text": f"the {name}", "answer_start": 9}],
        }
        for place in range(questions)
    ]
    return {"paragraphs": [{"context": f"Passage {name} in {language}. " * 3, "qas": asked}]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Languages mixed in the file: 120 questions of each but Korean, which has just 100, and 7 examples."""
    folder = tmp_path_factory.mktemp("tydiqa")
    dev = [
        article(language, f"d{n}", 20) for n in range(6) for language in reversed(LANGUAGES) if (language, n) != ("korean", 5)
    ]
    train = [article(language, f"t{n}", 1) for n in range(7) for language in LANGUAGES]
    for name, articles in ((DEV, dev), (TRAIN, train)):
        (folder / name).write_text(json.dumps({"version": "TyDiQA-GoldP-1.1", "data": articles}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def items(data: Path) -> list[Item]:
    return BENCHMARK.load(BENCHMARK.protocol(None), data)


def flat(path: Path) -> list[dict[str, Any]]:
    whole = json.loads(path.read_text(encoding="utf-8"))
    paragraphs = [paragraph for one in whole["data"] for paragraph in one["paragraphs"]]
    return [{**qa, "context": paragraph["context"]} for paragraph in paragraphs for qa in paragraph["qas"]]


def test_draws_and_prompts_as_the_recipe_has_them(data: Path, items: list[Item]) -> None:
    """The original's module-wide generator, its order of draws, and its prompt put together by hand."""
    before = random.getstate()
    random.seed(42)
    try:
        asked, examples = [], {}
        for language in LANGUAGES:
            of_language = [one for one in flat(data / DEV) if one["id"].split("-")[0] == language]
            asked += random.sample(of_language, 100) if len(of_language) > 100 else of_language
        for language in LANGUAGES:
            of_language = [one for one in flat(data / TRAIN) if one["id"].split("-")[0] == language]
            (examples[language],) = random.sample(of_language, 1)
    finally:
        random.setstate(before)
    assert [item.id for item in items] == [one["id"] for one in asked]
    assert len(items) == 900
    for item, one in zip(items, asked, strict=True):
        instruction, p, q, a = WORDINGS[item.group]
        shown = examples[item.group]
        text = instruction + "\n\n"
        text += p + " " + shown["context"] + "\n" + q + " " + shown["question"] + "\n" + a + " " + shown["answers"][0]["text"]
        text += "\n\n" + p + " " + one["context"] + "\n" + q + " " + one["question"] + "\n"
        prompt = BENCHMARK.render(item)
        assert (prompt.user, prompt.prefill, prompt.plain) == (text, a, text + a)
        assert json.loads(item.target) == [answer["text"] for answer in one["answers"]]
    assert {item.group for item in items} == set(LANGUAGES)


def test_the_wordings_are_the_original_s_bytes() -> None:
    text = "\0".join(part for language in sorted(WORDINGS) for part in (language, *WORDINGS[language]))
    assert hashlib.sha256(text.encode()).hexdigest() == WORDINGS_SHA256
    assert tuple(sorted(WORDINGS)) == LANGUAGES


def test_the_decoding() -> None:
    protocol = BENCHMARK.protocol(None)
    assert (protocol.decoding.max_new_tokens, protocol.decoding.stop, protocol.plain_decoding.stop) == (50, (), ("\n",))
    assert protocol.decoding.greedy
    assert "not the cards' protocol" in protocol.summary


def test_the_best_of_an_item_s_answers_counts() -> None:
    target = json.dumps(["1990", "in the year 1990"])
    assert BENCHMARK.grade(target, " The year 1990.\n") == (
        Grade("squad-f1", "The year 1990.", True, pytest.approx(2 * (1 * 2 / 3) / (1 + 2 / 3))),
        Grade("squad-exact-match", "The year 1990.", True, 0.0),
    )
    assert [one.score for one in BENCHMARK.grade(target, "In the year, 1990")] == [1.0, 1.0]
    assert [(one.score, one.answered) for one in BENCHMARK.grade(target, "\n")] == [(0.0, False)] * 2
    with pytest.raises(DataError, match="an item's answers"):
        BENCHMARK.grade("1990", "1990")


def change(edit: Callable[[list[Any]], Any], data: Path, folder: Path, name: str) -> None:
    for one in (DEV, TRAIN):
        whole = json.loads((data / one).read_text(encoding="utf-8"))
        if one == name:
            edit(whole["data"])
        (folder / one).write_text(json.dumps(whole), encoding="utf-8")


@pytest.mark.parametrize(
    ("edit", "name", "message"),
    [
        (
            lambda found: found.append(article("latin", "d", 1)),
            DEV,
            "question 'latin-d-0': for this language the recipe has no",
        ),
        (
            lambda found: found.__delitem__(slice(18)),
            DEV,
            "has 80 questions in arabic, and the recipe draws 100; take a folder",
        ),
        (lambda found: found[0]["paragraphs"][0]["qas"][0].update(answers=[]), TRAIN, "question 'arabic-t0-0' has no answer"),
        (lambda found: found[0].pop("paragraphs"), DEV, r"data\[0\]: Object missing required field 'paragraphs'"),
        (lambda found: found[0]["paragraphs"][0]["qas"][0].update(question=7), TRAIN, "Expected 'str', got 'int'"),
        (
            lambda found: found.__setitem__(slice(None), [one for one in found for _ in range(2)]),
            DEV,
            "has a question's id twice",
        ),
    ],
)
def test_what_the_recipe_cannot_draw_from_is_refused_in_one_line(
    data: Path, tmp_path: Path, edit: Callable[[list[Any]], Any], name: str, message: str
) -> None:
    change(edit, data, tmp_path, name)
    with pytest.raises(DataError, match=message) as caught:
        BENCHMARK.load(BENCHMARK.protocol(None), tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_of_tydiqa(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"tydiqa needs --data FOLDER: a folder with tydiqa-goldp-v1\.1-dev\.json and"):
        BENCHMARK.load(BENCHMARK.protocol(None), None)
    with pytest.raises(DataError, match=r"tydiqa-goldp-v1\.1-dev\.json: no such file"):
        BENCHMARK.load(BENCHMARK.protocol(None), tmp_path)
    with pytest.raises(DataError, match="has no passage"):
        BENCHMARK.render(Item("english-1", "Who?", group="english"))


def test_a_run_is_of_whole_passages_and_of_its_data(data: Path, order: Order, tmp_path: Path) -> None:
    asked = dataclasses.replace(order, benchmark="tydiqa", protocol=None, data=data, limit=3)
    plan = make_plan(asked, load_suite())
    first, second, _ = (one.item for one in plan.planned)
    said = [json.loads(first.target)[0], f"{json.loads(second.target)[0]} or", "no"]
    texts = dict(zip((one.request.key for one in plan.planned), said, strict=True))
    scripted = ScriptedBackend.of(lambda request, decoding: texts[request.key], name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert not run.doubts
    assert [(row.metric, row.value, row.n, row.n_protocol) for row in run.results] == [
        ("f1_of_whole_passages", pytest.approx(100 * (1 + 0.8) / 3), 3, 900),
        ("exact_match_of_whole_passages", pytest.approx(100 / 3), 3, 900),
    ]
    assert PromptSource({"tydiqa": data}).prompts(run, list(run.samples())).proven
    with pytest.raises(UserError, match="and what was published is f1_of_cut_passages"):
        verify(run, load_suite(), stand_in="llama-3-tulu-2-8b", partial=True)
    change(lambda found: [one["paragraphs"][0].update(context="Another.") for one in found], data, tmp_path, DEV)
    other = make_plan(dataclasses.replace(asked, data=tmp_path), load_suite())
    assert plan.items_sha256 == plan.data_sha256 != other.data_sha256 == other.items_sha256
    assert plan.settings_sha256 != other.settings_sha256


@pytest.mark.parametrize("kind", ["llama2_like", "llama3_like"])
def test_the_cards_passages_are_cut_by_the_model_s_tokenizer(
    data: Path, order: Order, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """As ``run_eval.py`` cuts them: encoded, the first 512 ids decoded, whatever the tokenizer puts in front included."""
    model = request.getfixturevalue(kind)
    words = "".join(f"Part {place} of the passage, with more of it. " for place in range(50))
    long = [f"{language} {words}" for language in LANGUAGES]

    def edit(found: list[Any]) -> None:
        for place, one in enumerate(found):
            if place % 2:
                one["paragraphs"][0].update(context=long[place % len(long)])

    change(edit, data, tmp_path, DEV)
    asked = dataclasses.replace(order, benchmark="tydiqa", data=tmp_path, limit=60, model=str(model))
    whole = make_plan(dataclasses.replace(asked, protocol="whole-passages"), load_suite())
    plan = make_plan(dataclasses.replace(asked, protocol="card-512"), load_suite())
    assert plan.items_sha256 == whole.items_sha256
    assert plan.settings_sha256 != whole.settings_sha256
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    cut = 0
    for one, other in zip(plan.planned, whole.planned, strict=True):
        before, after = other.item, one.item
        assert isinstance(before, PassageItem)
        assert isinstance(after, PassageItem)
        ids = tokenizer.encode(before.passage)
        expected = tokenizer.decode(ids[:512]) if len(ids) > 512 else before.passage
        assert after.passage == expected
        assert after.example.passage == before.example.passage
        assert expected in one.request.text
        cut += expected != before.passage
        if expected == before.passage:
            assert one.request.token_ids == other.request.token_ids
    assert 10 < cut < 60
    assert f"{cut} prompts have a passage cut to 512 tokens (first: item " in plan.notices[-1]
    assert after.passage.startswith("<s>") == (kind == "llama2_like" and after.passage != before.passage)
    scripted = ScriptedBackend.of(lambda request, decoding: "no", name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert not run.doubts
    assert [row.metric for row in run.results] == ["f1_of_cut_passages", "exact_match_of_cut_passages"]
    assert run.manifest.protocol.longest_passage == 512
    found = verify(run, load_suite(), stand_in="llama-3-tulu-2-8b", partial=True)
    assert [one.cell.printed for one in found.comparisons] == ["56.24"]
    with pytest.raises(DataError, match="the model's own tokenizer cut passages"):
        PromptSource({"tydiqa": tmp_path}).prompts(run, list(run.samples()))
