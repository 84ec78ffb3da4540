"""Makes preference data, trains SFT, reward model and PPO, exports, evaluates and verifies, with a small model.

Each stage writes its result at once into the reproduction's folder, and is skipped if the result exists; a killed stage resumes
from its own checkpoint or ledger. ``reproduce.json`` has the stages' measurements.
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
from tulu_eval.reproduction.summary import HeldOut, HeldOutPolicies, ReproducedVerdict, ReproductionSummary
from tulu_eval.runs import run_plan as runs
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, finished, read_run
from tulu_eval.runs.runner import execute
from tulu_eval.store import environment
from tulu_eval.store.manifest import write_json
from tulu_eval.training import assess, export, forms, job, launch, loading, recipes
from tulu_eval.training.assess import HeldOutNumber
from tulu_eval.training.data import RowReader
from tulu_eval.training.stages import PPORecipe, Stage
from tulu_eval.training.text import Encoder

RECIPES = ("tiny",)
BENCHMARK = "gsm-symbolic-zero-shot"
EXPECTED = Path(__file__).parent / "presets" / "reproduced.toml"
"""Registry of the results of the authors' own run, with which the verdicts compare."""

SUMMARY, HELD_OUT = "reproduce.json", "held-out.json"
WATCH_EVERY = 8
PROBE_ITEMS = 100

Say = Callable[[str], None]
"""Shows a line, or a table."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReproducedStages:
    """The folder and the output of one reproduction.

    Attributes:
        quiet: Whether runs show no progress.
        say: Called with lines about the progress.
    """

    folder: Path
    quiet: bool
    say: Say

    def models(self, name: str) -> Path:
        """Returns the folder of an exported model; its name is also the model's name in results."""
        return self.folder / "models" / name


def reproduce(recipe: str, folder: Path, say: Say, *, quiet: bool = False) -> ReproductionSummary:
    """Executes the unfinished stages, and returns the summary, which it also writes to ``reproduce.json``.

    Raises:
        UserError: If a package is missing, a folder cannot be written, or a guard stopped a stage.
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
    """Returns the seconds of each stage over all calls, because a finished stage takes none in this call."""
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
    """Trains a stage unless its models exist, and copies its exported models to their folders.

    ``rows`` is the name of the data file; ``exported`` has the models' names in results by their folder in the run; ``more``
    has further fields of the order.
    """
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
    """Measures reward model and policies on held-out pairs and prompts."""
    path = whole.folder / HELD_OUT
    if path.exists():
        return
    tokenizer = load_tokenizer(whole.models("tiny-sft"), "tiny-sft", trust_remote_code=False)
    recipe = recipes.load("ppo", "reproduce").recipe
    assert isinstance(recipe, PPORecipe)  # noqa: S101 - the stage's
    reader = RowReader(Encoder(tokenizer), recipe.max_length + recipe.max_new_tokens, scratch.VOCABULARY)
    data = whole.folder / "data"
    scorer = loading.load_scorer(whole.models("tiny-rm"), compute=recipe.compute_dtype, trained=False)
    accuracies: dict[str, HeldOutNumber] = {
        kind: assess.accuracy(scorer, reader.pairs([data / f"{rule.held_out(kind)}.jsonl"]).rows) for kind in rule.KINDS
    }
    prompts = reader.prompts([data / "held-out-prompts.jsonl"], bos=recipe.prompt_bos).rows
    both = {name: whole.models(name) for name in ("tiny-sft", "tiny-ppo")}
    found, difference = assess.policies(both, whole.models("tiny-rm"), prompts, recipe, tokenizer, rule.follows)
    measured = HeldOutPolicies(before=found["tiny-sft"], after=found["tiny-ppo"], difference=difference)
    write_json(path, msgspec.to_builtins(HeldOut(accuracies, measured)))


def _run(whole: ReproducedStages) -> None:
    for name in ("tiny-sft", "tiny-ppo"):
        order = Order(
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


def _summary(whole: ReproducedStages, recipe: str, seconds: dict[str, float]) -> ReproductionSummary:
    before, after = (_finished(whole, name) for name in ("tiny-sft", "tiny-ppo"))
    for name, run in (("tiny-sft", before), ("tiny-ppo", after)):
        _put_results_on_card(whole, name, run)
    suite, held_out = load_suite(EXPECTED), files.read_as(whole.folder / HELD_OUT, HeldOut)
    found = ReproductionSummary(
        recipe=recipe,
        benchmark=BENCHMARK,
        reward_model=held_out.reward_model,
        policies=held_out.policies,
        before=before.results,
        after=after.results,
        gain=compare(after, before).paired,
        verdicts={run.model: _verdict(run, suite) for run in (before, after)},
        left_out_of_data=files.read_as(whole.folder / "data" / rule.LEFT_OUT, dict[str, int]),
        parameters=before.manifest.model.parameters,
        seconds=seconds,
        machine=environment.machine(),
        commit=environment.commit(),
    )
    write_json(whole.folder / SUMMARY, msgspec.to_builtins(found))
    return found


def _verdict(run: StoredRun, suite: Suite) -> ReproducedVerdict:
    comparisons = verify(run, suite, stand_in=f"tulu-eval/{run.model}").comparisons
    one = next(one for one in comparisons if one.main)
    test = one.agreement
    return ReproducedVerdict(one.cell.printed, one.row.value, test.verdict, test.p_value, test.detectable)


def _put_results_on_card(whole: ReproducedStages, name: str, run: StoredRun) -> None:
    folder = whole.models(name)
    made = exported.read(folder)
    files.write_text(folder / export.CARD, export.card(folder, made, whole.folder / made.stage, run.results))
