"""The report of ``compare``, for people and as plain data."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tulu_eval.errors import counted
from tulu_eval.findings.compare import Compared, Flip, Paired
from tulu_eval.reports.layout import cut, data, grid, wrapped
from tulu_eval.reports.run import grade
from tulu_eval.store.signature import UNKNOWN

CAUSES = {
    "prompt unknown": "different completion, and another harness kept no prompt",
    "prompt differs": "different prompt",
    "text differs": "same prompt, different completion",
    "likelihoods differ": "same prompt, same likeliest text, other log-probabilities",
    "extraction": "same completion, different answer extracted from it",
    "grade": "same answer, different grade",
}
INTERVALS = {"mcnemar": "Tango", "t": "Student"}
TESTS = {"mcnemar": "exact McNemar", "t": "paired t-test"}
BETTER = {"mcnemar": "right", "t": "better"}
_LONG = 48
"""Characters of a setting, e.g. a hub id, that the report shows whole."""


def as_json(found: Compared) -> dict[str, Any]:
    """Returns the report as plain data."""
    return {
        "a": str(found.a.folder),
        "b": str(found.b.folder),
        "benchmark": found.a.benchmark,
        "scorer": found.scorer,
        "paired": data(found.paired),
        "flips": [data(flip) for flip in found.flips],
        "changes": [data(change) for change in found.changes],
        "left_out": found.left_out,
        "only_in_a": found.only_in[0],
        "only_in_b": found.only_in[1],
        "unhashed": [found.a.unhashed, found.b.unhashed],
    }


def as_text(found: Compared) -> str:
    """Returns the test, each flip, and the differences between the manifests."""
    blocks = [_heading(found), _test(found.paired), _flips(found), _changes(found)]
    return "\n\n".join(block for block in blocks if block)


def _heading(found: Compared) -> str:
    paired = found.paired
    lines = [f"{found.a.benchmark}, scorer {found.scorer}, {paired.n} items in both runs"]
    for name, run, right, score in (
        ("A", found.a, paired.right_a, paired.score_a),
        ("B", found.b, paired.right_b, paired.score_b),
    ):
        share = f"{right} of {paired.n}" if paired.test == "mcnemar" else f"mean score of {paired.n} items"
        lines.append(f"  {name}  {score:.1f} % ({share})  {run.model}  {run.folder}")
    lines += [f"  {name} {run.unhashed}" for name, run in (("A", found.a), ("B", found.b)) if run.unhashed]
    if found.left_out:
        lines.append(f"  {found.left_out} items are left out: the engine failed on them in one run or both")
    if any(found.only_in):
        lines.append(f"  {found.only_in[0]} items are in A only and {found.only_in[1]} in B only")
    return "\n".join(lines)


def _test(paired: Paired) -> str:
    flips = paired.only_a + paired.only_b
    flip = f"{counted(flips, 'item')} {'flips' if flips == 1 else 'flip'} ({100 * flips / paired.n:.1f} %)"
    lines = [
        f"A minus B: {paired.difference:+.1f} points, 95 % interval [{paired.low:+.1f}, {paired.high:+.1f}] "
        f"({INTERVALS[paired.test]})",
        f"{flip}: {paired.only_a} {BETTER[paired.test]} in A only, "
        f"{paired.only_b} in B only; {TESTS[paired.test]} p = {paired.p_value:.2g}: {_meaning(paired)}",
        _same(paired),
    ]
    if flips:
        shown = "no difference shows" if paired.detectable is None else f"differences from {paired.detectable:.1f} points show"
        lines.insert(2, f"with this many flips, {shown} with 80 % power")
    return "\n".join(lines)


def _same(paired: Paired) -> str:
    if paired.samples == 1:
        return f"same text on {paired.same_text} of {paired.n} items, same answer on {paired.same_answer}"
    return (
        f"all {paired.samples} samples have the same text on {paired.same_text} of {paired.n} items; "
        f"as many of them are right on {paired.same_answer}"
    )


def _meaning(paired: Paired) -> str:
    if paired.verdict == "differ":
        return "more than chance explains"
    if paired.verdict == "no difference":
        return f"chance explains it, and a difference of {paired.margin:g} points would have shown"
    return f"cannot tell: chance explains it, and a difference of {paired.margin:g} points might not have shown"


def _flips(found: Compared) -> str:
    if not found.flips:
        return ""
    causes = Counter(flip.cause for flip in found.flips)
    rows = [
        (flip.item, cut(flip.target), _answer(flip, "a"), _answer(flip, "b"), flip.cause, _parting(flip))
        for flip in found.flips
    ]
    table = grid(("item", "target", "A", "B", "cause", "first difference"), rows)
    meanings = "\n".join(f"{count} x {cause}: {CAUSES[cause]}" for cause, count in causes.most_common())
    return f"{table}\n\n{meanings}"


def _answer(flip: Flip, which: str) -> str:
    side = flip.a if which == "a" else flip.b
    status = "" if side.status == "ok" else f", {side.status}"
    return f"{cut(side.answer) or 'none'} ({grade(side.score)}{status})"


def _parting(flip: Flip) -> str:
    if flip.divergence is None:
        return "texts are equal"
    parting = flip.divergence
    place = f"token {parting.token}" if parting.token is not None else f"character {parting.character}"
    return f"{place}: {cut(parting.a)!r} / {cut(parting.b)!r}"


def _changes(found: Compared) -> str:
    if not found.changes:
        return "Nothing differs between the manifests but times."
    rows = [(one.name, cut(one.a, _LONG), cut(one.b, _LONG), one.kind) for one in found.changes if one.kind != "unknown"]
    table = grid(("differs in the manifests", "A", "B", "kind"), sorted(rows, key=lambda row: row[3] != "setting"), keep=(0,))
    lines = []
    for where, unknown in {"A": (True, False), "B": (False, True), "both": (True, True)}.items():
        names = [one.name for one in found.changes if one.kind == "unknown" and (one.a == UNKNOWN, one.b == UNKNOWN) == unknown]
        if names:
            lines.append(wrapped(f"Unknown in {where}: {', '.join(dict.fromkeys(map(_short, names)))}."))
    return "\n\n".join(part for part in (table if rows else "", "\n".join(lines)) if part)


def _short(name: str) -> str:
    """Returns a field's name; for packages, machine and engine only this word, because an import knows none of their fields."""
    first = name.partition(".")[0]
    return first if first in ("packages", "machine", "engine") else name
