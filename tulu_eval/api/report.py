"""All results in one HTML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import bar
from tulu_eval.api.words import spoken
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.plugins import BENCHMARKS, names
from tulu_eval.reports.report import make
from tulu_eval.store.manifest import write_text


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """An HTML page that was written.

    Attributes:
        size: Number of characters.
        trained: Number of training runs that it shows.
        problems: Run folders that it does not show, and why, one line each.
        promptless: Benchmarks whose prompts it does not show, and why, one line each.
    """

    path: Path
    size: int
    runs: int
    trained: int
    problems: tuple[str, ...]
    promptless: tuple[str, ...]


@spoken
def report(
    results: AnyPath = "results",
    *,
    output: AnyPath | None = None,
    data: Mapping[str, AnyPath] | None = None,
    training: AnyPath | None = None,
    registry: AnyPath | None = None,
    progress: bool = False,
) -> Page:
    """Writes one HTML page with everything that was measured; it opens without a network.

    >>> tulu_eval.report("results", output="report.html").runs

    Args:
        results: Folder under which run folders are looked for.
        output: The file; report.html in the results folder unless given.
        data: Files or folders with the items of benchmarks, by benchmark, for the prompts' text; unless given, those
            that each run read, if they are still there, or the benchmark's own.
        training: Folder under which training runs are looked for; ``training``, if it exists, unless given.
        registry: TOML file with models and published numbers of your own.
        progress: Draw a bar if reading takes more than a second.

    Raises:
        UserError: If a folder or file is missing, or the page cannot be written.
    """
    files = {name: Path(path) for name, path in (data or {}).items()}
    for name, path in files.items():
        if name not in names(BENCHMARKS):
            raise UnknownName("benchmark", name, names(BENCHMARKS))
        if not (path.is_file() or path.is_dir()):
            raise UserError(f"--data {name}={path}: no such file or folder")
    folder = Path(results)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; 'tulu-eval run' makes one, --results names another")
    curves = None if training is None else Path(training)
    if curves is not None and not curves.is_dir():
        raise UserError(f"no folder {curves}; 'tulu-eval train' and 'tulu-eval reproduce' make one")
    curves = curves or next(filter(Path.is_dir, [Path("training")]), None)
    suite = load_suite(registry)
    page = make(suite, folder, files, bar(progress), curves)
    target = folder / "report.html" if output is None else Path(output)
    write_text(target, page.text)
    return Page(target, len(page.text), page.runs, page.trained, page.problems, page.promptless)
