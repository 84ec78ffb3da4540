"""A server on the loopback whose every answer the test makes: any path, any header, any body, IPv4 or IPv6."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A request: its method, its path with the query, its headers by names in lower case, its JSON body."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""Status, body (bytes go as they are, anything else as JSON), further headers."""


def chat(content: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """Returns a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish, **more}
    return {"id": "x", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}


class Scripted:
    """Use it as a context manager.

    Args:
        answer: Makes the answer to a request.
        host: Where it listens.

    Attributes:
        root: Its address, without a path.
        seen: All requests.
    """

    def __init__(self, answer: Callable[[Seen], Answer], host: str = "127.0.0.1") -> None:
        self.seen: list[Seen] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                one = Seen(self.command, self.path, headers, json.loads(raw) if raw else None)
                server.seen.append(one)
                status, data, *more = answer(one)
                body = data if isinstance(data, bytes) else json.dumps(data).encode()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    for name, value in {**(more[0] if more else {}), "Content-Length": str(len(body))}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - as http.server calls it

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            request_queue_size = 64
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that is killed resets its connections

        self._server = Server((host, 0), Handler)
        shown = f"[{host}]" if ":" in host else host
        self.root = f"http://{shown}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Its base URL, as most servers have it."""
        return f"{self.root}/v1"

    @property
    def asked(self) -> list[Seen]:
        """The requests for an answer."""
        return [one for one in self.seen if one.method == "POST"]

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
