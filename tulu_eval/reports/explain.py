"""The report of ``explain``, for people and as plain data."""

from __future__ import annotations

from typing import Any

from tulu_eval.findings.explaining.explanation import Explanation, Tried
from tulu_eval.reports.layout import data, duration, grid, wrapped

METHOD = (
    "Effects are paired differences in points, over the goal's items, and their intervals hold together with 99 %, however "
    "often one looks (betting without replacement, Waudby-Smith and Ramdas 2020, 2024)."
)


def as_json(found: Explanation) -> dict[str, Any]:
    """Returns the report as plain data."""
    plain = data(found)
    gap = found.gap
    plain["gap"] = (
        None
        if gap is None
        else {
            "base": gap.base, "goal": gap.goal, "points": 100 * gap.size, "p_value": gap.p_value, "test": gap.how, "n": gap.n,
            "noise": gap.noise,
        }
    )  # fmt: skip
    plain["method"] = METHOD
    plain["steps"] = [{"step": name, "points": points} for name, points in found.steps]
    return plain


def as_text(found: Explanation) -> str:
    """Returns the answer, the two sides, and a table of what was tried."""
    header, rows = table(found)
    numbers = tuple(at for at, name in enumerate(header) if name in ("items", "left"))
    blocks = [
        wrapped(found.sentence),
        "\n".join(wrapped(line, "      ") for line in _sides(found)),
        grid(header, rows, right=numbers, keep=numbers) if rows else "",
        "\n".join(wrapped(line, "  ") for line in beside(found)),
        wrapped(METHOD) if any(row.effect is not None for row in found.tried) else "",
        "\n".join(wrapped(line, "  ") for line in untried(found)),
        wrapped(spent(found)),
        wrapped(f"more: {found.next_step}", "  ") if found.next_step else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _sides(found: Explanation) -> list[str]:
    gap = found.gap
    of = {"base": "", "goal": ""} if gap is None else {"base": f"{100 * gap.base:.1f} %  ", "goal": f"{100 * gap.goal:.1f} %  "}
    lines = [f"from  {of['base']}{found.base}", f"to    {of['goal']}{found.goal}"]
    return lines if gap is None else [*lines, gap_line(found)]


def gap_line(found: Explanation) -> str:
    """Returns the gap with its test; empty if it is not known."""
    gap = found.gap
    if gap is None:
        return ""
    return (
        f"gap   {100 * gap.size:+.1f} points on {gap.n} items, {gap.how} p = {gap.p_value:.2g}; "
        f"flips alone give up to {found.chance:.1f}"
    )


def table(found: Explanation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns header and rows of what was tried, or of what can be tried if nothing was."""
    if all(row.effect is None for row in found.tried):
        listed = [(row.setting, _values(row), "+".join(row.names), f"{row.n}" if row.paid else "free") for row in found.tried]
        return ("setting", "from -> to", "name", "items"), list(listed)
    rows = [
        (
            row.setting, _values(row), _effect(row), f"{row.items}" if row.items else "-",
            "-" if row.left is None else f"{row.left:+.1f}", row.verdict,
        )
        for row in found.tried
    ]  # fmt: skip
    return ("setting", "from -> to", "effect", "items", "left", "verdict"), list(rows)


def _values(row: Tried) -> str:
    return f"{row.was} -> {row.to}"


def _effect(row: Tried) -> str:
    if row.effect is None:
        return "-"
    if row.low == row.high:
        return f"{row.effect:+.1f} (exact)"
    return f"{row.effect:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"


def beside(found: Explanation) -> list[str]:
    """Returns the reasons of verdicts that are not plain from the table, sources of what was found, and what flips alike."""
    lines = []
    for row in found.tried:
        name = row.change
        if row.verdict in ("explains it", "contributes"):
            lines.append(f"{name}: {row.reason}. Where it happened: {row.source}.")
        elif row.names in found.rivals or "as the only cause" in row.reason:
            lines.append(f"{name}: {row.reason}.")
        if row.same_text is not None and row.verdict == "explains it":
            lines.append(f"{name}: {row.same_text} of {row.items} texts equal the goal's.")
        if row.alike and row.verdict in ("explains it", "contributes"):
            lines.append(f"{name}: correlated with {', '.join(row.alike)}, which flip the same items.")
    return lines


def untried(found: Explanation) -> list[str]:
    """Returns what cannot be tried here, a line for each reason."""
    reasons = dict.fromkeys(one.reason for one in found.untried)
    listed = {reason: [f"{one.setting} {one.to}" for one in found.untried if one.reason == reason] for reason in reasons}
    return [f"cannot be tried here: {'; '.join(names)}: {reason}" for reason, names in listed.items()]


def spent(found: Explanation) -> str:
    """Returns what was generated; empty if nothing could be."""
    if not found.everything:
        return ""
    share = 100 * found.generated / found.everything
    cost = "" if found.dollars is None else f", for at most ${found.dollars:.2f}"
    ended = "; the budget ended the search" if found.short else ""
    return (
        f"{found.generated} of at most {found.budget} samples generated in {duration(found.seconds)}{cost}, {share:.0f} % of "
        f"the {found.everything} that every paid change on all items needs{ended}"
    )
