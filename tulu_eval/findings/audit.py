"""Does the same run give the same answers? Items of a finished run are generated again in other batches, and compared.

Greedy decoding is deterministic on paper. In 16-bit arithmetic the order of additions depends on the batch and on what a cache
already holds, and where two tokens are nearly as likely, another one may win. The audit repeats some items one at a time, in a
full batch, and without a shared prefix, and counts what changed; the run's interval is widened by what it finds.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import DataError, UserError
from tulu_eval.files import Record
from tulu_eval.models.model_files import NAME
from tulu_eval.models.resolve import find_path
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

FILE = "audit.json"
SEED = 0
_AGAIN = "remove it, or run 'tulu-eval audit' again"
Z = 1.959963984540054
"""97.5 % point of the normal distribution."""


class AuditedRepetition(Record, frozen=True):
    """One repetition in ``audit.json``."""

    name: Name
    changed: list[Name]
    flipped: list[Name]
    first: dict[str, Count]


class Audited(Record, frozen=True):
    """``audit.json``."""

    flips: Count
    trials: Annotated[int, Meta(ge=1, le=1 << 53)]
    format: Literal[1] = 1
    items: list[Name] | UnsetType = UNSET
    repetitions: list[AuditedRepetition] | UnsetType = UNSET
    rate: Any = None
    widened: Any = None
    row: StoredRow | UnsetType = UNSET


@dataclasses.dataclass(frozen=True, slots=True)
class Repetition:
    """One way of generating the items again.

    Attributes:
        name: What was different.
        changed: Ids of items whose tokens changed.
        flipped: Of these, items whose published grade changed.
        first: For every changed item, the first token that differs, counted from 0.
    """

    name: str
    changed: tuple[str, ...]
    flipped: tuple[str, ...]
    first: dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """What the repetitions showed.

    Attributes:
        items: Ids of the items that were repeated.
        repetitions: One for each way.
        flips: Grades that changed, over all repetitions.
        trials: Items times repetitions.
        rate: 95 % interval of the share of grades that change, as fractions.
        widened: The run's first row with the interval widened, in percent.
        row: That row.
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
    """Repeats items of a finished run in three ways and writes ``audit.json`` beside its result.

    Args:
        folder: The run.
        suite: The registry.
        progress: Is told what happens.
        items: How many items to repeat, drawn with a fixed seed.
        model: Where the model is, for a run of a local folder.
        data: The data file, for a run that read one.

    Raises:
        UserError: The run is not finished, or model, data or settings here are not those of the run.
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
    write_json(folder / FILE, {"format": FORMAT, **dataclasses.asdict(found)})
    return found


def summarize(repetitions: tuple[Repetition, ...], items: tuple[str, ...], row: Result) -> Audit:
    """Returns the audit: the share of grades that flip, and the row's interval with that noise added.

    A flip moves the value by ``100 / n`` points, up or down; with a share ``f`` of items flipping independently its standard
    deviation is ``100 sqrt(f / n)``, which is added in quadrature to each side of the interval.
    """
    flips = sum(len(one.flipped) for one in repetitions)
    trials = len(items) * len(repetitions)
    noise = Z * 100 * math.sqrt(flips / trials / row.n)
    low = row.value - math.hypot(row.value - row.low, noise)
    high = row.value + math.hypot(row.high - row.value, noise)
    return Audit(items, repetitions, flips, trials, wilson(flips, trials), Interval(max(low, 0.0), min(high, 100.0)), row)


def measured_flip_rate(run: StoredRun) -> float | None:
    """Returns the share of grades that verification should allow to flip, from an audit of the run; None where there was none.

    It is the upper end of the audit's interval, but above :data:`tulu_eval.stats.FLIP_RATE` only as far as flips were seen: a
    small audit without flips says nothing against the general allowance.

    Raises:
        DataError: If the file is there and is not one that :func:`audit` wrote, of this run.
    """
    path = run.folder / FILE
    if not path.exists():
        return None
    try:
        data = schema.read_object(path, Audited, "an audit")
    except DataError as error:
        raise DataError(path, f"is not an audit of this version ({error}); {_AGAIN}") from error
    try:
        items, ways = data["items"], data["repetitions"]
        flips, trials = sum(len(set(way["flipped"]) & set(items)) for way in ways), len(set(items)) * len(ways)
        row = Result.from_json(data["row"])
        told = data["format"], data["flips"], data["trials"], set(items) <= set(run.manifest["planned"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(path, f"is not an audit of this version; {_AGAIN}") from error
    if told != (FORMAT, flips, trials, True) or not trials or row.signature not in {one.signature for one in run.results}:
        raise DataError(path, f"is not what an audit of this run counted; {_AGAIN}")
    return min(wilson(flips, trials).high, max(FLIP_RATE, flips / trials))


def _same_plan(manifest: dict[str, Any], suite: Suite, model: str | None, data: Path | None) -> Plan:
    """Returns the run's plan made again, checked to be the same."""
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
        name=_given_name(manifest, model),
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
        other = "a setting" if manifest["model"]["name"] == plan.model.name else "the model's name"
        what = " and ".join(differing) or other
        raise UserError(f"{what} here differs from the run's; give the run's own with --model and --data")
    return plan


def _name_with_revision(manifest: dict[str, Any]) -> str:
    name, revision = manifest["model"]["name"], manifest["model"]["revision"]
    return name if revision.startswith("sha256:") else f"{name}@{revision}"


def _given_name(manifest: dict[str, Any], model: str | None) -> str:
    """Returns the name that a model in a folder or file has in the run; empty for any other model, and for a path as a name."""
    name: str = manifest["model"]["name"]
    return name if model and find_path(model) and NAME.fullmatch(name) else ""


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
