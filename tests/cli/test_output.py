"""What every verb prints, kept word for word: its help, a usual call, the same with ``--json``, and a mistake.

``pytest tests/cli/test_output.py --snapshot-update`` writes ``__snapshots__`` anew; read its difference before you commit it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from click_tree import commands

from tulu_eval import files
from tulu_eval.cli import cli
from tulu_eval.findings.doctor import Extra, Installation
from tulu_eval.reproduction.summary import ReproductionSummary
from tulu_eval.runs import catalog
from tulu_eval.testing import ScriptedBackend
from tulu_eval.version import __version__

if TYPE_CHECKING:  # vLLM's environment does not have it
    from syrupy.assertion import SnapshotAssertion

ROOT = Path(__file__).resolve().parents[2]
VERBS = dict(commands())

RUN = "results/ppo/gsm8k/published"
EVALUATE = "run gsm8k --model model --name tiny --protocol custom --data rows.jsonl --limit 3 --device cpu --output out"
JUDGE = "--judge gpt-4.1 --data baseline.json --gamed gamed.csv --partial"
TRAIN = "train sft --recipe tiny --model model --data sft.jsonl --device cpu --output trained --set batch=8"
CALIBRATE = "calibrate-judge annotations.json --judge gpt-4.1 --judge-url {judge} --limit 30 --output calibration.json"

USUAL = {
    "run": EVALUATE,
    "run --dry-run": f"{EVALUATE.replace('--limit 3', '--limit 1')} --dry-run",
    "merge": "merge sharded",
    "score": f"score {RUN}",
    "score alpaca-eval": "score alpaca-eval --annotations annotations.json --gamed gamed.csv --partial",
    "verify": f"verify {RUN}",
    "compare": f"compare {RUN} results/other/gsm8k/published",
    "explain": f"explain {RUN} --number 40.0 --n 200 --max-items 0",
    "audit": "audit audited --model model --data rows.jsonl --limit 2",
    "plan": "plan gsm8k --models tulu-2-13b tulu-v2.5-dpo-13b-uf-mean --detect 2.0 --data test.jsonl",
    "plan --gpus": "plan tulu-2.5 --models models.txt --gpus 8 --gpu-hour-price 3",
    "import": "import predictions.jsonl --model my-model --data test.jsonl --output out",
    "table": "table",
    "table --suite": "table --suite",
    "report": "report",
    "list": "list protocols",
    "models": "models --stage value",
    "models show": "models show tulu-2-dpo-13b",
    "card": "card tulu-2-13b --published",
    "card --check": "card --check card.md",
    "bundle": f"bundle {RUN} --output proof.zip",
    "verify-bundle": "verify-bundle made.zip",
    "judge": f"judge alpaca {JUDGE} --judge-url {{judge}} --yes",
    "judge --dry-run": f"judge alpaca {JUDGE} --limit 1 --dry-run",
    "compare-outputs": "compare-outputs alpaca --with other-alpaca",
    "calibrate-judge": f"{CALIBRATE} --yes",
    "train": TRAIN,
    "train --dry-run": f"{TRAIN} --dry-run",
    "reproduce": "reproduce --recipe sums --output reproduced",
    "reproduce --dry-run": "reproduce --recipe sums --output planned --dry-run",
    "doctor": "doctor",
}
"""A usual call of every verb, and of some a second one that prints something else."""

WITHOUT_JSON = {"judge --dry-run": "which prints what it would cost and send, for people"}
"""Calls of verbs with ``--json`` that print the same with it, and what they print."""

MISTAKES = {
    "run": "run gsm8k --model nowhere/nothing",
    "merge": "merge results",
    "score": "score nowhere",
    "verify": f"verify {RUN} --as tulu-2-13bb",
    "compare": f"compare {RUN}",
    "explain": f"explain {RUN} --number 40.1 --n 200",
    "audit": "audit audited --model nowhere",
    "plan": "plan gsm8k --models tulu-2-13b tulu-2-7b --detect 0",
    "import": "import words --model my-model --data test.jsonl",
    "table": "table --output table.docx",
    "report": "report --data gsm9k=test.jsonl",
    "list": "list modles",
    "models": "models --stage PPP",
    "models show": "models show tulu-2-13bb",
    "card": "card --check words",
    "bundle": "bundle results",
    "verify-bundle": "verify-bundle words",
    "judge": f"judge alpaca {JUDGE}",
    "compare-outputs": "compare-outputs alpaca --with words",
    "calibrate-judge": CALIBRATE,
    "train": f"{TRAIN} --set batchh=8",
    "reproduce": "reproduce --recipe huge",
    "doctor": "doctor --jsom",
}
"""A mistake with every verb."""

MASKS = {
    r"\((policy|optimiser) \d[^)]*\)": "(#)",
    r"\d+\.\d+ s\b|\b\d+ s\b": "# s",
    r"(?<=where )[\d,.]+ GB(?= are free)|(?<=where )[\d,.]+ GB\nare free|(?<=\"free\": )\d+": "#",
    r"[\d,.]+ (new tok/s|tok/s|tokens/s|items/s|bytes|MB)": r"# \1",
    r'("(?:bytes|size|seconds|seconds_at_least|seconds_at_most)"): [\d.e+-]+': r"\1: #",
    r"(?<=date: ')[\d-]+": "#",
    r"loss [\d.]+  \|g\| [\d.]+|MFU \d+\.\d %": "#",
    r"\b[0-9a-f]{64}\b|(?<=sha256:)[0-9a-f]+|(?<=tiny@)[0-9a-f]+|(?<=first\d-)[0-9a-f]+": "#",
    rf"(?<![\d.]){re.escape(__version__)}(?![\d.])|(?<=transformers-){re.escape(version('transformers'))}": "#",
}
"""What differs between two calls or two machines: durations, speeds, sizes, hashes of weights and of times, versions."""


def masked(text: str) -> str:
    """Returns a text without what differs between two calls or two machines."""
    for pattern, instead in MASKS.items():
        text = re.sub(pattern, instead, text)
    return text


def shortened(data: Any) -> Any:
    """Returns JSON with the first two entries of every list, how many it had, and six digits of every number."""
    if isinstance(data, dict):
        return {name: shortened(value) for name, value in data.items()}
    if isinstance(data, list):
        return [*map(shortened, data[:2]), *([f"... {len(data)} in all"] if len(data) > 2 else [])]
    return float(f"{data:.6g}") if isinstance(data, float) else data


def shown(words: str, done: Result, *, short: bool = False) -> str:
    """Returns a call with all that it printed, as a terminal 80 columns wide shows it."""
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    out = json.dumps(shortened(json.loads(done.stdout)), indent=2, ensure_ascii=False) + "\n" if short else done.stdout
    err = f"--- stderr\n{done.stderr}" if done.stderr else ""
    return masked(f"$ tulu-eval {words}\n{out}{err}--- exit code {done.exit_code}")


ENGINE = ScriptedBackend.of(lambda request, decoding: " So the answer is 3.", name="transformers")
"""What every model here answers."""


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory,
    make_run_in: Callable[..., Path],
    make_alpaca_run: Callable[..., Path],
    llama3_like: Path,
    rows: Path,
    shared: Path,
) -> Path:
    """A folder with what the calls read, under names that are the same everywhere."""
    from tulu_eval.exchange import bundle

    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("kept")

    def keep(run: Path, name: str) -> None:
        shutil.copytree(run, folder / name)

    model = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"
    keep(make_run_in(made, 121, model=model), RUN)
    other = make_run_in(made, lambda place: 8 <= place < 124, model="allenai/tulu-2-13b", backend="transformers", output="b")
    keep(other, "results/other/gsm8k/published")
    few = make_run_in(made, 3, limit=6, model=model, output="few")
    bundle.write(bundle.make(few), folder / "made.zip")
    keep(few, "sharded/shards/1-of-1")
    manifest = folder / "sharded/shards/1-of-1/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "shard": [1, 1]}))
    keep(make_alpaca_run(made / "c", 3), "alpaca")
    keep(make_alpaca_run(made / "d", 3, {1: "Another answer."}), "other-alpaca")
    keep(llama3_like, "model")
    words = f"run gsm8k --model {llama3_like} --name tiny --protocol custom --data {rows} --limit 2 --device cpu -q -o {made}/e"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "backend", lambda name: ENGINE)
        assert CliRunner().invoke(cli, words.split()).exit_code == 0
    keep(next((made / "e").rglob("manifest.json")).parent, "audited")
    (folder / "rows.jsonl").write_bytes(rows.read_bytes())
    data = shared / "data"
    (folder / "test.jsonl").symlink_to(data / "gsm8k/test.jsonl")
    (folder / "baseline.json").symlink_to(data / "alpaca_eval/alpaca_eval_gpt4_baseline.json")
    (folder / "gamed.csv").symlink_to(data / "alpaca_eval/df_gamed_rederived.csv")
    judged = json.loads((data / "alpaca_eval/models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json").read_text())
    (folder / "annotations.json").write_text(json.dumps(judged[:40]))
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    (folder / "sft.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)
    row = json.loads((folder / "test.jsonl").read_text().splitlines()[0])
    answer = row["answer"].rpartition("#### ")[2]
    predicted = {"question": row["question"], "answer": answer, "model_output": f" {answer}.", "prediction": answer}
    (folder / "predictions.jsonl").write_text(json.dumps(predicted) + "\n")
    (folder / "card.md").write_text("---\nlicense: mit\nmodel-index:\n- name: x\n---\n# Mine\n")
    (folder / "words").write_text("words\n")
    (folder / "models.txt").write_text("tulu-2-dpo-70b\ntulu-2-13b\n\nllama-3-tulu-2-8b\n")
    return folder


INSTALLATION = Installation(
    packages={"tulu-eval": "1.2.3", "torch": "2.13.0"},
    machine={"cpu": "A Processor", "cores": 2, "memory_gib": 16, "system": "Linux x86_64", "python": "3.11.7"},
    devices=["cpu A Processor, 2 cores, 1 threads"],
    hub="reachable",
    sandbox="programs that a model wrote can run (bubblewrap)",
    disk_free_gb={"model cache": 12.3, "own cache": 12.3, "here": 4.5},
    extras={"gguf": Extra(True, "reads GGUF files"), "vllm": Extra(False, "the backend vllm")},
)


@pytest.fixture
def call(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_places: None, loopback: Any
) -> Iterator[Callable[[str], Result]]:
    """Runs a command in a copy of that folder, on a machine whose speed, packages and engine are always the same."""
    place = tmp_path / "place"
    shutil.copytree(kept, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("tulu_eval.runs.rates._best_seconds", lambda call, device: 0.01)
    for module in ("runs.progress", "cli.asking"):  # a busy machine prints no line of progress more
        monkeypatch.setattr(f"tulu_eval.{module}.LOG_SECONDS", float("inf"))
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)  # as where stderr is no terminal
    monkeypatch.setattr("tulu_eval.api.doctor.examine", lambda: INSTALLATION)
    summary = files.read_as(ROOT / "results/reproduce-sums/seed-0/reproduce.json", ReproductionSummary)
    monkeypatch.setattr("tulu_eval.reproduction.reproduce.reproduce", lambda *_, **__: summary)
    monkeypatch.setattr(catalog, "backend", lambda name: ENGINE)
    with loopback() as server:
        yield lambda words: CliRunner().invoke(cli, words.format(judge=server.url).split())


OTHER_FORMS = {"plan --gpus": "plan SUITE"}
"""Names that a call's JSON has in ``docs/json_shapes``, where they are others."""

SHOWN_ELSEWHERE = {"run SUITE", "run SUITE --dry-run", "judge LABELS"}
"""Calls whose JSON is held in other files: ../api/test_run_suite.py, ../runs/test_labelling.py."""


def with_json(name: str) -> bool:
    """Returns whether a call's verb has ``--json`` and prints something else with it."""
    verb = " ".join(USUAL[name].split(" --")[0].split()[:2])
    command = VERBS.get(verb) or VERBS[verb.split()[0]]
    return name not in WITHOUT_JSON and any("--json" in option.opts for option in command.params)


def test_every_verb_has_its_calls() -> None:
    assert {name.split(" --")[0] for name in USUAL} - {"score alpaca-eval"} == set(VERBS) == set(MISTAKES)


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert shown(f"{verb} --help", CliRunner().invoke(cli, [*verb.split(), "--help"])) == snapshot


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_the_terminal(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the commands of the examples, which are there to be copied, may be longer."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = CliRunner().invoke(cli, [*verb.split(), "--help"]).stdout.splitlines()
    assert [line for line in lines if len(line) > 80 and "tulu-eval " not in line and "torchrun " not in line] == []


@pytest.mark.parametrize("name", USUAL)
def test_usual(name: str, call: Callable[[str], Result], snapshot: SnapshotAssertion) -> None:
    assert shown(USUAL[name], call(USUAL[name])) == snapshot


EXACT = {"run --dry-run", "judge --dry-run", "card"}
"""Calls that print prompts or a file, whose lines are not ours to break."""


@pytest.mark.parametrize("name", [name for name in USUAL if name not in EXACT])
def test_no_line_is_longer_than_the_terminal(name: str, call: Callable[[str], Result]) -> None:
    """The words that cannot be broken are signatures, paths and commands to copy; each of those stands on a line alone."""
    lines = call(USUAL[name]).stdout.splitlines()
    assert [line for line in lines if len(line) > 80 and max(map(len, line.split())) + 6 <= 80] == []


@pytest.mark.parametrize("name", [name for name in USUAL if with_json(name)])
def test_json(name: str, call: Callable[[str], Result], snapshot: SnapshotAssertion, shapes: ModuleType) -> None:
    words = f"{USUAL[name]} --json"
    done = call(words)
    assert shown(words, done, short=True) == snapshot
    kind, _ = shapes.SHAPES[OTHER_FORMS.get(name, name)]
    assert shapes.held(json.loads(done.stdout), kind), "docs/json_shapes says what it prints"


def test_every_json_has_a_shape(shapes: ModuleType) -> None:
    printed = {OTHER_FORMS.get(name, name) for name in USUAL if with_json(name)}
    assert set(shapes.SHAPES) - printed == SHOWN_ELSEWHERE


@pytest.mark.parametrize("verb", MISTAKES)
def test_mistake(verb: str, call: Callable[[str], Result], snapshot: SnapshotAssertion) -> None:
    done = call(MISTAKES[verb])
    assert (done.exit_code, done.stdout) == (2, "")
    assert shown(MISTAKES[verb], done) == snapshot


def next_of(done: Result) -> str:
    """Returns what a call names as the likely next step, which is the last line on stderr; empty if there is none."""
    last = (done.stderr.splitlines() or [""])[-1]
    return last.removeprefix("next: ") if last.startswith("next: ") else ""


@pytest.mark.parametrize("name", USUAL)
def test_every_verb_ends_with_the_likely_next_step(name: str, call: Callable[[str], Result]) -> None:
    step = next_of(call(USUAL[name]))
    assert step
    if step.startswith("tulu-eval "):
        words = shlex.split(step)[1:]
        verb = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
        known = {option for parameter in VERBS[verb].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("name", [name for name in USUAL if with_json(name)])
def test_json_is_alone(name: str, call: Callable[[str], Result]) -> None:
    """A program that reads ``--json`` gets no word on what a person might do next."""
    assert next_of(call(f"{USUAL[name]} --json")) == ""
