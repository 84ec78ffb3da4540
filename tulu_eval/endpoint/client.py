"""Sends many requests to one OpenAI-compatible endpoint: bounded concurrency, deadlines, backoff, kinds of failure.

The client retries 408, 409, 429, 5xx, dropped connections, incomplete answers and time-outs with doubling waits; all threads
obey ``Retry-After``. It stops at once for a wrong key (401, 403), a spent quota, a redirect, or an endpoint that answers
nothing. If an error comes with status 200, the client takes the status that the error names. The caller decides what a good or
a refused answer means. Keys come from the environment only.
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
"""Attempts per request. With the waits below a failing endpoint costs about 16 s, or as long as it asks for."""

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0

DEAD_AFTER = 5
"""The client stops after this many failed requests if the endpoint has answered none."""

FAILING_AFTER = 25
"""The client stops after this many failed requests in a row if the endpoint has answered some before."""

LONGEST_TIMEOUT = 86_400.0
"""Largest timeout in seconds: one day. A longer one is a typing error."""

SHORT_TIMEOUT = 10.0
"""Timeout in seconds of a request about the endpoint itself."""

Job = TypeVar("Job")
Made = TypeVar("Made")


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt(Generic[Made]):
    """The outcome of sending a request once.

    Attributes:
        made: Value that :meth:`Client.ask` hands over if this was the last attempt.
        health: ``answered``: the endpoint works. ``failed``: it is down if many attempts fail. ``neither``: tells nothing.
        detail: One line; empty unless the attempt failed.
        wait: Seconds to wait before the next attempt, as the endpoint asked; ``None`` if it did not ask.
    """

    made: Made
    health: Literal["answered", "failed", "neither"]
    detail: str = ""
    retry: bool = False
    wait: float | None = None


class Client:
    """A client of one endpoint, shared by all threads.

    Args:
        base_url: For example ``https://api.openai.com/v1`` or ``http://127.0.0.1:8000/v1``.
        key: API key, sent as a bearer token, to Azure as ``api-key``; empty for none.
        concurrency: Largest number of requests in flight, 1 or more.
        timeout: Seconds for one whole exchange, at most :data:`LONGEST_TIMEOUT`.
        attempts: Attempts per request, 1 or more.
        first_wait: Seconds before the second attempt; each further wait is twice as long.
        role: Name of the endpoint in messages, e.g. ``judge``.
        variable: Environment variable of the key, for messages.

    Attributes:
        sent: Requests sent so far, with repeated ones.
        resent: Repeated requests among these.

    Raises:
        UserError: If the URL, the key or a number is unusable.
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
        """Sends every job; each thread hands an outcome to ``done`` before it sends the next job.

        ``send`` sends a job once; it runs in many threads and must handle the connection's :class:`DroppedError` itself.
        ``done`` takes the outcome of each job after its last attempt.

        Raises:
            EndpointError: If the endpoint will not answer; ``done`` has had all outcomes before that.
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
                self._stop.set()  # after an error or an interrupt, requests in flight still finish and are handed over
        for thread in threads:
            thread.result()

    def abort(self) -> None:
        """Drops all requests in flight and all waiting jobs, so that :meth:`ask` in another thread returns."""
        with self._lock:
            self._stop.set()
            for connection in self._connections:
                connection.abort()

    def _ask_one(
        self, connection: Connection, job: Job, send: Callable[[Connection, Job], Attempt[Made]]
    ) -> Attempt[Made] | None:
        """Returns the last attempt at a job; ``None`` if the client stopped while the job waited."""
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
        """Waits for some seconds; returns False if the client stopped meanwhile."""
        return not (self._stop.wait(seconds) if seconds > 0 else self._stop.is_set())

    def _watch(self, attempt: Attempt[Any]) -> None:
        """Raises EndpointError if the endpoint answers nothing, so that 805 requests do not each wait for it."""
        if attempt.health == "neither":
            return
        with self._lock:
            if attempt.health == "answered":
                self._answered += 1
                self._streak = 0
                return
            self._streak += 1
            answered = self._answered
            limit = FAILING_AFTER if answered else DEAD_AFTER  # the message does not count others in flight, which fail too
            if self._streak < limit:
                return
        word = "requests in a row failed" if answered else "requests failed, and none was answered,"
        hint = "" if answered else self.url.hint
        raise EndpointError(f"{limit} {word} at the {self._role} {self.url}; the last: {attempt.detail}{hint}")

    def get(self, path: str) -> Reply:
        """Returns the reply to one GET request, which is sent once; raises DroppedError if no complete answer came."""
        connection = Connection(self.url, self._key, min(self._timeout, SHORT_TIMEOUT))
        try:
            return connection.request("GET", path)
        finally:
            connection.close()

    def models(self) -> list[str]:
        """Returns the ids of the endpoint's models, sorted; empty if it does not list them."""
        try:
            reply = self.get("/models")
            entries = self.reader.parse(reply.body)["data"] if reply.status == 200 else []
            return sorted(one_line(str(entry["id"])) for entry in entries)
        except (DroppedError, DataError, KeyError, TypeError):
            return []
