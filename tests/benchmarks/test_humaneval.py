"""HumanEval: prompts byte for byte, and what its tests say of right, wrong, cut and endless answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tulu_eval
from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks import executed, humaneval
from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.humaneval import PASS_AT_1, PASS_AT_10, HumanEval, instruction, program, read_items, task
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Decoding
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.runs.score import score
from tulu_eval.sandbox import Execution, check_sandbox, run_programs
from tulu_eval.stats import pass_at_k
from tulu_eval.testing import ScriptedBackend


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return shared / "data/suite/humaneval/HumanEval.jsonl.gz"


@pytest.fixture(scope="session")
def items(data: Path) -> list[Item]:
    benchmark = HumanEval()
    return benchmark.load(benchmark.protocol("greedy"), data)


@pytest.fixture(scope="session")
def solutions(shared: Path) -> list[str]:
    """HumanEvalPack's canonical solutions, which are HumanEval's."""
    path = shared / "data/suite/humanevalpack/humanevalpack.jsonl"
    return [json.loads(line)["canonical_solution"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def sandbox() -> None:
    try:
        check_sandbox(Execution(), executed.PACKAGES)
    except PreflightError as error:
        pytest.skip(str(error))


def golden(shared: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / f"data/suite/golden/{name}.json").read_text())
    return found


@pytest.mark.parametrize(
    ("protocol", "name"),
    [("greedy", "humaneval_plain"), ("greedy-pack", "humaneval_hep_tulu"), ("greedy-chat", "humaneval_nohep_tulu_3c335be")],
)
def test_the_three_forms_byte_for_byte(items: list[Item], shared: Path, protocol: str, name: str) -> None:
    benchmark = HumanEval().under(protocol)
    rendered = [benchmark.render(item) for item in items]
    prompts = [one.plain if benchmark.raw else f"<|user|>\n{one.user}\n<|assistant|>\n{one.prefill}" for one in rendered]
    expected = golden(shared, name)
    assert [item.id for item in items] == [one["id"] for one in expected["items"]]
    assert [hashlib.sha256(one.encode()).hexdigest() for one in prompts] == [one["sha256"] for one in expected["items"]]
    assert hashlib.sha256("\0".join(prompts).encode()).hexdigest() == expected["combined_sha256"]
    constant = benchmark.constant_prompt()
    assert all((one.plain if benchmark.raw else one.user).startswith(constant) for one in rendered)
    assert hashlib.sha256(constant.encode()).hexdigest()[:8] == benchmark.protocol(protocol).prompt_id


def test_the_instruction_is_humanevalpack_s_for_all(items: list[Item], shared: Path) -> None:
    path = shared / "data/suite/humanevalpack/humanevalpack.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [instruction(task(item.target)) for item in items] == [row["instruction"] for row in rows]


def test_decoding_is_open_instruct_s() -> None:
    stops = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    assert [(one.max_new_tokens, one.temperature, one.top_p, one.stop) for one in (PASS_AT_1, PASS_AT_10)] == [
        (512, 0.1, 0.95, stops), (512, 0.8, 0.95, stops)
    ]  # fmt: skip
    ends = {name: protocol.decoding.stop for name, protocol in HumanEval.protocols.items()}
    assert ends == {
        "card-pass10": stops, "pass1-of-20": stops, "greedy": stops, "greedy-pack": (*stops, "\n```"), "greedy-chat": stops,
        "custom": stops,
    }  # fmt: skip
    greedy = {name for name, protocol in HumanEval.protocols.items() if protocol.decoding.greedy}
    assert greedy == {"greedy", "greedy-pack", "greedy-chat", "custom"}
    assert [HumanEval.protocols[name].samples for name in ("card-pass10", "pass1-of-20", "greedy")] == [20, 20, 1]


def test_all_canonical_solutions_pass_and_no_wrong_answer_does(items: list[Item], solutions: list[str], sandbox: None) -> None:
    right = list(zip([item.target for item in items], solutions, strict=True))
    wrong = [(item.target, "    return None\n") for item in items]
    cut = [(target, solution[: len(solution) // 2]) for target, solution in right[:20]]
    found = [grade for (grade,) in HumanEval().grade_all([*right, *wrong, *cut])]
    assert [one.answer for one in found[:164]] == ["passed"] * 164
    assert sum(one.score for one in found[:164]) == 164
    assert sum(one.score for one in found[164:328]) == 0
    assert sum(one.score for one in found[328:]) == 0
    assert all(one.answered and one.scorer == "tests" for one in found)


def test_an_endless_answer_is_stopped_at_three_seconds(items: list[Item], sandbox: None) -> None:
    (grade,) = HumanEval().grade(items[0].target, "    while True:\n        pass\n")
    assert (grade.score, grade.answer) == (0.0, "timed_out: did not end in 3 s of CPU time")


def test_an_answer_says_why_it_is_wrong_without_addresses(items: list[Item], sandbox: None) -> None:
    texts = ["    return threshold.x\n", "    return (\n", "    raise ValueError(object())\n"]
    answers = [grade.answer for (grade,) in HumanEval().grade_all([(items[0].target, text) for text in texts])]
    assert answers[0] == "failed: AttributeError: 'float' object has no attribute 'x'"
    assert answers[1].startswith("failed: SyntaxError: '(' was never closed")
    assert answers[2] == "failed: ValueError: <object object at 0x>"


def test_a_solution_may_import_numpy(items: list[Item], sandbox: None) -> None:
    text = "    import numpy as np\n    gaps = np.diff(np.sort(numbers))\n    return bool((gaps < threshold).any())\n"
    (grade,) = HumanEval().grade(items[0].target, text)
    assert grade.answer == "passed"


def test_grading_runs_programs_and_says_so(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    assert HumanEval.executes
    seen: list[Any] = []
    monkeypatch.setattr(executed, "run_programs", lambda programs, *how: seen.append((list(programs), *how)) or iter(()))
    unsafe = Execution(unsafe=True, workers=3)
    assert list(HumanEval().grade_all([(items[0].target, "    pass")], unsafe)) == []
    ((programs, limits, execution, packages),) = seen
    assert programs == [program(items[0].target, "    pass")]
    assert programs[0].endswith("\ncheck(has_close_elements)")
    assert (limits.seconds, execution, packages) == (3, unsafe, ("numpy",))


def row(**changed: Any) -> dict[str, Any]:
    prompt = 'def f(x):\n    """ Return x. """\n'
    return {"task_id": "a", "prompt": prompt, "entry_point": "f", "test": "def check(c): assert c(1) == 1", **changed}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(test=" ")], ":1: field 'test' is empty"),
        ([row(), row(entry_point="f(")], ":2: field 'entry_point' is no name of a function"),
        (
            [row()],
            "1 rows, not the 164 of HumanEval, so no published protocol applies; --protocol custom runs the recipe on it",
        ),
    ],
)
def test_wrong_data_end_in_one_line(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    benchmark = HumanEval()
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        benchmark.load(benchmark.protocol("greedy"), path)
    assert "\n" not in str(caught.value)


def test_rows_of_one_s_own(tmp_path: Path, sandbox: None) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(row()) + "\n")
    benchmark = HumanEval()
    (item,) = benchmark.load(benchmark.protocol("custom"), path)
    assert benchmark.grade(item.target, "    return x\n")[0].score == 1.0
    assert instruction(task(item.target)) == "Write a Python function `f(x)` to solve the following problem:\nReturn x."
    with pytest.raises(DataError, match="--protocol custom: needs --data FILE"):
        benchmark.load(benchmark.protocol("custom"), None)


def test_the_164_in_another_order_are_refused(data: Path) -> None:
    with pytest.raises(DataError, match="other prompts, tests or order than those of HumanEval"):
        humaneval.check_items(read_items(data)[::-1], data)


def test_a_target_that_is_no_task_ends_in_one_line() -> None:
    with pytest.raises(DataError, match="an item's task: "):
        HumanEval().grade("18", "text")


def test_a_run_executes_once_and_other_verbs_read_what_came_out(
    items: list[Item],
    data: Path,
    solutions: list[str],
    sandbox: None,
    tmp_path: Path,
    llama3_like: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = {item.question: solution for item, solution in zip(items, solutions, strict=True)}

    def answer(request: Any, decoding: Decoding) -> str:
        return right[request.text] if request.key[0] < "8" else "    return None\n"

    settings = EngineSettings(dtype="float32", device="cpu")
    order = Order("humaneval", str(llama3_like), data=data, limit=2, settings=settings, output=tmp_path / "results")
    plan = make_plan(order, load_suite())
    assert plan.template.form == "plain"
    plan = dataclasses.replace(plan, backend=ScriptedBackend.of(answer, name="transformers"))
    done = execute(plan, Progress(quiet=True))
    solved = [sum(one.request.key[0] < "8" for one in plan.planned[start : start + 20]) for start in (0, 20)]
    ten, one = done.results
    assert one.value == pytest.approx(100 * sum(solved) / 40)
    assert ten.value == pytest.approx(50 * sum(pass_at_k(count, 20, 10) for count in solved))
    assert (ten.metric, ten.n, ten.samples, ten.n_protocol) == ("pass@10", 2, 20, 164)
    monkeypatch.setattr(executed, "run_programs", lambda *_: pytest.fail("a program ran again"))
    again = execute(plan, Progress(quiet=True))
    assert (again.generated, again.results) == (0, done.results)
    run = read_run(done.folder)
    assert (run.doubts, run.results) == ((), done.results)
    assert any("only 'run' and 'score' do" in note for note in run.notes)
    monkeypatch.undo()
    assert score(done.folder).results == done.results
    assert read_run(done.folder).doubts == ()
    monkeypatch.setattr(HumanEval, "version", HumanEval.version + 1)
    ran: list[str] = []
    monkeypatch.setattr(executed, "run_programs", lambda programs, *how: kept(programs, ran, *how))
    newer = execute(dataclasses.replace(make_plan(order, load_suite()), backend=plan.backend), Progress(quiet=True))
    assert (newer.generated, len(ran)) == (0, 40)
    assert [row.value for row in newer.results] == [row.value for row in done.results]
    assert newer.folder != done.folder  # a version has folders of its own, and takes the answers over without their grades


@pytest.fixture
def no_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which bubblewrap fails."""
    fake = tmp_path / "bin" / "bwrap"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'bwrap: no namespaces' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")


def test_every_verb_that_runs_programs_takes_the_user_s_word_for_how(
    items: list[Item], data: Path, no_sandbox: None, tmp_path: Path, llama3_like: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tmp_path / "responses.jsonl"
    answers.write_text(json.dumps({"prompt": items[0].question, "response": "    return None\n"}) + "\n", encoding="utf-8")

    def taken(**how: Any) -> tulu_eval.Run:
        done = tulu_eval.import_run(answers, "made", benchmark="humaneval", data=data, output=tmp_path / "in", **how)
        return tulu_eval.load_run(done.folder)

    with pytest.raises(PreflightError, match="no sandbox can be made here"):
        taken()
    assert [one.value for one in taken(unsafe_execution=True).results] == [0.0]

    order = Order(
        "humaneval", str(llama3_like), protocol="greedy", data=data, limit=1, settings=EngineSettings(device="cpu"),
        output=tmp_path / "results", execution=Execution(unsafe=True),
    )  # fmt: skip
    plan = dataclasses.replace(make_plan(order, load_suite()), backend=ScriptedBackend.of(lambda *_: "", name="transformers"))
    folder = execute(plan, Progress(quiet=True)).folder
    monkeypatch.setattr("tulu_eval.findings.audit.Engine", lambda *_: pytest.fail("the engine starts"))
    with pytest.raises(PreflightError, match="no sandbox can be made here"):
        tulu_eval.audit(folder, 1, model=llama3_like, data=data, progress=False)
    with pytest.raises(pytest.fail.Exception, match="the engine starts"):
        tulu_eval.audit(folder, 1, model=llama3_like, data=data, progress=False, unsafe_execution=True)


def kept(programs: Iterable[str], ran: list[str], *how: Any) -> Iterator[Any]:
    """Runs programs and notes them in ``ran``."""
    found = list(programs)
    ran.extend(found)
    return run_programs(found, *how)
