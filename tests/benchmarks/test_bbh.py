"""BBH against the golden prompts, the recipe's own draw, and both scorers against the data's quirks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_manifest import made_manifest

from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.bbh import BBH, Task, read_tasks, stated_answer
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Grade
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.runs.scoring import make_rows
from tulu_eval.store.sample_line import Marks
from tulu_eval.store.setup_schema import StoredBenchmark
from tulu_eval.testing import ScriptedBackend


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data/suite/bbh"


@pytest.fixture(scope="module")
def tasks(data: Path) -> list[Task]:
    return read_tasks(data)


def load(protocol: str, data: Path) -> list[Item]:
    return BBH().under(protocol).load(BBH().protocol(protocol), data)


def golden(shared: Path, name: str) -> Any:
    return json.loads((shared / "data/suite/golden" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("protocol", "name"), [("cot", "bbh_cot_all_tulu.json"), ("direct", "bbh_direct_all_tulu.json")])
def test_the_published_prompts_byte_for_byte(shared: Path, data: Path, protocol: str, name: str) -> None:
    expected, items = golden(shared, name), load(protocol, data)
    benchmark = BBH().under(protocol)
    prompts = [benchmark.render(item) for item in items]
    texts = [f"<|user|>\n{one.user}\n<|assistant|>\n{one.prefill}" for one in prompts]
    assert [item.id for item in items] == [one["id"] for one in expected["items"]]
    assert [hashlib.sha256(one.encode()).hexdigest() for one in texts] == [one["sha256"] for one in expected["items"]]
    assert hashlib.sha256("\0".join(texts).encode()).hexdigest() == expected["combined_sha256"]
    assert all(one.plain == f"{one.user}\nA:" for one in prompts)


def test_the_sorted_draw(shared: Path, data: Path) -> None:
    drawn = golden(shared, "bbh_subset_sorted_order.json")["tasks"]
    expected = [f"{task}-{place}" for task, places in drawn.items() for place in places]
    items = load("cot-sorted-40", data)
    assert [item.id for item in items] == expected
    assert len(items) == BBH().protocols["cot-sorted-40"].n == 1080
    everything = {item.id: item for item in load("cot", data)}
    assert all(everything[item.id] == item for item in items)


def test_prompt_ids_are_hashes_of_the_worked_examples(tasks: Sequence[Task]) -> None:
    for protocol in BBH.protocols.values():
        worked = "\0".join(map(BBH().under(protocol.name).worked, tasks))  # type: ignore[attr-defined]
        assert hashlib.sha256(worked.encode()).hexdigest()[:8] == protocol.prompt_id


def test_where_generation_stops() -> None:
    stops = {one.name: one.decoding.stop for one in BBH.protocols.values()}
    assert stops == {"cot": (), "cot-sorted-40": (), "cot-blank-line": ("\n\n",), "direct": ()}
    assert {one.plain_decoding.stop for one in BBH.protocols.values()} == {("\n\n",)}
    assert {one.decoding.max_new_tokens for one in BBH.protocols.values()} == {512}


def scores(target: str, text: str, protocol: str = "cot") -> tuple[float, ...]:
    return tuple(grade.score for grade in BBH().under(protocol).grade(target, text))


def test_every_worked_example_is_right_for_both_scorers(tasks: Sequence[Task]) -> None:
    """The examples' answers are read as a model's would be; each task has three."""
    for task in tasks:
        answers = re.findall(r"\nA: (.*?)(?=\n\nQ: |\Z)", task.examples, re.DOTALL)
        assert len(answers) == 3
        for answer in answers:
            found = stated_answer(answer)
            assert found is not None
            assert scores(found, answer) == (1.0, 1.0)


def test_every_target_is_right_where_it_is_stated(tasks: Sequence[Task]) -> None:
    targets = {target for task in tasks for _, target in task.items}
    assert len(targets) == 527
    for target in targets:
        assert scores(target, f"Let's think step by step.\nSo the answer is {target}.") == (1.0, 1.0)
        assert scores(target, f"{target}.", "direct") == (1.0, 1.0)


def test_brackets_are_no_answer_to_the_published_scorer(tasks: Sequence[Task]) -> None:
    """One constant answer gets 97 of dyck_languages' 250 from the published scorer, and 4 from the other."""
    targets = [target for task in tasks if task.name == "dyck_languages" for _, target in task.items]
    assert len(targets) == 250
    bare = str.maketrans("", "", "()[]{}<>")
    assert (len(set(targets)), len({target.translate(bare) for target in targets})) == (59, 3)
    found = [scores(target, "So the answer is ] ].") for target in targets]
    assert (sum(one for one, _ in found), sum(one for _, one in found)) == (97, 4)


def test_signs_are_kept_by_the_second_scorer_only(tasks: Sequence[Task]) -> None:
    targets = {target for task in tasks if task.name == "multistep_arithmetic_two" for _, target in task.items}
    assert (len(targets), len({target.lstrip("-") for target in targets})) == (185, 152)
    assert scores("-18", "So the answer is 18.") == (1.0, 0.0)
    assert scores("-18", "So the answer is -18.") == (1.0, 1.0)
    assert scores("(A)", "So the answer is A.") == (1.0, 0.0)


def test_the_first_statement_counts_up_to_its_full_stop() -> None:
    assert stated_answer("so THE answer is 1. The answer is  yes . the answer is no.") == "yes"
    assert stated_answer("|he answer is x.") == "x"  # the bar in the brackets is a letter
    assert stated_answer("The answer is 3.5.") == "3"
    assert stated_answer("The answer is 3\nthe answer is 4.") == "4"
    assert stated_answer("The answer is 3\n.") is None


@given(st.lists(st.sampled_from(["the answer is ", "The answer is ", "|he answer is ", ".", "\n", " ", "A", "\r", "\u2028"])))
def test_the_rule_is_the_expression_s(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = re.search(r"[t|T]he answer is (.*?)\.", text)
    assert stated_answer(text) == (found[1].strip() if found else None)


def test_without_a_statement_the_whole_text_is_compared() -> None:
    assert BBH().grade("True", " true.\n") == (
        Grade("exact-match", "", False, 1.0), Grade("with-punctuation", "", False, 1.0)
    )  # fmt: skip
    assert BBH().under("direct").grade("True", " true.\n")[0] == Grade("exact-match", "true.", True, 1.0)
    assert BBH().under("direct").grade("] ]", "  ")[0] == Grade("exact-match", "", False, 0.0)
    assert BBH().under("direct").grade("No", "the answer is no.")[0] == Grade("exact-match", "no", True, 1.0)


def test_a_failure_is_wrong_though_an_empty_text_can_be_right() -> None:
    """A bracket without its punctuation is an empty text, which the published scorer takes from any model."""
    assert [grade.score for grade in BBH().grade("]", "")] == [1.0, 0.0]
    assert [grade.score for grade in BBH().grade_failed("]")] == [0.0, 0.0]


def test_what_is_no_folder_of_bbh(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"bbh needs --data FOLDER: a copy of github\.com/suzgunmirac/BIG-Bench-Hard"):
        BBH().load(BBH().protocol(None), None)
    with pytest.raises(DataError, match=r"x: is not a copy of github"):
        load("cot", tmp_path / "x")
    copy = tmp_path / "bbh"
    shutil.copytree(data, copy, copy_function=shutil.copyfile)
    for folder in (copy, copy / "bbh", copy / "cot-prompts"):
        folder.chmod(0o755)
    (copy / "bbh/navigate.json").write_text('{"examples": [{"input": "Who?", "target": "I"}]}')
    with pytest.raises(
        DataError, match=r"bbh: has 27 tasks with 6262 items, not the 27 tasks with 6511 items of BBH; take a copy"
    ):
        load("cot", copy)
    shutil.copyfile(data / "bbh/snarks.json", copy / "bbh/navigate.json")
    (copy / "bbh/snarks.json").write_bytes((data / "bbh/navigate.json").read_bytes())
    with pytest.raises(DataError, match="bbh: has other texts than the 27 tasks"):
        load("direct", copy)
    (copy / "cot-prompts/snarks.txt").unlink()
    with pytest.raises(DataError, match=r"cot-prompts/snarks\.txt: no such file"):
        load("cot", copy)
    (copy / "bbh/boolean_expressions.json").write_text('{"examples": [{"input": 1}]}')
    with pytest.raises(DataError, match=r"boolean_expressions\.json: examples\[0\]\.input"):
        load("cot", copy)
    with pytest.raises(DataError, match="has no worked examples"):
        BBH().render(Item("navigate-0", "Who?"))


def test_a_run_of_a_folder(data: Path, order: Order, tmp_path: Path) -> None:
    """Scripted answers: right, right but for punctuation, wrong, without a statement."""
    asked = dataclasses.replace(order, benchmark="bbh", protocol=None, data=data, limit=4)
    plan = make_plan(asked, load_suite())
    targets = [one.item.target for one in plan.planned]
    said = [f"So the answer is {targets[0]}.", f"So the answer is ({targets[1]}).", "the answer is 7.", "Hm"]
    texts = dict(zip((one.request.key for one in plan.planned), said, strict=True))
    scripted = ScriptedBackend.of(lambda request, decoding: texts[request.key], name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert not run.doubts
    assert [(row.scorer, row.metric, row.value, row.n, row.n_protocol, row.interval) for row in run.results] == [
        ("exact-match", "exact_match", 50.0, 4, 6511, "clustered95"),
        ("with-punctuation", "exact_match", 25.0, 4, 6511, "clustered95"),
    ]
    assert (run.results[0].counts["ok"], run.results[0].counts["no_answer"]) == (3, 1)
    found = PromptSource({"bbh": data}).prompts(run, list(run.samples()))
    assert found.proven
    assert found.questions["boolean_expressions-0"] in plan.planned[0].request.text


def test_a_folder_s_hash_is_of_its_items_wherever_it_is(data: Path, order: Order, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved, copy_function=shutil.copyfile)
    asked = dataclasses.replace(order, benchmark="bbh", protocol="cot-sorted-40", limit=1)
    here, there = (make_plan(dataclasses.replace(asked, data=folder), load_suite()) for folder in (data, moved))
    assert here.data_sha256 == here.items_sha256 == there.data_sha256
    assert here.settings_sha256 == there.settings_sha256


def test_the_value_is_the_mean_of_the_tasks() -> None:
    """Two tasks of unequal size: all of the small one right, none of the large one."""
    ids = ("a-0", "b-0", "b-1", "b-2")
    found = {name: Marks("ok", (float(name == "a-0"),) * 2, group=name[0]) for name in ids}
    about = made_manifest(items={"cot": ids}, planned=ids, benchmark=StoredBenchmark(name="bbh", version=1))
    assert [row.value for row in make_rows(about, BBH(), found)] == [50.0, 50.0]
