"""Evaluates models on benchmarks, or plans it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run
from tulu_eval.api.silence import silence
from tulu_eval.api.words import spoken
from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.files import Place, checked
from tulu_eval.models.base import Served
from tulu_eval.runs.order import Order, check_extras
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.requests import parse_shard
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute_all
from tulu_eval.sandbox import Execution
from tulu_eval.store.manifest import read_manifest

DTYPES = ("auto", "bfloat16", "float16", "float32")


class RunOptions(TypedDict, total=False):
    """Options that are the same for every model and benchmark; :func:`evaluate` describes each."""

    protocol: str | None
    limit: int | None
    shard: str | tuple[int, int] | None
    backend: str
    settings: EngineSettings | Mapping[str, Any] | None
    seed: int
    date: str | None
    output: AnyPath
    fresh: bool
    unsafe_execution: bool
    sandbox_image: str


@spoken
def evaluate(
    benchmarks: str | Sequence[str],
    models: AnyPath | Sequence[AnyPath] | Mapping[str, AnyPath],
    *,
    protocol: str | None = None,
    limit: int | None = None,
    data: AnyPath | Mapping[str, AnyPath] | None = None,
    shard: str | tuple[int, int] | None = None,
    backend: str = "auto",
    settings: EngineSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    date: str | None = None,
    output: AnyPath = "results",
    fresh: bool = False,
    unsafe_execution: bool = False,
    sandbox_image: str = "",
    registry: AnyPath | None = None,
    progress: bool | Progress = True,
) -> list[Run]:
    """Evaluates models on benchmarks with one engine start, and returns a run per pair, model by model.

    A run that was interrupted goes on where it stopped when the same call is made again.

    >>> (run,) = tulu_eval.evaluate("gsm8k", "allenai/tulu-2-dpo-7b")
    >>> run.results[0].value, run.results[0].n, run.results[0].signature
    >>> runs = tulu_eval.evaluate("gsm8k", {"sft": "./sft", "ppo": "./ppo"}, settings={"batch_size": 32})

    Args:
        benchmarks: Name of a benchmark, or several.
        models: Hub id (``org/name`` or ``org/name@revision``), folder, GGUF file, or a name of the registry; or several. A
            mapping gives local models the names that their results are filed under.
        protocol: Frozen recipe of the one benchmark; its default unless given.
        limit: Number of items, the protocol's first; all unless given.
        data: File to read instead of a benchmark's own source; with several benchmarks a mapping from their names.
        shard: Part I of N, from 1: ``(I, N)`` or ``"I/N"``; :func:`merge` puts the parts together. All items unless given.
        backend: ``transformers``, ``vllm``, or ``openai`` for a server; ``auto`` is openai with ``served``, else vllm where it
            is installed beside a GPU.
        settings: How the engine is built, by the names of :class:`EngineSettings`; ``served`` is a server's URL or the fields
            of :class:`Served`.
        seed: Seed of sampling; greedy protocols do not use it.
        date: Day that a chat template with a date writes, YYYY-MM-DD; that on which the run was started unless given.
        output: Folder under which runs are kept.
        fresh: Set an existing ledger aside and begin anew.
        unsafe_execution: Run programs that the model wrote without a sandbox, with your rights.
        sandbox_image: Run them in containers of this image, by podman or docker, in place of bubblewrap's sandbox.
        registry: TOML file with models and published numbers of your own.
        progress: Draw a bar; or a :class:`Progress` that shows it.

    Returns:
        The runs with the rows of this call; :func:`load_run` also reads those of judges.

    Raises:
        UserError: If something cannot be done (most of it is found before an engine starts), or the engine dies, or at Ctrl-C;
            finished samples are kept, and the same call goes on. Failures of single samples raise nothing: they are in
            ``run.tally`` and in each result's counts.
    """
    names = [benchmarks] if isinstance(benchmarks, str) else list(benchmarks)
    if protocol and len(names) > 1:
        raise UserError("--protocol goes with one benchmark")
    suite = load_suite(registry)
    orders = [
        _order(name, model, called, _data(data, name, names), protocol=protocol, limit=limit, shard=shard, backend=backend,
               settings=settings, seed=seed, date=date, output=output, fresh=fresh,
               unsafe_execution=unsafe_execution, sandbox_image=sandbox_image)
        for called, model in _models(models)
        for name in names
    ]  # fmt: skip
    if not orders:
        raise UserError("there is nothing to run: give a benchmark and a model")
    check_extras(orders, suite)
    plans = [make_plan(order, suite) for order in orders]
    shown = progress if isinstance(progress, Progress) else Progress(quiet=not progress, terminal=True)
    with silence(progress is False):
        outcomes = execute_all(plans, shown, fresh=fresh)
    return [
        Run(one.folder, read_manifest(one.folder), one.results, one.tally, speed=one.speed, notices=plan.notices)
        for plan, one in zip(plans, outcomes, strict=True)
    ]


@spoken
def plan(
    benchmark: str,
    model: AnyPath,
    *,
    name: str = "",
    data: AnyPath | None = None,
    registry: AnyPath | None = None,
    **options: Unpack[RunOptions],
) -> Plan:
    """Returns what :func:`evaluate` would do: items, prompts as text and token ids, settings, folder. Loads no weights.

    >>> plan = tulu_eval.plan("gsm8k", "allenai/tulu-2-dpo-7b")
    >>> len(plan.planned), plan.longest_prompt, plan.folder
    >>> print(plan.planned[0].request.text)

    Args:
        benchmark: Name of the benchmark.
        model: As :func:`evaluate` takes it.
        name: Name under which a local model's results are filed.
        data: File to read instead of the benchmark's own source.
        registry: TOML file with models of your own.
        options: As :func:`evaluate` takes them: ``protocol``, ``limit``, ``shard``, ``backend``, ``settings``, ``seed``,
            ``date``, ``output``, ``fresh``, ``unsafe_execution`` and ``sandbox_image``.

    Raises:
        UserError: If something cannot be done.
    """
    order, suite = _order(benchmark, model, name, None if data is None else Path(data), **options), load_suite(registry)
    check_extras([order], suite)
    return make_plan(order, suite)


def _order(
    benchmark: str,
    model: AnyPath,
    name: str,
    data: Path | None,
    *,
    protocol: str | None = None,
    limit: int | None = None,
    shard: str | tuple[int, int] | None = None,
    backend: str = "auto",
    settings: EngineSettings | Mapping[str, Any] | None = None,
    seed: int = 0,
    date: str | None = None,
    output: AnyPath = "results",
    fresh: bool = False,
    unsafe_execution: bool = False,
    sandbox_image: str = "",
) -> Order:
    part = shard if shard is None or isinstance(shard, str) else "/".join(map(str, shard))
    return Order(
        benchmark, str(model), name=name, protocol=protocol, data=data, limit=limit, backend=backend, seed=seed, date=date,
        shard=None if part is None else parse_shard(part), settings=engine_settings(settings), output=Path(output), fresh=fresh,
        execution=Execution(unsafe=unsafe_execution, image=sandbox_image),
    )  # fmt: skip


def engine_settings(given: EngineSettings | Mapping[str, Any] | None) -> EngineSettings:
    """Returns how an engine is built.

    Raises:
        UserError: If a setting is unknown, or its value has another type.
    """
    if given is None or isinstance(given, EngineSettings):
        made = given or EngineSettings()
    else:
        served = given.get("served")
        if isinstance(served, str):
            served = {"url": served}
        _refuse_unknown("setting", given, EngineSettings)
        if isinstance(served, Mapping):
            _refuse_unknown("setting of served", served, Served)
        elif isinstance(served, Served):
            served = dataclasses.asdict(served)
        engines = {"data_parallel": 0} if given.get("cluster") is not None else {}
        made = checked({**engines, **given, "served": served}, EngineSettings, Place("settings"))
    if made.dtype not in DTYPES:
        raise UnknownName("dtype", made.dtype, DTYPES)
    return made


def _refuse_unknown(kind: str, given: Mapping[str, Any], record: type) -> None:
    """Raises UnknownName if a record lacks one of the given names."""
    known = [field.name for field in dataclasses.fields(record)]
    for name in given:
        if name not in known:
            raise UnknownName(kind, name, known)


def _models(models: AnyPath | Sequence[AnyPath] | Mapping[str, AnyPath]) -> list[tuple[str, AnyPath]]:
    """Returns pairs: the name that a model's results are filed under, empty if not given, and the model."""
    if isinstance(models, Mapping):
        return list(models.items())
    if isinstance(models, Sequence) and not isinstance(models, str):
        return [("", model) for model in models]
    return [("", models)]


def _data(data: AnyPath | Mapping[str, AnyPath] | None, benchmark: str, benchmarks: Sequence[str]) -> Path | None:
    """Returns a benchmark's file; raises UserError for one file of several benchmarks, or for a benchmark that is not run."""
    if isinstance(data, Mapping):
        odd = [name for name in data if name not in benchmarks]
        if odd:
            raise UnknownName("benchmark in data", odd[0], benchmarks)
        return Path(data[benchmark]) if benchmark in data else None
    if data is not None and len(benchmarks) > 1:
        raise UserError("data is one file, and there are several benchmarks: give a mapping from benchmark to file")
    return None if data is None else Path(data)
