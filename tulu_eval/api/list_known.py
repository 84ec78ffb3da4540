"""What there is to choose from: runs, benchmarks, protocols, recipes, suites."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from tulu_eval import plugins
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import spoken
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.training import recipes
from tulu_eval.training.stages import Stage

Kind = Literal["runs", "benchmarks", "protocols", "recipes", "suites"]


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A list of names, with what there is to say of each.

    Attributes:
        columns: Title of each column.
        rows: Each has a text per column, the name first.
        problems: Folders of runs that cannot be used, one line each.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    problems: tuple[str, ...] = ()


@spoken
def list_known(kind: Kind, *, results: AnyPath = "results") -> Known:
    """Returns what there is to choose from, of one kind.

    >>> [name for name, *_ in tulu_eval.list_known("benchmarks").rows]

    Args:
        kind: ``runs``, ``benchmarks``, ``protocols``, ``recipes`` or ``suites``.
        results: Folder under which runs are looked for.

    Raises:
        UnknownName: If there is no such kind.
    """
    if kind not in get_args(Kind):
        raise UnknownName("kind of list", kind, get_args(Kind))
    if kind == "runs":
        return _runs(Path(results))
    if kind == "recipes":
        rows = ((name, stage, recipes.load(stage, name).about) for stage in get_args(Stage) for name in recipes.names(stage))
        return Known(("recipe", "stage", "about"), tuple(rows))
    if kind == "suites":
        return Known(("suite", "benchmarks", "about"), tuple(_suites()))
    columns = ("benchmark", "default", "protocols") if kind == "benchmarks" else ("protocol", "benchmark", "items", "about")
    return Known(columns, tuple(_benchmarks(kind)))


def _runs(results: Path) -> Known:
    from tulu_eval.runs.reading import find_runs

    found, problems = find_runs(results)
    rows = []
    for run in found:
        first = run.results[0] if run.results else None
        number = f"{first.value:.1f}, n = {first.n}" if first else "unfinished"
        rows.append((str(run.folder), run.model, run.benchmark, number))
    return Known(("run", "model", "benchmark", "first number"), tuple(rows), tuple(problems))


def _benchmarks(kind: Kind) -> Iterator[tuple[str, ...]]:
    from tulu_eval.runs import catalog

    for name in plugins.names(plugins.BENCHMARKS):
        try:
            made = catalog.benchmark(name)
        except UserError as error:  # a package of somebody else that cannot be imported
            yield (name, "", str(error)) if kind == "benchmarks" else ("", name, "", str(error))
            continue
        if kind == "benchmarks":
            yield name, made.protocol(None).name, ", ".join(made.protocols)
        else:
            yield from ((key, name, str(one.n or "any"), one.summary) for key, one in made.protocols.items())


def _suites() -> Iterator[tuple[str, ...]]:
    from tulu_eval.runs import catalog

    for name in plugins.names(plugins.SUITES):
        suite = catalog.suite(name)
        yield name, ", ".join(member.benchmark for member in suite.members), suite.summary
