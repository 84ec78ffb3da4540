"""Compares two runs on the items they share: every flip with its cause, the paired test, and differences of the manifests."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from tulu_eval.errors import UnknownName, UserError
from tulu_eval.findings.changes import Change, changes, is_unknown
from tulu_eval.findings.divergence import Divergence, divergence
from tulu_eval.records import Grade
from tulu_eval.runs.reading import StoredRun
from tulu_eval.runs.requests import item_of, sample_ids
from tulu_eval.stats import ALPHA, MARGIN, detectable_paired, mcnemar, paired_difference, paired_means
from tulu_eval.store.sample_line import Sample
from tulu_eval.store.signature import UNKNOWN

Cause = Literal["prompt unknown", "prompt differs", "text differs", "likelihoods differ", "extraction", "grade"]
"""Why an item is right in one run only; the first that applies. ``prompt unknown``: the texts differ, and a harness kept no
prompt. ``likelihoods differ``: the likeliest of the given texts is the same, and their log-probabilities are not.
``extraction``: the scorer extracted different answers from the same text. ``grade``: the same answer has two grades."""

PairedVerdict = Literal["differ", "no difference", "cannot tell"]


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What one run has of an item.

    Attributes:
        answer: The extracted answer; ``3 of 4 right`` for several samples.
        right: Whether the score is 1.
        status: Class of the sample; of several, the first that is not ``ok``.
        score: Score, 0 to 1; the mean for several samples.
    """

    answer: str
    right: bool
    status: str
    score: float


@dataclasses.dataclass(frozen=True, slots=True)
class Flip:
    """An item that has other scores in the two runs: mostly right in one and wrong in the other.

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
        only_a: Number of items with a higher score in A; with one sample per item, those that only A has right.
        only_b: Number of items with a higher score in B.
        p_value: Two-sided p-value of the test.
        difference: A minus B.
        low: Lower end of the difference's 95 % interval: Tango's score interval, or Student's.
        same_text: Items whose samples all have the same text in both.
        same_answer: Items with the same answer in both, or with several samples, with as many right.
        samples: Samples per item.
        detectable: Smallest difference that the test detects with 80 % power at this discordance; ``None`` if it detects none.
        margin: Difference that the test must be able to detect before the verdict is ``no difference``.
        verdict: ``differ``: chance rarely flips as many items. ``no difference``: chance does, and the test would have detected
            the margin. ``cannot tell``: neither, or the verdict depends on which run has the items right that an engine failed
            on.
        test: ``mcnemar``: McNemar's exact test of right and wrong. ``t``: Student's paired test of scores between these.
        score_a: Mean score of A in percent.
        score_b: Mean score of B in percent.
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
    test: Literal["mcnemar", "t"]
    score_a: float
    score_b: float
    samples: int = 1


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


def compare(a: StoredRun, b: StoredRun, scorer: str | None = None) -> Compared:
    """Compares two runs of one benchmark on the items that both have; ``scorer`` is the first that both have unless given.

    Raises:
        UnknownName: If one of the runs does not have the scorer.
        UserError: If the runs have different benchmarks or data, or no common item or scorer.
    """
    if a.benchmark != b.benchmark:
        raise UserError(f"{a.folder} is of {a.benchmark} and {b.folder} of {b.benchmark}: no items are shared")
    of_a, of_b = _by_item(a), _by_item(b)
    order = [item for item in _items(a) if item in of_a and item in of_b]
    if not order:
        raise UserError(f"{a.folder} and {b.folder} share no item")
    shared = {item: (of_a[item], of_b[item]) for item in order}
    for item, (one, other) in shared.items():
        if one[0].target != other[0].target:
            raise UserError(
                f"the right answer of {item} is {one[0].target!r} in one run and {other[0].target!r} in the other: other data"
            )
    answered = {
        item: pair
        for item, pair in shared.items()
        if all(sample.completion.finish_reason != "error" for samples in pair for sample in samples)
    }
    if not answered:
        raise UserError(f"{a.folder} and {b.folder} share no item that the engine answered in both")
    one, other = next(iter(answered.values()))
    scorer = _scorer(one[0], other[0], scorer)
    tokenizers = {run.manifest.model.tokenizer_sha256 for run in (a, b)}
    same_tokenizer = len(tokenizers) == 1 and not any(map(is_unknown, tokenizers))
    sides = {item: (_side(one, scorer), _side(other, scorer)) for item, (one, other) in answered.items()}
    flips = tuple(
        _flip(item, answered[item], sides[item], same_tokenizer)
        for item in answered
        if sides[item][0].score != sides[item][1].score
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


def _items(run: StoredRun) -> list[str]:
    samples = run.manifest.protocol.samples or 1
    return list(dict.fromkeys(item_of(name, samples) for name in run.manifest.planned))


def _by_item(run: StoredRun) -> dict[str, tuple[Sample, ...]]:
    """Returns the samples of each item that has all of them, in the order of their numbers."""
    count = run.manifest.protocol.samples or 1
    found = {sample.item: sample for sample in run.samples()}
    named = {item: sample_ids(item, count) for item in _items(run)}
    return {item: tuple(found[name] for name in names) for item, names in named.items() if all(name in found for name in names)}


def _scorer(one: Sample, other: Sample, name: str | None) -> str:
    """Returns the scorer with this name, or the first, of those that both samples have."""
    theirs = {grade.scorer for grade in other.grades}
    common = [grade.scorer for grade in one.grades if grade.scorer in theirs]
    if not common:
        raise UserError("the two runs have no scorer in common; 'tulu-eval score' grades both again with the same ones")
    if name is not None and name not in common:
        raise UnknownName("scorer of both runs", name, common)
    return name or common[0]


def _side(samples: Sequence[Sample], scorer: str) -> Side:
    grades = [_grade(sample, scorer) for sample in samples]
    score = fmean(grade.score for grade in grades)
    status = next((sample.status for sample in samples if sample.status != "ok"), "ok")
    several = f"{sum(grade.score == 1 for grade in grades)} of {len(grades)} right"
    return Side(grades[0].answer if len(grades) == 1 else several, score == 1, status, score)


def _grade(sample: Sample, scorer: str) -> Grade:
    for grade in sample.grades:
        if grade.scorer == scorer:
            return grade
    raise UserError(f"{sample.item} has no grade of the scorer {scorer}; 'tulu-eval score' grades it again")


def _test(
    answered: Mapping[str, tuple[Sequence[Sample], Sequence[Sample]]], sides: Mapping[str, tuple[Side, Side]], failed: int
) -> Paired:
    """Returns the test on answered items; its verdict holds if all ``failed`` items are right in A only, and if in B only."""
    n = len(sides)
    differences = [one.score - other.score for one, other in sides.values()]
    only_a, only_b = sum(each > 0 for each in differences), sum(each < 0 for each in differences)
    if all(side.score in (0.0, 1.0) for pair in sides.values() for side in pair):
        test: Literal["mcnemar", "t"] = "mcnemar"
        interval = paired_difference(only_a, only_b, n)
        difference, low, high, p_value = (only_a - only_b) / n, interval.low, interval.high, mcnemar(only_a, only_b)
        detectable = detectable_paired(n, (only_a + only_b) / n) if only_a + only_b else None
        ends = {_verdict(only_a + for_a, only_b + failed - for_a, n + failed) for for_a in (0, failed)}
    else:
        test = "t"
        difference, low, high, p_value, detectable = paired_means(differences)
        ends = {_verdict_of_means([*differences, *[sign] * failed]) for sign in (-1.0, 1.0)}
    return Paired(
        n=n,
        right_a=sum(one.right for one, _ in sides.values()),
        right_b=sum(other.right for _, other in sides.values()),
        only_a=only_a,
        only_b=only_b,
        same_text=sum(_same_texts(*samples) for samples in answered.values()),
        same_answer=sum(one.answer == other.answer for one, other in sides.values()),
        p_value=p_value,
        difference=100 * difference,
        low=100 * low,
        high=100 * high,
        detectable=None if detectable is None or detectable > 1 else 100 * detectable,
        margin=MARGIN,
        verdict=ends.pop() if len(ends) == 1 else "cannot tell",
        test=test,
        score_a=100 * fmean(one.score for one, _ in sides.values()),
        score_b=100 * fmean(other.score for _, other in sides.values()),
        samples=max(len(samples) for pair in answered.values() for samples in pair),
    )


def _same_texts(one: Sequence[Sample], other: Sequence[Sample]) -> bool:
    return [sample.completion.text for sample in one] == [sample.completion.text for sample in other]


def _verdict(only_a: int, only_b: int, n: int) -> PairedVerdict:
    if mcnemar(only_a, only_b) < ALPHA:
        return "differ"
    # A difference of the margin needs at least as many discordant items.
    visible = detectable_paired(n, max((only_a + only_b) / n, MARGIN / 100))
    return "no difference" if visible is not None and 100 * visible <= MARGIN else "cannot tell"


def _verdict_of_means(differences: Sequence[float]) -> PairedVerdict:
    found = paired_means(differences)
    if found.p_value < ALPHA:
        return "differ"
    return "no difference" if 100 * found.detectable <= MARGIN else "cannot tell"


def _flip(item: str, pair: tuple[Sequence[Sample], Sequence[Sample]], sides: tuple[Side, Side], same_tokenizer: bool) -> Flip:
    pairs = list(zip(*pair, strict=False))
    one, other = next((two for two in pairs if two[0].completion.text != two[1].completion.text), pairs[0])
    prompts = {one.prompt_sha256, other.prompt_sha256}
    same = _same_texts(*pair)
    if UNKNOWN in prompts and not same:
        cause: Cause = "prompt unknown"
    elif len(prompts) == 2 and UNKNOWN not in prompts:
        cause = "prompt differs"
    elif not same:
        cause = "text differs"
    elif any(two[0].completion.likelihoods != two[1].completion.likelihoods for two in pairs):
        cause = "likelihoods differ"
    else:
        cause = "extraction" if sides[0].answer != sides[1].answer else "grade"
    return Flip(item, one.target, *sides, cause, divergence(one.completion, other.completion, same_tokenizer))
