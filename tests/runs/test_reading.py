"""What somebody made consistent by hand, hashes and all, is still noticed."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tulu_eval
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError
from tulu_eval.records import Grade, content_hash
from tulu_eval.runs import catalog
from tulu_eval.runs.reading import read_run, sound
from tulu_eval.store.digests import hash_of_all, read_digests
from tulu_eval.store.manifest import samples_hash
from tulu_eval.store.sample_line import Sample, decode, encode

MakeRun = Callable[..., Path]


def doubts_of(folder: Path) -> tuple[str, ...]:
    return read_run(folder).doubts


def forge(folder: Path, change: Callable[[Sample], Sample] = lambda sample: sample, **value: float) -> None:
    """Rewrites samples and rows of a run with every checksum and hash made right again."""
    lines = [encode(change(decode(line))) for line in (folder / "samples.jsonl").read_bytes().splitlines(keepends=True)]
    (folder / "samples.jsonl").write_bytes(b"".join(lines))
    result = json.loads((folder / "result.json").read_text())
    result.pop("sha256")
    result["samples_sha256"] = samples_hash(lines)
    result["results"][0].update(value)
    (folder / "result.json").write_text(json.dumps({**result, "sha256": content_hash(result)}))


def edit(folder: Path, *path: str, value: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_made_consistent_by_hand_is_not_read_as_a_sound_one(make_run: MakeRun) -> None:
    folder = make_run(12)
    assert sound(read_run(folder)).results == read_run(folder).results
    forge(folder, value=99.0)
    with pytest.raises(DataError, match=r"is not as it was made; .*: result\.json: its rows are not what the samples give"):
        sound(read_run(folder))


@pytest.mark.parametrize(
    "more", [{}, {"protocol": "full"}, {"limit": 20}, {"form": "plain"}, {"failed": 3}, {"quantization": "fp8"}]
)
def test_a_run_as_it_was_written_has_none(make_run: MakeRun, more: dict[str, Any]) -> None:
    assert doubts_of(make_run(12, **more)) == ()


def test_the_runs_of_this_repository_have_none() -> None:
    folders = [path.parent for path in (Path(__file__).parents[2] / "results").rglob("manifest.json")]
    assert {path.parent.name for path in folders} >= {"gsm8k", "ifeval", "truthfulqa", "sums"}
    assert [line for folder in folders for line in doubts_of(folder)] == []


def test_grades_that_the_benchmark_does_not_give(make_run: MakeRun) -> None:
    folder = make_run(10, limit=20)

    def better(sample: Sample) -> Sample:
        return dataclasses.replace(sample, grades=tuple(dataclasses.replace(grade, score=1.0) for grade in sample.grades))

    forge(folder, better)
    assert doubts_of(folder) == ("samples.jsonl: 10 of 20 grades are not what gsm8k gives (first: test-1209)",)


def test_rows_that_the_samples_do_not_give(make_run: MakeRun) -> None:
    folder = make_run(10, limit=20)
    forge(folder, value=99.0)
    assert doubts_of(folder) == ("result.json: its rows are not what the samples give",)


def test_samples_that_were_not_planned(make_run: MakeRun) -> None:
    folder = make_run(10, limit=20)
    edit(folder, "planned", value=json.loads((folder / "manifest.json").read_text())["planned"][:-2])
    assert any(
        line.startswith("samples.jsonl: 2 samples are not those that the run asked for (first: test-")
        for line in doubts_of(folder)
    )


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("protocol", "metric"), "other", "the protocol was changed"),
        (("model", "name"), "allenai/tulu-2-13b", "settings_sha256 differs"),
        (("model", "revision"), "elsewhere", "settings_sha256 differs"),
        (("decoding", "max_new_tokens"), 9, "settings_sha256 differs"),
        (("template", "sha256"), "0" * 64, "settings_sha256 differs"),
        (("backend",), "other", "settings_sha256 differs"),
    ],
)
def test_a_manifest_that_says_something_else(make_run: MakeRun, path: tuple[str, ...], value: Any, said: str) -> None:
    folder = make_run(10, limit=20)
    edit(folder, *path, value=value)
    assert any(said in line for line in doubts_of(folder))


@pytest.fixture
def textless(make_alpaca_run: MakeRun, tmp_path: Path) -> Path:
    """A run as it is published: six samples, one of them empty, one the engine failed on, and no text."""
    folder = make_alpaca_run(tmp_path / "results", 6, {3: ""}, failed=1)
    (folder / "samples.jsonl").unlink()
    return folder


def rewrite_digests(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Changes digests, with the hash over all of them made right again."""
    rows = [json.loads(line) for line in (folder / "digests.jsonl").read_text().splitlines()]
    change(rows)
    (folder / "digests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = json.loads((folder / "result.json").read_text())
    result.pop("sha256")
    result["samples_sha256"] = hash_of_all(read_digests(folder))
    (folder / "result.json").write_text(json.dumps({**result, "sha256": content_hash(result)}))


def test_a_run_without_its_text_is_checked_as_far_as_classes_go(textless: Path) -> None:
    assert doubts_of(textless) == ()
    rewrite_digests(textless, lambda rows: next(row for row in rows if row["status"] == "empty").update(status="ok"))
    (empty,) = doubts_of(textless)
    assert empty.startswith("digests.jsonl: 1 samples without a character are not counted as empty (first: alpaca-3")


def test_rows_and_items_of_a_run_without_its_text(textless: Path) -> None:
    rewrite_digests(textless, lambda rows: rows.pop())
    assert doubts_of(textless) == ("result.json: its rows are not what the samples give",)
    rewrite_digests(textless, lambda rows: rows[0].update(item="alpaca-804"))
    assert doubts_of(textless)[0] == "digests.jsonl: 1 samples are not those that the run asked for (first: alpaca-804)"


def test_a_manifest_cannot_say_that_its_run_is_not_to_be_checked(make_run: MakeRun) -> None:
    folder = make_run(10, limit=20)
    forge(folder, value=99.0)
    edit(folder, "source", value="re-scored")
    with pytest.raises(DataError, match=r"manifest\.json: is not a manifest of this version: .* unknown field 'source'$"):
        doubts_of(folder)


def test_a_benchmark_of_another_version_is_not_graded_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(10, limit=20)
    before = read_run(folder).results
    version = GSM8K.version
    monkeypatch.setattr(GSM8K, "version", version + 1)
    monkeypatch.setattr("tulu_eval.benchmarks.gsm8k.grade_last_number", lambda *_: Grade("last-number", "", False, 0.0))
    run = read_run(folder)
    assert (run.doubts, run.results) == ((), before)
    assert run.notes == (
        f"its rows stand on version {version} of gsm8k, and {version + 1} is installed; "
        "'tulu-eval score' grades its samples again",
    )


def test_the_memory_knows_the_code_of_every_room_that_reading_imports() -> None:
    from tulu_eval.runs import remembered

    package = Path(tulu_eval.__file__).parent
    found: set[str] = set()
    for room in ("runs/reading.py", "runs/rereading.py", "store/ledger.py", "store/sample_line.py"):
        found |= set(re.findall(r"from tulu_eval\.(\w+)[ .]", (package / room).read_text()))
    assert found - {"errors", "records", "runs"} <= set(remembered.ROOMS)


def test_a_reading_without_the_gamed_rows_is_not_that_with_them(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them LC is taken as it stands; once they are here, it is computed again."""
    from tulu_eval.judging import gamed
    from tulu_eval.runs import remembered

    monkeypatch.setattr(gamed, "cached", lambda *names: (tmp_path / "cache").joinpath(*names))
    folder = make_run(right=1, limit=2)
    (folder / "judged").mkdir()
    before = remembered.name_of(folder, None)
    (tmp_path / "cache/alpaca_eval").mkdir(parents=True)
    (tmp_path / f"cache/alpaca_eval/df_gamed-{next(iter(gamed.GAMED_SHA256))[:16]}.csv").write_text("")
    assert remembered.name_of(folder, None) != before


def test_a_run_signed_with_an_earlier_name_of_its_protocol_is_read_under_todays() -> None:
    folder = next((Path(__file__).parents[2] / "results" / "smollm2-135m-instruct" / "gsm8k").glob("published-fb7fab88"))
    run = read_run(folder)
    assert run.doubts == ()
    assert {row.protocol for row in run.results} == {"card-200"}
    assert all(row.signature.startswith("gsm8k:published|n:200@") for row in run.results), "no signature changes"
    assert run.members("published") == run.members("card-200") == set(run.manifest.planned)
    assert catalog.benchmark("gsm8k").protocol("published").name == "card-200"
    assert catalog.protocol_name("gsm8k", "published") == "card-200"
    assert catalog.protocol_name("not-installed", "published") == "published"
