"""Which setting explains the gap between two numbers?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulu_eval.api.evaluate import engine_settings
from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, read
from tulu_eval.api.silence import silence
from tulu_eval.api.words import spoken
from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import UserError
from tulu_eval.files.opening import open_regular
from tulu_eval.findings.claims import Claim, read_claim
from tulu_eval.findings.explain import explain as explain_gap
from tulu_eval.findings.explaining import base_and_goal as sides
from tulu_eval.findings.explaining.explanation import Explanation, Wishes
from tulu_eval.findings.explaining.tariff import tariff_of
from tulu_eval.registry import Suite
from tulu_eval.runs import catalog
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, finished


@spoken
def explain(
    run: Run | AnyPath | None = None,
    other: Run | AnyPath | None = None,
    *,
    against: str | None = None,
    number: str | float | None = None,
    n: int | None = None,
    model: AnyPath | None = None,
    benchmark: str | None = None,
    protocol: str | None = None,
    data: AnyPath | None = None,
    scorer: str | None = None,
    max_items: int | None = None,
    max_seconds: float | None = None,
    max_cost: float | None = None,
    price: str | None = None,
    backend: str = "auto",
    settings: EngineSettings | Mapping[str, Any] | None = None,
    results: AnyPath | None = None,
    registry: AnyPath | None = None,
    dry_run: bool = False,
    progress: bool | Progress = True,
) -> Explanation:
    """Says which setting, changed in a recipe, gives another number: template, examples, limit, stops, scorer, items, engine.

    >>> found = tulu_eval.explain("results/mine/gsm8k/card-200-1a2b3c4d", number="40.0", n=200, model="./mine")
    >>> found.sentence
    >>> [(row.setting, row.was, row.to, row.effect, row.low, row.high, row.verdict) for row in found.tried]

    What can be told from samples that are there is free. Everything else is generated on as few items as tell enough, stays in
    the folder of results, and is never generated twice. Intervals hold together with a probability of 99 %.

    Args:
        run: A run of ours, or an imported one; none where a recipe and a number are compared.
        other: What it should agree with: another run, an imported one too. The published number unless given. With a number
            beside it, that is what was told of its texts: they show what was asked, and the number how they were scored.
        against: Model whose published number is meant, for a run of a local checkpoint.
        number: The number that it should agree with, in percent, with the digits as printed: ``"40.0"``.
        n: Number of items that the number is of.
        model: Where the model is: of a run of a local folder or file; of the recipe if no run of ours is given.
        benchmark: Benchmark of the recipe, if no run is given.
        protocol: The recipe; unless given that which fits the other side's number of items, else the benchmark's default.
        data: Data file of the benchmark; that which the run read, if it is still there, unless given.
        scorer: Scorer whose number is meant; the published one unless given.
        max_items: Samples that may be generated; 0 for what is free alone. A quarter of trying everything on all items, unless
            given.
        max_seconds: Seconds after which nothing more is begun.
        max_cost: Dollars that a server may cost; the search ends before it would cost more.
        price: A server's price, ``"IN,OUT"`` in dollars per million tokens; the list price of its model unless given.
        backend: As :func:`evaluate` takes it, for a recipe.
        settings: As :func:`evaluate` takes it, for a recipe.
        results: Folder of results for a recipe; ``results`` unless given. For a run its own folder decides.
        registry: TOML file with models and published numbers of your own.
        dry_run: List what can be tried with its cost, and generate nothing.
        progress: Draw a bar; or a :class:`Progress` that shows it.

    Raises:
        UserError: If there is nothing to compare, the number is impossible, or the two sides share no item; or the engine dies,
            or at Ctrl-C: what was generated is kept.
    """
    if max_items is not None and max_items < 0:
        raise UserError(f"--max-items must be 0 or more, not {max_items}")
    suite = load_suite(registry)
    shown = progress if isinstance(progress, Progress) else Progress(quiet=not progress, terminal=True)
    runs = [read(one) for one in (run, other) if one is not None]
    name = benchmark or (runs[0].benchmark if runs else None)
    if (number is None) != (n is None):
        raise UserError("--number and --n go together: a number without its number of items says nothing")
    claim = None if number is None or n is None else read_claim(str(number), n, _sizes(name))
    if data is not None and not Path(data).is_dir():
        open_regular(Path(data)).close()  # also where it turns out that nothing has to be read
    order = None
    if model is not None and name is not None:
        order = Order(name, str(model), protocol=protocol, data=None if data is None else Path(data), backend=backend,
                      settings=engine_settings(settings), output=Path(results or "results"))  # fmt: skip
    chosen = _base_run(runs, claim, order)
    if chosen is not None and benchmark not in (None, chosen.benchmark):
        raise UserError(f"--benchmark {benchmark}: the run is of {chosen.benchmark}")
    asked = protocol or backend != "auto" or results is not None or engine_settings(settings) != EngineSettings()
    if chosen is not None and asked:
        raise UserError("--protocol, --backend, --results and the engine's options go with a recipe; a run has its own")
    with silence(progress is False):
        base, goal = _sides(runs, chosen, claim, against, order, suite, scorer, None if model is None else str(model),
                            None if data is None else Path(data))  # fmt: skip
        wishes = Wishes(max_items, max_seconds, tariff_of(base, price, max_cost), generate=not dry_run)
        return explain_gap(base, goal, suite, shown, wishes)


def _sizes(benchmark: str | None) -> list[int]:
    """Returns the numbers of items of a benchmark's protocols."""
    if benchmark is None:
        return []
    return [one.n for one in catalog.benchmark(benchmark).protocols.values() if one.n]


def _base_run(runs: list[StoredRun], claim: Claim | None, order: Order | None) -> StoredRun | None:
    """Returns the run that is the base: ours, or an import where no recipe has a model; ``None`` if a recipe is."""
    ours = next((one for one in runs if not one.imported), None)
    imported = runs and (order is None or claim is not None or len(runs) == 2)
    return ours or (runs[0] if imported else None)


def _sides(
    runs: list[StoredRun],
    chosen: StoredRun | None,
    claim: Claim | None,
    against: str | None,
    order: Order | None,
    suite: Suite,
    scorer: str | None,
    model: str | None,
    data: Path | None,
) -> tuple[sides.Base, sides.Goal]:
    """Returns base and goal; the base is the chosen run or, without one, a recipe with its model.

    Raises:
        UserError: If there are not two sides.
    """
    if chosen is not None:
        base = sides.base_of_run(chosen, suite, model, data, scorer)
        others = [one for one in runs if one is not chosen]
        if others:
            return base, sides.goal_of_run(others[0], base, claim)
        return base, sides.goal_of_claim(claim, base) if claim else sides.goal_of_cell(base, suite, against)
    if order is None or not (runs or claim):
        raise UserError(
            "there is nothing to compare: give a run and what it should agree with (another run, or --number with --n), "
            "or --model, --benchmark, --number and --n"
        )
    size = claim.n if claim else len(finished(runs[0]).manifest.planned)
    order = dataclasses.replace(order, protocol=order.protocol or _fitting(order.benchmark, size))
    base = sides.base_of_recipe(order, suite, scorer)
    return base, sides.goal_of_claim(claim, base) if claim else sides.goal_of_run(runs[0], base)


def _fitting(benchmark: str, size: int) -> str | None:
    """Returns the protocol with the default's prompts and the fewest items, but as many as asked for; ``None`` if none has."""
    made = catalog.benchmark(benchmark)
    first = made.protocol(None)
    able = [one for one in made.protocols.values() if one.n >= size and one.prompt_id == first.prompt_id]
    return min(able, key=lambda one: one.n).name if able else None
