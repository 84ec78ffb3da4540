"""Exchanges one request and reply at a time over a kept connection, with one deadline per exchange; standard library only.

A socket's time-out limits one read, so a server that sends headers or body byte by byte could hold a request for ever. Here
each read waits only for the rest of the exchange's time; that includes reads of a tunnel and of a TLS handshake. The
connection does not follow redirects, so a key goes only to the host for which it was given.

Why no HTTP package: with 64 requests in flight on the loopback (``benchmarks/endpoint.py``, two cores), a request costs 0.45 ms
of CPU here, 0.74 with urllib3 2.8, 1.3 with httpx2 2.16 and 0.4 with aiohttp 3.14. Of these only aiohttp has a deadline for a
whole exchange, and it would require every caller to be a coroutine.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from tulu_eval.endpoint.url import BaseUrl

CHUNK = 65536
MAX_BODY = 16 * 2**20
"""Largest body in bytes, so that a broken server cannot fill the memory; an answer has a few kB, a model list some hundred."""

CONNECT_SECONDS = 30.0
"""Largest time to open a connection, in seconds; the rest of the time-out is for the answer."""


class Reply(NamedTuple):
    """A complete answer of a server.

    Attributes:
        headers: Values by name in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class DroppedError(Exception):
    """No complete answer came.

    Attributes:
        kind: ``connection`` (not reached, or closed before the answer), ``timeout``, or ``half`` (closed during the answer).
        sent: Whether the request was sent, so that the server may have processed it.
    """

    def __init__(self, kind: str, message: str, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


class Connection:
    """A kept connection to one endpoint; one thread may use it at a time.

    Args:
        key: API key, sent as a bearer token, to Azure as ``api-key``; empty for none.
        timeout: Seconds for one whole exchange.
    """

    def __init__(self, url: BaseUrl, key: str, timeout: float) -> None:
        self._url = url
        self._key = key
        self._timeout = timeout
        self._deadline = 0.0
        self._connection: http.client.HTTPConnection | None = None

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Returns the server's answer with any status; raises DroppedError if no complete answer came in time."""
        data = None if body is None else json.dumps(body).encode("ascii")
        target = self._url.target(path, str(body.get("model", "")) if body else "")
        self._deadline = time.monotonic() + self._timeout
        sent = False
        try:
            connection = self._connection or self._connect()
            connection.sock.settimeout(self._left())
            connection.request(method, target, data, self._headers(data is not None))
            sent = True
            return self._read(connection.getresponse())
        except TimeoutError as error:
            self.close()
            raise DroppedError("timeout", f"no complete answer within {self._timeout:g} s", sent) from error
        except DroppedError:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise DroppedError("connection", f"{type(error).__name__}", sent) from error

    def _headers(self, has_body: bool) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "tulu-eval"}
        if has_body:
            headers["Content-Type"] = "application/json"
        if self._key and self._url.azure:
            headers["api-key"] = self._key
        elif self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _left(self) -> float:
        """Returns the seconds that are left of the exchange; raises TimeoutError if none are."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _connect(self) -> http.client.HTTPConnection:
        url, patience = self._url, min(CONNECT_SECONDS, self._left())
        connection: http.client.HTTPConnection
        if url.scheme == "http":
            connection = http.client.HTTPConnection(url.host, url.port)
        else:
            proxy = urllib.request.getproxies().get("https")
            context = ssl.create_default_context()
            if proxy and not urllib.request.proxy_bypass(url.host):
                parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
                connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 80, context=context)
                connection.set_tunnel(url.host, url.port)
            else:
                connection = http.client.HTTPSConnection(url.host, url.port, context=context)
        opened = time.monotonic() + patience

        def dial(address: tuple[str, int], *_: object) -> socket.socket:
            return _dial(address, lambda: min(self._left(), opened - time.monotonic()))

        def answer(sock: socket.socket, *args: Any, **named: Any) -> http.client.HTTPResponse:
            return http.client.HTTPResponse(cast(socket.socket, _Timed(sock, self._left)), *args, **named)

        connection._create_connection = dial  # type: ignore[attr-defined]
        connection.response_class = answer  # type: ignore[assignment]
        try:
            connection.connect()
        except TimeoutError as error:
            connection.close()
            raise DroppedError("connection", f"no connection within {patience:.3g} s", False) from error
        self._connection = connection
        return connection

    def _read(self, response: http.client.HTTPResponse) -> Reply:
        body = bytearray()
        with contextlib.closing(response):  # an open response would hold the socket and block its reuse
            try:
                while chunk := response.read1(CHUNK):
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise DroppedError("half", f"an answer of more than {MAX_BODY} bytes", True)
            except (http.client.HTTPException, ConnectionError) as error:
                raise DroppedError("half", f"the connection closed after {len(body)} bytes of the answer", True) from error
            if response.length:  # read1 ends without an error if the body is shorter than its Content-Length
                raise DroppedError("half", f"the connection closed after {len(body)} bytes of the answer", True)
        if response.will_close:
            self.close()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, bytes(body))

    def abort(self) -> None:
        """Ends an exchange from another thread; the thread that waits for the answer gets a :class:`DroppedError`."""
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Timed:
    """Replaces the socket of an :class:`http.client.HTTPResponse`, which only asks it for a file to read from."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left = sock, left

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Reads(self._sock, self._left))


class _Reads(io.RawIOBase):
    """A socket's bytes; each read waits at most for the time that is left."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left = sock, left
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _dial(address: tuple[str, int], left: Callable[[], float]) -> socket.socket:
    """Returns a socket connected to the first of a name's addresses that accepts; all attempts share the time."""
    problem: OSError = OSError("the name has no address")
    for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.001, left()))
            sock.connect(place)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise problem
