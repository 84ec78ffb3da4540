"""The answer of ``explain`` in one sentence, and what to do next."""

from __future__ import annotations

from tulu_eval.findings.explaining.explanation import Explanation, Tried


def sentence(found: Explanation) -> str:
    """Returns the answer in plain words."""
    gap = found.gap
    if gap is None:
        if found.budget and not found.short:
            return "Nothing was generated; these are the settings that can be tried, and what each costs."
        return f"Cannot tell: the base's own number needs samples that the budget of {found.budget} does not allow."
    size = f"the gap of {100 * gap.size:+.1f} points"
    if gap.noise:
        return (
            f"There is nothing to explain: chance alone gives a gap of {100 * gap.size:+.1f} points on {gap.n} items "
            f"({gap.how}, p = {gap.p_value:.2g})."
        )
    named = [row for row in found.tried if row.names == found.named]
    if named:
        return _explained(named[0], size, len(found.named))
    if found.rivals:
        rivals = [row for row in found.tried if row.names in found.rivals]
        which = " or ".join(row.change for row in rivals)
        if len(rivals) == 1:
            return f"Cannot tell what explains {size}. With {which}, {rivals[0].reason}."
        return f"After all that was seen each of these may explain {size}, and it cannot be told which does: {which}."
    parts = [row for row in found.tried if row.verdict == "contributes"]
    if parts:
        listed = ", ".join(f"{row.change} ({_effect(row)})" for row in parts)
        return f"No setting alone explains {size}; it is contributed to by {listed}."
    ended = " before the budget ended" if found.short else ""
    return f"No setting that was tried explains {size}{ended}."


def _explained(row: Tried, size: str, several: int) -> str:
    who = f"One setting explains {size}" if several == 1 else f"{several} settings together explain {size}"
    texts = f"; {row.same_text} of {row.items} texts equal the goal's" if row.same_text is not None else ""
    return (
        f"{who}: {row.change}. That moves the number by {_effect(row)} on {row.items} of {row.n} items, and "
        f"{row.left or 0.0:+.1f} are left{texts}."
    )


def _effect(row: Tried) -> str:
    if row.effect is None or row.low is None or row.high is None:
        return "nothing known"
    if row.low == row.high:
        return f"{row.effect:+.1f} points (exact)"
    return f"{row.effect:+.1f} points [{row.low:+.1f}, {row.high:+.1f}]"


def next_step(found: Explanation) -> str:
    """Returns what to do next, one line; empty for nothing."""
    if found.gap is None or (found.short and not found.named):
        most = max(found.everything, found.budget) + found.n
        return f"the same command with --max-items {most} tries everything on all {found.n} items; nothing is generated twice"
    if found.gap.noise:
        return ""
    row = next((row for row in found.tried if row.names == found.named), None)
    if row is not None and row.paid and row.items < row.n:
        asked = "+".join(name for name in row.names if name not in found.scored)
        return f"'run' with the protocol that ends in +{asked} finishes its run; nothing is generated twice"
    waiting = [one for one in found.untried if one.reason]
    if not found.named and waiting:
        return f"{len(waiting)} settings cannot be tried here: {waiting[0].setting} {waiting[0].to} ({waiting[0].reason})"
    return ""
