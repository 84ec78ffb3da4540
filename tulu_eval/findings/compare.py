"""Compares two runs on the items they share: every flip with its cause, the paired test, and differences of the manifests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from tulu_eval.errors import UserError
from tulu_eval.findings.changes import Change, changes, is_unknown
from tulu_eval.records import Grade
from tulu_eval.runs.ledger import Sample
from tulu_eval.runs.reading import StoredRun
from tulu_eval.runs.signature import UNKNOWN
from tulu_eval.stats import ALPHA, MARGIN, detectable_paired, mcnemar, paired_difference

Cause = Literal["prompt unknown", "prompt differs", "text differs", "extraction", "grade"]
"""Why an item is right in one run only; the first that applies. ``prompt unknown``: the texts differ, and a harness kept no
prompt. ``extraction``: the scorer extracted different answers from the same text. ``grade``: the same answer has two grades."""

PairedVerdict = Literal["differ", "no difference", "cannot tell"]

EXCERPT = 40
"""Number of characters that are shown from the first difference of two texts on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference of two completions of one item.

    Attributes:
        token: Zero-based position of the first token that differs; ``None`` if the tokenizers differ.
        character: Zero-based position of the first character that differs.
        a: A's text from there on, at most :data:`EXCERPT` characters.
        b: B's text from there on, likewise.
    """

    token: int | None
    character: int
    a: str
    b: str


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One run's sample of an item: the extracted answer, whether it is right, and the status."""

    answer: str
    right: bool
    status: str


@dataclasses.dataclass(frozen=True, slots=True)
class Flip:
    """An item that one run has right and the other wrong.

    Attributes:
        divergence: ``None`` if the texts are equal.
    """

    item: str
    target: str
    a: Side
    b: Side
    cause: Cause
    divergence: Divergence | None


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """The test on shared items. Counts are of the ``n`` items that both runs answered; differences are in percentage points.

    Attributes:
        p_value: McNemar's exact test, two-sided.
        difference: A minus B.
        low: Lower end of the difference's 95 % interval (Tango's score interval).
        detectable: Smallest difference that McNemar's exact test detects with 80 % power at this discordance; ``None`` if it
            detects none.
        margin: Difference that the test must be able to detect before the verdict is ``no difference``.
        verdict: ``differ``: chance rarely flips as many items. ``no difference``: chance does, and the test would have detected
            the margin. ``cannot tell``: neither, or the verdict depends on which run has the items right that an engine failed
            on.
    """

    n: int
    right_a: int
    right_b: int
    only_a: int
    only_b: int
    same_text: int
    same_answer: int
    p_value: float
    difference: float
    low: float
    high: float
    detectable: float | None
    margin: float
    verdict: PairedVerdict


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """The result of :func:`compare`.

    Attributes:
        flips: Flips in the order of A's items.
        changes: Differences between the manifests without times and sessions.
        left_out: Number of shared items that an engine failed on in A or B; the test leaves them out.
        only_in: Numbers of items that only A has, and only B.
    """

    a: StoredRun
    b: StoredRun
    scorer: str
    paired: Paired
    flips: tuple[Flip, ...]
    changes: tuple[Change, ...]
    left_out: int
    only_in: tuple[int, int]


def compare(a: StoredRun, b: StoredRun) -> Compared:
    """Compares two runs of one benchmark on the items that both have, by the first scorer that both have.

    Raises:
        UserError: If the runs have different benchmarks or data, no common item or scorer, or grades between right and wrong.
    """
    if a.benchmark != b.benchmark:
        raise UserError(f"{a.folder} is of {a.benchmark} and {b.folder} of {b.benchmark}: no items are shared")
    of_a, of_b = _by_item(a), _by_item(b)
    order = [item for item in a.manifest.planned if item in of_a and item in of_b]
    if not order:
        raise UserError(f"{a.folder} and {b.folder} share no item")
    shared = {item: (of_a[item], of_b[item]) for item in order}
    for item, (one, other) in shared.items():
        if one.target != other.target:
            raise UserError(
                f"the right answer of {item} is {one.target!r} in one run and {other.target!r} in the other: other data"
            )
    answered = {item: pair for item, pair in shared.items() if all(s.completion.finish_reason != "error" for s in pair)}
    if not answered:
        raise UserError(f"{a.folder} and {b.folder} share no item that the engine answered in both")
    scorer = _scorer(*next(iter(answered.values())))
    tokenizers = {run.manifest.model.tokenizer_sha256 for run in (a, b)}
    same_tokenizer = len(tokenizers) == 1 and not any(map(is_unknown, tokenizers))
    sides = {item: (_side(one, scorer), _side(other, scorer)) for item, (one, other) in answered.items()}
    flips = tuple(
        _flip(item, answered[item], sides[item], same_tokenizer)
        for item in answered
        if sides[item][0].right != sides[item][1].right
    )
    return Compared(
        a=a,
        b=b,
        scorer=scorer,
        paired=_test(answered, sides, len(shared) - len(answered)),
        flips=flips,
        changes=tuple(changes(a.manifest, b.manifest)),
        left_out=len(shared) - len(answered),
        only_in=(len(of_a) - len(shared), len(of_b) - len(shared)),
    )


def _by_item(run: StoredRun) -> dict[str, Sample]:
    return {sample.item: sample for sample in run.samples()}


def _scorer(one: Sample, other: Sample) -> str:
    theirs = {grade.scorer for grade in other.grades}
    for grade in one.grades:
        if grade.scorer in theirs:
            return grade.scorer
    raise UserError("the two runs have no scorer in common; 'tulu-eval score' grades both again with the same ones")


def _side(sample: Sample, scorer: str) -> Side:
    grade = _grade(sample, scorer)
    if grade.score not in (0.0, 1.0):
        raise UserError(f"{sample.item} has the score {grade.score:g}; only right and wrong can be paired")
    return Side(grade.answer, grade.score == 1.0, sample.status)


def _grade(sample: Sample, scorer: str) -> Grade:
    for grade in sample.grades:
        if grade.scorer == scorer:
            return grade
    raise UserError(f"{sample.item} has no grade of the scorer {scorer}; 'tulu-eval score' grades it again")


def _test(answered: Mapping[str, tuple[Sample, Sample]], sides: Mapping[str, tuple[Side, Side]], failed: int) -> Paired:
    """Returns the test on answered items; its verdict holds if all ``failed`` items are right in A only, and if in B only."""
    n = len(sides)
    only_a = sum(one.right and not other.right for one, other in sides.values())
    only_b = sum(other.right and not one.right for one, other in sides.values())
    interval = paired_difference(only_a, only_b, n)
    detectable = detectable_paired(n, (only_a + only_b) / n) if only_a + only_b else None
    ends = {_verdict(only_a + for_a, only_b + failed - for_a, n + failed) for for_a in (0, failed)}
    return Paired(
        n=n,
        right_a=sum(one.right for one, _ in sides.values()),
        right_b=sum(other.right for _, other in sides.values()),
        only_a=only_a,
        only_b=only_b,
        same_text=sum(one.completion.text == other.completion.text for one, other in answered.values()),
        same_answer=sum(one.answer == other.answer for one, other in sides.values()),
        p_value=mcnemar(only_a, only_b),
        difference=100 * (only_a - only_b) / n,
        low=100 * interval.low,
        high=100 * interval.high,
        detectable=None if detectable is None else 100 * detectable,
        margin=MARGIN,
        verdict=ends.pop() if len(ends) == 1 else "cannot tell",
    )


def _verdict(only_a: int, only_b: int, n: int) -> PairedVerdict:
    if mcnemar(only_a, only_b) < ALPHA:
        return "differ"
    # A difference of the margin needs at least as many discordant items.
    visible = detectable_paired(n, max((only_a + only_b) / n, MARGIN / 100))
    return "no difference" if visible is not None and 100 * visible <= MARGIN else "cannot tell"


def _flip(item: str, pair: tuple[Sample, Sample], sides: tuple[Side, Side], same_tokenizer: bool) -> Flip:
    one, other = pair
    prompts = {one.prompt_sha256, other.prompt_sha256}
    if UNKNOWN in prompts and one.completion.text != other.completion.text:
        cause: Cause = "prompt unknown"
    elif len(prompts) == 2 and UNKNOWN not in prompts:
        cause = "prompt differs"
    elif one.completion.text != other.completion.text:
        cause = "text differs"
    else:
        cause = "extraction" if sides[0].answer != sides[1].answer else "grade"
    return Flip(item, one.target, *sides, cause, _divergence(one, other, same_tokenizer))


def _divergence(one: Sample, other: Sample, same_tokenizer: bool) -> Divergence | None:
    text_a, text_b = one.completion.text, other.completion.text
    if text_a == text_b:
        return None
    place = _first_difference(text_a, text_b)
    token = _first_difference(one.completion.token_ids, other.completion.token_ids) if same_tokenizer else None
    return Divergence(token, place, text_a[place : place + EXCERPT], text_b[place : place + EXCERPT])


def _first_difference(a: str | tuple[int, ...], b: str | tuple[int, ...]) -> int:
    """Returns the first position at which two sequences differ; the shorter's length if it is the beginning of the longer."""
    places = (place for place, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1])
    return next(places, min(len(a), len(b)))
