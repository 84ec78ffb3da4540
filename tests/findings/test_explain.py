"""``explain`` names settings that were planted in a made-up model, and none where there is nothing to explain."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_world import World, write_rows
from transformers import AutoTokenizer

import tulu_eval
from tulu_eval.benchmarks import gsm8k_hypotheses
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import UserError
from tulu_eval.exchange import foreign, import_file
from tulu_eval.exchange.lm_eval import ForeignDecoding
from tulu_eval.findings.explaining.explanation import Explanation
from tulu_eval.findings.explaining.frame import beyond_chance
from tulu_eval.reports.explain import as_json, as_text
from tulu_eval.runs import catalog
from tulu_eval.testing import ScriptedBackend

SIZE = 120
TRIED = ("zero-shot", "shots-as-turns", "lm-eval-words", "no-template", "more-bos", "no-prefill", "by-stated-answer",
         "by-strict-match", "stop-question", "limit-256", "limit-1024", "system-prompt", "fp8")  # fmt: skip
Plant = Callable[..., tulu_eval.Run]


@pytest.fixture
def world(llama3_like: Path) -> World:
    return World(AutoTokenizer.from_pretrained(llama3_like))


@pytest.fixture
def wishes(tmp_path: Path, world: World, llama3_like: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What every call needs; the benchmark has a few hypotheses only."""
    scripted, real = ScriptedBackend.of(world), catalog.backend
    monkeypatch.setattr(catalog, "backend", lambda name: scripted if name == "scripted" else real(name))
    every = gsm8k_hypotheses.of
    monkeypatch.setattr(gsm8k_hypotheses, "of", lambda protocol: tuple(one for one in every(protocol) if one.name in TRIED))
    monkeypatch.setattr(import_file, "_protocol", lambda benchmark, *_: benchmark.protocol("custom"))
    data = write_rows(tmp_path / "rows.jsonl", SIZE)
    return {"data": data, "backend": "scripted", "output": tmp_path / "results", "progress": False}


def of_recipe(wishes: dict[str, Any], model: Path) -> dict[str, Any]:
    """Returns the arguments of ``explain`` for a recipe; its folder of results is called otherwise than a run's."""
    rest = {name: value for name, value in wishes.items() if name != "output"}
    return {"model": model, "benchmark": "gsm8k", "protocol": "custom", "results": wishes["output"], **rest}


@pytest.fixture
def plant(tmp_path: Path, wishes: dict[str, Any], llama3_like: Path) -> Plant:
    """Runs a varied protocol where ``explain`` does not look."""

    def call(*names: str) -> tulu_eval.Run:
        protocol = "+".join(["custom", *names])
        hidden = {**wishes, "output": tmp_path / "hidden"}
        (found,) = tulu_eval.evaluate("gsm8k", llama3_like, protocol=protocol, **hidden)
        return tulu_eval.load_run(found.folder)

    return call


@pytest.fixture
def base(wishes: dict[str, Any], llama3_like: Path) -> tulu_eval.Run:
    (found,) = tulu_eval.evaluate("gsm8k", llama3_like, protocol="custom", **wishes)
    return tulu_eval.load_run(found.folder)


def as_texts(run: tulu_eval.Run, path: Path, rows: Path) -> Path:
    """Writes a run's texts as open-instruct does, without any setting."""
    questions = [json.loads(line)["question"] for line in rows.read_text().splitlines()]
    lines = [
        {"question": questions[int(one.item.partition("-")[2])], "answer": one.target, "model_output": one.completion.text,
         "prediction": one.grades[0].answer}
        for one in run.samples()
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def verdicts(found: Explanation) -> dict[tuple[str, ...], str]:
    return {row.names: row.verdict for row in found.tried}


def test_a_planted_setting_is_named_from_texts_alone(
    base: tulu_eval.Run, plant: Plant, tmp_path: Path, wishes: dict[str, Any], llama3_like: Path
) -> None:
    texts = as_texts(plant("zero-shot"), tmp_path / "predictions.jsonl", wishes["data"])
    imported = tulu_eval.import_run(texts, "hidden", data=wishes["data"], output=tmp_path / "results")
    found = tulu_eval.explain(imported.folder, base, model=llama3_like, data=wishes["data"], progress=False)
    assert found.named == ("zero-shot",)
    assert [names for names, verdict in verdicts(found).items() if verdict in ("explains it", "contributes")] == [
        ("zero-shot",)
    ]
    row = found.tried[0]
    assert row.same_text == row.items
    assert row.low is not None
    assert row.high is not None
    assert row.high < -found.chance
    assert found.generated <= found.budget < found.everything / 2
    assert found.sentence.startswith("One setting explains the gap of ")
    assert "examples: none instead of 8 in one turn" in found.sentence
    assert [one.name for one in found.untried] == ["system-prompt"]
    assert "cannot be tried here: system prompt 'You are a helpful assistant.': the template's probe" in as_text(found)
    assert as_json(found)["gap"]["noise"] is False
    again = tulu_eval.explain(imported.folder, base, model=llama3_like, data=wishes["data"], progress=False)
    assert again.generated == 0, "nothing is generated twice"
    assert again.sentence == found.sentence
    (whole,) = tulu_eval.evaluate("gsm8k", llama3_like, protocol="custom+zero-shot", **wishes)
    assert whole.tally.finished


def test_two_planted_settings_are_named_together(
    base: tulu_eval.Run, plant: Plant, tmp_path: Path, wishes: dict[str, Any], llama3_like: Path
) -> None:
    goal = plant("no-prefill", "more-bos")
    found = tulu_eval.explain(base, goal, model=llama3_like, data=wishes["data"], max_items=900, progress=False)
    assert set(found.named) == {"no-prefill", "more-bos"}
    assert "2 settings together explain" in found.sentence


def test_a_paid_and_a_free_setting_are_named_together(
    base: tulu_eval.Run, plant: Plant, wishes: dict[str, Any], llama3_like: Path
) -> None:
    goal = plant("lm-eval-words", "stop-question")
    found = tulu_eval.explain(base, goal, model=llama3_like, data=wishes["data"], progress=False)
    assert set(found.named) == {"lm-eval-words", "stop-question"}


@pytest.fixture
def told(plant: Plant, tmp_path: Path, wishes: dict[str, Any]) -> tuple[Path, str]:
    """Texts of zero-shot prompts without any setting, and the number of another scorer that was told of them."""
    run = plant("zero-shot")
    texts = as_texts(run, tmp_path / "predictions.jsonl", wishes["data"])
    imported = tulu_eval.import_run(texts, "hidden", data=wishes["data"], output=tmp_path / "results")
    scores = [next(grade.score for grade in one.grades if grade.scorer == "stated-answer") for one in run.samples()]
    return imported.folder, f"{100 * sum(scores) / len(scores):.1f}"


def test_texts_name_the_prompt_and_their_number_the_scorer(
    base: tulu_eval.Run, told: tuple[Path, str], wishes: dict[str, Any], llama3_like: Path
) -> None:
    given = {"model": llama3_like, "data": wishes["data"], "progress": False}
    texts, number = told
    found = tulu_eval.explain(base, texts, number=number, n=SIZE, **given)
    assert found.named == ("zero-shot", "by-stated-answer")
    assert found.scored == ("by-stated-answer",)
    assert found.gap is not None
    assert 100 * found.gap.goal == pytest.approx(float(number), abs=0.05)
    both, prompt, scorer = (next(row for row in found.tried if row.names == names) for names in
                            (found.named, ("zero-shot",), ("by-stated-answer",)))  # fmt: skip
    assert (both.verdict, prompt.verdict, scorer.verdict) == ("explains it", "contributes", "contributes")
    assert both.same_text == both.items
    assert scorer.low == scorer.high == scorer.effect
    assert (prompt.effect or 0.0) + (scorer.effect or 0.0) == pytest.approx(both.effect)
    assert found.steps == (
        ("examples: none", prompt.effect), ("scorer: stated-answer", scorer.effect),
        ("not explained", pytest.approx(0, abs=1e-9)),
    )  # fmt: skip
    assert found.sentence.startswith("2 settings together explain the gap of ")
    assert "by-stated-answer" not in found.next_step
    alone = tulu_eval.explain(base, texts, **given)
    assert alone.named == ("zero-shot",), "without the number nothing tells the scorer"
    assert verdicts(alone)["by-stated-answer",] == "ruled out"


def test_a_scorer_is_named_by_the_number_beside_texts_that_are_the_bases_own(
    base: tulu_eval.Run, plant: Plant, wishes: dict[str, Any], llama3_like: Path
) -> None:
    scores = [next(grade.score for grade in one.grades if grade.scorer == "stated-answer") for one in base.samples()]
    number = f"{100 * sum(scores) / len(scores):.1f}"
    found = tulu_eval.explain(base, plant(), number=number, n=SIZE, model=llama3_like, data=wishes["data"], progress=False)
    assert found.named == ("by-stated-answer",)
    assert verdicts(found)["by-stated-answer",] == "explains it"
    assert found.generated == 0
    own = tulu_eval.explain(
        base, plant(), number=f"{base.results[0].value:.1f}", n=SIZE, model=llama3_like, data=wishes["data"], progress=False
    )
    assert own.noise
    assert not own.named


def test_a_bare_number_names_a_scorer_without_generating(base: tulu_eval.Run) -> None:
    scores = [next(grade.score for grade in one.grades if grade.scorer == "stated-answer") for one in base.samples()]
    number = f"{100 * sum(scores) / len(scores):.1f}"
    found = tulu_eval.explain(base, number=number, n=SIZE, max_items=0, progress=False)
    stop = next(row for row in found.tried if row.names == ("stop-question",))
    assert ("by-stated-answer",) in (found.named, *found.rivals)
    assert ("stop-question",) in found.rivals, "a stop before the run-on gives the same number"
    assert stop.verdict == "cannot tell"
    assert "it cannot be told which" in found.sentence
    assert stop.alike == ("by-stated-answer",)
    assert found.generated == 0


def test_no_answer_is_graded_twice(base: tulu_eval.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    graded: Counter[tuple[str, str]] = Counter()
    grade = GSM8K.grade

    def counting(self: GSM8K, target: str, text: str) -> Any:
        graded[target, text] += 1
        return grade(self, target, text)

    monkeypatch.setattr(GSM8K, "grade", counting)
    found = tulu_eval.explain(base, number="20.0", n=SIZE, max_items=0, progress=False)
    assert sum(row.items for row in found.tried) >= 3 * SIZE
    assert set(graded.values()) == {1}


def test_a_bare_number_names_a_setting_that_has_to_be_generated(
    plant: Plant, wishes: dict[str, Any], llama3_like: Path
) -> None:
    number = f"{plant('no-template').results[0].value:.1f}"
    given = {"number": number, "n": SIZE, **of_recipe(wishes, llama3_like)}
    listed = tulu_eval.explain(dry_run=True, **given)
    assert (listed.generated, listed.gap) == (0, None)
    assert {row.names for row in listed.tried if row.paid} >= {("zero-shot",), ("no-template",)}
    assert "free" in as_text(listed)
    found = tulu_eval.explain(max_items=700, **given)
    assert found.named == ("no-template",) or ("no-template",) in found.rivals
    assert found.generated <= 700


def test_what_differs_by_chance_is_nothing_to_explain(
    base: tulu_eval.Run, plant: Plant, world: World, wishes: dict[str, Any], llama3_like: Path
) -> None:
    world.flips, world.noise = 0.06, 5
    goal = plant()
    pairs = zip(goal.samples(), base.samples(), strict=True)
    assert sum(one.grades[0].score != other.grades[0].score for one, other in pairs) >= 3
    before = world.asked
    found = tulu_eval.explain(base, goal, model=llama3_like, data=wishes["data"], progress=False)
    assert found.noise
    assert found.sentence.startswith("There is nothing to explain: chance alone gives a gap of")
    assert set(verdicts(found).values()) == {"cannot tell"}
    assert all(row.low == row.high == row.effect and not row.paid for row in found.tried), "what samples show is shown"
    assert "by-stated-answer" in {row.names[0] for row in found.tried}
    assert world.asked == before


def test_a_manifest_that_lies_changes_nothing(
    base: tulu_eval.Run,
    plant: Plant,
    tmp_path: Path,
    wishes: dict[str, Any],
    llama3_like: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The import's file says another limit, template and dtype than its texts were made with."""
    texts = as_texts(plant("zero-shot"), tmp_path / "predictions.jsonl", wishes["data"])
    honest = tulu_eval.import_run(texts, "hidden", data=wishes["data"], output=tmp_path / "honest")
    read = foreign.read_foreign

    def lying(path: Path) -> foreign.Foreign:
        decoding = ForeignDecoding(max_new_tokens=7, temperature=0.9, top_p=0.5, top_k=3, stop=("=",), seed=4)
        return dataclasses.replace(read(path), decoding=decoding, dtype="float16", quantization="fp8", template_sha256="none")

    monkeypatch.setattr(import_file, "read_foreign", lying)
    liar = tulu_eval.import_run(texts, "hidden", data=wishes["data"], output=tmp_path / "lies")
    assert tulu_eval.load_run(liar.folder).manifest.decoding.max_new_tokens == 7
    kept = tmp_path / "results"
    found = []
    for one in (honest, liar):
        shutil.rmtree(kept, ignore_errors=True)
        found.append(tulu_eval.explain(one.folder, **of_recipe(wishes, llama3_like)))
    first, second = (dataclasses.replace(one, seconds=0.0, goal="") for one in found)
    assert first == second
    assert first.named == ("zero-shot",)


def test_a_budget_ends_the_search_and_says_so(
    base: tulu_eval.Run, plant: Plant, wishes: dict[str, Any], llama3_like: Path
) -> None:
    goal = plant("zero-shot")
    found = tulu_eval.explain(base, goal, model=llama3_like, data=wishes["data"], max_items=20, progress=False)
    assert found.short
    assert found.generated <= 20
    assert not found.named
    assert "the same command with --max-items" in found.next_step


def test_what_cannot_be_explained(
    base: tulu_eval.Run, wishes: dict[str, Any], llama3_like: Path, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^number and n go together"):
        tulu_eval.explain(base, number="40.0")
    with pytest.raises(UserError, match="is impossible: no count of right items is printed so"):
        tulu_eval.explain(base, number="40.3", n=SIZE)
    with pytest.raises(UserError, match=r"^there is nothing to compare"):
        tulu_eval.explain()
    with pytest.raises(UserError, match=r"^n 1319: a number beside a run is of its texts, and .* shares 120 of the 120 of"):
        tulu_eval.explain(base, base, number="40.0", n=1319)
    with pytest.raises(UserError, match="share no item"):
        tulu_eval.explain(base, make_run(), data=wishes["data"])
    with pytest.raises(UserError, match="there is no published number"):
        tulu_eval.explain(base)
    with pytest.raises(UserError, match="max_items must be 0 or more"):
        tulu_eval.explain(base, number="40.0", n=SIZE, max_items=-1)
    with pytest.raises(UserError, match=r"^max_cost: scripted runs here and has no price; max_items and max_seconds limit it"):
        tulu_eval.explain(base, number="40.0", n=SIZE, max_cost=1.0, model=llama3_like, data=wishes["data"])
    with pytest.raises(UserError, match=r"^price says what max_cost counts; give both"):
        tulu_eval.explain(base, number="40.0", n=SIZE, price="1,2")
    with pytest.raises(UserError, match="unknown scorer"):
        tulu_eval.explain(base, number="40.0", n=SIZE, scorer="stated-anser")


def test_flips_are_a_net_change_of_chance() -> None:
    assert beyond_chance(200, 0.0) == 0
    assert 7 <= beyond_chance(200, 0.05) <= 9
    assert 11 <= beyond_chance(500, 0.05) <= 14
