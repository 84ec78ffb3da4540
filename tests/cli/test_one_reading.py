"""Every verb reads a run in one way: what was forged, mixed, swapped or cut is named by all of them in the same words."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tulu_eval.records import content_hash
from tulu_eval.store.manifest import samples_hash
from tulu_eval.store.sample_line import Sample, decode, encode

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
Spoil = Callable[[Path, MakeRun], None]


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "samples.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(folder: Path, change: Callable[[Sample], Sample]) -> None:
    (folder / "samples.jsonl").write_bytes(b"".join(encode(change(decode(line))) for line in lines_of(folder)))


def right(sample: Sample) -> Sample:
    grades = tuple(dataclasses.replace(grade, score=1.0, answer=sample.target, answered=True) for grade in sample.grades)
    return dataclasses.replace(sample, grades=grades, status="ok")


def forge_result(folder: Path, **change: Any) -> None:
    """Changes the first row of a result, with every hash in the folder made right again."""
    data = json.loads((folder / "result.json").read_text())
    data.pop("sha256")
    data["samples_sha256"] = samples_hash(lines_of(folder))
    data["results"][0].update(change)
    (folder / "result.json").write_text(json.dumps({**data, "sha256": content_hash(data)}))


def with_strangers(folder: Path, _: MakeRun) -> None:
    def other(sample: Sample) -> Sample:
        key = content_hash(["another", sample.item])
        completion = dataclasses.replace(sample.completion, key=key, text=f" So the answer is {sample.target}.")
        return right(dataclasses.replace(sample, completion=completion))

    more = [encode(other(decode(line))) for line in lines_of(folder)[:12]]
    with (folder / "samples.jsonl").open("ab") as file:
        file.writelines(more)


def swapped(folder: Path, make_run: MakeRun) -> None:
    other = make_run(right=150, limit=20, backend="transformers", output="others")
    shutil.copy(other / "samples.jsonl", folder / "samples.jsonl")


def forged_grades(folder: Path, _: MakeRun) -> None:
    rewrite(folder, right)
    forge_result(folder, value=100.0)


def forged_targets(folder: Path, _: MakeRun) -> None:
    rewrite(folder, lambda sample: dataclasses.replace(sample, target="0"))


def forged_text(folder: Path, _: MakeRun) -> None:
    def better(sample: Sample) -> Sample:
        text = f" So the answer is {sample.target}."
        return right(dataclasses.replace(sample, completion=dataclasses.replace(sample.completion, text=text)))

    rewrite(folder, better)


def cut(folder: Path, _: MakeRun) -> None:
    (folder / "samples.jsonl").write_bytes(b"".join(lines_of(folder)[:-5]))


def without_samples(folder: Path, _: MakeRun) -> None:
    (folder / "samples.jsonl").unlink()


def edited(*path: str, value: Any) -> Spoil:
    def spoil(folder: Path, _: MakeRun) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        inner = manifest
        for key in path[:-1]:
            inner = inner[key]
        assert inner[path[-1]] != value
        inner[path[-1]] = value
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return spoil


SPOILT: dict[str, tuple[Spoil, str]] = {
    "strangers": (with_strangers, "samples.jsonl: 12 samples are not those that the run asked for"),
    "swapped": (swapped, "samples.jsonl: 20 samples are not those that the run asked for"),
    "forged grades": (forged_grades, "samples.jsonl: 10 of 20 grades are not what gsm8k gives"),
    "forged result": (
        lambda folder, _: forge_result(folder, value=99.0),
        "result.json: its rows are not what the samples give",
    ),
    "forged n": (lambda folder, _: forge_result(folder, n_protocol=20), "result.json: its rows are not what the samples give"),
    "forged targets": (forged_targets, "samples.jsonl: right answers or prompts are not those that the run asked"),
    "forged text": (forged_text, "samples.jsonl is not what result.json was computed from"),
    "cut": (cut, "samples.jsonl is not what result.json was computed from"),
    "no samples": (without_samples, "samples.jsonl is missing, so result.json cannot be checked"),
    "weights": (edited("model", "weights_sha256", value="0" * 64), "manifest.json: model, prompt, template or decoding"),
    "settings hash": (edited("settings_sha256", value="0" * 64), "manifest.json: model, prompt, template or decoding"),
    "protocol hash": (edited("protocol", "sha256", value="0" * 64), "manifest.json: the protocol was changed"),
    "planned": (edited("planned", value=["test-0"]), "manifest.json"),
    "top_p": (edited("decoding", "top_p", value=0.5), "manifest.json: model, prompt, template or decoding"),
    "stop": (edited("decoding", "stop", value=["="]), "manifest.json: model, prompt, template or decoding"),
    "eos_ids": (edited("eos_ids", value=[3]), "manifest.json: model, prompt, template or decoding"),
    "packages": (edited("packages", "torch", value="1.0"), "manifest.json is not the one that result.json was computed under"),
    "items": (edited("items", "card-200", value=["test-0"]), "manifest.json is not the one"),
}
"""What was done to a run of 20 samples, and what every verb says of it."""

MENDED_BY_SCORE = ("forged result", "forged n")
"""What ``score`` computes again from samples that are as they were."""


@pytest.fixture
def spoilt(make_run: MakeRun, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path, str]:
    """A spoilt run, a good one beside it, and what is to be said of the first."""
    spoil, said = SPOILT[request.param]
    good = make_run(right=10, limit=20, output="good")
    folder = make_run(right=10, limit=20)
    spoil(folder, make_run)
    return folder, good, said


@pytest.mark.parametrize("spoilt", SPOILT, indirect=True)
def test_verbs_that_read_one_run_refuse_it(invoke: Run, spoilt: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, good, said = spoilt
    for words in (
        ("verify", folder, "--partial"),
        ("verify", folder, "--partial", "--as", "tulu-2-13b"),
        ("compare", folder, good),
        ("compare", good, folder),
        ("audit", folder),
        ("bundle", folder, "-o", tmp_path / "bundle.zip"),
    ):
        done = invoke(*words)
        assert (done.exit_code, done.stdout) == (2, ""), words
        assert "is not as it was made" in done.stderr
        assert said in done.stderr, words
        assert "'tulu-eval score" not in done.stderr, "it would launder the run"
    assert not (tmp_path / "bundle.zip").exists()


@pytest.mark.parametrize("spoilt", [name for name in SPOILT if name not in MENDED_BY_SCORE], indirect=True)
def test_score_does_not_launder_it(invoke: Run, spoilt: tuple[Path, Path, str]) -> None:
    folder, _, said = spoilt
    before = (folder / "result.json").read_bytes()
    done = invoke("score", folder)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr or "has no samples.jsonl" in done.stderr
    assert (folder / "result.json").read_bytes() == before


@pytest.mark.parametrize("spoilt", MENDED_BY_SCORE, indirect=True)
def test_score_computes_a_forged_result_again(invoke: Run, spoilt: tuple[Path, Path, str]) -> None:
    folder, good, _ = spoilt
    assert invoke("score", folder).exit_code == 0
    assert json.loads((folder / "result.json").read_text()) == json.loads((good / "result.json").read_text())
    assert invoke("verify", folder, "--partial").exit_code == 0


@pytest.mark.parametrize("spoilt", SPOILT, indirect=True)
def test_verbs_that_read_many_runs_leave_it_out(invoke: Run, spoilt: tuple[Path, Path, str], tmp_path: Path) -> None:
    folder, _, said = spoilt
    results = folder.parents[2]
    table = invoke("table", "--results", results, "--format", "json")
    assert said in table.stderr
    assert [cell for line in json.loads(table.stdout)["lines"] for cell in line["columns"] if cell["measured"]] == []
    report = invoke("report", "--results", results, "--output", tmp_path / "report.html")
    assert said in report.stderr
    card = invoke("card", "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm", "--results", results)
    assert card.exit_code == 2
    assert said in card.stderr


def test_the_right_number_comes_out_of_a_ledger_with_strangers(make_run: MakeRun, invoke: Run) -> None:
    """The run's own command asks by key and item, and puts what it did not ask for aside."""
    folder = make_run(right=10, limit=20)
    good = (folder / "result.json").read_bytes()
    with_strangers(folder, make_run)
    make_run(right=10, limit=20)
    assert (folder / "result.json").read_bytes() == good
    assert len((folder / "samples.other.jsonl").read_bytes().splitlines()) == 12
    assert invoke("verify", folder, "--partial").exit_code == 0


def test_the_runs_own_command_refuses_answers_that_are_not_its_results(make_run: MakeRun) -> None:
    from tulu_eval.errors import DataError

    folder = make_run(right=10, limit=20)
    forged_text(folder, make_run)
    with pytest.raises(DataError, match=r"is not as it was made.*samples\.jsonl is not what result\.json was computed from"):
        make_run(right=10, limit=20)


def test_the_runs_own_command_grades_forged_grades_again(make_run: MakeRun, invoke: Run) -> None:
    folder = make_run(right=10, limit=20)
    good = (folder / "result.json").read_bytes()
    forged_grades(folder, make_run)
    make_run(right=10, limit=20)
    assert (folder / "result.json").read_bytes() == good
    assert invoke("verify", folder, "--partial").exit_code == 0
