"""The report of ``plan`` for people."""

from __future__ import annotations

from tulu_eval.findings.plan import Cost, Planning
from tulu_eval.reports.layout import duration, grid, wrapped


def as_text(found: Planning) -> str:
    """Returns the number of items needed, the differences that each protocol can detect, and the cost of the runs."""
    shares = _range(*(f"{100 * share:g}" for share in found.discordance))
    items = [
        (
            "both models on the same items",
            "McNemar, exact ('compare')",
            f"{shares} % right in one only",
            _range(*(f"{n:,}" for n in found.paired)),
        ),
        (
            "each model on items of its own",
            "Fisher, exact ('verify')",
            f"around {found.centre:.1f} % ({found.centre_source})",
            f"{found.unpaired:,}",
        ),
    ]
    title = f"{found.benchmark}: items that show a difference of {found.detect:g} points (5 % two-sided, 80 % power)"
    blocks = [
        f"{title}\n\n{grid(('design', 'test', 'taken as', 'items'), items, right=(3,))}",
        f"{_reaches(found)}\n\n{_verdict(found)}",
        _costs(found),
    ]
    return "\n\n".join(blocks)


def _reaches(found: Planning) -> str:
    rows = [
        (
            reach.protocol,
            f"{reach.n:,}",
            _range(_points(reach.paired_low), _points(reach.paired_high)),
            _points(reach.unpaired),
            reach.enough,
        )
        for reach in found.reaches
    ]
    return grid(("protocol", "items", "shows, paired", "shows, unpaired", "enough"), rows, right=(1, 2, 3))


def _verdict(found: Planning) -> str:
    most = max(reach.n for reach in found.reaches)
    answers = {reach.enough for reach in found.reaches}
    if "yes" in answers:
        return f"{found.benchmark} has the items: compare the two runs item by item with 'tulu-eval compare'."
    if "perhaps" in answers:
        return (
            f"{found.benchmark} has {most:,} items, enough if few items are right in one model only; see 'tulu-eval compare'."
        )
    return f"{found.benchmark} has {most:,} items at most: do not run it to decide a difference of {found.detect:g} points."


def _costs(found: Planning) -> str:
    header = ("model", "protocol", "parameters", "prompt tokens", "new tokens", "memory", "time on this machine")
    table = grid(header, [_cost(cost) for cost in found.costs], right=(2, 3), keep=(0, 1, 2))
    lines = dict.fromkeys(line for cost in found.costs for line in cost.assumed)
    remarks = "".join("\n" + wrapped(f"Assumed: {line}.", "  ") for line in lines)
    return f"{table}\n\nEngine start is not counted; the prompts' shared prefix is computed once.{remarks}"


def _cost(cost: Cost) -> tuple[str, ...]:
    tokens = "unknown" if cost.prompt_tokens is None else f"{cost.prompt_tokens:,}"
    time = "unknown" if cost.seconds is None else f"{duration(cost.seconds[0])} to {duration(cost.seconds[1])}"
    typical, most = cost.new_tokens
    return (
        cost.model,
        cost.protocol,
        f"{cost.parameters / 1e9:.2f} B",
        tokens,
        f"{typical:,} to {most:,}",
        f"{cost.memory_bytes / 1e9:.1f} GB",
        time,
    )


def _points(difference: float | None) -> str:
    return "none" if difference is None else f"{difference:.1f}"


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
