"""Plans a comparison of two models: how many items it needs, whether the benchmark has them, and what the runs will cost.

The number of items follows from the exact power of the later test: McNemar's exact test (``compare``) if both models answer
the same items, else Fisher's exact test (``verify`` against another model's number). Both tests ask whether two models differ.
The allowance for flipped items is for another question, whether a run of the *same* weights repeats a published number. Neither
test uses it, so neither does this plan.

The cost of a run comes from its plan if the model is on this machine, otherwise from the model's size in the registry; the
result says what it assumes.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tulu_eval.benchmarks.base import Benchmark, Protocol
from tulu_eval.errors import PreflightError, UnknownName, UserError
from tulu_eval.registry import Model, Suite
from tulu_eval.runs import catalog, estimate
from tulu_eval.runs.estimate import Estimate, Work
from tulu_eval.runs.order import Order
from tulu_eval.runs.rates import NOTHING_DONE, Rates, machine_rates
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.stats import detectable_paired, detectable_unpaired, paired_items, unpaired_items

DISCORDANCE = (0.20, 0.30)
"""Range of the share of items that one of two models has right and the other wrong, which only the two runs can measure.
For GSM8K's published gap of 4.5 points it gives 810 to 1200 items; independent samples need 1976."""

SMALLEST = 0.1
"""Smallest allowed difference in percentage points; it takes 1.5 million shared items or more."""

CHARACTERS_PER_TOKEN = 2294 / 742
"""The 2294 constant characters of the GSM8K prompt are 742 tokens if digits are split, as in Llama 2, and 617 if not."""

ASSUMED_DTYPE = "bfloat16"
"""Assumed dtype of a model that is not on this machine: the one in which the suite's models are served."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMBT])")
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}

Enough = Literal["yes", "perhaps", "no"]


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """The smallest differences, in percentage points, that a protocol's items detect; ``None`` if they detect none.

    Attributes:
        paired_low: Difference on shared items at the lower end of the plan's discordance.
        paired_high: Difference on shared items at the upper end.
        unpaired: Difference of two independent samples of n items.
        enough: Whether n shared items are enough: ``yes`` at both ends, ``perhaps`` at the lower end only.
    """

    protocol: str
    n: int
    paired_low: float | None
    paired_high: float | None
    unpaired: float | None
    enough: Enough


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run of one model on this machine.

    Attributes:
        prompt_tokens: Tokens of all prompts; ``None`` if the items are not on this machine.
        new_tokens: Typical and largest number of generated tokens.
        memory_bytes: Size of weights, keys and values; of the weights alone if the model is not on this machine.
        seconds: Lower and upper bound without the engine's start; ``None`` if the items are not on this machine.
        assumed: Assumptions, one line each.
    """

    model: str
    protocol: str
    items: int
    parameters: int
    prompt_tokens: int | None
    new_tokens: tuple[int, int]
    memory_bytes: int
    seconds: tuple[float, float] | None
    assumed: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Planning:
    """The result of :func:`plan_comparison`.

    Attributes:
        detect: Difference to detect, in percentage points.
        centre: Assumed percentage of right items, halfway between the models.
        centre_source: Source of ``centre``.
        discordance: :data:`DISCORDANCE`, each end raised to the difference if that is larger; fractions.
        paired: Number of shared items from which ``compare`` detects the difference with 80 % power, at both ends of the
            discordance.
        unpaired: Number of separate items per model from which Fisher's exact test does.
        reaches: One entry per protocol of the benchmark.
        costs: One per model, for the smallest protocol with enough items, else for the largest.
    """

    benchmark: str
    detect: float
    centre: float
    centre_source: str
    discordance: tuple[float, float]
    paired: tuple[int, int]
    unpaired: int
    reaches: tuple[Reach, ...]
    costs: tuple[Cost, ...]


def plan_comparison(name: str, models: Sequence[str], detect: float, suite: Suite, data: Path | None = None) -> Planning:
    """Plans a comparison of two models.

    ``models`` are names, folders or hub ids, and ``data`` the benchmark's data file, as for a run; ``detect`` is the difference
    to detect, in percentage points.

    Raises:
        UserError: If the benchmark or a model is unknown, the difference is impossible, or a model's size is unknown.
    """
    if not 0 < detect <= 100:
        raise UserError(f"--detect is a difference in percent points, above 0 and at most 100, not {detect:g}")
    if detect < SMALLEST:
        raise UserError(
            f"--detect {detect} takes millions of items, more than any benchmark has; give {SMALLEST:g} points or more"
        )
    benchmark = catalog.benchmark(name)
    recipe = benchmark.protocol(None).prompt_id
    protocols = [protocol for protocol in benchmark.protocols.values() if protocol.n and protocol.prompt_id == recipe]
    if not protocols:
        raise UserError(f"{name} has no protocol with a fixed number of items")
    centre, source = _centre(benchmark, models, suite)
    share = detect / 100
    low = min(max(centre / 100 - share / 2, 0.0), 1.0 - share)
    discordance = (max(DISCORDANCE[0], share), max(DISCORDANCE[1], share))
    needed = (paired_items(share, discordance[0]), paired_items(share, discordance[1]))
    reaches = tuple(_reach(protocol, centre / 100, discordance, needed) for protocol in protocols)
    enough = [reach.protocol for reach in sorted(reaches, key=lambda reach: reach.n) if reach.enough == "yes"]
    chosen = benchmark.protocols[enough[0] if enough else max(reaches, key=lambda reach: reach.n).protocol]
    rates = functools.cache(lambda dtype: machine_rates("auto", dtype, NOTHING_DONE))
    return Planning(
        benchmark=name,
        detect=detect,
        centre=centre,
        centre_source=source,
        discordance=discordance,
        paired=needed,
        unpaired=unpaired_items(low, low + share),
        reaches=reaches,
        costs=tuple(_cost(model, benchmark, chosen, suite, data, rates) for model in models),
    )


def parameters_of(model: Model) -> int:
    """Returns the number of parameters from a model's printed size.

    Raises:
        UserError: If the size is not a number with a unit, e.g. ``8B``.
    """
    found = _SIZE.fullmatch(model.size.upper())
    if found is None:
        raise UserError(f"the size {model.size!r} of {model.name} is no number of parameters, e.g. 8B")
    return round(float(found[1]) * _UNITS[found[2]])


def _centre(benchmark: Benchmark, models: Sequence[str], suite: Suite) -> tuple[float, str]:
    """Returns the mean of the models' published numbers in percent, or 50, at which a share varies most; and its source.

    Numbers of another metric than the first scorer's, whose right and wrong ``compare`` pairs, do not count.
    """
    metric = benchmark.protocol(None).metric
    values: dict[str, float] = {}
    for name in models:
        known = suite.known(name)
        cells = () if known is None else suite.cells(known, benchmark.name)
        counted = [cell for cell in cells if suite.metrics[cell.metric_key].counted and cell.metric == metric]
        if counted:
            best = min(counted, key=lambda cell: cell.standing == "contradicted")
            values[name] = best.value
    if not values:
        return 50.0, "no published number; at 50 % most items are needed"
    mean = sum(values.values()) / len(values)
    return mean, "published: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items())


def _reach(protocol: Protocol, centre: float, discordance: tuple[float, float], needed: tuple[int, int]) -> Reach:
    n = protocol.n
    return Reach(
        protocol=protocol.name,
        n=n,
        paired_low=_points(detectable_paired(n, discordance[0])),
        paired_high=_points(detectable_paired(n, discordance[1])),
        unpaired=_points(detectable_unpaired(centre, n, n)),
        enough="yes" if n >= needed[1] else "perhaps" if n >= needed[0] else "no",
    )


def _points(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _cost(
    name: str,
    benchmark: Benchmark,
    protocol: Protocol,
    suite: Suite,
    data: Path | None,
    rates: Callable[[str], Rates],
) -> Cost:
    try:
        plan = make_plan(Order(benchmark.name, name, protocol=protocol.name, data=data), suite)
    except PreflightError as error:
        try:
            model = suite.find(name)
        except UnknownName:
            raise error from None
        return _cost_of_absent(model, benchmark, protocol, data, rates)
    work = estimate.work_of(plan)
    return _priced(plan.model.name, protocol, work, estimate.cost(work, rates(work.dtype)), ())


def _cost_of_absent(
    model: Model, benchmark: Benchmark, protocol: Protocol, data: Path | None, rates: Callable[[str], Rates]
) -> Cost:
    """Returns the cost for a model that is not on this machine, from its printed size."""
    parameters = parameters_of(model)
    assumed = [
        f"{model.name} is not here: {parameters / 1e9:g} billion parameters by its size {model.size}, in {ASSUMED_DTYPE}; "
        "memory of the weights alone"
    ]
    try:
        benchmark = benchmark.under(protocol.name)
        prompts = [benchmark.render(item) for item in benchmark.load(protocol, data)]
    except PreflightError:
        assumed.append(f"the items of {benchmark.name} are not here either (--data FILE), so tokens and time are not known")
        work = Work(parameters, ASSUMED_DTYPE, protocol.n, 0, 0, protocol.decoding.max_new_tokens, 0, 0)
        return _priced(model.name, protocol, work, None, tuple(assumed))
    texts = ["".join(turn.content for turn in prompt.turns) + prompt.prefill for prompt in prompts]
    assumed.append(f"{CHARACTERS_PER_TOKEN:.2f} characters a token, as in Llama 2's tokens of the GSM8K prompt")
    lengths = [round(len(text) / CHARACTERS_PER_TOKEN) for text in texts]
    work = Work(
        parameters=parameters,
        dtype=ASSUMED_DTYPE,
        items=len(texts),
        prompt_tokens=sum(lengths),
        shared_tokens=round(estimate.common_prefix(texts) / CHARACTERS_PER_TOKEN),
        max_new_tokens=protocol.decoding.max_new_tokens,
        max_length=max(lengths) + protocol.decoding.max_new_tokens,
        kv_bytes=0,
    )
    return _priced(model.name, protocol, work, estimate.cost(work, rates(work.dtype)), tuple(assumed))


def _priced(name: str, protocol: Protocol, work: Work, guess: Estimate | None, assumed: tuple[str, ...]) -> Cost:
    typical = min(estimate.TYPICAL_NEW_TOKENS, work.max_new_tokens)
    return Cost(
        model=name,
        protocol=protocol.name,
        items=work.items,
        parameters=work.parameters,
        prompt_tokens=work.prompt_tokens if guess else None,
        new_tokens=(typical * work.items, work.max_new_tokens * work.items),
        memory_bytes=guess.memory_bytes if guess else work.weight_bytes,
        seconds=(guess.seconds_low, guess.seconds_high) if guess else None,
        assumed=assumed,
    )
