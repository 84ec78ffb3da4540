"""Two runs on the items they share: flips one by one with their cause, the paired test, and what differs in the manifests."""

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
prompt. ``extraction``: another answer was read out of the same text. ``grade``: the same answer was judged otherwise."""

PairedVerdict = Literal["differ", "no difference", "cannot tell"]

EXCERPT = 40
"""Characters shown from the first difference of two texts on."""


@dataclasses.dataclass(frozen=True, slots=True)
class Divergence:
    """Where two completions of one item part.

    Attributes:
        token: Zero-based place of the first token that differs; None where the tokenizers differ.
        character: Zero-based place of the first character that differs.
        a: What A has from there on, at most :data:`EXCERPT` characters.
        b: The same of B.
    """

    token: int | None
    character: int
    a: str
    b: str


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What one run made of an item: the answer that was read, whether it is right, and the sample's status."""

    answer: str
    right: bool
    status: str


@dataclasses.dataclass(frozen=True, slots=True)
class Flip:
    """An item that one run has right and the other wrong.

    Attributes:
        item: Its id.
        target: The right answer.
        a: What A made of it.
        b: What B made of it.
        cause: Why.
        divergence: Where the texts part; None where they are the same.
    """

    item: str
    target: str
    a: Side
    b: Side
    cause: Cause
    divergence: Divergence | None


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """The test on shared items; percents are of ``n``.

    Attributes:
        n: Items that both runs answered.
        right_a: Of these, right in A.
        right_b: Of these, right in B.
        only_a: Right in A alone.
        only_b: Right in B alone.
        same_text: Items on which the completions are the same to the character.
        same_answer: Items on which the same answer was read.
        p_value: McNemar's exact test, two-sided.
        difference: A minus B, in percent points.
        low: Lower end of its 95 % interval (Tango's score interval).
        high: Upper end.
        detectable: Smallest difference in percent points that McNemar's exact test finds with 80 % power at this discordance;
            ``None`` where it finds none.
        margin: Difference in percent points that "no difference" has to be able to see.
        verdict: ``differ`` where chance rarely flips as many; ``no difference`` where it does and the margin would have shown;
            else ``cannot tell``. Items that an engine failed on count for either run: one verdict must hold both ways.
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
    """What ``compare`` found.

    Attributes:
        a: One run.
        b: The other.
        scorer: Whose grades are compared.
        paired: The test.
        flips: In the order of A's items.
        changes: What differs between the manifests; times and sessions are not compared.
        left_out: Items in both runs that the engine failed on in one; not in the test.
        only_in: Items that only A and only B have.
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
        UserError: Different benchmarks or data, no item in both, no scorer in both, or grades between right and wrong.
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
    """Returns the test on answered items; the verdict is also that of the failed ones all for A and all for B."""
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
    # a difference as large as the margin needs as many discordant items at least
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
    """Returns the first place where two sequences differ; the length of the shorter where it begins the longer."""
    places = (place for place, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1])
    return next(places, min(len(a), len(b)))
