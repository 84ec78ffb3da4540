"""A run without the hashes that runs have now: read as an older one, and every verb says what that means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tulu_eval.cli import cli
from tulu_eval.records import content_hash
from tulu_eval.runs.reading import read_run

MakeRun = Callable[..., Path]

TOLD = "has no hashes: it was made before 2026-11-30, or they were taken out, so that a forgery would not be seen"


def without_hashes(folder: Path) -> Path:
    """Takes every hash out of a run's files that an older version did not write."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("keys", "asked", "answers_sha256"):
        manifest.pop(name, None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    result = json.loads((folder / "result.json").read_text())
    for name in ("answers_sha256", "manifest_sha256", "graded_by", "sha256"):
        result.pop(name, None)
    (folder / "result.json").write_text(json.dumps({**result, "sha256": content_hash(result)}))
    return folder


def test_it_is_read_and_every_verb_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    whole = make_run(right=92, output="results/whole", model="allenai/tulu-2-13b")
    assert read_run(whole).unhashed == ""
    bare = without_hashes(make_run(right=92, output="results/bare", model="mine"))
    run = read_run(bare)
    assert (run.doubts, run.unhashed) == ((), TOLD)
    assert TOLD in run.notes
    for words in (
        ["verify", str(bare), "--as", "tulu-2-13b"], ["table", "--results", str(tmp_path / "results")],
        ["compare", str(bare), str(whole)], ["score", str(bare)],
        ["bundle", str(bare), "--output", str(tmp_path / "proof.zip")],
    ):  # fmt: skip
        for more in ([], ["--format", "json"] if words[0] == "table" else ["--json"]):
            shutil.copytree(bare, tmp_path / "kept", dirs_exist_ok=True)
            done = CliRunner().invoke(cli, [*words, *more])
            shutil.copytree(tmp_path / "kept", bare, dirs_exist_ok=True)
            assert TOLD in " ".join(done.stdout.split()), (words, done.output)


@pytest.mark.parametrize("name", ["keys", "asked", "answers_sha256"])
def test_one_that_lacks_some_is_told_which(make_run: MakeRun, name: str) -> None:
    whole = make_run(right=3, limit=8, output="whole")
    noted = json.loads((whole / "manifest.json").read_text())[name]
    folder = without_hashes(make_run(right=3, limit=8))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, name: noted}))
    told = read_run(folder).unhashed
    assert told.startswith("lacks hashes (manifest.json's ")
    assert f"manifest.json's {name}" not in told


def test_the_runs_of_this_repository_have_all() -> None:
    folders = [path.parent for path in (Path(__file__).parents[2] / "results").rglob("manifest.json")]
    assert folders
    assert [read_run(folder).unhashed for folder in folders] == [""] * len(folders)


def test_a_card_says_so_under_its_table(make_run: MakeRun, tmp_path: Path) -> None:
    without_hashes(make_run(right=92, model="mine"))
    done = CliRunner().invoke(cli, ["card", "mine", "--results", str(tmp_path / "results")])
    assert f"n = 200: it {TOLD}" in " ".join(done.stdout.split()), done.output
