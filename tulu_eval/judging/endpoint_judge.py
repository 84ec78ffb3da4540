"""A judge behind an OpenAI-compatible endpoint: each question is one chat completion.

:mod:`tulu_eval.endpoint.client` sends requests, retries them and gives up. An unknown judge or path (404) also stops judging at
once; any other refused request counts as a failure of its row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tulu_eval.endpoint.answer import end_of
from tulu_eval.endpoint.client import ATTEMPTS, FIRST_WAIT, Attempt, Client
from tulu_eval.endpoint.replies import EndpointError, Failure
from tulu_eval.endpoint.url import OPENAI_URL
from tulu_eval.endpoint.wire import Connection, DroppedError, Reply
from tulu_eval.errors import UnknownName
from tulu_eval.judging.budget import Budget, JudgeUsage
from tulu_eval.judging.judge_recipe import Question

KEY_VARIABLE = "TULU_EVAL_JUDGE_KEY"
"""Environment variable with the judge's key; for OpenAI's own host, ``OPENAI_API_KEY`` works too."""

NO_USAGE = JudgeUsage(0, 0)

AnswerFailure = Literal["endpoint", "rejected", "refusal", "bad_answer", "over_budget"]
"""``endpoint``: no answer after all attempts. ``rejected``: the request was refused, e.g. too long. ``refusal``: the content
was refused. ``bad_answer``: the reply is not a chat completion. ``over_budget``: not asked, because of the cost limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one question.

    Attributes:
        choice: ``choices[0]``; ``None`` if the endpoint failed or was not asked.
        served: The model's name in the reply.
        usage: Tokens; zeros if the endpoint did not report them.
        failure: Class of the failure; empty if there is a choice.
        detail: One line about the failure; empty if there is none.
    """

    question: Question
    choice: Mapping[str, Any] | None
    served: str = ""
    usage: JudgeUsage = NO_USAGE
    failure: AnswerFailure | Literal[""] = ""
    detail: str = ""


class HttpJudge:
    """A judge behind ``POST BASE/chat/completions``.

    The arguments are as for :class:`~tulu_eval.endpoint.client.Client`.

    Raises:
        UserError: If the URL, the key or a number is unusable.
    """

    def __init__(
        self,
        base_url: str = OPENAI_URL,
        key: str = "",
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = ATTEMPTS,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        self._client = Client(
            base_url,
            key,
            concurrency=concurrency,
            timeout=timeout,
            attempts=attempts,
            first_wait=first_wait,
            role="judge",
            variable=KEY_VARIABLE,
        )
        self.url = self._client.url

    def ask(self, questions: Sequence[Question], budget: Budget, done: Callable[[Answer], None]) -> None:
        """Asks every question; each thread hands an answer to ``done`` before it sends the next question.

        Raises:
            EndpointError: If the endpoint will not answer; ``done`` has had all answers before that.
        """

        def send(connection: Connection, question: Question) -> Attempt[Answer]:
            return self._send(connection, question, budget)

        self._client.ask(questions, send, done)

    def _send(self, connection: Connection, question: Question, budget: Budget) -> Attempt[Answer]:
        if not budget.reserve(question):
            detail = "the request could have exceeded --max-cost"
            return Attempt(Answer(question, None, failure="over_budget", detail=detail), "neither")
        usage, perhaps_billed = None, True
        try:
            reply = connection.request("POST", "/chat/completions", question.body())
            perhaps_billed = reply.status == 200
            attempt = self._read(question, reply)
            usage = attempt.made.usage if attempt.made.usage.prompt_tokens else None
            return attempt
        except DroppedError as error:
            perhaps_billed = error.sent
            return _failed(question, "endpoint", f"{error.kind}: {error}", retry=True)
        finally:
            budget.settle(question, usage, perhaps_billed)

    def _read(self, question: Question, reply: Reply) -> Attempt[Answer]:
        """Returns the attempt that a reply means; raises EndpointError if the endpoint will answer no question."""
        data = self._client.reader.read(reply)
        if isinstance(data, Failure):
            return self._read_failure(question, data)
        choices = data.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return _failed(question, "bad_answer", "HTTP 200 without choices")
        end = end_of(choices[0].get("finish_reason"))
        if end.retry:
            return _failed(question, "endpoint", end.detail, retry=True)
        usage = data.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        counted = JudgeUsage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        served = self._client.reader.clean(str(data.get("model", "")))
        return Attempt(Answer(question, choices[0], served, counted), "answered")

    def _read_failure(self, question: Question, failure: Failure) -> Attempt[Answer]:
        """Returns the attempt that a failure means for a question; raises what :meth:`_read` raises."""
        if failure.status == 404:
            self._unknown(question.model, failure.detail)
        if failure.retry:
            return _failed(question, "endpoint", failure.detail, retry=True, wait=failure.wait)
        filtered = "content" in failure.code and ("filter" in failure.code or "policy" in failure.code)
        return _failed(question, "refusal" if filtered else "rejected", failure.detail)

    def _unknown(self, model: str, detail: str) -> None:
        """Raises EndpointError for a 404, or UnknownName with near names if the endpoint lists its models."""
        names = [] if self.url.azure else self.models()
        if names and model not in names:
            raise UnknownName(f"judge at {self.url}", model, names)
        raise EndpointError(f"the judge {self.url} does not know {model!r} ({detail}){self.url.hint}")

    def check(self) -> None:
        """Raises EndpointError at once if the endpoint is unreachable, not only after all attempts at the first questions."""
        try:
            self._client.get("/models")
        except DroppedError as error:
            if not error.sent:
                raise EndpointError(f"the judge {self.url} cannot be reached ({error})") from error

    def models(self) -> list[str]:
        """Returns the ids of the endpoint's models, sorted; empty if it does not list them."""
        return self._client.models()


def _failed(
    question: Question, failure: AnswerFailure, detail: str, *, retry: bool = False, wait: float | None = None
) -> Attempt[Answer]:
    health: Literal["answered", "failed"] = "answered" if failure == "refusal" else "failed"
    return Attempt(Answer(question, None, failure=failure, detail=detail), health, detail, retry, wait)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
