"""A run's outputs go to the judge, and the judge's rows come back beside the run's own."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.errors import DataError
from tulu_eval.findings.table import collect
from tulu_eval.judging.budget import Budget
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import HttpJudge
from tulu_eval.judging.judge import JudgeJob
from tulu_eval.judging.judge_recipe import JudgeRecipe, load_recipe
from tulu_eval.judging.outputs import read_outputs
from tulu_eval.judging.session import JudgingOutcome, prepare
from tulu_eval.judging.win_rates import Scoring
from tulu_eval.registry import load_suite
from tulu_eval.runs import judge
from tulu_eval.runs.reading import read_run, sound
from tulu_eval.runs.score import score

MakeRun = Callable[..., Path]
BASELINE = "data/alpaca_eval/alpaca_eval_gpt4_baseline.json"


@functools.cache
def recipe() -> JudgeRecipe:
    """The judge's recipe; read when a test asks, since an environment for vLLM alone has no alpaca-eval."""
    return load_recipe("loopback-judge")


@pytest.fixture
def ask(loopback: Any, shared: Path, tmp_path: Path) -> Callable[[Path], tuple[JudgingOutcome, Path]]:
    """Judges a run with the loopback."""

    def call(run: Path) -> tuple[JudgingOutcome, Path]:
        target = judge.find(run)
        folder = judge.folder_of(target, recipe(), None)
        with loopback() as server, Cache(tmp_path / "judge.jsonl") as cache:
            ready = prepare(target.outputs, JudgeJob(recipe(), cache, Budget(), server.url), baseline=shared / BASELINE)
            return judge.judge(ready, HttpJudge(server.url), folder), folder

    return call


def test_a_run_leaves_what_alpaca_evals_tools_read(alpaca_run: MakeRun, llama3_like: Path) -> None:
    run = alpaca_run(5, {2: "  unstripped \n\n"}, failed=1)
    rows = json.loads((run / "model_outputs.json").read_text())
    assert [row["output"] for row in rows] == [
        f"Answer number {1}.\n",
        "  unstripped \n\n",
        *(f"Answer number {n}.\n" for n in (3, 4)),
    ]
    assert {row["generator"] for row in rows} == {f"{llama3_like.parent.name}/llama3-like0"}
    assert read_outputs(run / "model_outputs.json", partial=True) == judge.outputs_of(run)


def test_the_judges_rows_stand_beside_the_runs_own(alpaca_run: MakeRun, ask: Any) -> None:
    run = alpaca_run(12)
    before = read_run(run).results
    outcome, folder = ask(run)
    found = read_run(run).results
    assert found[: len(before)] == before
    assert found[len(before) :] == outcome.results
    (row,) = outcome.results
    assert (row.metric, row.scorer, row.n, row.n_protocol) == ("win_rate", "loopback-judge", 12, 805)
    assert folder == run / "judged" / "loopback-judge-logprobs"
    score(run)
    assert read_run(run).results == found, "grading the samples again leaves the judge's rows"
    assert collect(load_suite(), run.parents[2]).problems == ()


def test_no_text_of_the_data_set_but_where_it_says_so(alpaca_run: MakeRun, ask: Any, shared: Path) -> None:
    run = alpaca_run(12)
    _, folder = ask(run)
    texts = [row[name] for row in json.loads((shared / BASELINE).read_text())[:12] for name in ("instruction", "output")]
    for path in (
        run / "samples.jsonl",
        run / "manifest.json",
        *(folder / name for name in ("judgments.jsonl", "judging.json")),
    ):
        content = path.read_text()
        assert not [text for text in texts if json.dumps(text)[1:-1] in content]


def test_a_run_published_without_text_is_read_and_in_the_table(alpaca_run: MakeRun, ask: Any) -> None:
    run = alpaca_run(12, failed=1)
    _, folder = ask(run)
    whole = read_run(run).results
    for path in (run / "samples.jsonl", run / "model_outputs.json", folder / "annotations.json"):
        path.unlink()
    found = read_run(run)
    assert found.results == whole
    assert collect(load_suite(), run.parents[2]).problems == ()
    assert "Answer number" not in "".join(path.read_text() for path in run.rglob("*") if path.is_file())
    with pytest.raises(DataError, match=r"was published without its samples: it has digests\.jsonl in place of"):
        next(found.samples())
    with pytest.raises(DataError, match="was published without its samples"):
        judge.find(run)
    digests = (run / "digests.jsonl").read_text()
    other = digests.splitlines()[2].split('"text_sha256":"')[1][:64]
    for old, new, message in (
        (other, "0" * 64, "judges another output of alpaca-2 than the run has"),
        ('"line_sha256":"', '"line_sha256":"x', "is not a sample's digest"),
        (digests.splitlines()[0] + "\n", "", r"digests\.jsonl is not what result\.json was computed from"),
    ):
        (run / "digests.jsonl").write_text(digests.replace(old, new, 1))
        with pytest.raises(DataError, match=message):
            sound(read_run(run))


def test_scored_again_without_text_and_judge(alpaca_run: MakeRun, ask: Any) -> None:
    outcome, folder = ask(alpaca_run(12))
    (folder / "annotations.json").unlink()
    again = judge.score_again(folder, Scoring())
    assert (again.win_rate, again.judge, again.counts) == (outcome.score.win_rate, outcome.score.judge, outcome.score.counts)


def test_judgments_of_another_judge_are_not_scored_again(alpaca_run: MakeRun, ask: Any) -> None:
    _, folder = ask(alpaca_run(12))
    whole = (folder / "judgments.jsonl").read_text()
    (folder / "judgments.jsonl").write_text(whole.replace('"output_characters":', '"output_characters":1', 1))
    with pytest.raises(DataError, match=r"is not what result\.json was computed from"):
        judge.score_again(folder, Scoring())
    (folder / "result.json").unlink()
    (folder / "judgments.jsonl").write_text("".join(whole.splitlines(keepends=True)[1:]))
    with pytest.raises(DataError, match=r"its counts are not those of judgments\.jsonl"):
        judge.score_again(folder, Scoring())
    (folder / "judgments.jsonl").write_text(whole)
    judge.score_again(folder, Scoring())


def test_a_cache_that_cannot_be_looked_into_is_no_matter(
    alpaca_run: MakeRun, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = alpaca_run(12)
    ask(run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("x" * 300)))
    assert len(sound(read_run(run)).results) == 2


def test_another_judge_in_the_manifest_is_noticed_when_scored_again(alpaca_run: MakeRun, ask: Any) -> None:
    _, folder = ask(alpaca_run(12))
    manifest = json.loads((folder / "judging.json").read_text())
    (folder / "judging.json").write_text(json.dumps({**manifest, "prompt_sha256": "0" * 64}))
    with pytest.raises(DataError, match=r"its judge is not the one of the rows in result\.json"):
        judge.score_again(folder, Scoring())


def test_changed_rows_and_judgments_are_noticed(alpaca_run: MakeRun, ask: Any) -> None:
    run = alpaca_run(12)
    _, folder = ask(run)
    for name, old, new in (("result.json", '"n": 12', '"n": 13'), ("judgments.jsonl", '"kind":"judged"', '"kind":"refusal"')):
        whole = (folder / name).read_text()
        assert old in whole
        (folder / name).write_text(whole.replace(old, new, 1))
        with pytest.raises(
            DataError, match=r"is not as it was made.*was changed after|is not what result\.json was computed from"
        ):
            sound(read_run(run))
        (folder / name).write_text(whole)
    assert len(read_run(run).results) == 2


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{}"), lambda path: _linked_to_nothing(path)])
def test_a_judges_folder_without_a_result_is_told_and_can_be_made_again(alpaca_run: MakeRun, ask: Any, spoil: Any) -> None:
    run = alpaca_run(12)
    _, folder = ask(run)
    spoil(folder / "result.json")
    with pytest.raises(DataError, match=r"is not as it was made.*judged/loopback.*result\.json"):
        sound(read_run(run))
    (folder / "result.json").unlink(missing_ok=True)
    ask(run)
    assert len(sound(read_run(run)).results) == 2


def _linked_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def test_rows_of_other_samples_are_noticed(alpaca_run: MakeRun, ask: Any) -> None:
    run = alpaca_run(12)
    ask(run)
    for name in ("samples.jsonl", "result.json", "manifest.json"):
        (run / name).unlink()
    assert alpaca_run(12, {3: "another answer"}) == run
    with pytest.raises(DataError, match="judges another output of alpaca-3 than the run has"):
        sound(read_run(run))


def test_only_runs_of_alpaca_eval_are_judged(make_run: MakeRun, alpaca_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a run of gsm8k; a judge is asked about alpaca-eval only"):
        judge.find(make_run(3, limit=3))
    with pytest.raises(DataError, match="has no outputs to judge"):
        judge.find(alpaca_run(2, failed=2))
    with pytest.raises(DataError, match=r"is no folder that 'tulu-eval judge' wrote: its judging\.json cannot be read"):
        judge.score_again(tmp_path, Scoring())
