"""How samples that are there become scores: the free changes of :mod:`tulu_eval.benchmarks.hypothesis`, one or several at once.

An answer that ends earlier is the beginning of the one that is there: greedy decoding chooses the same tokens up to the end. At
a limit of tokens it is cut by its token ids, as the engine itself makes the text of them, and then at the first stop string.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tulu_eval.benchmarks.base import classify
from tulu_eval.benchmarks.hypothesis import Change, OtherCount, OtherDecoding, OtherScorer, Uncut
from tulu_eval.records import Completion, Decoding, Grade
from tulu_eval.runs.grading import Grader
from tulu_eval.store.sample_line import Sample

Decode = Callable[[Sequence[int]], str]
"""Makes the text of generated token ids, without special tokens."""


class RuleOutcome(NamedTuple):
    """What a rule makes of a sample.

    Attributes:
        score: 0 to 1; ``None`` if the sample is left out of the number, or nobody knows because the engine failed on it.
        text: The text as the rule's settings of decoding end it, before reasoning is cut.
    """

    score: float | None
    text: str


class CannotApply(Exception):
    """A change cannot be made on the samples that are there; the message is the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """Makes samples into scores.

    Attributes:
        grader: The benchmark under the protocol, with its cutting of reasoning.
        scorer: Name of the scorer.
        decoding: Decoding under which the samples were made; ``None`` if that is not known, as of another harness's.
        decode: Makes the text of token ids; ``None`` where the model's tokenizer is not here.
        grade: Another scorer's function of right answer and text; ``None`` for the benchmark's own of that name.
        ends: Decoding that ends answers earlier; ``None`` to take them as they are.
        counted: How some classes of samples count.
        uncut: Whether a block of reasoning is graded too.
        graded: Grades by right answer and text, as far as they are known; changed rules share them, since a grade can be slow.
    """

    grader: Grader
    scorer: str
    decoding: Decoding | None
    decode: Decode | None = None
    grade: Callable[[str, str], Grade] | None = None
    ends: Decoding | None = None
    counted: tuple[OtherCount, ...] = ()
    uncut: bool = False
    graded: dict[tuple[str, str], Sequence[Grade]] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def changed(self, change: Change) -> Rule:
        """Returns the rule with one free change more.

        Raises:
            CannotApply: If the change is not free, or changes nothing.
        """
        if isinstance(change, OtherScorer):
            if change.scorer == self.scorer:
                raise CannotApply("it is the scorer already")
            own = change.scorer in self.grader.benchmark.scorers
            return dataclasses.replace(self, scorer=change.scorer, grade=None if own else change.grade)
        if isinstance(change, OtherCount):
            return dataclasses.replace(self, counted=(*self.counted, change))
        if isinstance(change, Uncut):
            return dataclasses.replace(self, uncut=True)
        if isinstance(change, OtherDecoding):
            return self._ending(change)
        raise CannotApply("it needs other answers")

    def _ending(self, change: OtherDecoding) -> Rule:
        before = self.ends or self.decoding
        if before is None:
            raise CannotApply("where the answers end is not known")
        if not before.greedy or not change.only_ends_earlier(before):
            raise CannotApply("answers under it may go on where those that are there end")
        ends = change.of(before)
        if ends == before:
            raise CannotApply("the recipe has it already")
        if ends.max_new_tokens < before.max_new_tokens and self.decode is None:
            raise CannotApply("cutting by tokens needs the model's tokenizer, which is not here")
        return dataclasses.replace(self, ends=ends)

    def outcome(self, sample: Sample) -> RuleOutcome:
        """Returns a sample's score under the rule, and its text."""
        if sample.completion.finish_reason == "error":
            return RuleOutcome(None, "")
        completion = self._ended(sample.completion) if self.ends else sample.completion
        sample = dataclasses.replace(sample, completion=completion)
        text = completion.text if self.uncut else self.grader.text(sample)
        grades = self._grades(sample.target, text)
        status = classify(completion, grades, reasoned=text is not None)
        for one in self.counted:
            if status in one.statuses:
                return RuleOutcome(0.0 if one.how == "wrong" else None, completion.text)
        if self.grade is not None:
            return RuleOutcome(0.0 if text is None else self.grade(sample.target, text).score, completion.text)
        return RuleOutcome(next(grade.score for grade in grades if grade.scorer == self.scorer), completion.text)

    def _grades(self, target: str, text: str | None) -> Sequence[Grade]:
        if text is None:  # a block of reasoning without an end
            return self.grader.benchmark.grade_failed(target)
        if (target, text) not in self.graded:
            self.graded[target, text] = self.grader.benchmark.grade(target, text)
        return self.graded[target, text]

    def _ended(self, completion: Completion) -> Completion:
        """Returns a completion as it would have ended under :attr:`ends`."""
        if self.ends is None:
            return completion
        limit, ids = self.ends.max_new_tokens, completion.token_ids
        if self.decode is not None and len(ids) > limit:
            completion = dataclasses.replace(completion, text=self.decode(ids[:limit]), finish_reason="length")
        cuts = [at for stop in self.ends.stop if (at := completion.text.find(stop)) >= 0]
        if cuts:
            completion = dataclasses.replace(completion, text=completion.text[: min(cuts)], finish_reason="stop")
        return completion
