"""Plug-ins of every kind of request, as somebody else would write them, on a real tiny model through every verb."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from plugins import dice, endings, letters, orders
from plugins.orders import PLUGINS, ROWS

from tulu_eval import Decoding, Grade, Item
from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks.base import PassAt
from tulu_eval.errors import PreflightError, UserError
from tulu_eval.exchange import bundle
from tulu_eval.exchange.import_file import import_file
from tulu_eval.findings.audit import audit
from tulu_eval.findings.compare import compare
from tulu_eval.logprobs import Scores
from tulu_eval.models.base import Served
from tulu_eval.records import Completion
from tulu_eval.registry import load_suite
from tulu_eval.reports import compare as compare_report
from tulu_eval.reports import dry_run
from tulu_eval.reports.samples import pack
from tulu_eval.runs.merge import merge
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.runs.score import score
from tulu_eval.store import manifest as files
from tulu_eval.testing import ScriptedBackend

QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    orders.declare(monkeypatch)


@pytest.fixture
def asked(llama3_like: Path, tmp_path: Path) -> Any:
    """Makes the order of a plug-in's run."""
    return functools.partial(orders.order, llama3_like, tmp_path)


def planned(order: Order) -> Plan:
    return make_plan(order, load_suite())


@pytest.mark.parametrize("module", [letters, endings, dice])
def test_a_plugin_is_short(module: Any) -> None:
    assert len(Path(module.__file__).read_text().splitlines()) < 60


@pytest.mark.parametrize("name", PLUGINS)
def test_a_run_of_each_kind_reads_verifies_and_is_shown(name: str, asked: Any) -> None:
    order = asked(name)
    done = execute(planned(order), QUIET)
    run = read_run(done.folder)
    assert run.doubts == ()
    assert {(row.n, row.n_protocol) for row in run.results} == {(len(ROWS[name]), len(ROWS[name]))}
    assert all(row.low <= row.value <= row.high and "none" not in row.interval for row in run.results)
    before = (done.folder / files.RESULT).read_bytes()
    assert execute(planned(order), QUIET).generated == 0
    assert score(done.folder).tally.failed == 0
    assert (done.folder / files.RESULT).read_bytes() == before
    packed = pack([(run, list(run.samples()))], PromptSource({name: order.data}))
    assert packed.runs[0]["proven"]
    path = done.folder.parent / "run.zip"
    bundle.write(bundle.make(done.folder), path)
    checked = bundle.verify(path)
    assert (checked.problems, checked.results) == ((), run.results)


@pytest.mark.parametrize("name", PLUGINS)
def test_shards_and_another_limit_agree_with_one_run(name: str, asked: Any, tmp_path: Path) -> None:
    whole = execute(planned(asked(name)), QUIET).folder
    apart = dataclasses.replace(asked(name), output=tmp_path / "apart")
    shards = [execute(planned(dataclasses.replace(apart, shard=(part, 3))), QUIET).folder for part in (1, 2, 3)]
    merged = merge([shards[0].parent.parent]).folder
    one, other = list(read_run(whole).samples()), list(read_run(merged).samples())
    answered = [sorted((each.item, each.completion.text, each.grades) for each in samples) for samples in (one, other)]
    assert answered[0] == answered[1]
    assert read_run(merged).results == read_run(whole).results
    first = execute(planned(dataclasses.replace(apart, limit=2)), QUIET)
    assert (first.generated, first.results[0].n) == (0, 2)
    assert read_run(first.folder).doubts == ()


def test_likelihoods_are_kept_and_add_up(asked: Any) -> None:
    run = read_run(execute(planned(asked("endings")), QUIET).folder)
    for sample in run.samples():
        found = sample.completion.likelihoods
        assert len(found) == 4
        assert sample.completion.text == max(found, key=lambda one: one.total).text
        assert all(math.isfinite(one.total) and one.total < 0 for one in found)
    assert "|d:likelihoods|" in run.results[0].signature
    chosen = read_run(execute(planned(asked("letters")), QUIET).folder)
    assert {sample.completion.text for sample in chosen.samples()} <= set("ABCD")


def test_samples_of_an_item_differ_and_pass_at_k_is_over_items(asked: Any) -> None:
    run = read_run(execute(planned(asked("dice")), QUIET).folder)
    samples = list(run.samples())
    assert Counter(sample.item.rpartition("#")[0] for sample in samples) == {f"d{n}": 4 for n in range(5)}
    assert len({sample.completion.key for sample in samples}) == 20
    assert any(len({s.completion.text for s in samples if s.item.startswith(f"d{n}#")}) > 1 for n in range(5))
    one, three = run.results
    right = Counter(s.item.rpartition("#")[0] for s in samples if s.grades[0].score == 1)
    assert one.value == pytest.approx(100 * sum(right.values()) / 20)
    expected = [1 - math.comb(4 - right[f"d{n}"], 3) / math.comb(4, 3) for n in range(5)]
    assert three.value == pytest.approx(100 * sum(expected) / 5)
    assert (one.n, one.samples, sum(one.counts.values()), one.interval) == (5, 4, 20, "clustered95")
    assert ",x4|" in one.signature


def test_reasoning_is_cut_and_an_unfinished_one_is_its_own_class(asked: Any) -> None:
    order = asked("dice", protocol="thinking")
    plan = planned(order)
    texts = ["<think>a</think>ab", "<think>a", "ab", "<think>x</think> "]

    def answer(request: Any, decoding: Decoding) -> str:
        return texts[[one.request.key for one in plan.planned].index(request.key) % 4]

    scripted = ScriptedBackend.of(answer, name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), QUIET).folder)
    assert run.doubts == ()
    assert run.results[0].counts["unfinished_reasoning"] == 5
    assert [sample.status for sample in run.samples()][:4] == ["ok", "unfinished_reasoning", "ok", "no_answer"]
    assert [sample.grades[0].score for sample in run.samples()][:4] == [1.0, 0.0, 1.0, 1.0]
    assert "|x:pass@1,after </think>|" in run.results[0].signature


@pytest.mark.parametrize("name", PLUGINS)
def test_a_run_is_audited_and_compared_with_itself(name: str, asked: Any, tmp_path: Path) -> None:
    one = execute(planned(asked(name)), QUIET).folder
    other = execute(planned(dataclasses.replace(asked(name), output=tmp_path / "other")), QUIET).folder
    found = audit(one, load_suite(), QUIET, items=3, model=asked(name).model, data=asked(name).data)
    assert (found.flips, found.trials) == (0, 9)
    compared = compare(read_run(one), read_run(other))
    assert (compared.paired.n, compared.paired.difference, compared.flips) == (len(ROWS[name]), 0.0, ())


def test_a_flip_of_likelihoods_names_its_cause(asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in which the same ending is likeliest, and per byte another one, where the longer first one is less unlikely."""
    by_sum_first = endings.Endings.grade_likelihoods
    monkeypatch.setattr(endings.Endings, "scorers", ("per-byte", "sum"))
    monkeypatch.setattr(endings.Endings, "grade_likelihoods", lambda *given: by_sum_first(*given)[::-1])

    def run(first: float) -> StoredRun:
        class Engine(ScriptedBackend):
            name = "transformers"

            def score(self, requests: Any) -> Any:
                for request in requests:
                    totals = zip(request.continuations, (first, -1.0, -99.0, -99.0), strict=True)
                    found = [one.scored([total / len(one.token_ids)] * len(one.token_ids)) for one, total in totals]
                    yield Scores(request.key, tuple(found), 0.1)

        plan = planned(dataclasses.replace(asked("endings"), output=tmp_path / str(first)))
        return read_run(execute(dataclasses.replace(plan, backend=Engine), QUIET).folder)

    compared = compare(run(-1.2), run(-3.0))
    assert compared.paired.same_text == len(compared.flips) == len(ROWS["endings"])
    assert {flip.cause for flip in compared.flips} == {"likelihoods differ"}
    assert "same prompt, same likeliest text, other log-probabilities" in compare_report.as_text(compared)


def test_the_plan_shows_what_may_follow(asked: Any) -> None:
    text = dry_run.as_text(planned(asked("letters")))
    assert "9 items, of which the model says how likely given texts are" in text
    assert "--- may follow: 'A', token ids [" in text
    assert "20 samples, 4 per item, at most 6 new tokens each" in dry_run.as_text(planned(asked("dice")))


def refused(order: Order) -> str:
    with pytest.raises(PreflightError) as caught:
        planned(order)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_asked_is_refused_before_anything_loads(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = dice.Dice.protocols["four"]

    def with_protocol(**changes: Any) -> None:
        monkeypatch.setattr(dice.Dice, "protocols", {"four": dataclasses.replace(protocol, **changes)})

    with_protocol(decoding=Decoding(6))
    assert "4 samples per item and is greedy" in refused(asked("dice"))
    with_protocol(samples=2)
    assert "has 2 samples per item, and pass@3 needs 3" in refused(asked("dice"))
    with_protocol(samples=0)
    assert "it needs 1 or more" in refused(asked("dice"))
    monkeypatch.setattr(letters.Letters, "continuations", lambda self, item: ("A", " many tokens"))
    assert "the candidate ' many tokens' has" in refused(asked("letters"))
    monkeypatch.setattr(letters.Letters, "continuations", lambda self, item: ())
    assert "gives no continuation" in refused(asked("letters"))
    monkeypatch.setattr(letters.Letters, "load", lambda self, protocol, data: [Item("q", "Why?", "A")])
    assert "1 items have no group (first: q)" in refused(asked("letters"))
    monkeypatch.setattr(endings.Endings, "continuations", lambda self, item: ("",))
    assert "makes no token of the continuation" in refused(asked("endings"))
    monkeypatch.setattr(endings.Endings, "kind", "generate")
    assert "of the kind 'generate'" in refused(asked("endings"))


def test_an_engine_without_log_probabilities_is_refused(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tulu_eval.backends.hf.backend import TransformersBackend

    monkeypatch.setattr(TransformersBackend, "kinds", frozenset({"generate"}))
    assert "cannot give the log-probabilities of next tokens" in refused(asked("letters"))


def test_a_server_that_gets_turns_cannot_give_likelihoods(asked: Any, model_server: Any) -> None:
    with model_server() as server:
        settings = EngineSettings(served=Served(server.url, prompts="chat"))
        order = dataclasses.replace(asked("letters"), model="llama3-like0", backend="openai", settings=settings)
        assert "\n" not in refused(order)


def test_a_lying_engine_is_an_error_of_the_item(asked: Any) -> None:
    class Lying(ScriptedBackend):
        name = "transformers"

        def logprob(self, prompt: str, text: str) -> float:
            return {"A": -1.0, "B": math.nan}.get(text, -2.0)

    plan = dataclasses.replace(planned(asked("letters")), backend=Lying)
    done = execute(plan, QUIET)
    assert (done.tally.failed, done.tally.cause) == (9, "9 times: the engine gave a log-probability that is none")


def test_pass_at_k_of_failures_widens_both_ends(asked: Any) -> None:
    plan = planned(asked("dice"))
    keys = [one.request.key for one in plan.planned]

    def answer(request: Any, decoding: Decoding) -> str | Completion:
        place = keys.index(request.key)
        return Completion(request.key, "", (), "error", 0.1, "out of luck") if place == 0 else "ab"

    run = read_run(execute(dataclasses.replace(plan, backend=ScriptedBackend.of(answer, name="transformers")), QUIET).folder)
    assert run.tally.failed == 1
    assert run.results[0].interval == "clustered95, failures wrong to right"


def test_grades_of_a_kind_default_to_the_likeliest_text() -> None:
    assert letters.Letters().grade_likelihoods("A", ()) == tuple(
        Grade(name, "", False, 0.0) for name in ("letter", "by-subject")
    )
    assert dice.Dice.aggregates["pass@3"] == PassAt(3)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_file_of_texts_is_no_run_of_likelihoods_or_of_several_samples(name: str, asked: Any, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({"prompt": row["question"], "response": "A"}) + "\n" for row in ROWS[name]))
    with pytest.raises(UserError, match=f"has a generated text per item, and {name} is graded by"):
        import_file(path, "org/model", name, asked(name).data, tmp_path / "results", load_suite())
    assert not (tmp_path / "results").exists()
