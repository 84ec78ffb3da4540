"""One shared client for any OpenAI-compatible endpoint: bounded concurrency, deadline, backoff, and failures told apart.

Tried again: 408, 409, 429, 5xx, dropped connections, half answers and time-outs, with doubling waits, ``Retry-After`` obeyed
by all threads. Stopped at once: a wrong key (401, 403), an unknown judge or path (404), a spent quota, a redirect. Counted
as the row's failure: everything else. A key is read from the environment only and is in no log, cache or message.
"""

from __future__ import annotations

import dataclasses
import email.utils
import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Literal, NamedTuple

from tulu_eval.errors import UnknownName, UserError
from tulu_eval.judging.budget import Budget, Usage
from tulu_eval.judging.recipe import Question
from tulu_eval.judging.verdict import one_line
from tulu_eval.judging.wire import OPENAI_HOST, Connection, DroppedError, Reply, parse_base_url

OPENAI_URL = f"https://{OPENAI_HOST}/v1"
ATTEMPTS = 6
"""Tries a question: with the waits below about 16 s of a failing endpoint, or as long as it asks for."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
LONGEST_RETRY_AFTER = 300.0
"""Seconds. A longer ``Retry-After`` is a quota that will not come back while someone waits."""

DEAD_AFTER = 5
"""Questions that all failed at the endpoint, none ever answered, before it is called down."""

FAILING_AFTER = 25
"""Questions in a row that failed at the endpoint, after some were answered, before judging stops."""

NO_USAGE = Usage(0, 0)

RETRIED = frozenset({408, 409, 425, 429})


AnswerFailure = Literal["endpoint", "rejected", "refusal", "bad_answer", "over_budget"]
"""No answer after all tries; the request was refused (e.g. too long); its content was; not a chat completion; not asked."""


class EndpointError(UserError):
    """The endpoint will not answer. What it answered before is in the cache, so judging can be taken up again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came of one question.

    Attributes:
        question: As asked.
        choice: ``choices[0]``; None where the endpoint failed or was not asked.
        served: The model's name as the endpoint gave it.
        usage: Tokens; zeros where the endpoint did not say.
        failure: Its class; empty where there is a choice.
        detail: One line, where it failed.
    """

    question: Question
    choice: Mapping[str, Any] | None
    served: str = ""
    usage: Usage = NO_USAGE
    failure: AnswerFailure | Literal[""] = ""
    detail: str = ""


class _Outcome(NamedTuple):
    """One attempt: an answer, or how long to wait before the next."""

    answer: Answer
    retry: bool = False
    wait: float | None = None


class HttpJudge:
    """A judge behind ``POST BASE/chat/completions``.

    Args:
        base_url: Such as ``https://api.openai.com/v1`` or ``http://127.0.0.1:8000/v1``.
        key: Sent as a bearer token; empty for none.
        concurrency: Requests in flight.
        timeout: Seconds for one whole exchange.
        attempts: Tries a question.
        first_wait: Seconds before the second try; doubles after.

    Raises:
        UserError: The URL or a number is not usable.
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
        if concurrency < 1 or attempts < 1 or not timeout > 0:
            raise UserError("concurrency and attempts must be 1 or more, and the timeout more than 0 seconds")
        if re.search(r"[^\x21-\x7e]", key):
            raise UserError("the judge's key has a space, a line break or a character outside ASCII in it")
        self.url = parse_base_url(base_url)
        self._key = key
        self._concurrency = concurrency
        self._timeout = timeout
        self._attempts = attempts
        self._first_wait = first_wait
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._pause_until = 0.0
        self._answered = 0
        self._streak = 0
        self._jitter = random.Random()  # noqa: S311 - spreads retries, nothing else

    def ask(self, questions: Sequence[Question], budget: Budget, done: Callable[[Answer], None]) -> None:
        """Asks every question, and hands each answer to ``done`` in the thread that got it, before anything else is sent.

        Raises:
            EndpointError: The endpoint will not answer; what came before was handed over.
        """
        waiting = deque(questions)
        self._stop.clear()

        def work() -> None:
            connection = Connection(self.url, self._key, self._timeout)
            try:
                while not self._stop.is_set():
                    try:
                        question = waiting.popleft()
                    except IndexError:
                        return
                    answer = self._ask_one(connection, question, budget)
                    if answer is not None:
                        done(answer)
                        self._watch(answer)
            except BaseException:
                self._stop.set()
                raise
            finally:
                connection.close()

        with ThreadPoolExecutor(min(self._concurrency, max(1, len(waiting)))) as pool:
            threads = [pool.submit(work) for _ in range(min(self._concurrency, max(1, len(waiting))))]
            try:
                wait(threads, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()  # after an error or an interrupt: what is in flight still comes in and is handed over
        for thread in threads:
            thread.result()

    def _watch(self, answer: Answer) -> None:
        """Stops judging at an endpoint that answers nothing, so that 805 rows do not each wait for it."""
        with self._lock:
            if answer.failure in ("", "refusal"):
                self._answered += 1
                self._streak = 0
                return
            if answer.failure == "over_budget":
                return
            self._streak += 1
            limit = FAILING_AFTER if self._answered else DEAD_AFTER
            if self._streak < limit:
                return
        word = "in a row" if self._answered else "of the first questions, all of them,"
        raise EndpointError(f"{self._streak} {word} failed at the judge {self.url}; the last: {answer.detail}")

    def _ask_one(self, connection: Connection, question: Question, budget: Budget) -> Answer | None:
        """Returns what came of a question after all its tries; None if judging stopped while it waited."""
        backoff = self._first_wait
        outcome = _Outcome(Answer(question, None, failure="endpoint"))
        for attempt in range(self._attempts):
            if not self._rest(self._pause_until - time.monotonic()):
                return None
            if not budget.reserve(question):
                return Answer(question, None, failure="over_budget", detail="the limit of --max-cost could have been crossed")
            outcome = self._attempt(connection, question, budget)
            if not outcome.retry or attempt + 1 == self._attempts:
                break
            if outcome.wait is not None:
                with self._lock:
                    self._pause_until = max(self._pause_until, time.monotonic() + outcome.wait)
            elif not self._rest(backoff * self._jitter.uniform(0.75, 1.25)):
                return None
            backoff = min(2 * backoff, LONGEST_WAIT)
        return outcome.answer

    def _rest(self, seconds: float) -> bool:
        """Waits; False if judging was stopped meanwhile."""
        return not (self._stop.wait(seconds) if seconds > 0 else self._stop.is_set())

    def _attempt(self, connection: Connection, question: Question, budget: Budget) -> _Outcome:
        usage, perhaps_billed = None, True
        try:
            reply = connection.request("POST", "/chat/completions", question.body())
            perhaps_billed = reply.status == 200
            outcome = self._read(question, reply)
            usage = outcome.answer.usage if outcome.answer.usage.prompt_tokens else None
            return outcome
        except DroppedError as error:
            perhaps_billed = error.sent
            return _Outcome(Answer(question, None, failure="endpoint", detail=f"{error.kind}: {error}"), retry=True)
        finally:
            budget.settle(question, usage, perhaps_billed)

    def _read(self, question: Question, reply: Reply) -> _Outcome:
        """Returns what a reply means.

        Raises:
            EndpointError: It means that no question will be answered.
        """
        if reply.status == 200:
            return self._read_completion(question, reply.body)
        message, code = self._error(reply.body)
        detail = f"HTTP {reply.status}{': ' + message if message else ''}"
        if reply.status in (401, 403):
            raise EndpointError(f"the judge {self.url} does not accept the key (HTTP {reply.status}); nothing was retried")
        if reply.status == 404:
            self._unknown(question.model, message)
        if 300 <= reply.status < 400:
            raise EndpointError(f"the judge {self.url} redirects (HTTP {reply.status}); give the address it redirects to")
        if code == "insufficient_quota":
            raise EndpointError(f"the judge's account has no quota left ({detail})")
        if reply.status in RETRIED or reply.status >= 500:
            pause = retry_after(reply.headers)
            if pause is not None and pause > LONGEST_RETRY_AFTER:
                raise EndpointError(f"the judge {self.url} asks to wait {pause:.0f} s ({detail}); take it up again then")
            return _Outcome(Answer(question, None, failure="endpoint", detail=detail), retry=True, wait=pause)
        filtered = "content" in code and ("filter" in code or "policy" in code)
        kind: AnswerFailure = "refusal" if filtered else "rejected"
        return _Outcome(Answer(question, None, failure=kind, detail=detail))

    def _read_completion(self, question: Question, body: bytes) -> _Outcome:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return _Outcome(
                Answer(question, None, failure="endpoint", detail="HTTP 200 with a body that is not JSON"), retry=True
            )
        choices = data.get("choices") if isinstance(data, dict) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return _Outcome(Answer(question, None, failure="bad_answer", detail="HTTP 200 without choices"))
        usage = data.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        counted = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        return _Outcome(Answer(question, choices[0], self._clean(str(data.get("model", ""))), counted))

    def _error(self, body: bytes) -> tuple[str, str]:
        """Returns the message, cleaned, and the code of an error's body."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return self._clean(body.decode("utf-8", "replace")), ""
        error = data.get("error", data) if isinstance(data, dict) else data
        if not isinstance(error, dict):
            return self._clean(str(error)), ""
        return self._clean(str(error.get("message", ""))), str(error.get("code") or error.get("type") or "")

    def _clean(self, text: str) -> str:
        """Returns one line of a server's text, with the key taken out should the server repeat it."""
        return one_line(text.replace(self._key, "***") if self._key else text, 160)

    def _unknown(self, model: str, message: str) -> None:
        """Raises the error for a 404, with near names if the endpoint lists its models."""
        names = self.models()
        if names and model not in names:
            raise UnknownName(f"judge at {self.url}", model, names)
        raise EndpointError(f"the judge {self.url} answers 404 for {model!r}{': ' + message if message else ''}")

    def check(self) -> None:
        """Says at once that nothing answers at the address, rather than after the tries of the first questions.

        Raises:
            EndpointError: It cannot be reached.
        """
        connection = Connection(self.url, self._key, min(self._timeout, 10.0))
        try:
            connection.request("GET", "/models")
        except DroppedError as error:
            if not error.sent:
                raise EndpointError(f"the judge {self.url} cannot be reached ({error})") from error
        finally:
            connection.close()

    def models(self) -> list[str]:
        """Returns the models that the endpoint lists; empty where it does not."""
        connection = Connection(self.url, self._key, min(self._timeout, 10.0))
        try:
            reply = connection.request("GET", "/models")
            entries = json.loads(reply.body)["data"] if reply.status == 200 else []
            return sorted(self._clean(str(entry["id"])) for entry in entries)
        except (DroppedError, ValueError, KeyError, TypeError):
            return []
        finally:
            connection.close()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that ``Retry-After`` asks for, given in seconds or as a date; None if it does not."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
