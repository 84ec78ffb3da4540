"""All verbs of the command line, from click's own tree, so that tests of every verb include a new one."""

from __future__ import annotations

from collections.abc import Iterator

import click

from tulu_eval.cli import cli


def commands(group: click.Group = cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yields every verb with its name, e.g. ``models show``."""
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
