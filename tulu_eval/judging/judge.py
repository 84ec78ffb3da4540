"""Judges pairs of outputs: asks the questions that the cache lacks, stores each answer at once, accounts for every pair.

pairs = judged + failed + identical. Two equal outputs get 1.5 without a question, as published. A failed pair has the class of
its failure, and the next run asks it again.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

from tulu_eval.errors import UserError
from tulu_eval.judging.budget import Budget, JudgeUsage, JudgingEstimate, Spent, estimate
from tulu_eval.judging.cache import Cache, Stored, reduce_choice
from tulu_eval.judging.endpoint_judge import Answer, AnswerFailure
from tulu_eval.judging.judge_answer import INSTEAD, Verdict, VerdictFailure, read_verdict
from tulu_eval.judging.judge_recipe import JudgeRecipe, Pair, Question, swapped

_LOG = logging.getLogger(__name__)

Kind = Literal["judged", "identical", AnswerFailure, VerdictFailure, "not_asked", "missing"]

FAILURES: tuple[Kind, ...] = (*dict.fromkeys((*get_args(VerdictFailure), *get_args(AnswerFailure))), "not_asked")
"""``refusal``: the judge or its provider declined. ``no_logprobs``, ``no_verdict``: the answer lacks logprobs or a verdict.
``endpoint``: no answer after all attempts. ``rejected``: the request was refused, e.g. too long. ``not_asked``: judging
stopped before the question."""

NO_LOGPROBS_AFTER = 3
"""Number of answers without logprobs, and none with a verdict, from which the judge is unfit. A single one only gives a
warning, because it may come from another provider behind a router, or from a restarted server."""

USELESS_AFTER = 20
"""Number of answers without any verdict from which the judge is unfit; each answer costs money."""


class UnfitJudgeError(UserError):
    """The judge answers but never gives a verdict."""


class Endpoint(Protocol):
    """Something that answers questions: a server, or an engine in this process."""

    def ask(self, questions: Sequence[Question], budget: Budget, done: Callable[[Answer], None]) -> None:
        """Asks every question and hands each answer to ``done`` at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeJob:
    """The judge of some pairs, with its answers so far and its budget.

    Attributes:
        cache: Answers so far; judging adds new ones.
        where: The endpoint's address, or the engine's name, for the manifest.
    """

    recipe: JudgeRecipe
    cache: Cache
    budget: Budget
    where: str = ""

    def verdict(self, key: str, swap: bool) -> Verdict | None:
        """Returns the verdict of a stored answer; ``None`` if there is no answer, or it has no verdict.

        ``swap`` says whether the judge saw the model's output first.
        """
        stored = self.cache.get(key)
        found = self.read(stored.choice, swap) if stored else None
        return found if found and found.preference is not None else None

    def read(self, choice: Mapping[str, Any], swap: bool) -> Verdict:
        """Returns the verdict of an answer's ``choices[0]``."""
        return read_verdict(choice, self.recipe.method, swap, loose=not self.recipe.published)

    def missing(self, pairs: Sequence[Pair]) -> list[Question]:
        """Returns the questions without a verdict in the cache, each once, in order."""
        asked = (self.recipe.question(pair) for pair in pairs if pair.baseline != pair.output)
        questions = {question.key: question for question in asked}
        return [question for key, question in questions.items() if not self.verdict(key, False)]

    def estimate(self, pairs: Sequence[Pair]) -> JudgingEstimate:
        """Returns the estimated cost of the missing questions."""
        return estimate(self.missing(pairs), self.budget.price)


@dataclasses.dataclass(frozen=True, slots=True)
class Judgment:
    """The judgment of one pair; it has no text of the pair.

    Attributes:
        key: Key of the question; empty for identical outputs.
        kind: ``judged``, ``identical``, or the class of the failure; ``missing`` if annotations have no preference.
        preference: In [1, 2], 2 if the model wins; ``None`` if judging failed.
        swapped: Whether the judge saw the model's output first.
        detail: One line about the failure; empty if there is none.
    """

    id: str
    key: str
    kind: Kind
    preference: float | None
    swapped: bool
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Judging:
    """All pairs, judged or not.

    Attributes:
        judgments: One per pair, in the order of the pairs.
        served: Number of answers by the model's name in the reply.
        cached: Pairs whose answer was in the cache before.
        usage: Tokens of all answers behind the judgments, including answers from earlier invocations.
    """

    judgments: tuple[Judgment, ...]
    spent: Spent
    served: dict[str, int]
    cached: int
    usage: JudgeUsage

    @property
    def counts(self) -> dict[str, int]:
        """Number of pairs in every class, including classes with 0 pairs; the sum is the number of pairs."""
        seen = Counter(judgment.kind for judgment in self.judgments)
        return {kind: seen.get(kind, 0) for kind in ("judged", "identical", *FAILURES)}

    @property
    def failed(self) -> int:
        """Number of pairs without a preference."""
        return sum(self.counts[kind] for kind in FAILURES)

    @property
    def reasons(self) -> list[str]:
        """One line per class of failure, the most common first: the number, and why the first of them failed."""
        first: dict[Kind, Judgment] = {}
        for judgment in self.judgments:
            if judgment.preference is None:
                first.setdefault(judgment.kind, judgment)
        lines = sorted(first.items(), key=lambda one: -self.counts[one[0]])
        return [
            f"{kind} {self.counts[kind]}, the first at {one.id}{': ' if one.detail else ''}{one.detail}" for kind, one in lines
        ]

    def __str__(self) -> str:
        counts = self.counts
        failures = ", ".join(f"{kind} {counts[kind]}" for kind in FAILURES if counts[kind])
        return (
            f"{len(self.judgments)} = {counts['judged']} judged + {self.failed} failed{f' ({failures})' if failures else ''} "
            f"+ {counts['identical']} identical"
        )


def judge_pairs(
    pairs: Sequence[Pair], job: JudgeJob, endpoint: Endpoint, progress: Callable[[int], None] = lambda done: None
) -> Judging:
    """Judges pairs.

    ``progress`` is called with the number of new answers so far; several threads may call it.

    Raises:
        EndpointError: If the endpoint will not answer.
        UnfitJudgeError: If the judge never gives a verdict.
    """
    recipe, cache = job.recipe, job.cache
    questions = job.missing(pairs)
    asked = {question.key for question in questions}
    before = len(cache)
    failures: dict[str, Verdict | Answer] = {}
    warned = threading.Event()

    def done(answer: Answer) -> None:
        key = answer.question.key
        if answer.choice is None:
            failures[key] = answer
        else:
            stored = stored_answer(answer)
            verdict = job.read(stored.choice, False)
            if verdict.preference is None:
                if verdict.kind == "no_logprobs" and not warned.is_set():
                    warned.set()
                    _LOG.warning("an answer of the judge %r has no logprobs; %s", recipe.judge, INSTEAD)
                failures[key] = verdict
            else:
                cache.add(stored)
        verdicts = len(cache) - before
        progress(verdicts + len(failures))
        if not verdicts:
            _check_fitness(recipe, failures)

    if questions:
        endpoint.ask(questions, job.budget, done)
    judgments = tuple(_judgment(pair, job, failures) for pair in pairs)
    stored = {one.key: one for one in (cache.get(judgment.key) for judgment in judgments) if one is not None}
    served = Counter(one.served for one in stored.values())
    prompt = sum(one.usage.prompt_tokens for one in stored.values())
    usage = JudgeUsage(prompt, sum(one.usage.answer_tokens for one in stored.values()))
    cached = sum(judgment.kind == "judged" and judgment.key not in asked for judgment in judgments)
    return Judging(judgments, job.budget.spent(), dict(served), cached, usage)


def _check_fitness(recipe: JudgeRecipe, failures: dict[str, Verdict | Answer]) -> None:
    """Raises UnfitJudgeError if the answers so far show that the judge gives no logprobs, or never a verdict."""
    came = list(failures.values())
    for failure in came if recipe.method == "logprobs" else ():
        if isinstance(failure, Answer) and failure.failure == "rejected" and "logprob" in failure.detail.lower():
            raise UnfitJudgeError(f"the judge {recipe.judge!r} rejects a request for logprobs ({failure.detail}); {INSTEAD}")
    if sum(isinstance(failure, Verdict) and failure.kind == "no_logprobs" for failure in came) >= NO_LOGPROBS_AFTER:
        raise UnfitJudgeError(f"the judge {recipe.judge!r} answers without logprobs; {INSTEAD}")
    unfit = [failure for failure in came if isinstance(failure, Verdict)]
    if len(unfit) >= USELESS_AFTER:
        raise UnfitJudgeError(
            f"{len(unfit)} answers of the judge {recipe.judge!r} and none with a verdict; the last: {unfit[-1].detail}"
        )


def stored_answer(answer: Answer) -> Stored:
    """Returns an answer with a choice in the form of the cache, with the time."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    question = answer.question
    return Stored(question.key, question.model, answer.served, reduce_choice(answer.choice or {}), answer.usage, now)


def _judgment(pair: Pair, job: JudgeJob, failures: dict[str, Verdict | Answer]) -> Judgment:
    swap = swapped(pair.instruction)
    if pair.baseline == pair.output:
        return Judgment(pair.id, "", "identical", 1.5, swap)
    key = job.recipe.question(pair).key
    verdict = job.verdict(key, swap)
    if verdict is not None:
        return Judgment(pair.id, key, "judged", verdict.preference, swap)
    failure = failures.get(key)
    if isinstance(failure, Verdict):
        return Judgment(pair.id, key, failure.kind, None, swap, failure.detail)
    if failure is None or not failure.failure:
        return Judgment(pair.id, key, "not_asked", None, swap)
    return Judgment(pair.id, key, failure.failure, None, swap, failure.detail)
