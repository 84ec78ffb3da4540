"""A chat-completions server on the loopback that misbehaves on request and counts what it served.

What it does with a request is decided by words in the user's turn, so tests choose faults by their outputs' text.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def preference_for_second(user: str) -> float:
    """A made-up, repeatable probability that the judge says M."""
    return int(hashlib.sha256(user.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF * 0.98 + 0.01


def completion(user: str, model: str, content: str | None = None, logprobs: bool = True) -> dict[str, Any]:
    p = preference_for_second(user)
    top = [
        {"token": "M", "logprob": math.log(p)},
        {"token": "m", "logprob": math.log(1 - p)},
        {"token": "The", "logprob": -15.0},
    ]
    made: dict[str, Any] = {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": content if content is not None else ("M" if p > 0.5 else "m")},
        "logprobs": {"content": [{"token": "M", "logprob": math.log(p), "top_logprobs": top}]} if logprobs else None,
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    return {"id": "x", "object": "chat.completion", "model": model, "choices": [made], "usage": usage}


class Loopback:
    """Use it as a context manager.

    ``served``: good answers by user turn. ``requests``: all requests by user turn. ``faults``: for a word, what to do with the
    first times a user turn that has it comes: a list of fault names; the last repeats if it ends with ``...``.
    """

    def __init__(self, faults: dict[str, list[str]] | None = None, delay: float = 0.0, models: tuple[str, ...] = ()) -> None:
        self.faults = faults or {}
        self.delay = delay
        self.models = models
        self.served: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: set[str | None] = set()
        self.times: list[float] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                server._json(self, 200, {"data": [{"id": name} for name in server.models]})

            def do_POST(self) -> None:
                server._post(self)

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a killed client resets its connections

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _json(self, handler: Any, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(data).encode()
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _fault(self, user: str, times: int) -> str:
        for word, steps in self.faults.items():
            if word in user:
                if steps[-1] == "...":
                    return steps[:-1][min(times, len(steps) - 1) - 1]
                return steps[times - 1] if times <= len(steps) else ""
        return ""

    def _post(self, handler: Any) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        user = body["messages"][-1]["content"]
        with self._lock:
            self.requests[user] += 1
            times = self.requests[user]
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.authorizations.add(handler.headers.get("Authorization"))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.delay:
                self._released.wait(self.delay)
            self._answer(handler, body, user, self._fault(user, times))
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self._lock:
                self.in_flight -= 1

    def _answer(self, handler: Any, body: dict[str, Any], user: str, fault: str) -> None:
        model = body["model"]
        good = completion(user, model)
        if fault.isdigit():
            key = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
            self._json(handler, int(fault), {"error": {"message": f"fault {fault}, key was {key}", "code": "made_up"}})
        elif fault.startswith("429 after "):
            self._json(handler, 429, {"error": {"message": "slow down"}}, {"Retry-After": fault.removeprefix("429 after ")})
        elif fault == "quota":
            self._json(handler, 429, {"error": {"message": "no quota", "code": "insufficient_quota"}})
        elif fault == "filtered":
            self._json(handler, 400, {"error": {"message": "policy", "code": "content_filter"}})
        elif fault == "stall":
            self._released.wait(30)
            handler.close_connection = True
        elif fault == "drip":
            handler.send_response(200)
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
            while not self._released.wait(0.05):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        elif fault == "drop":
            handler.close_connection = True
            handler.connection.close()
        elif fault == "half":
            data = json.dumps(good).encode()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
        elif fault == "not json":
            handler.send_response(200)
            handler.send_header("Content-Length", "6")
            handler.end_headers()
            handler.wfile.write(b"<html>")
        elif fault == "no choices":
            self._json(handler, 200, {"object": "chat.completion", "choices": []})
        elif fault == "no logprobs":
            self._json(handler, 200, completion(user, model, logprobs=False))
        elif fault == "neither":
            top = [{"token": "The", "logprob": -0.1}, {"token": "Both", "logprob": -3.0}]
            answer = completion(user, model, content="The")
            answer["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
            self._json(handler, 200, answer)
        elif fault == "refusal":
            answer = completion(user, model)
            answer["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
            self._json(handler, 200, answer)
        elif fault.startswith("say "):
            self._json(handler, 200, completion(user, model, content=fault.removeprefix("say "), logprobs=False))
        else:
            with self._lock:
                self.served[user] += 1
            self._json(handler, 200, good)
