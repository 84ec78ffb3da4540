"""Servers on the loopback that misbehave on request and count what they served: a judge, and one with a model.

What the judge does with a request is decided by words in the user's turn, so tests choose faults by their outputs' text.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
import random
import threading
import time
from collections.abc import Callable
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
                server._get(self)

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

    def _get(self, handler: Any) -> None:
        self._json(handler, 200, {"data": [{"id": name} for name in self.models]})

    def user_of(self, body: dict[str, Any]) -> str:
        """What tells requests apart."""
        return body["messages"][-1]["content"]

    def good(self, body: dict[str, Any], user: str) -> dict[str, Any]:
        """The right answer."""
        return completion(user, body["model"])

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
        user = self.user_of(body)
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
        good = self.good(body, user)
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


WORDS = ("many", "index", "none", "long", "prompt", "text")
"""Wrong answers of a completions server: two choices, another index, no choice, many tokens, another prompt, invalid ids."""


class ModelServer(Loopback):
    """A server with a made-up model. It gives a prompt the same answer each time, in tokens of the tests' tiny tokenizer.

    Args:
        draw: Says what to do with the first, second, ... request for a prompt, as ``faults`` do, or with one of :data:`WORDS`.
        vllm: Say that it is vLLM, and return token ids.
        takes_ids: Take token ids as a prompt, rather than refuse them with 400.
        context: Positions that it says it has; 0 is not to say.
        eos: The token that ends an answer.
        listing: What it says at ``/models`` instead: status and body.
    """

    def __init__(
        self,
        draw: Callable[[str, int], str] = lambda user, times: "",
        *,
        models: tuple[str, ...] = ("llama3-like0",),
        vllm: bool = True,
        takes_ids: bool = True,
        context: int = 0,
        eos: int = 1,
        delay: float = 0.0,
        listing: tuple[int, Any] | None = None,
    ) -> None:
        super().__init__(delay=delay, models=models)
        self.draw, self.vllm, self.takes_ids, self.context, self.eos = draw, vllm, takes_ids, context, eos
        self.listing = listing
        self.injected: collections.Counter[str] = collections.Counter()

    def _get(self, handler: Any) -> None:
        if handler.path == "/version":
            self._json(handler, 200, {"version": "0.0.1"})
        elif self.listing:
            self._json(handler, *self.listing)
        else:
            owner = {"owned_by": "vllm", "max_model_len": self.context or None} if self.vllm else {}
            self._json(handler, 200, {"data": [{"id": name, **owner} for name in self.models]})

    def user_of(self, body: dict[str, Any]) -> str:
        if "messages" in body:
            return body["messages"][-1]["content"]
        return json.dumps(body["prompt"])

    def good(self, body: dict[str, Any], user: str) -> dict[str, Any]:
        chance = random.Random(user)
        tokens = [*(chance.randrange(3, 500) for _ in range(chance.randint(2, 12))), self.eos][: body["max_tokens"]]
        said = f"The answer is {chance.randint(1, 30)}."
        made: dict[str, Any] = {"index": 0, "finish_reason": "stop" if tokens[-1] == self.eos else "length"}
        made |= {"message": {"role": "assistant", "content": said}} if "messages" in body else {"text": said}
        prompt = body.get("prompt")
        length = len(prompt) if isinstance(prompt, list) else 7
        if self.vllm:
            made |= {"token_ids": tokens, "prompt_token_ids": prompt if isinstance(prompt, list) else None}
        usage = {"prompt_tokens": length, "completion_tokens": len(tokens)}
        return {"id": "x", "model": body["model"], "choices": [made], "usage": usage}

    def _fault(self, user: str, times: int) -> str:
        fault = self.draw(user, times)
        self.injected[fault] += 1
        return fault

    def _answer(self, handler: Any, body: dict[str, Any], user: str, fault: str) -> None:
        good = self.good(body, user)
        choice = good["choices"][0]
        if isinstance(body.get("prompt"), list) and not self.takes_ids:
            self._json(handler, 400, {"error": {"message": "prompt must be a string"}})
        elif fault not in WORDS:
            super()._answer(handler, body, user, fault)
        else:
            if fault == "long":
                choice["token_ids"] = [5] * (body["max_tokens"] + 1)
            elif fault == "prompt":
                choice["prompt_token_ids"] = [5]
            elif fault == "text":
                choice["token_ids"] = ["five"]
            good["choices"] = {
                "many": [choice, {**choice, "index": 1}], "none": [], "index": [{**choice, "index": 3}],
            }.get(fault, [choice])  # fmt: skip
            self._json(handler, 200, good)
