"""From data to a verified row of a table, end to end and small: pairs, SFT, reward model, PPO, export, run, verify.

Each stage leaves its result in the folder of the whole, written at once, and a stage whose result is there is not done again;
one that was killed goes on from its own checkpoint or ledger. What stands in ``reproduce.json`` was measured by the stages.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tulu_eval import files
from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import DataError, UnknownName
from tulu_eval.findings.compare import compare
from tulu_eval.findings.verify import verify
from tulu_eval.models import exported
from tulu_eval.models.tokenizer import load_tokenizer
from tulu_eval.registry import Suite, load_suite
from tulu_eval.reproduction import rule, scratch
from tulu_eval.runs import environment
from tulu_eval.runs import run_plan as runs
from tulu_eval.runs.manifest import write_json
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, finished, read_run
from tulu_eval.runs.runner import execute
from tulu_eval.training import assess, export, forms, job, launch, loading, metrics, recipes
from tulu_eval.training.data import RowReader
from tulu_eval.training.stages import PPORecipe, Stage
from tulu_eval.training.text import Encoder

RECIPES = ("tiny",)
BENCHMARK = "gsm-symbolic-zero-shot"
EXPECTED = Path(__file__).parent / "presets" / "reproduced.toml"
"""What this came to when its authors ran it, as a registry: a verdict says whether it came to the same here."""

SUMMARY, HELD_OUT = "reproduce.json", "held-out.json"
WATCH_EVERY = 8
PROBE_ITEMS = 100

Say = Callable[[str], None]
"""Shows a line, or a table."""


class HeldOut(files.Record, frozen=True):
    """``held-out.json``: what reward model and policies came to on what was held out, as ``assess`` returns it."""

    reward_model: dict[str, dict[str, float]]
    policies: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class ReproducedStages:
    """One reproduction.

    Attributes:
        folder: Where everything is written.
        quiet: Whether runs show no progress.
        say: Shows what happens.
    """

    folder: Path
    quiet: bool
    say: Say

    def models(self, name: str) -> Path:
        """Returns the folder of an exported model, by the name that its runs are filed under."""
        return self.folder / "models" / name


def reproduce(recipe: str, folder: Path, say: Say, *, quiet: bool = False) -> dict[str, Any]:
    """Does what is still to do and returns the summary, which is in ``reproduce.json`` too.

    Raises:
        UserError: A package is missing, a folder cannot be written, or a guard stopped a stage.
    """
    if recipe not in RECIPES:
        raise UnknownName("recipe of reproduce", recipe, RECIPES)
    whole = ReproducedStages(folder, quiet, say)
    folder.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    stages: list[tuple[str, Callable[[ReproducedStages], object]]] = [
        ("data", _data), ("sft", _sft), ("reward model", _reward_model), ("ppo", _ppo), ("assess", _assess), ("run", _run),
    ]  # fmt: skip
    for number, (name, work) in enumerate(stages, start=1):
        say(f"{number}/{len(stages)} {name}")
        began = time.perf_counter()
        work(whole)
        seconds[name] = round(time.perf_counter() - began, 1)
    return _summary(whole, recipe, _add_times(folder, seconds))


def _add_times(folder: Path, seconds: dict[str, float]) -> dict[str, float]:
    """Returns the seconds that each stage took over all calls: a stage that was done before takes none now."""
    path = folder / "seconds.json"
    before = files.read_as(path, dict[str, float]) if path.exists() else {}
    total = {name: round(before.get(name, 0.0) + spent, 1) for name, spent in seconds.items()}
    write_json(path, total)
    return total


def _data(whole: ReproducedStages) -> None:
    data, start = whole.folder / "data", whole.models("tiny-random")
    if not data.exists():
        rule.write(data)
    if not start.exists():
        start.parent.mkdir(exist_ok=True)
        talks = [forms.conversation(row) for row in files.json_rows(data / "sft.jsonl")]
        texts = [message["content"] for talk in talks for message in talk]
        scratch.write(start, [*texts, *["<|user|>\n<|assistant|>\n"] * len(talks)], seed=0)


def _train(whole: ReproducedStages, stage: Stage, rows: str, exported: dict[str, str], **more: Any) -> None:
    """Trains a stage, unless its models are there, and copies what it exports under the names that runs are filed under."""
    if all(whole.models(name).exists() for name in exported.values()):
        return
    order = job.TrainingOrder(
        stage, "reproduce", data=(whole.folder / "data" / f"{rows}.jsonl",), output=whole.folder / stage, save_every=16, **more
    )
    told = time.monotonic()

    def report(step: int, steps: int, numbers: dict[str, float]) -> None:
        nonlocal told
        if time.monotonic() - told > REPORT_SECONDS or step + 1 == steps:
            told = time.monotonic()
            shown = "  ".join(f"{key} {numbers[key]:.3g}" for key in SHOWN if key in numbers)
            whole.say(f"  step {step + 1}/{steps}  {shown}")

    launch.execute(job.make_job(order, load_suite()), "cpu", report, whole.say)
    for source, name in exported.items():
        with files.replacing_folder(whole.models(name)) as draft:
            shutil.copytree(whole.folder / stage / source, draft, dirs_exist_ok=True)


REPORT_SECONDS = 10.0
SHOWN = ("loss", "accuracy", "score", "kl", "eos_rate", "length", "entropy", "explained_variance", "tokens_per_second")


def _sft(whole: ReproducedStages) -> None:
    _train(whole, "sft", "sft", {"policy": "tiny-sft"}, model=str(whole.models("tiny-random")))


def _reward_model(whole: ReproducedStages) -> None:
    _train(whole, "rm", "pairs", {"reward_model": "tiny-rm"}, model=str(whole.models("tiny-sft")))


def _ppo(whole: ReproducedStages) -> None:
    _train(
        whole,
        "ppo",
        "prompts",
        {"policy": "tiny-ppo", "value_model": "tiny-value"},
        model=str(whole.models("tiny-sft")),
        reward_model=str(whole.models("tiny-rm")),
        watch_every=WATCH_EVERY,
        probe=BENCHMARK,
        probe_items=PROBE_ITEMS,
    )


def _assess(whole: ReproducedStages) -> None:
    """Measures reward model and policies on what was held out."""
    path = whole.folder / HELD_OUT
    if path.exists():
        return
    tokenizer = load_tokenizer(whole.models("tiny-sft"), "tiny-sft", trust_remote_code=False)
    recipe = recipes.load("ppo", "reproduce").recipe
    assert isinstance(recipe, PPORecipe)  # noqa: S101 - the stage's
    reader = RowReader(Encoder(tokenizer), recipe.max_length + recipe.max_new_tokens, scratch.VOCABULARY)
    data = whole.folder / "data"
    scorer = loading.load_scorer(whole.models("tiny-rm"), compute=recipe.compute_dtype, trained=False)
    accuracies = {
        kind: assess.accuracy(scorer, reader.pairs([data / f"{rule.held_out(kind)}.jsonl"]).rows) for kind in rule.KINDS
    }
    prompts = reader.prompts([data / "held-out-prompts.jsonl"], bos=recipe.prompt_bos).rows
    both = {name: whole.models(name) for name in ("tiny-sft", "tiny-ppo")}
    found = assess.policies(both, whole.models("tiny-rm"), prompts, recipe, tokenizer, rule.follows)
    write_json(path, {"reward_model": accuracies, "policies": found})


def _run(whole: ReproducedStages) -> None:
    for name in ("tiny-sft", "tiny-ppo"):
        order = runs.Order(
            BENCHMARK,
            str(whole.models(name)),
            name=name,
            backend="transformers",
            settings=EngineSettings(device="cpu"),
            output=whole.folder / "results",
        )
        execute(runs.make_plan(order, load_suite()), Progress(quiet=whole.quiet))


def _finished(whole: ReproducedStages, name: str) -> StoredRun:
    found = sorted((whole.folder / "results" / name / BENCHMARK).glob("full-*"))
    if not found:
        raise DataError(whole.folder, f"has no run of {name}")
    return finished(read_run(found[-1]))


def _summary(whole: ReproducedStages, recipe: str, seconds: dict[str, float]) -> dict[str, Any]:
    before, after = (_finished(whole, name) for name in ("tiny-sft", "tiny-ppo"))
    for name, run in (("tiny-sft", before), ("tiny-ppo", after)):
        _put_results_on_card(whole, name, run)
    paired = compare(after, before).paired
    suite = load_suite(EXPECTED)
    verdicts = {run.model: _verdict(run, suite) for run in (before, after)}
    found = {
        "recipe": recipe,
        "benchmark": BENCHMARK,
        **msgspec.to_builtins(files.read_as(whole.folder / HELD_OUT, HeldOut)),
        "before": [dataclasses.asdict(row) for row in before.results],
        "after": [dataclasses.asdict(row) for row in after.results],
        "gain": dataclasses.asdict(paired),
        "verdicts": verdicts,
        "left_out_of_data": files.read_as(whole.folder / "data" / rule.LEFT_OUT, dict[str, int]),
        "parameters": before.manifest.model.parameters,
        "seconds": seconds,
        "machine": environment.machine(),
        "commit": environment.commit(),
    }
    write_json(whole.folder / SUMMARY, found)
    return found


def _verdict(run: StoredRun, suite: Suite) -> dict[str, Any]:
    """Returns whether a run came to what the authors' own run of the same model came to."""
    comparisons = verify(run, suite, stand_in=f"tulu-eval/{run.model}").comparisons
    one = next(one for one in comparisons if one.main)
    return {
        "expected": one.cell.printed,
        "measured": one.row.value,
        "verdict": one.agreement.verdict,
        "p_value": one.agreement.p_value,
        "detectable": one.agreement.detectable,
    }


def _put_results_on_card(whole: ReproducedStages, name: str, run: StoredRun) -> None:
    folder = whole.models(name)
    made = exported.read(folder)
    lines = metrics.read(whole.folder / made.stage / metrics.METRICS)
    files.write_text(folder / export.CARD, export.card(folder, msgspec.to_builtins(made), lines, run.results))
