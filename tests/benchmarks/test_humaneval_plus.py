"""HumanEval+ and MBPP+ on made-up rows: prompts, which rows, and what their tests say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.benchmarks import executed
from tulu_eval.benchmarks.humaneval_plus import HumanEvalPlus, MBPPPlus
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Decoding
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.sandbox import Execution, check_sandbox
from tulu_eval.testing import ScriptedBackend

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```")


@pytest.fixture(scope="module")
def sandbox() -> None:
    try:
        check_sandbox(Execution(), executed.PACKAGES)
    except PreflightError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """164 rows, each with a function that adds its own number."""
    path = tmp_path_factory.mktemp("plus") / "HumanEvalPlus.jsonl"
    rows = [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f'def add{n}(x: int) -> int:\n    """Returns x plus {n}."""\n',
            "entry_point": f"add{n}",
            "test": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n    assert candidate(-{n}) == 0",
        }
        for n in range(164)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def mbpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """378 rows in the form of the hub's; a row has other fields, too."""
    path = tmp_path_factory.mktemp("mbpp") / "mbppplus.jsonl"
    rows = [
        {
            "task_id": 2 * n,
            "prompt": f"Write a function to add {n}.",
            "code": f"def add{n}(x, y={{1: 2}}):\n    return x + {n}",
            "test": f"assert add{n}(1) == {n + 1}",
            "test_list": [],
        }
        for n in range(378)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_humaneval_plus_has_both_chat_forms_with_a_fence(plus: Path) -> None:
    benchmark = HumanEvalPlus()
    item = benchmark.load(benchmark.protocol(None), plus)[3]
    plain = benchmark.under("pass1").render(item)
    assert plain.user == f"Complete the following python function.\n\n\n{item.question}"
    assert plain.prefill == "Here is the completed function:\n\n\n```python\n"
    assert benchmark.under("pass10-plain").render(item) == plain
    pack = benchmark.under("pass10").render(item)
    assert pack.user == "Write a Python function `add3(x: int) -> int` to solve the following problem:\nReturns x plus 3."
    assert pack.prefill == f"Here is the function:\n\n```python\n{item.question}"
    wanted = {"pass10": 0.8, "pass10-plain": 0.8, "pass1": 0.1}
    for name, one in benchmark.protocols.items():
        assert (one.decoding, one.samples) == (Decoding(512, wanted[name], 0.95, stop=STOPS), 20)
    assert [benchmark.under(name).scorers[0] for name in wanted] == ["pass@10", "pass@10", "pass@1"]


def test_mbpp_plus_leaves_out_the_first_100_rows(mbpp: Path) -> None:
    benchmark = MBPPPlus()
    items = benchmark.load(benchmark.protocol(None), mbpp)
    assert (len(items), items[0].id, items[-1].id) == (278, "Mbpp/100", "Mbpp/377")
    prompt = benchmark.render(items[0])
    assert prompt.user == "Complete the following python function.\n\n\nWrite a function to add 100.def add100(x, y={1"
    assert prompt.prefill == "Here is the completed function:\n\n\n```python\n"
    assert benchmark.protocol("pass1").decoding == Decoding(512, 0.1, 1.0, stop=("```",))


def test_answers_are_run(plus: Path, mbpp: Path, sandbox: None) -> None:
    benchmark, other = HumanEvalPlus(), MBPPPlus()
    target = benchmark.load(benchmark.protocol(None), plus)[3].target
    answers = ["    return x + 3\n", "    return 4\n", "def add3(x):\n    return x + 3"]
    assert [one[0].score for one in benchmark.grade_all((target, text) for text in answers)] == [1, 0, 1]
    target = other.load(other.protocol(None), mbpp)[0].target
    answers = ["def add100(x):\n    return x + 100\n", "def add100(x):\n    return 7\n", "    return x + 100\n"]
    assert [one[0].score for one in other.grade_all((target, text) for text in answers)] == [1, 0, 0]


@pytest.mark.parametrize("name", ["humaneval-plus", "mbpp-plus"])
def test_a_run_has_four_values_of_20_samples(
    name: str, plus: Path, mbpp: Path, order: Any, sandbox: None, request: pytest.FixtureRequest
) -> None:
    data = plus if name == "humaneval-plus" else mbpp
    plan = make_plan(dataclasses.replace(order, benchmark=name, protocol="pass1", data=data, limit=2), load_suite())
    assert len(plan.planned) == 40
    right = {one.request.key for one in plan.planned[:10]}
    number = 0 if name == "humaneval-plus" else 100
    text = f"def add{number}(x, y=0):\n    return x + {number}\n"
    scripted = ScriptedBackend.of(lambda one, decoding: text if one.key in right else "    pass", name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert not run.doubts
    found = {row.metric: row.value for row in run.results}
    assert list(found) == ["pass@1", "pass@5", "pass@10", "pass@20"]
    assert found["pass@1"] == pytest.approx(25.0)
    assert found["pass@20"] == pytest.approx(50.0)


def test_other_files_are_refused_in_one_line(plus: Path, mbpp: Path) -> None:
    with pytest.raises(PreflightError, match=r"humaneval-plus needs --data FILE: HumanEvalPlus-OriginFmt\.jsonl\.gz v0\.1\.9"):
        HumanEvalPlus().load(HumanEvalPlus().protocol(None), None)
    with pytest.raises(PreflightError, match="mbpp-plus needs --data FILE: the test split of"):
        MBPPPlus().load(MBPPPlus().protocol(None), None)
    with pytest.raises(DataError, match="field 'code' is missing"):
        MBPPPlus().load(MBPPPlus().protocol(None), plus)
    short = plus.with_name("short.jsonl")
    short.write_text("".join(plus.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(DataError, match=r"has 3 rows, not the 164 of HumanEval\+"):
        HumanEvalPlus().load(HumanEvalPlus().protocol(None), short)
