"""Many requests to one OpenAI-compatible endpoint: bounded concurrency, deadline, backoff, and failures told apart.

Tried again: 408, 409, 429, 5xx, dropped connections, half answers and time-outs, with doubling waits, ``Retry-After`` obeyed
by all threads. Stopped at once: a wrong key (401, 403), a spent quota, a redirect, an endpoint that answers nothing. An error
that comes with status 200 is read as the status that it names. What a good or a refused answer means is up to who asks. A key
is read from the environment only.
"""

from __future__ import annotations

import dataclasses
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Generic, Literal, TypeVar

from tulu_eval.endpoint.replies import EndpointError, ReplyReader
from tulu_eval.endpoint.said import one_line
from tulu_eval.endpoint.url import parse_base_url
from tulu_eval.endpoint.wire import Connection, DroppedError, Reply
from tulu_eval.errors import DataError, UserError

ATTEMPTS = 6
"""Tries a request: with the waits below about 16 s of a failing endpoint, or as long as it asks for."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0

DEAD_AFTER = 5
"""Requests that all failed at the endpoint, none ever answered, before it is called down."""

FAILING_AFTER = 25
"""Requests in a row that failed at the endpoint, after some were answered, before asking stops."""

LONGEST_TIMEOUT = 86_400.0
"""Seconds of a day: who waits for longer has a typing error."""

SHORT_TIMEOUT = 10.0
"""Seconds for a question about the endpoint itself."""

Job = TypeVar("Job")
Made = TypeVar("Made")


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


class Client:
    """A client of one endpoint, shared by all threads.

    Args:
        base_url: Such as ``https://api.openai.com/v1`` or ``http://127.0.0.1:8000/v1``.
        key: Sent as a bearer token, to Azure as ``api-key``; empty for none.
        concurrency: Requests in flight.
        timeout: Seconds for one whole exchange.
        attempts: Tries a request.
        first_wait: Seconds before the second try; doubles after.
        role: What the endpoint is to who asks, for messages.
        variable: Environment variable that the key comes from, for messages.

    Attributes:
        url: Where it goes.
        reader: Reads what comes back.
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
        if concurrency < 1 or attempts < 1 or not 0 < timeout <= LONGEST_TIMEOUT:
            raise UserError("concurrency and attempts must be 1 or more, and the timeout more than 0 seconds and at most a day")
        if re.search(r"[^\x21-\x7e]", key):
            raise UserError(f"the {role}'s key has a space, a line break or a character outside ASCII in it")
        self.url = parse_base_url(base_url, f"the {role}")
        self.sent = self.resent = 0
        self.reader = ReplyReader(self.url, key, role, variable)
        self._key, self._role = key, role
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
            answered = self._answered
            limit = FAILING_AFTER if answered else DEAD_AFTER  # others in flight fail too, and are not counted
            if self._streak < limit:
                return
        word = "in a row" if answered else "of the first requests, all of them,"
        hint = "" if answered else self.url.hint
        raise EndpointError(f"{limit} {word} failed at the {self._role} {self.url}; the last: {attempt.detail}{hint}")

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
            entries = self.reader.parse(reply.body)["data"] if reply.status == 200 else []
            return sorted(one_line(str(entry["id"])) for entry in entries)
        except (DroppedError, DataError, KeyError, TypeError):
            return []
