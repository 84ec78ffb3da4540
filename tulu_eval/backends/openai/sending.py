"""Sends jobs to a server in threads, and hands over what comes of each as it comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from tulu_eval.endpoint.client import Attempt, Client
from tulu_eval.endpoint.replies import EndpointError, Failure
from tulu_eval.endpoint.wire import Connection, DroppedError
from tulu_eval.errors import EngineError
from tulu_eval.models.base import Served

Job = TypeVar("Job")
Made = TypeVar("Made")


class Sender:
    """One server's sender.

    Args:
        served: The server, for messages.
    """

    def __init__(self, client: Client, served: Served) -> None:
        self.client = client
        self._served = served

    def stream(self, jobs: Sequence[Job], send: Callable[[Connection, Job], Attempt[Made]]) -> Generator[Made, None, None]:
        """Sends jobs and yields what comes of each, in any order; what is in flight is dropped if the caller wants no more.

        Raises:
            EngineError: If the server will not answer.
        """
        came: queue.SimpleQueue[tuple[Made] | Exception | None] = queue.SimpleQueue()

        def work() -> None:
            try:
                self.client.ask(jobs, send, lambda made: came.put((made,)))
                came.put(None)
            except Exception as error:  # handed to the thread that reads, and raised there
                came.put(error)

        thread = threading.Thread(target=work, name="requests", daemon=True)
        thread.start()
        try:
            while (one := came.get()) is not None:
                if isinstance(one, EndpointError):
                    raise EngineError(str(one)) from one
                if isinstance(one, Exception):
                    raise one
                yield one[0]
        finally:
            while thread.is_alive():
                self.client.abort()
                thread.join(0.1)

    def exchange(self, connection: Connection, path: str, body: dict[str, Any]) -> dict[str, Any] | Failure:
        """Returns the data of a good answer, or what failed.

        Raises:
            EndpointError: If the server does not have the model or the path, or will answer no request.
        """
        try:
            reply = connection.request("POST", path, body)
        except DroppedError as error:
            return Failure(0, f"{error.kind}: {error}", "", retry=True)
        data = self.client.reader.read(reply)
        if isinstance(data, Failure) and data.status == 404:
            words = f"the server {self._served.url} does not know {self._served.name!r} or {path}"
            raise EndpointError(f"{words} ({data.detail}){self.client.url.hint}")
        return data
