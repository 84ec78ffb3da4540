"""Plans a suite of benchmarks for many models: GPU-hours, which GPUs each model gets when, what comes first, and the price.

A model is one command, ``tulu-eval run SUITE``, with one engine, or with several where the whole then ends earlier although
each of them has to start. The GPU-hours follow from the lengths of prompts and answers
(:mod:`~tulu_eval.findings.column_lengths`) and from what one GPU was measured to do; each assumption is in the result with its
source. The models with most verdicts of ``verify`` per GPU-hour come first: on one GPU this rule, Smith's, has the
least mean time of a verdict; on many it is a heuristic. Times are those of long answers, so that what is reserved by them is
enough.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Sequence

from tulu_eval.benchmarks.base import Benchmark, Protocol
from tulu_eval.benchmarks.suites import Member
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.findings.column_lengths import LENGTHS, ColumnLengths
from tulu_eval.findings.gpu_slots import Load, Slot, pack, spread
from tulu_eval.findings.plan import CHARACTERS_PER_TOKEN, parameters_of
from tulu_eval.findings.planned_models import Assumption, ColumnPlan, Milestone, ModelPlan, ModelsPlan, Range
from tulu_eval.models.resolve import find_path, resolve
from tulu_eval.registry import Model, Suite
from tulu_eval.runs import catalog
from tulu_eval.runs.estimate import H200_GIB, NODE, SHARE

PREFILL, DECODING, START = 35_353.0, 19_721.0, 112.3
"""Prompt tokens and new tokens per second of an H200, and seconds of a start, as measured with :data:`MEASURED_PARAMETERS`."""

MEASURED_PARAMETERS = 8.03e9
_MEASURED = "measured on one H200 with Llama 3 8B's shape in bfloat16 by vLLM 0.24: benchmarks/README.md, On a CUDA machine"

MOST = 10_000
"""Largest number of GPUs."""

MOST_PRICE = 1_000_000
"""Highest price of a GPU-hour; no sum of it is too large for JSON."""

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the verdicts whose times a plan has."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """A model before it has a place."""

    model: str
    parameters: int
    size_source: str
    gpus: int
    columns: tuple[ColumnPlan, ...]
    engines: int = 1

    @property
    def size(self) -> int:
        """Returns the number of GPUs of all its engines."""
        return self.gpus * self.engines

    @property
    def work(self) -> Range:
        """Returns the GPU-hours without the start of engines."""
        return _sum(*(column.gpu_hours for column in self.columns))

    @property
    def gpu_hours(self) -> Range:
        start = self.size * START / 3600
        return _sum(self.work, Range(start, start))

    @property
    def verdicts(self) -> int:
        return sum(column.verdict for column in self.columns)


def plan_models(name: str, models: Sequence[str], gpus: int, suite: Suite, price: float | None = None) -> ModelsPlan:
    """Plans the suite ``name`` for some models on a number of H200.

    Args:
        name: Name of the suite.
        models: Names of the registry, hub ids, folders or GGUF files.
        gpus: Number of GPUs, in nodes of 8.
        suite: The registry.
        price: Price of one GPU for one hour.

    Raises:
        UserError: If there is no such suite, model or size, no GPU, a model has no room, or no model is given.
    """
    if not 1 <= gpus <= MOST:
        raise UserError(f"--gpus must be from 1 to {MOST:,}, not {gpus}")
    if price is not None and not 0 <= price <= MOST_PRICE:
        raise UserError(f"--gpu-hour-price must be from 0 to {MOST_PRICE:,}, not {price:g}")
    if not models:
        raise UserError("--models names no model; give one per line")
    members = catalog.suite(name).members
    _check_once(models, suite)
    given = [_job(model, members, gpus, suite) for model in models]
    ordered = sorted(given, key=lambda job: (-job.verdicts / job.gpu_hours.long, job.gpu_hours.long))
    jobs = _spread(ordered, gpus)
    slots = _slots(jobs, gpus)
    hours, as_given = _verdict_hours(jobs, gpus), _verdict_hours(_spread(given, gpus), gpus)
    counts = dict.fromkeys(math.ceil(share * len(hours)) for share in SHARES if hours)
    total = _sum(*(job.gpu_hours for job in jobs))
    used = {slot.first + number for job, slot in zip(jobs, slots, strict=True) for number in range(job.size)}
    return ModelsPlan(
        suite=name,
        gpus=gpus,
        models=tuple(_placed(name, job, slot) for job, slot in zip(jobs, slots, strict=True)),
        gpu_hours=total,
        hours=_whole(jobs, gpus),
        gpu_hours_of_one=_sum(*(job.gpu_hours for job in ordered)),
        hours_of_one=_whole(ordered, gpus),
        idle_gpus=gpus - len(used),
        verdicts=len(hours),
        milestones=tuple(Milestone(count, hours[count - 1], as_given[count - 1]) for count in counts),
        gpu_hour_price=price,
        price=None if price is None else Range(price * total.usual, price * total.long),
        assumptions=_assumptions(members),
    )


def _spread(jobs: Sequence[_Job], gpus: int) -> list[_Job]:
    """Returns the jobs with the number of engines with which the last one ends first, if answers are long."""
    loads = []
    for job in jobs:
        most = 1 if job.gpus > NODE else gpus // job.gpus  # an engine over several nodes is the only one of a run
        loads.append(Load(job.gpus, job.work.long, START / 3600, 1 << (most.bit_length() - 1)))
    return [dataclasses.replace(job, engines=count) for job, count in zip(jobs, spread(loads, gpus), strict=True)]


def _slots(jobs: Sequence[_Job], gpus: int) -> list[Slot]:
    return pack([(job.size, job.gpu_hours.long / job.size) for job in jobs], gpus)


def _whole(jobs: Sequence[_Job], gpus: int) -> Range:
    """Returns the hours until the last job ends."""
    quick = pack([(job.size, job.gpu_hours.usual / job.size) for job in jobs], gpus)
    return Range(max(slot.end for slot in quick), max(slot.end for slot in _slots(jobs, gpus)))


def _check_once(models: Sequence[str], suite: Suite) -> None:
    """Raises UserError if a model is named twice, by another of its names too; paths are compared as they are written."""
    seen: dict[str, str] = {}
    for name in models:
        first, at, revision = name.partition("@")
        try:
            key = suite.find(first).hub_id + at + revision if find_path(name) is None else name
        except UserError:  # a hub id, or no model at all, which is said where it is looked for
            key = name
        if key in seen:
            raise UserError(f"--models names {name} twice" + (f", first as {seen[key]}" if seen[key] != name else ""))
        seen[key] = name


def _sum(*ranges: Range) -> Range:
    return Range(sum(one.usual for one in ranges), sum(one.long for one in ranges))


def _verdict_hours(jobs: Sequence[_Job], gpus: int) -> list[float]:
    """Returns when each verdict is there, if models begin in this order and answers are long; ascending."""
    found = []
    for job, slot in zip(jobs, _slots(jobs, gpus), strict=True):
        at = slot.begin + START / 3600
        for column in job.columns:
            at += column.gpu_hours.long / job.size
            found += [at] * column.verdict
    return sorted(found)


def _placed(name: str, job: _Job, slot: Slot) -> ModelPlan:
    words = ["tulu-eval", "run", name, "--model", job.model, "--backend", "vllm"]
    if job.gpus > 1:
        words += ["--tensor-parallel", str(min(job.gpus, NODE))]
    if job.gpus > NODE:
        words += ["--pipeline-parallel", str(job.gpus // NODE)]
    if job.engines > 1:
        words += ["--data-parallel", str(job.engines)]
    if job.engines > 1 and job.size > NODE:
        words += ["--cluster", "HOST:PORT"]
    return ModelPlan(
        model=job.model,
        parameters=job.parameters,
        size_source=job.size_source,
        gpus=job.gpus,
        engines=job.engines,
        gpu_hours=job.gpu_hours,
        verdicts=job.verdicts,
        first_gpu=slot.first,
        begin=slot.begin,
        end=slot.end,
        columns=job.columns,
        command=shlex.join(words),
    )


def _job(name: str, members: Sequence[Member], gpus: int, suite: Suite) -> _Job:
    parameters, source, model = _size(name, suite)
    room = SHARE * H200_GIB * 2**30
    needed = 1 << max(0, math.ceil(math.log2(2 * parameters / room)))
    if needed > gpus:
        raise UserError(
            f"{name} needs {needed} GPUs for its {2 * parameters / 2**30:.0f} GiB of weights, and --gpus gives {gpus}"
        )
    columns = tuple(_column(member, parameters, model, suite) for member in members)
    return _Job(name, parameters, source, needed, columns)


def _size(name: str, suite: Suite) -> tuple[int, str, Model | None]:
    """Returns a model's number of parameters, where that is from, and its registry entry."""
    if find_path(name) is None:
        try:
            known = suite.find(name.partition("@")[0])
        except UnknownName as error:
            if "/" not in name:
                raise error from None
        else:
            if known.stage in ("RM", "value"):
                raise UserError(f"{name} is a model of stage {known.stage}, which answers nothing: no benchmark measures it")
            return parameters_of(known), f"its size {known.size} in the registry", known
    files, known_here = resolve(name, suite)
    if not files.parameters:
        raise UserError(f"nobody knows the size of {name}: its files say no number of parameters")
    return files.parameters, "its files", known_here


def _column(member: Member, parameters: int, model: Model | None, suite: Suite) -> ColumnPlan:
    benchmark, protocol, lengths = _of(member)
    items = min(member.limit or lengths.items, lengths.items)
    samples, prompts = items * protocol.samples, lengths.prompts.value / CHARACTERS_PER_TOKEN * items / lengths.items
    new_tokens = Range(samples * lengths.usual.value, samples * lengths.long.value)
    hours = Range(_hours(parameters, prompts, new_tokens.usual), _hours(parameters, prompts, new_tokens.long))
    whole = model is not None and items == lengths.items
    verdict = whole and any(_tests(benchmark, protocol, cell.metric, cell.protocol, suite.metrics[cell.metric_key].draws)
                            for cell in suite.cells(model, benchmark.name))  # fmt: skip
    return ColumnPlan(benchmark.name, protocol.name, samples, prompts, new_tokens, hours, verdict)


def _hours(parameters: int, prompt_tokens: float, new_tokens: float) -> float:
    """Returns the hours of one GPU."""
    return parameters / MEASURED_PARAMETERS * (prompt_tokens / PREFILL + new_tokens / DECODING) / 3600


def _of(member: Member) -> tuple[Benchmark, Protocol, ColumnLengths]:
    benchmark = catalog.benchmark(member.benchmark)
    protocol = benchmark.protocol(member.protocol)
    lengths = LENGTHS.get((benchmark.name, protocol.name))
    if lengths is None:
        raise UserError(f"nobody has counted the prompts of {benchmark.name} {protocol.name}, so its GPU-hours are not known")
    return benchmark, protocol, lengths


def _tests(benchmark: Benchmark, protocol: Protocol, metric: str, published: str | None, draws: tuple[str, ...]) -> bool:
    """Whether a run of a protocol gives a verdict on a published number."""
    there = {protocol.metric, *benchmark.metrics.values()}
    return metric in there and (published in protocol.covers or protocol.name in draws)


def _assumptions(members: Sequence[Member]) -> tuple[Assumption, ...]:
    found = [
        Assumption("one GPU reads", PREFILL, "prompt tokens per second of a model of 8.03 billion parameters", _MEASURED),
        Assumption("one GPU writes", DECODING, "new tokens per second of a model of 8.03 billion parameters", _MEASURED),
        Assumption("twice the parameters take", 2.0, "times the time, for prompts and answers alike", "assumed"),
        Assumption("two GPUs of one engine have", 2.0, "times the speed of one", "assumed; what they lose was not measured"),
        Assumption(
            "two engines of one model have",
            2.0,
            "times the speed of one",
            "assumed; of the end, when the last answers are alone, see benchmarks/README.md, Engines on a Ray cluster",
        ),
        Assumption("an engine starts in", START, "seconds, whatever the size of its model", _MEASURED),
        Assumption("weights have", 2.0, "bytes per parameter", "bfloat16, in which the suite's models are served"),
        Assumption("one GPU has", H200_GIB, "GiB of memory", "what the driver of an H200 says"),
        Assumption("weights fill at most", SHARE, "of the memory", "the share with which the plan of 'reproduce' counts, too"),
        Assumption("a token has", CHARACTERS_PER_TOKEN, "characters of text", "Llama 2's tokens of the GSM8K prompt"),
    ]
    for member in members:
        benchmark, protocol, lengths = _of(member)
        column = f"{benchmark.name} {protocol.name}"
        found.append(Assumption(f"{column}: all prompts have", lengths.prompts.value, "characters", lengths.prompts.source))
        if lengths.long.value:
            found.append(Assumption(f"{column}: a usual answer has", lengths.usual.value, "tokens", lengths.usual.source))
            found.append(Assumption(f"{column}: a long answer has", lengths.long.value, "tokens", lengths.long.source))
    return tuple(found)
