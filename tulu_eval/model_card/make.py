"""Makes the results of a model card: ``model-index`` metadata, the hub's ``.eval_results`` file, and a Markdown section.

The numbers come from finished runs, each with n, interval, scorer and signature. Published numbers are included only on
request, and each is marked as published.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from tulu_eval.errors import UserError, suggest
from tulu_eval.escaping import markdown_cell, markdown_code
from tulu_eval.findings.verify import Comparison, verify
from tulu_eval.model_card.data_sets import DATA_SETS, data_set
from tulu_eval.records import Result
from tulu_eval.registry import PublishedCell, Suite
from tulu_eval.runs.reading import StoredRun, find_runs
from tulu_eval.version import __version__

CUSTOM = "custom"
"""The protocol for a user's own rows, whose result is not a number of the data set."""


@dataclasses.dataclass(frozen=True, slots=True)
class CardEntry:
    """A row of a run for the card.

    Attributes:
        comparisons: Comparisons of the row with published numbers, as ``verify`` makes them.
    """

    run: StoredRun
    row: Result
    comparisons: tuple[Comparison, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CardContent:
    """The results for a card.

    Attributes:
        published: Published numbers; empty unless requested.
        left_out: Runs and rows that are not on the card, with the reason, one line each.
    """

    name: str
    entries: tuple[CardEntry, ...]
    published: tuple[PublishedCell, ...]
    left_out: tuple[str, ...]


def make(name: str, suite: Suite, results: Path, published: bool) -> CardContent:
    """Returns the results for a model's card; of several runs of a protocol, the newest.

    ``name`` is a name of the registry, or the model's name in a run; ``results`` has run folders at any depth.

    Raises:
        UserError: If there is neither a complete run of the model nor a requested published number.
    """
    model = suite.known(name)
    runs, problems = find_runs(results) if results.is_dir() else ((), ())
    own = [run for run in runs if run.model == name or (model is not None and suite.known(run.model) == model)]
    entries: dict[tuple[str, ...], CardEntry] = {}
    left_out = []
    for run in sorted(own, key=lambda one: one.ended):
        if run.tally.unfinished:
            left_out.append(f"{run.folder}: {run.tally.unfinished}")
            continue
        comparisons = _comparisons(run, suite)
        for row in run.results:
            if reason := _reason(row):
                left_out.append(f"{run.folder}: {row.protocol}, {row.scorer}: {reason}")
                continue
            key = (run.benchmark, row.protocol, row.scorer, row.metric, _origin(run))
            entries[key] = CardEntry(run, row, tuple(one for one in comparisons if one.row == row))
    cells = suite.cells(model) if published and model is not None else ()
    cells = tuple(cell for cell in cells if cell.benchmark in DATA_SETS and cell.unit == "percent")
    left_out += [f"cannot be used: {problem}" for problem in problems]
    if not entries and not cells:
        named = "" if own else suggest(name, sorted({run.model for run in runs}))
        first = f" Left out, first of {len(left_out)}: {left_out[0]}." if left_out else ""
        raise UserError(f"no whole run of {name} is under {results}.{named}{first}")
    return CardContent(model.hub_id if model else name, tuple(entries.values()), cells, tuple(left_out))


def _comparisons(run: StoredRun, suite: Suite) -> tuple[Comparison, ...]:
    if run.of_files:
        return ()  # the differences from the recipe are unknown
    try:
        return verify(run, suite).comparisons
    except UserError:
        return ()  # no published number, or none that can be compared


def _reason(row: Result) -> str:
    """Returns why a row is not on a card; empty if it is."""
    if row.protocol == CUSTOM:
        return "not a number of a data set"
    if row.metric == "answered":
        return "only counts answers"
    if row.failed:
        return f"the engine or judge failed on {row.failed} of {row.n} items"
    return f"{row.n} of {row.n_protocol} items" if row.partial else ""


def eval_results(card: CardContent) -> list[EvalResult]:
    """Returns the numbers as records of the hub's library; n, interval and signature are the metric's arguments."""
    measured = [
        _result(entry.row.benchmark, entry.row.metric, entry.row.value, _title(entry), _arguments(entry))
        for entry in card.entries
    ]
    printed = [
        _result(cell.benchmark, cell.metric, cell.value, f"{_words(cell.metric)}, as published, not measured", _cited(cell))
        for cell in card.published
    ]
    return sorted(measured + printed, key=lambda one: one.dataset_type)  # as model-index groups them


def _result(benchmark: str, metric: str, value: float, title: str, arguments: dict[str, Any]) -> EvalResult:
    data = data_set(benchmark, metric)
    return EvalResult(
        task_type="text-generation",
        task_name="Text Generation",
        dataset_type=data.id,
        dataset_name=data.name,
        dataset_config=data.config,
        dataset_split=data.split,
        metric_type=metric,
        metric_name=title,
        metric_value=round(value, 2),
        metric_args=arguments,
    )


def _title(entry: CardEntry) -> str:
    row = entry.row
    return f"{_words(row.metric)}, protocol {row.protocol}, scorer {row.scorer}, n = {row.n}{_origin(entry.run)}"


def _origin(run: StoredRun) -> str:
    """Returns the source of a run's answers or judgments, to put after a name; empty for a run of this program."""
    source = f"imported from {run.imported}" if run.imported else run.source
    return f", {source}" if source else ""


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _arguments(entry: CardEntry) -> dict[str, Any]:
    row = entry.row
    interval = {"interval": [round(row.low, 2), round(row.high, 2)], "interval_method": row.interval}
    return {"n": row.n, **(interval if row.interval != "none" else {}), "signature": row.signature}


def _cited(cell: PublishedCell) -> dict[str, Any]:
    arguments = {"published": True, "source": str(cell.source), "printed": cell.printed, "n": cell.n, "standing": cell.standing}
    return {name: value for name, value in arguments.items() if value is not None}


def metadata(card: CardContent) -> str:
    """Returns the ``model-index`` as YAML, after reading it back with the hub's own library.

    Raises:
        ValueError: If the data read back differs from the data written, which is an error of this module.
    """
    import yaml

    results = eval_results(card)
    text = f"{ModelCardData(model_name=card.name, eval_results=results).to_yaml()}\n"
    loaded = yaml.safe_load(text)
    if model_index_to_eval_results(loaded["model-index"]) != (card.name, results):
        raise ValueError("the model-index changes when the hub's library reads it")
    if ModelCardData(**loaded).eval_results != results:
        raise ValueError("the model-index changes when it is read as the metadata of a card")
    return text


def hub_files(card: CardContent) -> dict[str, str]:
    """Returns the ``.eval_results`` files by name: for each data set with a benchmark page, the row with the most items.

    Raises ValueError if the hub's library reads other data than was written, which is an error of this module.
    """
    import yaml

    files = {}
    for benchmark, data in DATA_SETS.items():
        rows = [entry for entry in card.entries if entry.run.benchmark == benchmark and data.task]
        if not rows:
            continue
        best = max(rows, key=lambda one: one.row.n)  # the first scorer's among equals
        entry = EvalResultEntry(
            dataset_id=data.id,
            task_id=data.task,
            value=round(best.row.value, 2),
            date=best.run.ended[:10] or None,
            notes=f"{_title(best)}, percent, 95 % interval [{best.row.low:.1f}, {best.row.high:.1f}], {best.row.signature}",
        )
        plain = eval_result_entries_to_yaml([entry])
        if parse_eval_result_entries(plain) != [entry]:
            raise ValueError("the entry changes when the hub's library reads it")
        files[f".eval_results/{data.task}.yaml"] = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000)
    return files


def section(card: CardContent, suite: Suite) -> str:
    """Returns the results as a Markdown section."""
    lines = ["## Evaluation", ""]
    if card.entries:
        lines += [
            f"Measured with tulu-eval {__version__}. A number has its 95 % interval; its signature says how it was made.",
            "",
        ]
        lines += _table(
            ("Benchmark", "Protocol", "Metric", "Scorer", "Value", "95 % interval", "n", "Verdict on what was published"),
            [_measured(entry) for entry in card.entries],
        )
        lines += ["", *(f"- {_counts(entry.row)}: `{markdown_code(entry.row.signature)}`" for entry in card.entries), ""]
    if card.published:
        lines += ["Published elsewhere and not measured here:", ""]
        lines += _table(
            ("Benchmark", "Metric", "Printed", "n", "Source", "Standing"),
            [
                (
                    data_set(c.benchmark, c.metric).name,
                    _words(c.metric),
                    c.printed,
                    str(c.n or "unknown"),
                    str(c.source),
                    c.standing,
                )
                for c in card.published
            ],
        )
    beware = {entry.run.folder: f"- {_title(entry)}: it {entry.run.unhashed}" for entry in card.entries if entry.run.unhashed}
    notes = [*beware.values(), *_contradictions(card, suite)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]).strip("\n") + "\n"


def _measured(entry: CardEntry) -> tuple[str, ...]:
    row = entry.row
    verdicts = [
        f"{one.agreement.verdict} with {one.cell.printed} ({one.cell.source.key})" for one in entry.comparisons if one.main
    ]
    interval = "none" if row.interval == "none" else f"[{row.low:.1f}, {row.high:.1f}]"
    return (
        data_set(row.benchmark, row.metric).name, f"{row.protocol}{_origin(entry.run)}", _words(row.metric), row.scorer,
        f"{row.value:.1f}", interval, str(row.n), "; ".join(verdicts) or "-",
    )  # fmt: skip


def _counts(row: Result) -> str:
    return ", ".join(f"{count} {status}" for status, count in row.counts.items() if count)


def _contradictions(card: CardContent, suite: Suite) -> Iterator[str]:
    cells = [*card.published, *(one.cell for entry in card.entries for one in entry.comparisons)]
    ids = {name for cell in cells for name in cell.contradictions}
    for entry in suite.contradictions():
        if entry.id in ids:
            yield f"- The record contradicts itself ({entry.id}): {entry.first} {entry.second} {entry.advice}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in (header, *rows)]
    return [body[0], "|" + "---|" * len(header), *body[1:]]
