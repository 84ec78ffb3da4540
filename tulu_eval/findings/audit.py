"""Does the same run give the same answers? Generates items of a finished run again in other batches, and compares.

Greedy decoding is deterministic in exact arithmetic. In 16-bit arithmetic the order of additions depends on the batch and on
the cache, and another token may win if two are nearly equally likely. The audit repeats items one at a time, in a full batch,
and without a shared prefix. It counts the changes, and widens the run's interval by them.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, to_builtins

from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import DataError, UserError
from tulu_eval.files import Record, read_as
from tulu_eval.records import Completion, Request, Result
from tulu_eval.registry import Suite
from tulu_eval.runs import schema
from tulu_eval.runs.engine import Engine
from tulu_eval.runs.ledger import Sample
from tulu_eval.runs.manifest import FORMAT, write_json
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, finished, read_run
from tulu_eval.runs.run_plan import Order, Plan, make_plan
from tulu_eval.runs.schema import Count, Name, StoredRow
from tulu_eval.runs.scoring import grade_sample
from tulu_eval.stats import FLIP_RATE, Interval, wilson
from tulu_eval.stats.intervals import z_value

FILE = "audit.json"
SEED = 0
_AGAIN = "remove it, or run 'tulu-eval audit' again"


class Repetition(Record, frozen=True):
    """One way of generating the items again.

    Attributes:
        changed: Ids of items whose tokens changed.
        flipped: Ids of items whose grade by the published scorer changed.
        first: Zero-based position of the first token that differs, by changed item.
    """

    name: Name
    changed: tuple[Name, ...]
    flipped: tuple[Name, ...]
    first: dict[str, Count]


class StoredAudit(Record, frozen=True):
    """``audit.json``: the fields of an :class:`Audit`."""

    flips: Count
    trials: Annotated[int, Meta(ge=1, le=1 << 53)]
    items: tuple[Name, ...]
    repetitions: tuple[Repetition, ...]
    row: StoredRow
    format: Literal[1] = 1
    rate: Any = None
    widened: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """The result of the repetitions.

    Attributes:
        items: Ids of the repeated items.
        flips: Number of changed grades, over all repetitions.
        trials: Items times repetitions.
        rate: 95 % interval of the share of grades that change, as fractions.
        widened: Interval of ``row`` in percent, widened by the flips.
        row: The run's first row.
    """

    items: tuple[str, ...]
    repetitions: tuple[Repetition, ...]
    flips: int
    trials: int
    rate: Interval
    widened: Interval
    row: Result


def audit(
    folder: Path, suite: Suite, progress: Progress, *, items: int, model: str | None = None, data: Path | None = None
) -> Audit:
    """Repeats items of a finished run in three ways and writes ``audit.json`` into its folder.

    Args:
        folder: The run.
        suite: The registry.
        progress: Shows how far the audit is.
        items: Number of items to repeat, drawn with a fixed seed.
        model: Path of the model, for a run of a local model.
        data: The data file, for a run of a file.

    Raises:
        UserError: If the run is not finished or was imported, or model, data or settings here are not those of the run.
    """
    if items < 1:
        raise UserError(f"--items must be 1 or more, not {items}")
    run = finished(read_run(folder))
    if run.imported:
        raise UserError(f"{folder} was imported from {run.imported}; only a run of our own can be repeated")
    plan = _same_plan(run.manifest, suite, model, data)
    recorded = {sample.item: sample for sample in run.samples() if sample.completion.finish_reason != "error"}
    here = [one for one in plan.planned if one.item.id in recorded]
    chosen = random.Random(SEED).sample(here, min(items, len(here)))  # noqa: S311 - a draw of items, not a secret
    requests = [one.request for one in chosen]
    samples = {one.request.key: recorded[one.item.id] for one in chosen}
    settings = plan.order.settings
    ways = {
        "one row at a time": dataclasses.replace(settings, batch_size=1),
        "full batch": settings,
        "no shared prefix": dataclasses.replace(settings, prefix_caching=False),
    }
    repetitions = tuple(_repeat(name, plan, way, requests, samples, progress) for name, way in ways.items())
    found = summarize(repetitions, tuple(one.item.id for one in chosen), run.results[0])
    write_json(folder / FILE, {"format": FORMAT, **to_builtins(found)})
    return found


def summarize(repetitions: tuple[Repetition, ...], items: tuple[str, ...], row: Result) -> Audit:
    """Returns the audit: the share of grades that flip, and the row's interval with that noise added.

    A flip moves the value by ``100 / n`` points, up or down. If a share ``f`` of the items flips independently, the noise has a
    standard deviation of ``100 sqrt(f / n)`` points; it is added in quadrature to each side of the interval.
    """
    flips = sum(len(one.flipped) for one in repetitions)
    trials = len(items) * len(repetitions)
    noise = z_value(0.95) * 100 * math.sqrt(flips / trials / row.n)
    low = row.value - math.hypot(row.value - row.low, noise)
    high = row.value + math.hypot(row.high - row.value, noise)
    return Audit(items, repetitions, flips, trials, wilson(flips, trials), Interval(max(low, 0.0), min(high, 100.0)), row)


def measured_flip_rate(run: StoredRun) -> float | None:
    """Returns the share of grades (0 to 1) that may flip, from an audit of the run; ``None`` if there is no audit.

    It is the upper end of the audit's interval, but above :data:`tulu_eval.stats.FLIP_RATE` only as far as flips were seen: a
    small audit without flips does not contradict the general allowance.

    Raises:
        DataError: If the file is not one that :func:`audit` wrote for this run.
    """
    path = run.folder / FILE
    if not path.exists():
        return None
    try:
        kept = read_as(path, StoredAudit, schema.SMALL_BYTES)
    except DataError as error:
        raise DataError(path, f"is not an audit of this version ({error}); {_AGAIN}") from error
    items, ways = set(kept.items), kept.repetitions
    flips, trials = sum(len(items & {*way.flipped}) for way in ways), len(items) * len(ways)
    signatures = {row.signature for row in run.results}
    told = kept.flips, kept.trials, items <= set(run.manifest["planned"]), kept.row.signature in signatures
    if told != (flips, trials, True, True):
        raise DataError(path, f"is not what an audit of this run counted; {_AGAIN}")
    return min(wilson(flips, trials).high, max(FLIP_RATE, flips / trials))


def _same_plan(manifest: dict[str, Any], suite: Suite, model: str | None, data: Path | None) -> Plan:
    """Returns the run's plan, made again.

    Raises:
        UserError: If the plan differs from the run's.
    """
    known = {field.name for field in dataclasses.fields(EngineSettings)}
    order = Order(
        benchmark=manifest["benchmark"]["name"],
        model=model or _name_with_revision(manifest),
        protocol=manifest["protocol"]["name"],
        data=data,
        limit=manifest["limit"],
        backend=manifest["backend"],
        settings=EngineSettings(**{name: value for name, value in manifest["settings"].items() if name in known}),
        seed=manifest["seed"],
        date=manifest["template"].get("date"),
    )
    plan = make_plan(order, suite)
    if plan.settings_sha256 != manifest["settings_sha256"]:
        differing = [
            name
            for name, before, now in (
                ("model", manifest["model"]["revision"], plan.model.revision),
                ("data", manifest["benchmark"]["data_sha256"], plan.data_sha256),
                ("template", manifest["template"]["sha256"], plan.template.sha256),
            )
            if before != now
        ]
        what = " and ".join(differing) or "a setting"
        raise UserError(f"{what} here differs from the run's; give the run's own with --model and --data")
    return plan


def _name_with_revision(manifest: dict[str, Any]) -> str:
    name, revision = manifest["model"]["name"], manifest["model"]["revision"]
    return name if revision.startswith("sha256:") else f"{name}@{revision}"


def _repeat(
    name: str, plan: Plan, settings: EngineSettings, requests: Sequence[Request], samples: dict[str, Sample], progress: Progress
) -> Repetition:
    changed: list[str] = []
    flipped: list[str] = []
    first: dict[str, int] = {}
    own = dataclasses.replace(plan, order=dataclasses.replace(plan.order, settings=settings))
    progress.say(f"{name}: {len(requests)} items")
    with Engine([own], progress) as engine:
        engine.check(own)
        for completion in engine.start(own).generate(requests, plan.decoding):
            before = samples[completion.key]
            if completion.token_ids == before.completion.token_ids:
                continue
            changed.append(before.item)
            first[before.item] = _first_difference(completion, before.completion)
            after = grade_sample(plan.benchmark, dataclasses.replace(before, completion=completion))
            if after.grades[0].score != grade_sample(plan.benchmark, before).grades[0].score:
                flipped.append(before.item)
    return Repetition(name, tuple(sorted(changed)), tuple(sorted(flipped)), first)


def _first_difference(left: Completion, right: Completion) -> int:
    pairs = zip(left.token_ids, right.token_ids, strict=False)
    shorter = min(len(left.token_ids), len(right.token_ids))
    return next((at for at, (one, other) in enumerate(pairs) if one != other), shorter)
