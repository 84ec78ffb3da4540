"""Has judges label the answers of a run: finds the answers with their questions, asks, and writes the rows beside the run's."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from tulu_eval import plugins
from tulu_eval.benchmarks.base import items_hash
from tulu_eval.benchmarks.labelled import JudgedBenchmark, LabelledBenchmark
from tulu_eval.errors import DataError, UserError
from tulu_eval.judging.judge import Endpoint, JudgeJob
from tulu_eval.judging.label_answers import Label, LabelJob
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Result
from tulu_eval.runs import catalog
from tulu_eval.runs.judged_check import JUDGED
from tulu_eval.runs.reading import StoredRun, finished, read_answers
from tulu_eval.runs.stored_labels import HeldAnswer, JudgedBy, StoredJudge, answers_of, write_labelled
from tulu_eval.runs.yes_judge import Said
from tulu_eval.store.identity import safe_name
from tulu_eval.store.manifest import MANIFEST, locked, read_manifest


@dataclasses.dataclass(frozen=True, slots=True)
class Unlabelled:
    """A run whose answers judges can label.

    Attributes:
        questions: Question of each item that has an answer.
        texts: Each answer, as judges get it.
        answers: What the run has of every answer, failures of the engine included.
    """

    run: StoredRun
    benchmark: LabelledBenchmark
    questions: Mapping[str, str]
    texts: Mapping[str, str]
    answers: Mapping[str, HeldAnswer]

    def prompts(self, role: str) -> dict[str, str]:
        """Returns what the judge of a role gets, by item."""
        return {item: self.benchmark.ask(role, self.questions[item], text) for item, text in self.texts.items()}


class ModelJudge(Protocol):
    """A judge that runs in this process: :class:`YesJudge` or :class:`ClassJudge`."""

    @property
    def model(self) -> ModelFiles:
        """Its files."""

    @property
    def where(self) -> str:
        """Name of the engine."""

    @property
    def requests(self) -> Mapping[str, object]:
        """What it is asked, by item."""

    @property
    def tokens(self) -> int:
        """Number of tokens that it gets."""

    def texts(self, number: int) -> list[str]:
        """Returns the first texts that it gets."""

    def ask(self, progress: Callable[[int], None] = ...) -> dict[str, Said]:
        """Loads the model, and returns what it says of each item that it can be asked about."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledRun:
    """A run with its judges' labels."""

    results: tuple[Result, ...]
    labels: tuple[Label, ...]
    folder: Path

    @property
    def failed(self) -> int:
        """Number of answers without a label although the model answered."""
        return sum(label.kind not in ("judged", "no_verdict") for label in self.labels)


def judged_benchmark(folder: Path) -> LabelledBenchmark | None:
    """Returns the benchmark of a run with its judges' scorers; ``None`` for any other folder or file."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = read_manifest(folder)
    if manifest.benchmark.name not in plugins.names(plugins.BENCHMARKS):
        return None
    benchmark = catalog.benchmark(manifest.benchmark.name, manifest.protocol.name)
    return benchmark.labelled() if isinstance(benchmark, JudgedBenchmark) else None


def find(folder: Path, benchmark: LabelledBenchmark, data: Path | None) -> Unlabelled:
    """Returns the answers of a finished run, with their questions.

    ``data`` is the benchmark's data, as for ``run``; ``None`` for its own source.

    Raises:
        DataError: If the run was changed, is unfinished or has no samples, or the data has other items than the run.
    """
    run = finished(read_answers(folder))
    manifest = run.manifest
    items = benchmark.load(benchmark.protocol(manifest.protocol.name), data)
    if manifest.benchmark.items_sha256 != items_hash(items):
        raise DataError(data or benchmark.name, f"has other items than {folder} was run on")
    questions = {item.id: item.question for item in items}
    plain = manifest.template.form == "plain"
    done = [one for one in run.samples() if one.completion.finish_reason != "error"]
    texts = {one.item: benchmark.answer(one.completion.text, plain) for one in done}
    if not texts:
        raise DataError(folder, "has no answer to label")
    return Unlabelled(run, benchmark, {item: questions[item] for item in texts}, texts, answers_of(folder, run.asked))


def by_words(
    found: Unlabelled, job: JudgeJob, endpoint: Endpoint, progress: Callable[[int], None] = lambda done: None
) -> LabelledRun:
    """Labels answers with a judge of words; the cache keeps every reply, so that the same call asks only what failed.

    Raises:
        UserError: If the endpoint, the judge or the disk fails.
    """
    labels = LabelJob(job, found.benchmark, found.prompts("chat")).run(endpoint, progress)
    recipe = job.recipe
    return _write(found, labels, JudgedBy({"chat": StoredJudge(recipe.judge)}, recipe.prompt_sha256, job.where))


def by_models(
    found: Unlabelled, judges: Mapping[str, ModelJudge], progress: Callable[[int], None] = lambda done: None
) -> LabelledRun:
    """Labels answers with models that run in this process, by role; one after the other is loaded.

    Raises:
        EngineError: If an engine fails; nothing is written then.
    """
    said: dict[str, dict[str, Said]] = {}
    before = 0
    for role, judge in judges.items():
        said[role] = judge.ask(lambda done, start=before: progress(start + done))  # type: ignore[misc]
        before += len(said[role])
    labels = tuple(_label(item, {role: of.get(item) for role, of in said.items()}) for item in found.texts)
    names = {role: StoredJudge(judge.model.name, judge.model.revision) for role, judge in judges.items()}
    prompts = "\0".join(found.benchmark.ask(role, "{question}", "{answer}") for role in judges)
    (engine,) = {judge.where for judge in judges.values()}
    return _write(found, labels, JudgedBy(names, hashlib.sha256(prompts.encode()).hexdigest(), engine))


def _label(item: str, said: Mapping[str, Said | None]) -> Label:
    values: dict[str, float] = {}
    for role, one in said.items():
        if one is None:
            return Label(item, "rejected", {}, f"the {role} judge has too few positions for it")
        if one.chance is None:
            return Label(item, "endpoint", {}, one.error)
        values[role] = one.chance
    return Label(item, "judged", values)


def _write(found: Unlabelled, labels: tuple[Label, ...], by: JudgedBy) -> LabelledRun:
    names = "-".join(safe_name(judge.shown.rpartition("/")[2]) for judge in by.judges.values())
    folder = found.run.folder / JUDGED / f"{names}-labels"
    if not any(label.values or label.kind == "no_verdict" for label in labels):
        raise UserError(f"there is nothing to score: no answer has a label; the first: {labels[0].kind} {labels[0].detail}")
    with locked(folder):
        rows = write_labelled(folder, found.run.manifest, found.benchmark, found.answers, labels, by)
    return LabelledRun(rows, labels, folder)
