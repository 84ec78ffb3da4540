"""One exchange at a time over a kept connection, with a deadline for the whole exchange; the standard library only.

A socket's timeout is for one read, so a server that drips bytes would hold a request for ever: the deadline is checked between
reads. Redirects are not followed, so a key goes nowhere but to the host it was given for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from tulu_eval.errors import UserError

CHUNK = 65536
MAX_BODY = 64 * 2**20
"""An answer is a few kilobytes; this keeps a broken server from filling the memory."""

CONNECT_SECONDS = 30.0
"""For a connection to open; the rest of the time-out is for the answer."""

OPENAI_HOST = "api.openai.com"
OPENAI_KEY = "OPENAI_API_KEY"


class Reply(NamedTuple):
    """An answer of a server, whole.

    Attributes:
        status: HTTP status.
        headers: Names in lower case.
        body: Its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class DroppedError(Exception):
    """No whole answer came.

    Attributes:
        kind: ``connection`` (not reached, or closed before an answer began), ``timeout``, or ``half`` (closed in its midst).
        sent: Whether the request had gone out, so that it may have been worked on.
    """

    def __init__(self, kind: str, message: str, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


class BaseUrl(NamedTuple):
    """Where an endpoint is."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"


def parse_base_url(text: str, owner: str = "the endpoint") -> BaseUrl:
    """Returns the parts of a base URL such as ``https://api.openai.com/v1``.

    Args:
        text: The URL.
        owner: Whose it is, for messages.

    Raises:
        UserError: It is not one, or has a user name, a password or a query in it.
    """
    try:
        parts = urllib.parse.urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise UserError(f"{owner}'s base URL cannot be read; it should look like https://HOST:PORT/v1") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{owner}'s base URL {text!r} should look like https://HOST:PORT/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(f"{owner}'s base URL must have no user, password or query in it; keys come from the environment")
    port = port or (443 if parts.scheme == "https" else 80)
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    return BaseUrl(parts.scheme, parts.hostname, port, path)


def key_for(url: BaseUrl, environment: Mapping[str, str], variable: str) -> str:
    """Returns the key for an endpoint: the variable's, else ``OPENAI_API_KEY`` for OpenAI's own host and no other.

    Args:
        url: Of the endpoint.
        environment: Of this process.
        variable: Name of the variable for this use.

    Raises:
        UserError: OpenAI's host, and neither is set.
    """
    key = environment.get(variable, "").strip()
    if not key and url.host == OPENAI_HOST:
        key = environment.get(OPENAI_KEY, "").strip()
        if not key:
            raise UserError(f"asking {OPENAI_HOST} needs a key in the environment variable {OPENAI_KEY}")
    return key


class Connection:
    """A kept connection to one endpoint; for one thread at a time.

    Args:
        url: Where it goes.
        key: Sent as a bearer token; empty for none.
        timeout: Seconds for one whole exchange.
    """

    def __init__(self, url: BaseUrl, key: str, timeout: float) -> None:
        self._url = url
        self._key = key
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Returns the server's answer, whatever its status.

        Raises:
            DroppedError: No whole answer came in time.
        """
        data = None if body is None else json.dumps(body).encode("ascii")
        headers = {"Accept": "application/json", "User-Agent": "tulu-eval"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        deadline = time.monotonic() + self._timeout
        sent = False
        try:
            connection = self._connection or self._connect(deadline)
            self._limit(connection, deadline)
            connection.request(method, self._url.path + path, data, headers)
            sent = True
            response = connection.getresponse()
            return self._read(connection, response, deadline)
        except TimeoutError as error:
            self.close()
            raise DroppedError("timeout", f"no whole answer within {self._timeout:g} s", sent) from error
        except DroppedError:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise DroppedError("connection", f"{type(error).__name__}", sent) from error

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        url, patience = self._url, min(CONNECT_SECONDS, max(0.001, deadline - time.monotonic()))
        connection: http.client.HTTPConnection
        if url.scheme == "http":
            connection = http.client.HTTPConnection(url.host, url.port, timeout=patience)
        else:
            proxy = urllib.request.getproxies().get("https")
            context = ssl.create_default_context()
            if proxy and not urllib.request.proxy_bypass(url.host):
                parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
                host, port = parts.hostname or "", parts.port or 80
                connection = http.client.HTTPSConnection(host, port, timeout=patience, context=context)
                connection.set_tunnel(url.host, url.port)
            else:
                connection = http.client.HTTPSConnection(url.host, url.port, timeout=patience, context=context)
        try:
            connection.connect()
        except TimeoutError as error:
            raise DroppedError("connection", f"no connection within {patience:.3g} s", False) from error
        self._connection = connection
        return connection

    def _limit(self, connection: http.client.HTTPConnection, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: float) -> Reply:
        parts: list[bytes] = []
        size = 0
        try:
            while chunk := response.read1(CHUNK):
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_BODY:
                    raise DroppedError("half", f"an answer of more than {MAX_BODY} bytes", True)
                self._limit(connection, deadline)
        except (http.client.HTTPException, ConnectionError) as error:
            raise DroppedError("half", f"the connection closed after {size} bytes of the answer", True) from error
        if response.length:  # read1 ends in silence where the body is shorter than its Content-Length
            raise DroppedError("half", f"the connection closed after {size} bytes of the answer", True)
        response.close()  # read1 does not, and an open answer would keep the connection from being used again
        if response.will_close:
            self.close()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, b"".join(parts))

    def abort(self) -> None:
        """Ends an exchange from another thread: whoever waits for its answer gets a :class:`DroppedError`."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
