"""verify, compare, plan, table and models as a user types them: what they print, exit codes, and every mistake in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tulu_eval.version import __version__

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
PPO = "tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.delenv("COLUMNS", raising=False)


def test_strict_is_about_inconsistent_runs_alone(invoke: Run, make_run: MakeRun) -> None:
    assert invoke("verify", make_run(right=121), "--strict").exit_code == 1
    assert invoke("verify", make_run(right=92, model="allenai/tulu-2-13b"), "--strict").exit_code == 0


def test_verify_names_the_settings_to_look_at_first(invoke: Run, make_run: MakeRun) -> None:
    done = invoke("verify", make_run(right=121, form="chat", backend="transformers"))
    assert "Noise does not explain an inconsistent verdict; look at template first." in done.stdout
    assert "single items: noise" in done.stdout
    noise = invoke("verify", make_run(right=121, backend="transformers", output="noise"))
    assert "What differs is noise by its nature, and noise does not explain an inconsistent verdict." in noise.stdout
    fine = invoke("verify", make_run(right=92, model="allenai/tulu-2-13b", backend="transformers", output="fine"))
    assert "What differs is noise by its nature. Not recorded by anybody" in fine.stdout
    other = invoke("verify", make_run(right=92, model="allenai/tulu-2-13b", form="chat", output="other"))
    assert "The settings above differ though no verdict is inconsistent." in other.stdout


def test_verify_a_local_checkpoint_as_another_model(invoke: Run, make_run: MakeRun) -> None:
    folder = make_run(right=121, model="my-checkpoint", revision="sha256:1")
    done = invoke("verify", folder, "--as", PPO.upper())
    assert done.exit_code == 0
    assert f"compared with the numbers of allenai/{PPO}, as other weights" in done.stdout
    assert "cannot tell: 60.5 % (121/200) against 67.0 % (134/200)" in done.stdout


def test_a_run_does_not_differ_from_itself(invoke: Run, make_run: MakeRun) -> None:
    run = make_run(right=121)
    same = invoke("compare", run, run).stdout
    assert "0 items flip" in same
    assert "Nothing differs between the manifests but times." in same


def test_compare_says_that_few_flips_show_nothing(invoke: Run, make_run: MakeRun) -> None:
    a, b = make_run(right=121), make_run(right=lambda place: 3 <= place < 121, output="b")
    assert "3 items flip" in invoke("compare", a, b).stdout
    assert "with this many flips, no difference shows with 80 % power" in invoke("compare", a, b).stdout
    assert json.loads(invoke("compare", a, b, "--json").stdout)["paired"]["detectable"] is None


def test_compare_says_what_it_leaves_out(invoke: Run, make_run: MakeRun) -> None:
    done = invoke("compare", make_run(failed=4), make_run(limit=150, output="b"))
    assert "4 items are left out: the engine failed on them in one run or both" in done.stdout
    assert "50 items are in A only and 0 in B only" in done.stdout


def test_plan_says_when_the_items_are_enough(invoke: Run) -> None:
    found = json.loads(invoke("plan", "gsm8k", "-m", "tulu-2-13b", "tulu-2-dpo-70b", "-d", "4.5", "--json").stdout)
    assert found["reaches"][1]["enough"] == "yes"
    assert [cost["parameters"] for cost in found["costs"]] == [13_000_000_000, 70_000_000_000]


def test_table_prints_and_writes(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    make_run(right=121)
    target = tmp_path / "made" / "table.md"
    done = invoke("table", "--results", tmp_path / "results", "--output", target)
    assert (done.exit_code, done.stderr) == (0, f"next: tulu-eval report --results {tmp_path / 'results'}\n")
    assert done.stdout.count("not measured") == 9
    assert "60.5 [53.6, 67.0], n = 200" in target.read_text()
    assert target.read_text() == invoke("table", "--results", tmp_path / "results", "--format", "markdown").stdout


def test_table_names_what_it_cannot_use(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    (make_run(right=121) / "samples.jsonl").unlink()
    done = invoke("table", "--results", tmp_path / "results")
    assert done.exit_code == 0
    assert done.stderr.count("\n") == 2
    assert "not in the table: " in done.stderr
    assert "samples.jsonl is missing, so result.json cannot be checked" in done.stderr
    assert invoke("table", "--results", tmp_path / "none").stderr == (
        f"tulu-eval: no folder {tmp_path / 'none'}, so nothing was measured\n"
        "next: tulu-eval run BENCHMARK --model MODEL --dry-run\n"
    )


def test_models_lists_by_family_and_stage(invoke: Run) -> None:
    done = invoke("models")
    assert done.exit_code == 0
    assert "70 models." in done.stdout
    ppo = invoke("models", "--stage", "ppo").stdout
    assert "67.0! / 58.0!" in ppo
    assert "tulu-2-dpo-13b" not in ppo
    listed = json.loads(invoke("models", "--stage", "PPO", "--json").stdout)
    assert {model["stage"] for model in listed} == {"PPO"}
    assert len(listed) == 13


def test_models_show_gives_numbers_sources_contradictions_and_lineage(invoke: Run) -> None:
    done = invoke("models", "show", "tulu-v2.5-llama3-8b-uf-mean-70b-uf-rm")
    assert done.exit_code == 0
    assert done.stdout.startswith("allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm\n")
    assert (
        "lineage: Meta-Llama-3-8B (base) → llama-3-tulu-2-8b (SFT) → llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm (PPO)\n"
        "  rewarded by: llama-3-tulu-2-70b-uf-mean-rm (RM)\n"
    ) in done.stdout
    for words in (
        "48.5",
        "28.8",
        "GSM8K of the Llama 3 PPO model: 48.5 stands alone. ",
        "@4d3fa46",
        "generation_config.json, eos_token_id: 2 instead of",
    ):
        assert words in done.stdout
    found = json.loads(invoke("models", "--json", "show", PPO).stdout)
    assert [step["stage"] for step in found["lineage"]["ancestors"]] == ["base", "SFT"]
    assert {name: (step and step["stage"]) for name, step in found["lineage"].items() if name != "ancestors"} == {
        "copied_from": None, "reward_model": "RM", "value_model": "value", "trained_with": None,
    }  # fmt: skip
    value = invoke("models", "show", f"{PPO}-value").stdout
    assert f"tulu-2-70b (SFT) → tulu-v2.5-70b-uf-rm (RM) → {PPO}-value (value)\n  trained beside: {PPO} (PPO)" in value


def test_a_users_registry_is_read_by_every_verb(invoke: Run, make_run: MakeRun, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[source]]\nkey = "report"\ndocument = "our report"\n[[model]]\nhub_id = "us/ours"\nstage = "DPO"\nsize = "8B"\n'
        'family = "ours"\n[[cell]]\nmodel = "us/ours"\nmetric = "GSM8K_8shot_CoT"\nprinted = "60.5"\nsource = "report"\n'
    )
    run = make_run(right=121, model="us/ours")
    assert "+0.0 points" in invoke("verify", run, "--registry", own).stdout
    shown = invoke("models", "show", "ours", "--registry", own)
    assert "us/ours" in shown.stdout
    assert shown.stderr == f"next: tulu-eval run gsm8k --protocol card-200 --model ours --dry-run --registry {own}\n"
    assert "us/ours" in invoke("models", "--registry", own, "show", "ours").stdout
    assert "71 models." in invoke("models", "--registry", own).stdout
    assert "around 60.5 %" in invoke("plan", "gsm8k", "-m", "ours", "ours", "-d", "5", "--registry", own).stdout
    assert "ours" in invoke("table", "--results", tmp_path / "results", "--registry", own).stdout


REGISTRY = '[[source]]\nkey = "r"\ndocument = "d"\n'
CELL = '[[cell]]\nmodel = "allenai/tulu-2-13b"\nmetric = "GSM8K_8shot_CoT"\nsource = "r"\nprinted = '
FILES = {
    "key": '[[model]]\nhub_id = "a/b"\nstage = "DPO"\nsize = "8B"\nfamily = "f"\nrewardmodel = "x"\n',
    "alias": '[[model]]\nhub_id = "a/b"\nstage = "DPO"\nsize = "8B"\nfamily = "f"\naliases = ["tulu-2-13b"]\n'
    '[[model]]\nhub_id = "a/c"\nstage = "DPO"\nsize = "8B"\nfamily = "f"\naliases = ["tulu-2-13b"]\n',
    "cell": REGISTRY + CELL + '"67.3"\n',
    "toml": "[[model\n",
    "blank": "\n  \n",
    "long": "x" * 500_000,
    "listed": "tulu-2-13b\ntulu-2-70b\n",
}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("models", "show", "tulu-2-13bb"), "unknown model 'tulu-2-13bb'. Did you mean 'tulu-2-13b'"),
        (("models", "--stage", "PPP"), "unknown stage 'PPP'. Did you mean 'PPO'?"),
        (("models", "shwo"), "no such verb 'shwo'. Did you mean 'show'?"),
        (("models", "--registry", "{key}"), "[[model]] a/b: unknown key 'rewardmodel'. Did you mean 'reward_model'"),
        (("models", "--registry", "{alias}"), "the name 'tulu-2-13b' is already taken by a/b"),
        (("table", "--registry", "{cell}"), "GSM8K_8shot_CoT '67.3' of allenai/tulu-2-13b cannot be a share of 200 items"),
        (("table", "--registry", "{toml}"), "toml.toml:1: is not TOML"),
        (("table", "--registry", "{none}"), "none.toml: no such file"),
        (("table", "--results", "{dir}", "--output", "{dir}/t.docx"), "t.docx: the format follows from the name's end."),
        (("table", "--results", "{dir}", "--output", "{key}/t.md"), "cannot be written: File exists"),
        (("verify", "{none}"), "none.toml: no such run folder"),
        (("verify", "{dir}"), "is not a run folder: it has no manifest.json"),
        (("verify", "{run}"), "5 of 200 items are there; --partial compares these 5"),
        (("verify", "{old}"), f"is of format 0; tulu-eval {__version__} reads format 1"),
        (("verify", "{edited}"), "was changed after it was written (its hash differs)"),
        (
            ("verify", "{swapped}"),
            "is not as it was made; put its files back, or make the run again with --fresh: samples.jsonl is not",
        ),
        (("verify", "{local}"), "there is no published number of my-model: it is not in the registry. --as NAME"),
        (("verify", "{local}", "--as", "tulu-2-13bb"), "unknown model 'tulu-2-13bb'. Did you mean 'tulu-2-13b'"),
        (("verify", "{failed}", "--registry", "{cell}"), "cannot be a share of 200 items"),
        (("compare", "{run}", "{none}"), "none.toml: no such run folder"),
        (("compare", "{run}"), "missing argument 'RUN_B'"),
        (("plan", "gsm8k", "--models", "tulu-2-13b"), "Option '--models' requires 2 arguments: plan BENCHMARK"),
        (
            ("plan", "gsm8k", "-m", "tulu-2-13b", "-d", "5"),
            "Option '--models' requires 2 arguments: plan BENCHMARK -m A B -d POINTS.",
        ),
        (("plan", "gsm8k", "-m", "tulu-2-13b", "tulu-2-7b"), "Missing option '--detect' / '-d'."),
        (("plan", "gsm8k", "-m", "tulu-2-13b", "tulu-2-7b", "-d", "5e-324"), "--detect 5e-324 takes millions of items"),
        (("plan", "gsm8k", "-m", "tulu-2-13b", "tulu-2-7b", "-d", "0"), "above 0 and at most 100, not 0"),
        (("plan", "gsm8k", "-m", "tulu-2-13b", "tulu-2-7b", "-d", "x"), "'x' is not a number"),
        (("plan", "gsm8k", "-m", "tulu-2-13b", "tulu-2-7b", "-d", "2", "--gpus", "8"), "--gpus goes with a suite"),
        (("plan", "tulu-2.5", "-m", "{none}", "--gpus", "8"), "none.toml"),
        (("plan", "tulu-2.5", "-m", "{blank}", "--gpus", "8"), "blank.toml: names no model; give one per line"),
        (("plan", "tulu-2.5", "-m", "{long}", "--gpus", "8"), "long.toml: has a line of more than 1000 characters"),
        (("plan", "tulu-2.5", "-m", "{listed}", "--gpus", "0"), "--gpus must be from 1 to 10,000, not 0"),
        (("plan", "tulu-2.5", "-m", "{listed}"), "Missing option '--gpus'."),
        (
            ("plan", "tulu-2.5", "-m", "{listed}", "--gpus", "1"),
            "tulu-2-70b needs 2 GPUs for its 130 GiB of weights, and --gpus",
        ),
        (
            ("plan", "tulu-2.5", "-m", "{listed}", "--gpus", "2", "--gpu-hour-price", "-1"),
            "--gpu-hour-price must be from 0 to 1,000,000",
        ),
        (("plan", "tulu-2.5", "-m", "{listed}", "--gpus", "2", "-d", "2"), "--detect goes with a benchmark"),
        (
            ("plan", "tulu-2.5", "-m", "tulu-2-13b", "tulu-2-7b", "--gpus", "8"),
            "requires one file: plan tulu-2.5 --models FILE",
        ),
        (("plan", "gsm9k", "-m", "tulu-2-13b", "tulu-2-7b", "-d", "2"), "unknown benchmark 'gsm9k'. Did you mean 'gsm8k'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_mistake_is_one_line_and_writes_nothing(
    invoke: Run, make_run: MakeRun, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    names = {"dir": tmp_path / "empty", "none": tmp_path / "none.toml"}
    names["dir"].mkdir()
    for name, text in FILES.items():
        names[name] = tmp_path / f"{name}.toml"
        names[name].write_text(text)
    makers: dict[str, Callable[[], Path]] = {
        "run": lambda: make_run(right=3, limit=5),
        "failed": lambda: make_run(right=100, failed=2),
        "old": lambda: _edited(make_run(right=3, limit=5), "manifest.json", format=0),
        "edited": lambda: _edited(make_run(right=3, limit=5), "result.json", results=[]),
        "swapped": lambda: _swapped(make_run(right=3, limit=5), make_run(right=2, limit=5, output="other")),
        "local": lambda: make_run(right=3, limit=5, model="my-model", revision="sha256:1"),
    }
    names |= {name: make() for name, make in makers.items() if any(f"{{{name}}}" in word for word in words)}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = invoke(*(word.format(**names) for word in words))
    assert done.exit_code == 2
    assert message.lower() in done.stderr.lower()
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def _edited(folder: Path, name: str, **fields: object) -> Path:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def _swapped(folder: Path, other: Path) -> Path:
    (folder / "samples.jsonl").write_bytes((other / "samples.jsonl").read_bytes())
    return folder


@pytest.mark.parametrize("verb", ["verify", "compare", "plan", "models show"])
def test_a_bare_verb_shows_its_help(invoke: Run, verb: str) -> None:
    done = invoke(*verb.split())
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Usage: tulu-eval {verb}")
    assert f"\n    tulu-eval {verb}" in done.stderr
