"""Makes preference data, trains each model of the recipe, exports, evaluates, verifies and compares.

Each stage writes its result at once into the reproduction's folder, and is skipped if the result exists; a killed stage resumes
from its own checkpoint or ledger. ``reproduce.json`` has the stages' measurements.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import msgspec

from tulu_eval import files
from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import DataError, UnknownName, UserError
from tulu_eval.findings.compare import compare
from tulu_eval.findings.verify import verify
from tulu_eval.models import exported
from tulu_eval.models.tokenizer import load_tokenizer
from tulu_eval.registry import Suite, load_suite
from tulu_eval.reproduction import rule, scratch
from tulu_eval.reproduction.acts import BENCHMARK, GAINS, MEASURED, PPO, REWARD_MODEL, RULE, SFT, START, TRAININGS
from tulu_eval.reproduction.summary import (
    CurvePoint,
    HeldOut,
    ReproducedGain,
    ReproducedModel,
    ReproducedVerdict,
    ReproductionSummary,
)
from tulu_eval.runs import run_plan as runs
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, finished, read_run
from tulu_eval.runs.runner import execute
from tulu_eval.store import environment
from tulu_eval.store.manifest import write_json
from tulu_eval.training import assess, job, launch, loading, recipes
from tulu_eval.training.assess import HeldOutNumber
from tulu_eval.training.rows import forms
from tulu_eval.training.rows.data import RowReader
from tulu_eval.training.saving import export
from tulu_eval.training.stages import PPORecipe
from tulu_eval.training.text import Encoder
from tulu_eval.training.watching import metrics

RECIPES = ("sums",)
EXPECTED = Path(__file__).parent / "presets" / "reproduced.toml"
"""Registry of the results of the authors' own runs, with which the verdicts compare."""

SUMMARY, HELD_OUT, SEED = "reproduce.json", "held-out.json", "seed.json"
WATCH_EVERY = 16
CURVE_POINTS = 8

Say = Callable[[str], None]
"""Shows a line, or a table."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReproducedStages:
    """The folder and the output of one reproduction.

    Attributes:
        seed: Seed of data, initial weights and draws.
        quiet: Whether runs show no progress.
        say: Called with lines about the progress.
    """

    folder: Path
    seed: int
    quiet: bool
    say: Say

    def model(self, name: str) -> Path:
        """Returns the folder of an exported model; its name is also the model's name in results."""
        return self.folder / "models" / name


def reproduce(recipe: str, folder: Path, say: Say, *, seed: int = 0, quiet: bool = False) -> ReproductionSummary:
    """Executes the unfinished stages, and returns the summary, which it also writes to ``reproduce.json``.

    Raises:
        UserError: If the folder has another seed's stages or cannot be written, or a guard stopped a stage.
    """
    if recipe not in RECIPES:
        raise UnknownName("recipe of reproduce", recipe, RECIPES)
    whole = ReproducedStages(folder, seed, quiet, say)
    refuse_other_seed(whole)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SEED, seed)
    seconds: dict[str, float] = {}
    trainings = {name: partial(_train, name=name) for name in TRAININGS}
    stages: dict[str, Callable[[ReproducedStages], object]] = {"data": _data, **trainings, "assess": _assess, "run": _run}
    for number, (name, work) in enumerate(stages.items(), start=1):
        say(f"{number}/{len(stages)} {name}")
        began = time.perf_counter()
        work(whole)
        seconds[name] = round(time.perf_counter() - began, 1)
    return _summary(whole, recipe, _add_times(folder, seconds))


def refuse_other_seed(whole: ReproducedStages) -> None:
    """Raises UserError if the folder has the stages of another seed, or is a file."""
    if whole.folder.is_file():
        raise UserError(f"{whole.folder} is a file; give another --output")
    path = whole.folder / SEED
    if path.exists() and (other := files.read_as(path, int)) != whole.seed:
        raise UserError(f"{whole.folder} has the stages of --seed {other}; give another --output")


def has_run(whole: ReproducedStages, name: str) -> bool:
    """Whether a model has been measured on all items."""
    try:
        return bool(_finished(whole, name).results)
    except UserError:
        return False


def _add_times(folder: Path, seconds: dict[str, float]) -> dict[str, float]:
    """Returns the seconds of each stage over all calls, because a finished stage takes none in this call."""
    path = folder / "seconds.json"
    before = files.read_as(path, dict[str, float]) if path.exists() else {}
    total = {name: round(before.get(name, 0.0) + spent, 1) for name, spent in seconds.items()}
    write_json(path, total)
    return total


def _data(whole: ReproducedStages) -> None:
    data, start = whole.folder / "data", whole.model(START)
    if not data.exists():
        rule.write(data, whole.seed)
    if not start.exists():
        start.parent.mkdir(exist_ok=True)
        talks = [forms.conversation(row) for row in files.json_rows(data / "sft.jsonl")]
        texts = [message["content"] for talk in talks for message in talk]
        scratch.write(start, [*texts, *["<|user|>\n<|assistant|>\n"] * len(talks)], whole.seed)


def _train(whole: ReproducedStages, name: str) -> None:
    """Trains a model unless it exists, and copies it from its run to its folder."""
    if whole.model(name).exists():
        return
    training = TRAININGS[name]
    order = job.TrainingOrder(
        training.stage,
        training.recipe,
        model=str(whole.model(training.start)),
        reward_model=str(whole.model(training.reward_model)) if training.reward_model else "",
        reward=(training.reward,) if training.reward else (),
        data=(whole.folder / "data" / f"{training.rows}.jsonl",) if training.rows else (),
        changes=(f"seed={whole.seed}",),
        output=whole.folder / "training" / name,
        save_every=100,
        watch_every=WATCH_EVERY,
        probe=BENCHMARK if training.stage == "ppo" else "",
        probe_items=PROBE_ITEMS,
    )
    told = time.monotonic()

    def report(step: int, steps: int, numbers: dict[str, float]) -> None:
        nonlocal told
        if time.monotonic() - told > REPORT_SECONDS or step + 1 == steps:
            told = time.monotonic()
            shown = "  ".join(f"{key} {numbers[key]:.3g}" for key in SHOWN if key in numbers)
            whole.say(f"  step {step + 1}/{steps}  {shown}")

    launch.execute(job.make_job(order, load_suite()), "cpu", report, whole.say)
    with files.replacing_folder(whole.model(name)) as draft:
        shutil.copytree(whole.folder / "training" / name / training.exported, draft, dirs_exist_ok=True)


PROBE_ITEMS = 100
REPORT_SECONDS = 10.0
SHOWN = ("loss", "accuracy", "score", "kl", "eos_rate", "length", "entropy", "explained_variance", "tokens_per_second")


def _assess(whole: ReproducedStages) -> None:
    """Measures the reward model on held-out pairs, and the policies before and after it on held-out prompts."""
    path = whole.folder / HELD_OUT
    if path.exists():
        return
    tokenizer = load_tokenizer(whole.model(SFT), SFT, trust_remote_code=False)
    recipe = recipes.load("ppo", TRAININGS[PPO].recipe, (f"seed={whole.seed}",)).recipe
    assert isinstance(recipe, PPORecipe)  # noqa: S101 - the stage's
    reader = RowReader(Encoder(tokenizer), recipe.max_length + recipe.max_new_tokens, scratch.VOCABULARY)
    data = whole.folder / "data"
    scorer = loading.load_scorer(whole.model(REWARD_MODEL), compute=recipe.compute_dtype, trained=False)
    accuracies: dict[str, HeldOutNumber] = {
        kind: assess.accuracy(scorer, reader.pairs([data / f"{rule.held_out(kind)}.jsonl"]).rows)
        for kind in rule.HELD_OUT_KINDS
    }
    prompts = reader.prompts([data / "held-out-prompts.jsonl"], bos=recipe.prompt_bos).rows
    both = {name: whole.model(name) for name in (SFT, PPO)}
    found, difference = assess.policies(both, whole.model(REWARD_MODEL), prompts, recipe, tokenizer, rule.follows)
    write_json(path, msgspec.to_builtins(HeldOut(accuracies, found[SFT], found[PPO], difference)))


def _run(whole: ReproducedStages) -> None:
    for name in MEASURED:
        order = Order(
            BENCHMARK,
            str(whole.model(name)),
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


def _summary(whole: ReproducedStages, recipe: str, seconds: dict[str, float]) -> ReproductionSummary:
    measured = {name: _finished(whole, name) for name in MEASURED}
    for name, run in measured.items():
        _put_results_on_card(whole, name, run)
    suite = load_suite(EXPECTED)
    found = ReproductionSummary(
        recipe=recipe,
        seed=whole.seed,
        benchmark=BENCHMARK,
        held_out=files.read_as(whole.folder / HELD_OUT, HeldOut),
        models=tuple(
            ReproducedModel(name, MEASURED[name], run.results, _verdict(run, f"tulu-eval/{name}-seed-{whole.seed}", suite))
            for name, run in measured.items()
        ),
        gains=tuple(ReproducedGain(a, b, compare(measured[a], measured[b]).paired) for a, b in GAINS),
        curves={name: _curve(whole.folder / "training" / name) for name in (PPO, RULE)},
        parameters=measured[SFT].manifest.model.parameters,
        seconds=seconds,
        machine=environment.machine(),
        commit=environment.commit(),
    )
    write_json(whole.folder / SUMMARY, msgspec.to_builtins(found))
    return found


def _verdict(run: StoredRun, expected: str, suite: Suite) -> ReproducedVerdict | None:
    if expected not in {model.hub_id for model in suite.models}:
        return None
    one = next(one for one in verify(run, suite, stand_in=expected).comparisons if one.main)
    test = one.agreement
    return ReproducedVerdict(one.cell.printed, one.row.value, test.verdict, test.p_value, test.detectable)


def _curve(run: Path) -> tuple[CurvePoint, ...]:
    """Returns the means over each of :data:`CURVE_POINTS` equal parts of a run's steps."""
    lines = metrics.read(run / metrics.METRICS)
    ends = [len(lines) * part // CURVE_POINTS for part in range(CURVE_POINTS + 1)]
    parts = [lines[start:end] for start, end in pairwise(ends) if start < end]
    keys = ("score", "kl", "eos_rate", "length")
    return tuple(CurvePoint(part[-1]["step"] + 1, *(fmean(line[key] for line in part) for key in keys)) for part in parts)


def _put_results_on_card(whole: ReproducedStages, name: str, run: StoredRun) -> None:
    folder = whole.model(name)
    made = exported.read(folder)
    files.write_text(folder / export.CARD, export.card(folder, made, whole.folder / "training" / name, run.results))
