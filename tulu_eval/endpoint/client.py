"""Many requests to one OpenAI-compatible endpoint: bounded concurrency, deadline, backoff, and failures told apart.

Tried again: 408, 409, 429, 5xx, dropped connections, half answers and time-outs, with doubling waits, ``Retry-After`` obeyed
by all threads. Stopped at once: a wrong key (401, 403), a spent quota, a redirect, an endpoint that answers nothing. What a
good or a refused answer means is up to who asks. A key is read from the environment only and is in no log, file or message.
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
from typing import Any, Generic, Literal, TypeVar

from tulu_eval.endpoint.wire import OPENAI_HOST, Connection, DroppedError, Reply, parse_base_url
from tulu_eval.errors import UserError

OPENAI_URL = f"https://{OPENAI_HOST}/v1"
ATTEMPTS = 6
"""Tries a request: with the waits below about 16 s of a failing endpoint, or as long as it asks for."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
LONGEST_RETRY_AFTER = 300.0
"""Seconds. A longer ``Retry-After`` is a quota that will not come back while someone waits."""

DEAD_AFTER = 5
"""Requests that all failed at the endpoint, none ever answered, before it is called down."""

FAILING_AFTER = 25
"""Requests in a row that failed at the endpoint, after some were answered, before asking stops."""

RETRIED = frozenset({408, 409, 425, 429})

SHORT_TIMEOUT = 10.0
"""Seconds for a question about the endpoint itself."""

Job = TypeVar("Job")
Made = TypeVar("Made")


class EndpointError(UserError):
    """The endpoint will not answer. What it answered before is kept, so asking can be taken up again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt(Generic[Made]):
    """What came of sending a request once.

    Attributes:
        made: Handed over, if this was the last attempt.
        health: What it says of the endpoint: it ``answered``; it ``failed``, and with many others is down; ``neither``.
        detail: One line, where it failed.
        retry: Whether to send it again.
        wait: Seconds that the endpoint asked for before that; None where it did not.
    """

    made: Made
    health: Literal["answered", "failed", "neither"]
    detail: str = ""
    retry: bool = False
    wait: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is no answer.

    Attributes:
        status: HTTP status.
        detail: One line.
        code: The error's code or type, as the endpoint gave it.
        retry: Whether another try may be answered.
        wait: Seconds that the endpoint asked for before that.
    """

    status: int
    detail: str
    code: str
    retry: bool = False
    wait: float | None = None


class Client:
    """A client of one endpoint, shared by all threads.

    Args:
        base_url: Such as ``https://api.openai.com/v1`` or ``http://127.0.0.1:8000/v1``.
        key: Sent as a bearer token; empty for none.
        concurrency: Requests in flight.
        timeout: Seconds for one whole exchange.
        attempts: Tries a request.
        first_wait: Seconds before the second try; doubles after.
        role: What the endpoint is to who asks, for messages.
        variable: Environment variable that the key comes from, for messages.

    Attributes:
        url: Where it goes.
        sent: Requests sent so far, those sent again included.
        resent: Of these, those that were sent again.

    Raises:
        UserError: The URL, the key or a number is not usable.
    """

    def __init__(
        self,
        base_url: str,
        key: str = "",
        *,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = ATTEMPTS,
        first_wait: float = FIRST_WAIT,
        role: str = "endpoint",
        variable: str = "the environment",
    ) -> None:
        if concurrency < 1 or attempts < 1 or not timeout > 0:
            raise UserError("concurrency and attempts must be 1 or more, and the timeout more than 0 seconds")
        if re.search(r"[^\x21-\x7e]", key):
            raise UserError(f"the {role}'s key has a space, a line break or a character outside ASCII in it")
        self.url = parse_base_url(base_url, f"the {role}")
        self.sent = self.resent = 0
        self._key, self._role, self._variable = key, role, variable
        self._concurrency, self._timeout = concurrency, timeout
        self._attempts, self._first_wait = attempts, first_wait
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._pause_until = 0.0
        self._answered = 0
        self._streak = 0
        self._jitter = random.Random()  # noqa: S311 - spreads retries, nothing else

    def ask(self, jobs: Sequence[Job], send: Callable[[Connection, Job], Attempt[Made]], done: Callable[[Made], None]) -> None:
        """Sends every job, and hands what came of it to ``done`` in the thread that got it, before anything else is sent.

        Args:
            jobs: What to ask.
            send: Sends one once; runs in many threads. A :class:`DroppedError` of the connection is its own to read.
            done: Takes what came of each job after its last attempt.

        Raises:
            EndpointError: The endpoint will not answer; what came before was handed over.
        """
        waiting = deque(jobs)
        self._stop.clear()

        def work() -> None:
            connection = Connection(self.url, self._key, self._timeout)
            with self._lock:
                self._connections.add(connection)
            try:
                while not self._stop.is_set():
                    try:
                        job = waiting.popleft()
                    except IndexError:
                        return
                    last = self._ask_one(connection, job, send)
                    if last is not None:
                        done(last.made)
                        self._watch(last)
            except BaseException:
                self._stop.set()
                raise
            finally:
                with self._lock:
                    self._connections.discard(connection)
                connection.close()

        workers = min(self._concurrency, max(1, len(waiting)))
        with ThreadPoolExecutor(workers) as pool:
            threads = [pool.submit(work) for _ in range(workers)]
            try:
                wait(threads, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()  # after an error or an interrupt: what is in flight still comes in and is handed over
        for thread in threads:
            thread.result()

    def abort(self) -> None:
        """Drops everything that is in flight or waits; :meth:`ask`, in another thread, returns."""
        with self._lock:
            self._stop.set()
            for connection in self._connections:
                connection.abort()

    def _ask_one(
        self, connection: Connection, job: Job, send: Callable[[Connection, Job], Attempt[Made]]
    ) -> Attempt[Made] | None:
        """Returns the last attempt at a job; None if asking stopped while it waited."""
        backoff = self._first_wait
        for number in range(1, self._attempts + 1):
            if not self._rest(self._pause_until - time.monotonic()):
                return None
            with self._lock:
                self.sent += 1
                self.resent += number > 1
            attempt = send(connection, job)
            if not attempt.retry or number == self._attempts:
                return attempt
            if attempt.wait is not None:
                with self._lock:
                    self._pause_until = max(self._pause_until, time.monotonic() + attempt.wait)
            elif not self._rest(backoff * self._jitter.uniform(0.75, 1.25)):
                return None
            backoff = min(2 * backoff, LONGEST_WAIT)
        return None

    def _rest(self, seconds: float) -> bool:
        """Waits; False if asking was stopped meanwhile."""
        return not (self._stop.wait(seconds) if seconds > 0 else self._stop.is_set())

    def _watch(self, attempt: Attempt[Any]) -> None:
        """Stops at an endpoint that answers nothing, so that 805 requests do not each wait for it."""
        if attempt.health == "neither":
            return
        with self._lock:
            if attempt.health == "answered":
                self._answered += 1
                self._streak = 0
                return
            self._streak += 1
            if self._streak < (FAILING_AFTER if self._answered else DEAD_AFTER):
                return
        word = "in a row" if self._answered else "of the first requests, all of them,"
        raise EndpointError(f"{self._streak} {word} failed at the {self._role} {self.url}; the last: {attempt.detail}")

    def read_failure(self, reply: Reply) -> Failure:
        """Returns what a reply other than 200 means.

        Raises:
            EndpointError: It means that no request will be answered.
        """
        message, code = self._error(reply.body)
        detail = f"HTTP {reply.status}{': ' + message if message else ''}"
        if reply.status in (401, 403):
            refused = f"does not accept the key (HTTP {reply.status}), which is read from {self._variable}"
            raise EndpointError(f"the {self._role} {self.url} {refused}; nothing was retried")
        if 300 <= reply.status < 400:
            raise EndpointError(
                f"the {self._role} {self.url} redirects (HTTP {reply.status}); give the address it redirects to"
            )
        if code == "insufficient_quota":
            raise EndpointError(f"the account at the {self._role} {self.url} has no quota left ({detail})")
        if reply.status in RETRIED or reply.status >= 500:
            pause = retry_after(reply.headers)
            if pause is not None and pause > LONGEST_RETRY_AFTER:
                raise EndpointError(f"the {self._role} {self.url} asks to wait {pause:.0f} s ({detail}); take it up again then")
            return Failure(reply.status, detail, code, retry=True, wait=pause)
        return Failure(reply.status, detail, code)

    def _error(self, body: bytes) -> tuple[str, str]:
        """Returns the message, cleaned, and the code of an error's body."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return self.clean(body.decode("utf-8", "replace")), ""
        error = data.get("error", data) if isinstance(data, dict) else data
        if not isinstance(error, dict):
            return self.clean(str(error)), ""
        return self.clean(str(error.get("message", ""))), str(error.get("code") or error.get("type") or "")

    def clean(self, text: str) -> str:
        """Returns one line of a server's text, with the key taken out should the server repeat it."""
        flat = re.sub(r"[\x00-\x1f\x7f\s]+", " ", text.replace(self._key, "***") if self._key else text).strip()
        return flat if len(flat) <= 160 else flat[:159] + "…"

    def get(self, path: str) -> Reply:
        """Returns the reply to one GET, sent once.

        Raises:
            DroppedError: No whole answer came.
        """
        connection = Connection(self.url, self._key, min(self._timeout, SHORT_TIMEOUT))
        try:
            return connection.request("GET", path)
        finally:
            connection.close()

    def models(self) -> list[str]:
        """Returns the models that the endpoint lists; empty where it does not."""
        try:
            reply = self.get("/models")
            entries = json.loads(reply.body)["data"] if reply.status == 200 else []
            return sorted(self.clean(str(entry["id"])) for entry in entries)
        except (DroppedError, ValueError, KeyError, TypeError):
            return []


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
