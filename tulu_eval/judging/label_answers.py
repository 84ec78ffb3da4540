"""Asks a judge of words about single answers: asks the questions that the cache lacks, and stores each reply at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

from tulu_eval.benchmarks.labelled import LabelledBenchmark, Values
from tulu_eval.endpoint.answer import filtered, text_of
from tulu_eval.endpoint.said import one_line
from tulu_eval.judging.endpoint_judge import Answer
from tulu_eval.judging.judge import USELESS_AFTER, Endpoint, JudgeJob, UnfitJudgeError, stored_answer
from tulu_eval.judging.judge_answer import SHOWN
from tulu_eval.judging.judge_recipe import JudgeRecipe, Message, Question

PARAMETERS = {"temperature": 0, "max_tokens": 16, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0}
"""allenai/open-instruct @ 3c335be7, ``eval/xstest/classify_refusal.py`` l.47-57."""

FAILURES = ("refusal", "endpoint", "rejected", "bad_answer", "over_budget", "not_asked")
"""Kinds of labels that are missing although the model answered. ``no_verdict``, a reply without a known word, is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """What the judges said of one answer; it has no text.

    Attributes:
        id: Id of the item.
        kind: ``judged``, ``no_verdict``, or one of :data:`FAILURES`.
        values: Empty unless judged.
        detail: One line about a failure; empty if there is none.
    """

    id: str
    kind: str
    values: Values
    detail: str = ""


def label_recipe(benchmark: LabelledBenchmark, judge: str = "") -> JudgeRecipe:
    """Returns the benchmark's published question for a judge; for the published one unless ``judge`` is given."""
    prompt = benchmark.ask("chat", "{question}", "{answer}")
    sha256 = hashlib.sha256(prompt.encode()).hexdigest()
    return JudgeRecipe(judge or benchmark.judges["chat"], "labels", (Message("user", "{prompt}"),), sha256, PARAMETERS)


@dataclasses.dataclass(frozen=True, slots=True)
class LabelJob:
    """The questions about a run's answers.

    Attributes:
        prompts: What the judge gets about each answer, by item.
    """

    job: JudgeJob
    benchmark: LabelledBenchmark
    prompts: Mapping[str, str]

    def question(self, item: str) -> Question:
        """Returns the request about an item's answer."""
        return self.job.recipe.ask({"prompt": self.prompts[item]})

    def missing(self) -> list[Question]:
        """Returns the questions without a known word in the cache, each once, in order."""
        questions = {one.key: one for one in map(self.question, self.prompts)}
        return [question for key, question in questions.items() if not self._stored(key)]

    def _stored(self, key: str) -> Values:
        stored = self.job.cache.get(key)
        return self.benchmark.read(text_of(stored.choice["message"]) or "") if stored else {}

    def run(self, endpoint: Endpoint, progress: Callable[[int], None] = lambda done: None) -> tuple[Label, ...]:
        """Asks what is missing, and returns one label per answer in order; ``progress`` gets the number of new replies.

        Raises:
            EndpointError: If the endpoint will not answer.
            UnfitJudgeError: If the judge never says one of the words.
        """
        failures: dict[str, tuple[str, str]] = {}
        known = 0

        def done(answer: Answer) -> None:
            nonlocal known
            found = self._failure(answer)
            if found:
                failures[answer.question.key] = found
            else:
                self.job.cache.add(stored_answer(answer))
                known += 1
            progress(known + len(failures))
            silent = [detail for kind, detail in failures.values() if kind == "no_verdict"]
            if not known and len(silent) >= USELESS_AFTER:
                judge = self.job.recipe.judge
                told = f"{len(silent)} replies of the judge {judge!r} and none with a label"
                raise UnfitJudgeError(f"{told}; the last: {silent[-1]}")

        questions = self.missing()
        if questions:
            endpoint.ask(questions, self.job.budget, done)
        return tuple(self._label(item, failures) for item in self.prompts)

    def _failure(self, answer: Answer) -> tuple[str, str] | None:
        """Returns kind and detail of an answer without a label; ``None`` for one with a label."""
        if answer.choice is None:
            return answer.failure or "bad_answer", answer.detail
        message = answer.choice.get("message")
        message = message if isinstance(message, Mapping) else {}
        if message.get("refusal") or filtered(answer.choice.get("finish_reason")):
            return "refusal", one_line(str(message.get("refusal") or "stopped by the provider's content filter"), SHOWN)
        text = text_of(message) or ""
        return None if self.benchmark.read(text) else ("no_verdict", f"it said {one_line(text, SHOWN)!r}")

    def _label(self, item: str, failures: Mapping[str, tuple[str, str]]) -> Label:
        key = self.question(item).key
        if values := self._stored(key):
            return Label(item, "judged", values)
        kind, detail = failures.get(key, ("not_asked", ""))
        return Label(item, kind, {}, detail)
