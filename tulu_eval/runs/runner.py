"""Executes plans: backend → completion → grade → ledger → result. It never generates a sample again that the ledger has."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from tulu_eval.benchmarks.base import Item
from tulu_eval.errors import DataError, UserError
from tulu_eval.records import Result
from tulu_eval.runs import roofline
from tulu_eval.runs.adoption import adopt
from tulu_eval.runs.engine import Engine
from tulu_eval.runs.generation import InterruptedRunError, generate
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.remembered_data import note_data
from tulu_eval.runs.rereading import NOT_AS_MADE
from tulu_eval.runs.run_plan import Plan
from tulu_eval.runs.scoring import write_rows
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Asked, Ledger
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.packed import packed
from tulu_eval.store.sample_line import Sample
from tulu_eval.store.tally import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class RunOutcome:
    """The result of executing a plan.

    Attributes:
        folder: Folder of the run, or of its shard.
        generated: Number of samples that this call generated; the others were in the ledger.
        speed: One line about the seconds of each part and the rates; empty if the call generated nothing.
    """

    folder: Path
    results: tuple[Result, ...]
    tally: Tally
    generated: int
    speed: str


def execute(plan: Plan, progress: Progress, *, fresh: bool = False) -> RunOutcome:
    """Executes one plan with an engine of its own; see :func:`execute_all`."""
    return execute_all([plan], progress, fresh=fresh)[0]


def execute_all(plans: Sequence[Plan], progress: Progress, *, fresh: bool = False) -> list[RunOutcome]:
    """Generates the samples of plans that the ledgers lack, and writes manifests and results.

    The engine starts once for all plans of one model, which stand together, and for further models whose weights the running
    engine can take. With ``fresh``, existing ledgers are renamed and the runs begin anew.

    Raises:
        InterruptedRunError: If somebody presses Ctrl-C.
        EngineError: If the engine dies; the same command goes on.
        UserError: If a folder cannot be written, is locked, or belongs to other settings.
    """
    with Engine(plans, progress) as engine:
        for plan in plans:
            if fresh or _pending(plan, plan.folder):
                engine.check(plan)
        return [_execute(plan, progress, engine, fresh) for plan in plans]


def execute_each(plans: Sequence[Plan], progress: Progress, *, fresh: bool = False) -> list[RunOutcome | UserError]:
    """Does as :func:`execute_all`, but goes on with the next plan after an error, which stands in the place of the outcome.

    Raises:
        InterruptedRunError: If somebody presses Ctrl-C.
    """
    outcomes: list[RunOutcome | UserError] = []
    with Engine(plans, progress) as engine:
        for plan in plans:
            try:
                engine.check(plan)
                outcomes.append(_execute(plan, progress, engine, fresh))
            except InterruptedRunError:
                raise
            except UserError as error:
                engine.close()
                progress.say(f"{plan.benchmark.name}: {error}")
                outcomes.append(error)
    return outcomes


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """Samples of some items of a plan.

    Attributes:
        samples: By item.
        generated: Number of them that this call generated; the others were in this ledger or another.
    """

    samples: dict[str, Sample]
    generated: int


def execute_items(plan: Plan, items: Collection[str], progress: Progress, engine: Engine) -> Answered:
    """Generates the samples of some items of a plan that no ledger has, and writes manifest and rows of what is there.

    The run stays unfinished until it has all its items; :func:`execute` goes on with the others.

    Raises:
        InterruptedRunError: If somebody presses Ctrl-C.
        EngineError: If the engine dies; finished samples are kept.
        UserError: If the folder cannot be written, is locked, or belongs to other settings.
    """
    engine.check(plan)
    outcome = _execute(plan, progress, engine, fresh=False, items=items)
    asked = [(one.request.key, one.item.id) for one in plan.planned if one.item.id in items]
    with Ledger(plan.folder / files.LEDGER, read_only=True) as ledger:
        return Answered({sample.item: sample for sample in ledger.samples(asked)}, outcome.generated)


def _execute(plan: Plan, progress: Progress, engine: Engine, fresh: bool, items: Collection[str] | None = None) -> RunOutcome:
    """Executes a plan, or of its items some; adopts samples where it has none of its own yet."""
    folder = plan.folder
    with files.locked(folder):
        manifest = _open_manifest(plan, folder, fresh)
        note_data(plan.order.data, plan.data_sha256)
        with Ledger(folder / files.LEDGER) as ledger:
            _check_answers(plan, ledger, folder, manifest)
            _clean(plan, ledger, progress)
            if not fresh and (items is None or not len(ledger)):
                adopt(plan, ledger, folder, progress)
            wanted = [one for one in plan.planned if items is None or one.item.id in items]
            pending = [one for one in wanted if not ledger.has(one.request.key, one.item.id)]
            most = plan.decoding.max_new_tokens if plan.benchmark.kind == "generate" else 0
            progress.begin(len(wanted), len(wanted) - len(pending), most)
            if pending:
                manifest = _forget_result(folder, manifest)
                manifest = generate(plan, pending, ledger, manifest, folder, progress, engine)
            began = time.perf_counter()
            _execute_programs(plan, ledger, progress)
            rows = write_rows(folder, manifest, plan.benchmark, ledger.lines(_asked(plan)))
            manifest = rows.manifest
            if pending:
                last = replace(manifest.sessions[-1], score_seconds=round(time.perf_counter() - began, 3))
                manifest = replace(manifest, sessions=(*manifest.sessions[:-1], last))
            for name, text in plan.benchmark.export(_answers(plan, ledger), plan.model.name).items():
                files.write_text(folder / name, text)
        done = "failures" if rows.tally.failed else "complete"
        manifest = replace(manifest, status="incomplete" if rows.tally.unfinished else done)
        files.write_manifest(folder, manifest)
    return RunOutcome(folder, rows.results, rows.tally, len(pending), roofline.line(manifest) if pending else "")


def _asked(plan: Plan) -> Asked:
    return [(one.request.key, one.item.id) for one in plan.planned]


def _clean(plan: Plan, ledger: Ledger, progress: Progress) -> None:
    """Keeps only the plan's samples in a ledger, graded by the current benchmark; moves other samples to other files."""
    if ledger.corrupt:
        progress.say(f"{len(ledger.corrupt)} corrupt lines set aside in samples.corrupt.jsonl; their items are redone")
    strange = ledger.set_strangers_aside(_asked(plan))
    if strange:
        progress.say(f"{strange} samples that this run did not ask for set aside in samples.other.jsonl")
    grader = Grader.of(plan.benchmark, plan.setup)
    if plan.benchmark.executes:
        return
    again = [fresh for sample in ledger.samples() if (fresh := grader.grade(sample)) != sample]
    for sample in again:
        ledger.append(sample)
    if again:
        progress.say(f"{len(again)} samples had other grades than {plan.benchmark.name} gives now; they were graded again")


def _execute_programs(plan: Plan, ledger: Ledger, progress: Progress) -> None:
    """Grades the answers that are graded by running them and have no grades yet."""
    if not plan.benchmark.executes:
        return
    pending = [sample for sample in ledger.samples(_asked(plan)) if not sample.grades]
    if pending:
        progress.say(f"running {len(pending)} programs, each in a sandbox of its own ...")
    grader = Grader.of(plan.benchmark, plan.setup, plan.order.execution)
    for sample in grader.grade_all(pending):
        ledger.append(sample)


def _forget_result(folder: Path, manifest: Manifest) -> Manifest:
    """Removes the result before samples are added, since it would then be the result of fewer samples."""
    (folder / files.RESULT).unlink(missing_ok=True)
    if manifest.answers_sha256:
        manifest = replace(manifest, answers_sha256=UNSET, tally=UNSET)
        files.write_manifest(folder, manifest)
    return manifest


def _check_answers(plan: Plan, ledger: Ledger, folder: Path, manifest: Manifest) -> None:
    """Raises DataError if an intact ledger has other answers than those from which the run's result was computed."""
    noted = {manifest.answers_sha256 or ""}
    with contextlib.suppress(DataError):  # a spoilt result is replaced
        noted.add(files.read_results(folder).answers_sha256)
    if noted - {""} and not ledger.corrupt and noted - {""} != {files.answers_hash(ledger.lines(_asked(plan)))}:
        raise DataError(folder, f"{NOT_AS_MADE}: {files.LEDGER} is not what {files.RESULT} was computed from")


def _answers(plan: Plan, ledger: Ledger) -> Iterator[tuple[Item, str]]:
    """Yields the plan's items with the model's texts; reads the ledger only if somebody asks for the first one."""
    done = (sample for sample in ledger.samples(_asked(plan)) if sample.completion.finish_reason != "error")
    texts = {sample.item: sample.completion.text for sample in done}
    yield from ((one.item, texts[one.item.id]) for one in plan.planned if one.item.id in texts)


def _pending(plan: Plan, folder: Path) -> bool:
    """Whether the ledger lacks a sample of the plan; writes nothing, so that a wrong setting leaves no files."""
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        return not all(ledger.has(one.request.key, one.item.id) for one in plan.planned)


def _open_manifest(plan: Plan, folder: Path, fresh: bool) -> Manifest:
    """Writes the manifest and returns it; it keeps the sessions of earlier calls.

    Raises:
        DataError: If the folder has a run with other settings or another day, and ``fresh`` is false.
    """
    manifest = plan.manifest
    if (folder / files.MANIFEST).exists():
        if fresh:
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
            for name in (files.MANIFEST, files.LEDGER, packed(Path(files.LEDGER)).name, files.RESULT):
                if (folder / name).exists():
                    (folder / name).replace(folder / f"{stamp}-{name}")
        else:
            before = files.read_manifest(folder)
            if before.settings_sha256 != manifest.settings_sha256:
                raise DataError(
                    folder, "belongs to a run with other settings; choose another --output, or --fresh to set it aside"
                )
            days = [one.template.date or "" for one in (before, manifest)]
            if days[0] != days[1]:
                raise DataError(folder, f"was started with --date {days[0]}; leave --date away, or --fresh to set it aside")
            manifest = replace(
                manifest,
                sessions=before.sessions,
                engine=before.engine,
                tally=before.tally,
                answers_sha256=before.answers_sha256,
            )
    files.write_manifest(folder, manifest)
    return manifest
