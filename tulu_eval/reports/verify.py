"""The report of ``verify``, for people and as plain data."""

from __future__ import annotations

from typing import Any

from tulu_eval.findings.audit import Allowance
from tulu_eval.findings.deviations import UNRECORDED, Setting
from tulu_eval.findings.verify import Verification
from tulu_eval.records import Result
from tulu_eval.registry import PublishedCell
from tulu_eval.reports.layout import data, grid, wrapped
from tulu_eval.reports.run import failed, interval
from tulu_eval.store.signature import UNKNOWN


def as_json(found: Verification) -> dict[str, Any]:
    """Returns the report as plain data."""
    return {
        "run": str(found.run.folder),
        "model": found.model.hub_id,
        "benchmark": found.run.benchmark,
        "same_weights": found.same_weights,
        "inconsistent": found.inconsistent,
        "comparisons": [data(one) for one in found.comparisons],
        "untested": [{**data(one), "verdict": "cannot tell"} for one in found.untested],
        "beside": [data(row) for row in found.beside],
        "allowance": data(found.allowance) if found.allowance else None,
        "contradictions": [data(entry) for entry in found.contradictions],
        "differences": [data(setting) for setting in found.differences],
        "conclusion": found.conclusion,
        "not_recorded": UNRECORDED,
        "notes": list(found.notes),
        "next_step": found.next_step,
    }


def as_text(found: Verification) -> str:
    """Returns the verdicts, their reasons, and the differences from the published recipe."""
    explained = [one.agreement.explanation for one in found.comparisons if one.main]
    explained += [one.explanation for one in found.untested]
    blocks = [
        _heading(found),
        _table(found),
        "\n".join(wrapped(text, "  ") for text in dict.fromkeys(explained)),
        wrapped(_allowance(found.allowance)) if found.allowance else "",
        *(
            wrapped(f"The record contradicts itself: {c.title or c.id}. {c.first} {c.second} {c.advice}")
            for c in found.contradictions
        ),
        _differences(found),
        "\n".join(wrapped(f"Note: {note}.", "  ") for note in found.notes),
        "\n".join(dict.fromkeys(row.signature for row in _compared(found))),
        wrapped(f"Which setting explains it: {found.next_step}", "  ") if found.next_step else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _compared(found: Verification) -> list[Result]:
    return [one.row for one in found.comparisons] + [one.row for one in found.untested]


def _heading(found: Verification) -> str:
    whose = "" if found.same_weights else f", {_weights(found)}"
    lines = [f"{found.run.model} on {found.run.benchmark}{whose}"]
    rows: dict[tuple[str, str], Result] = {(row.protocol, row.scorer): row for row in found.beside}
    rows |= {(row.protocol, row.scorer): row for row in _compared(found)}
    for row in sorted(rows.values(), key=lambda row: (row.n, row.protocol, row in found.beside)):
        of = f" of {row.n_protocol}" if row.partial else ""
        lines.append(
            f"  measured {row.value:.1f} %{failed(row)} {interval(row)}, n = {row.n}{of}, "
            f"protocol {row.protocol}, scorer {row.scorer}"
        )
    return "\n".join(lines)


def _weights(found: Verification) -> str:
    """Returns why the weights do not count as the published number's, to put after the names of model and benchmark."""
    manifest = found.run.about
    if not found.run.imported or found.run.model != found.model.hub_id:
        return f"compared with the numbers of {found.model.hub_id}, as other weights"
    if manifest.model.revision == UNKNOWN:
        return f"whose revision the import does not name, so the weights may differ from those of {found.model.hub_id}"
    if manifest.settings.quantization == UNKNOWN:
        return "whose import does not say whether the weights were altered"
    return f"compared with the numbers of {found.model.hub_id}, as other weights"


def _table(found: Verification) -> str:
    header = ("published", "n", "standing", "source", "run", "n", "difference", "p", "detectable", "verdict")
    rows = [
        (
            *_published(one.cell),
            f"{one.row.value:.1f}{failed(one.row)} {one.row.protocol}",
            str(one.row.n),
            f"{one.agreement.difference:+.1f}",
            f"{one.agreement.p_value:.2g}",
            "none" if one.agreement.detectable is None else f"{one.agreement.detectable:.1f}",
            one.agreement.verdict if one.main else f"(beside: {one.agreement.verdict})",
        )
        for one in found.comparisons
    ]
    rows += [
        (*_published(one.cell), _on_other_scale(one.row), str(one.row.n), "-", "-", "-", "cannot tell")
        for one in found.untested
    ]
    cells = [one.cell for one in found.comparisons] + [one.cell for one in found.untested]
    sources = {cell.source.key: cell.source for cell in cells}
    legend = [wrapped(f"{key}: {source}", "  ") for key, source in sources.items()]
    legend += [f"{cell.value:.1f} is printed as {cell.printed} ({cell.source.key})" for cell in cells if _odd(cell)]
    return "\n".join([grid(header, rows, right=(0, 1, 5, 6, 7, 8), keep=(0, 1, 5, 6, 7, 8, 9)), "", *legend])


def _on_other_scale(row: Result) -> str:
    """Returns a win rate with its metric and judge, which differ from the published number's."""
    return f"{row.value:.1f} ({row.metric} by {row.scorer})"


def _published(cell: PublishedCell) -> tuple[str, str, str, str]:
    """Returns a published number in the run's unit, and its n, standing and source."""
    return f"{cell.value:.1f}", str(cell.n or "unknown"), cell.standing, cell.source.key


def _odd(cell: PublishedCell) -> bool:
    """Whether a source prints a number differently than this column, e.g. as a fraction."""
    return cell.printed.strip("*% ") != f"{cell.value:.1f}"


def _allowance(allowance: Allowance) -> str:
    rate, n = 100 * allowance.rate, allowance.items
    what = (
        f"Allowance for noise: between two greedy runs of the same weights, each of the {n} items may flip with a chance of "
        f"{rate:.2g} % (about {allowance.rate * n:.0f} items), to right as likely as to wrong, because of batch size, kernels "
        "or engine version."
    )
    if allowance.measured:
        return f"{what} 'tulu-eval audit' measured it on this run: the upper end of its interval."
    return f"{what} It is an allowance, not a measurement: 'tulu-eval audit' measures it, or a second run and 'compare'."


def _differences(found: Verification) -> str:
    settings = found.differences
    close = wrapped(f"{found.conclusion} Not recorded by anybody: {UNRECORDED}.")
    if not settings:
        return close
    header = ("differs from the published recipe", "published", "run", "can change")
    table = grid(header, [(s.name, s.published, s.run, _reach(s)) for s in settings], keep=(0,))
    return f"{table}\n\n{close}"


def _reach(setting: Setting) -> str:
    return "single items: noise" if setting.noise else f"the {setting.changes}, for any number of items"
