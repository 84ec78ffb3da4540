"""A server that answers whatever a case says, down to the bytes: cut, endless, slow, or of wrong lengths."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from robustness import mutations
from scripted import chat


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What a server says.

    Attributes:
        field: What is odd: a field of the answer, or a part of HTTP.
        kind: How.
        raw: Its bytes.
        again: Whether it says them without end.
        listing: Whether it says so of its models too.
        broken: Whether no client may take it for an answer.
    """

    field: str
    kind: str
    raw: bytes
    again: bool = False
    listing: bool = False
    broken: bool = False


class HostileServer:
    """Use it as a context manager; ``said`` is what it says from now on, and a good listing of one model before.

    Attributes:
        url: Its base URL.
        said: What it says.
    """

    def __init__(self) -> None:
        self.said = Said("", "", http(GOOD))
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self._over = threading.Event()

    def __enter__(self) -> HostileServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(5)
            while not self._over.is_set():
                asked = _request(connection)
                if not asked:
                    return
                said = self.said
                if asked.startswith(b"GET") and not said.listing:
                    connection.sendall(http({"data": [{"id": "m"}]}))
                    continue
                connection.sendall(said.raw)
                while said.again and not self._over.is_set():
                    connection.sendall(said.raw[-2000:])
                    time.sleep(0.001)
                if b"Content-Length: %d\r\n" % len(said.raw.partition(b"\r\n\r\n")[2]) not in said.raw:
                    return


def _request(connection: socket.socket) -> bytes:
    """Returns a request, its body read; empty if the client has gone."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = connection.recv(65536)
        if not more:
            return b""
        raw += more
    head, _, body = raw.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < int(lengths[0] if lengths else 0):
        body += connection.recv(65536)
    return raw


GOOD = chat(
    "So the answer is 3.",
    logprobs={
        "content": [
            {"token": "m", "logprob": -0.1, "top_logprobs": [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.5}]}
        ]
    },
)
LISTING = {"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 4096, "owned_by": "vllm"}]}


def http(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    """Returns an answer with a body (bytes as they are) and its true length."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(data)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass") + data


def every() -> Iterator[Said]:
    """Yields everything that a server may say."""
    for one in mutations.mutations(GOOD):
        yield Said(one.field or "answer", one.kind, http(one.text.encode("utf-8", "surrogatepass")))
    for one in mutations.mutations(LISTING):
        yield Said(f"models {one.field}", one.kind, http(one.text.encode("utf-8", "surrogatepass")), listing=True)
    good = http(GOOD)
    for part in (0, 0.05, 0.2, 0.5, 0.9, 0.99):
        yield Said("bytes", f"cut at {part:.0%}", good[: int(len(good) * part)], broken=True)
    body = json.dumps(GOOD).encode()
    head = b"HTTP/1.1 200 OK\r\n"
    for length in (
        b"-1",
        b"0",
        b"5",
        b"999999",
        b"1" * 30,
        b"x",
        b"",
        b"1_0",
        b"0x10",
        "١".encode(),
        b"5\r\nContent-Length: 7",
    ):
        raw = head + b"Content-Length: " + length + b"\r\n\r\n" + body
        yield Said("Content-Length", repr(length), raw, broken=length in (b"5", b"0", b"999999"))
    for kind, raw in {
        "none, and closed": head + b"\r\n" + body,
        "bad size": head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
        "huge size": head + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n" + body,
        "negative size": head + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n" + body,
        "cut": head + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        "both": head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    }.items():
        yield Said("length", kind, raw)
    for status in (
        "000 X",
        "99 X",
        "1000 X",
        "200",
        "-1 X",
        "x X",
        "204 No Content",
        "206 Partial",
        "301 Moved",
        "304 Not",
        "400 Bad",
        "401 No",
        "403 No",
        "404 No",
        "408 Late",
        "413 Large",
        "418 Tea",
        "422 Odd",
        "429 Many",
        "500 Err",
        "503 Busy",
        "599 X",
    ):
        yield Said("status", status, http(GOOD, status))
        yield Said("status", f"{status}, an error in it", http({"error": {"message": "\x1b[31m\n" + "e" * 100_000}}, status))
    for headers in (
        ("Retry-After: 999999999",),
        ("Retry-After: nan",),
        ("Retry-After: -1",),
        ("Retry-After: \u0661",),
        ("Location: http://127.0.0.1:9/",),
        ("Content-Encoding: gzip",),
        ("Content-Encoding: nonsense",),
        ("Content-Type: text/html; charset=utf-7",),
        ("X: " + "x" * 100_000,),
        tuple(f"X-{n}: 1" for n in range(200)),
        ("X:\x01\x1b[31m",),
        (": none",),
        ("no colon",),
        (" folded",),
        ("Connection: close",),
    ):
        for status in ("200 OK", "429 Many", "307 Moved"):
            yield Said("headers", f"{headers[0][:40]!r} {status}", http(GOOD, status, *headers))
    for kind, raw in {
        "headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500,
        "one header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 4000,
        "status": b"HTTP/1.1 100 C\r\n\r\n" * 100,
        "body": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 4000,
        "spaces": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 4000,
        "zeros": bytes(4000),
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 600,
        "line": b"x" * 4000,
        "long body": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 4000,
    }.items():
        yield Said("endless", kind, raw, again=True, broken=True)
        yield Said("endless", f"{kind}, its models", raw, again=True, listing=True)
    for kind, data in {
        "deep": b"[" * 200_000,
        "a bomb": gzip.compress(bytes(64 << 20)),
        "not UTF-8": b"\xff" * 100,
        "UTF-16": json.dumps(GOOD).encode("utf-16"),
        "a BOM": b"\xef\xbb\xbf" + body,
        "two": body * 2,
        "HTML": b"<html>\x1b[31m" + b"<p>" * 10_000,
        "zeros": bytes(1000),
        "half": body[:100],
        "a stream": b"data: " + body + b"\n\ndata: [DONE]\n\n",
        "many digits": body.replace(b"7", b"7" * 5000),
    }.items():
        yield Said("body", kind, http(data))
        yield Said("body", f"{kind}, gzip", http(gzip.compress(data), "200 OK", "Content-Encoding: gzip"))
        yield Said("body", f"{kind}, its models", http(data), listing=True)
