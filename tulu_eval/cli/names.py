"""Names and paths that a user types: completed by the shell, and looked up before the imports of a verb.

Those imports take half a second; a wrong name is said in a third of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tulu_eval.errors import UserError


class There(click.Path):
    """A path at which there is something, which is checked before a verb's own code is called; the message says what."""

    def __init__(self, what: str) -> None:
        super().__init__(path_type=Path)
        self._what = what

    def check(self, path: Path) -> None:
        """Raises UserError if nothing is there, OSError if the system cannot say."""
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{path}: {self._what}") from error


def check_paths(command: click.Command, given: Mapping[str, Any]) -> None:
    """Checks the paths among the values that a verb is called with."""
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if isinstance(parameter.type, There) and value is not None:
            for path in value if isinstance(value, tuple) else (value,):
                parameter.type.check(path)


RUN, FILE = There("no such run folder"), There("no such file")
RESULTS = There("no such folder; 'tulu-eval run' makes one, --results names another")


def complete(*groups: str) -> Any:
    """Returns a shell completion for the names of entry point groups."""

    def names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
        from tulu_eval import plugins

        return [name for group in groups for name in plugins.names(group) if name.startswith(incomplete)]

    return names


def complete_models(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes a model's name from the registry."""
    from tulu_eval.registry import load_suite

    return [model.name for model in load_suite().models if model.name.startswith(incomplete)]


def check_models(given: Sequence[str], registry: Path | None) -> None:
    """Raises UnknownName for the first name that is neither a path nor in the registry, and is shaped like no hub id.

    Whatever plans a run finds this, too, but only after the imports of a run.
    """
    from tulu_eval.registry import load_suite

    named = [name for name in given if name.strip() and not set("/~") & set(name) and not name.endswith(".gguf")]
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        named = [name for name in named if not os.path.lexists(name)]
    for name in named:
        load_suite(registry).find(name.partition("@")[0])


def check_protocol(benchmark: str, protocol: str) -> None:
    """Raises UnknownName if a benchmark has no such protocol; a suite has none, which is said where it is run."""
    from tulu_eval import plugins

    if benchmark in plugins.names(plugins.BENCHMARKS):
        from tulu_eval.runs import catalog

        catalog.benchmark(benchmark, protocol).protocol(protocol)


def complete_protocols(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes a protocol's name from the benchmarks that stand before it; from all where there is none."""
    from tulu_eval import plugins
    from tulu_eval.runs import catalog

    every = plugins.names(plugins.BENCHMARKS)
    given = [*_words_before(context), context.params.get("benchmark")]
    known = [name for name in given if name in every] or every
    found = dict.fromkeys(protocol for name in known for protocol in catalog.benchmark(name).protocols)
    return [name for name in found if name.startswith(incomplete)]


def _words_before(context: click.Context) -> list[str]:
    """Returns the arguments that were typed before an option that has no value yet; click has not given them names then."""
    return [word for value in (*context.params.values(), context.args) if isinstance(value, list | tuple) for word in value]


def complete_stages(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes a stage of the registry's models."""
    from typing import get_args

    from tulu_eval.registry.entries import Stage

    return [stage for stage in get_args(Stage) if stage.startswith(incomplete)]


def complete_recipes(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Completes the name of a recipe of the stage that stands before it; of any where there is none."""
    from typing import get_args

    from tulu_eval.training import recipes
    from tulu_eval.training.stages import Stage

    typed = _words_before(context)
    stages = [stage for stage in get_args(Stage) if stage in typed] or get_args(Stage)
    return sorted({name for stage in stages for name in recipes.names(stage) if name.startswith(incomplete)})
