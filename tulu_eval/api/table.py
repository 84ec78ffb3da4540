"""The card's table: what was published beside what was measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import bar
from tulu_eval.api.words import spoken
from tulu_eval.errors import UnknownName, UserError, suggest
from tulu_eval.findings import measured_models
from tulu_eval.findings import table as findings
from tulu_eval.registry import Suite
from tulu_eval.reports import suite_table as suite_report
from tulu_eval.reports import table as tables
from tulu_eval.store.manifest import write_text


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table; ``print`` shows it in the format that it was made for, a notebook as Markdown.

    Attributes:
        collected: Its cells, with their runs: the card's table, or all numbers of the measured models.
        format: plain, markdown, latex, csv or json.
    """

    collected: findings.CollectedTable | measured_models.SuiteTable
    registry: Suite
    format: str

    @property
    def problems(self) -> tuple[str, ...]:
        """Run folders that are not in it, and why, one line each."""
        return self.collected.problems

    def text(self, format: str | None = None) -> str:  # noqa: A002 - the parameter of :func:`table`
        """Returns the table in a format, its own unless given, ending in a newline.

        Raises:
            UnknownName: If there is no such format.
        """
        form = format or self.format
        if form not in tables.FORMATS:
            raise UnknownName("format", form, tables.FORMATS)
        if isinstance(self.collected, measured_models.SuiteTable):
            return suite_report.write(self.collected, form)
        return tables.write(self.collected, self.registry, form)

    def __str__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        return self.text("markdown")


@spoken
def table(
    results: AnyPath = "results",
    format: str = "markdown",  # noqa: A002 - what the command line calls it, too
    *,
    suite: bool = False,
    output: AnyPath | None = None,
    registry: AnyPath | None = None,
    progress: bool = False,
) -> Table:
    """Returns the card's table: what was published beside what the runs under a folder measured.

    >>> print(tulu_eval.table("results"))
    >>> table = tulu_eval.table("results", output="table.tex")

    Args:
        results: Folder under which run folders are looked for; if there is none, nothing was measured.
        format: plain, markdown, latex, csv or json: what ``str(table)`` is in.
        suite: All numbers of each measured model instead, published beside measured: the suite's columns and others.
        output: Also write it to this file, in the format that its name's end says: .md, .tex, .csv, .json or .txt.
        registry: TOML file with models and published numbers of your own.
        progress: Draw a bar if reading takes more than a second.

    Raises:
        UserError: If there is no such format, or the file cannot be written.
    """
    if format not in tables.FORMATS:
        raise UnknownName("format", format, tables.FORMATS)
    path = None if output is None else Path(output)
    if path is not None and path.suffix not in tables.SUFFIXES:
        raise UserError(f"--output {path}: the format follows from the name's end.{suggest(path.suffix, tables.SUFFIXES)}")
    known = load_suite(registry)
    collect = measured_models.collect if suite else findings.collect
    found = Table(collect(known, Path(results), bar(progress)), known, format)
    if path is not None:
        write_text(path, found.text(tables.SUFFIXES[path.suffix]))
    return found
