"""``card`` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tulu_eval.version import __version__

Run = Callable[..., Result]


def test_check_of_the_seed_card_is_one_paragraph_a_finding_and_exit_code_1(invoke: Run, shared: Path) -> None:
    path = shared / "seed/model_card.md"
    done = invoke("card", "--check", path)
    assert (done.exit_code, done.stderr) == (1, "next: tulu-eval models show llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm\n")
    assert f"{path}:54: ppo-13b-gsm8k: The card's results table prints GSM8K 67.0 for Tulu V2.5 PPO 13B.\n" in done.stdout
    assert f"{path}:101: card-hyperparameters: " in done.stdout
    assert " (also lines 102, 103)\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(
        f"{path}: 34 findings in 46 places (the card of allenai/llama-3-tulu-v2.5-8b"
    )
    found = json.loads(invoke("card", "--check", path, "--json").stdout)
    assert len(found["findings"]) == 46
    assert {"line", "check", "says", "instead", "source", "advice"} == set(found["findings"][0])


def test_check_of_a_clean_card_is_exit_code_0(invoke: Run, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("---\nlicense: mit\n---\n# Mine\n")
    done = invoke("card", "--check", path)
    assert (done.exit_code, done.stderr) == (0, "next: tulu-eval models\n")
    assert done.stdout == f"{path}: nothing found (its metadata names no model of the registry, so less could be checked)\n"
    named = invoke("card", "tulu-2-13b", "--check", path)
    assert named.stdout == f"{path}: nothing found (the card of allenai/tulu-2-13b)\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# no metadata\n", "README.md: has no front matter: a model card begins with YAML between two lines '---'"),
        ("---\na: [1\n---\n", "README.md:3: its front matter is not YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_a_file_that_is_no_card_is_one_line_and_exit_code_2(invoke: Run, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(content)
    done = invoke("card", "--check", path)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"tulu-eval: {tmp_path}/{message}\n")
    assert list(tmp_path.iterdir()) == [path]


def test_card_prints_front_matter_and_section(invoke: Run, make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run(right=92, model="allenai/tulu-2-13b")
    make_run(right=3, limit=5, model="allenai/tulu-2-13b")
    done = invoke("card", "TULU-2-13B", "--results", tmp_path / "results")
    assert done.exit_code == 0
    assert done.stdout.startswith("---\nmodel-index:\n- name: allenai/tulu-2-13b\n")
    assert f"\n---\n## Evaluation\n\nMeasured with tulu-eval {__version__}. " in done.stdout
    assert "| consistent with 46.0 (card) |" in done.stdout
    assert done.stderr.count("tulu-eval: not on the card: ") == 2
    assert "5 of 200 items" in done.stderr


def test_card_writes_files(invoke: Run, make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run(right=92, model="allenai/tulu-2-13b")
    words = ("card", "tulu-2-13b", "--results", tmp_path / "results")
    done = invoke(*words, "--output", tmp_path / "repo")
    assert (done.exit_code, done.stderr) == (0, f"next: tulu-eval card --check {tmp_path}/repo/results.md allenai/tulu-2-13b\n")
    assert done.stdout == f"{tmp_path}/repo/results.md\n{tmp_path}/repo/.eval_results/gsm8k.yaml\n"
    assert (tmp_path / "repo/results.md").read_text() == invoke(*words).stdout
    found = json.loads(invoke(*words, "--json").stdout)
    assert found["files"] == {".eval_results/gsm8k.yaml": (tmp_path / "repo/.eval_results/gsm8k.yaml").read_text()}
    assert invoke("card", "--check", tmp_path / "repo/results.md").exit_code == 0
    assert invoke(*words, "--output", tmp_path / "repo").exit_code == 0
    (tmp_path / "repo/results.md").unlink()
    (tmp_path / "repo/.eval_results/gsm8k.yaml").write_text("- mine\n")
    refused = invoke(*words, "--output", tmp_path / "repo")
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "repo/.eval_results/gsm8k.yaml exists and is not this text; nothing was written" in refused.stderr
    assert [path.name for path in (tmp_path / "repo").iterdir()] == [".eval_results"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--json",), "give a MODEL, or --check FILE. Try 'tulu-eval card --help'."),
        (
            ("--check", ".", "--output", "."),
            "--check only reads; --published and --output make a card. Try 'tulu-eval card --help'.",
        ),
        (("tulu-2-13b", "--results", "nowhere"), "no whole run of tulu-2-13b is under nowhere."),
        (("tulu-2-13b", "--registry", "nowhere.toml"), "nowhere.toml: no such file"),
    ],
)
def test_card_mistakes_are_one_line(
    invoke: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("card", *words)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"tulu-eval: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_results_that_is_not_there_is_told(invoke: Run, tmp_path: Path) -> None:
    done = invoke("card", "allenai/tulu-2-13b", "--published", "--results", tmp_path / "nowhere")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"tulu-eval: no folder {tmp_path}/nowhere, so nothing was measured\nnext: ")
