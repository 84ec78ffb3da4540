"""A server as reward: what it gets, what it says, and one line for each way to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tulu_eval.errors import EngineError, UserError
from tulu_eval.records import Completion
from tulu_eval.training import reward_server
from tulu_eval.training.networks import collate
from tulu_eval.training.reward_server import ServerReward
from tulu_eval.training.rewards import RewardSettings
from tulu_eval.training.rollout import Rollout

Say = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture
def server() -> Iterator[Any]:
    """Starts a server whose replies a function gives; yields a function that returns its address and the requests."""
    started: list[ThreadingHTTPServer] = []

    def start(say: Say) -> tuple[str, list[Any]]:
        seen: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                seen.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                status, body = say(seen[-1][1])
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        started.append(one)
        threading.Thread(target=one.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{one.server_port}/get_reward", seen

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


@pytest.fixture
def score(llama3_like: Path, toys: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[float]]:
    """Scores two answers by the server at an address."""
    monkeypatch.setattr(reward_server, "PAUSE", 0.0)
    tokenizer = AutoTokenizer.from_pretrained(llama3_like)

    def call(url: str) -> list[float]:
        rollouts = []
        for answer in ("Yes", "No"):
            prompt = toys.tokens(tokenizer("Hm?")["input_ids"])
            ids = (*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id)
            rollouts.append(Rollout.of(prompt, Completion("k", "", ids, "stop", 0.0)))
        reward = ServerReward.make(RewardSettings("", tokenizer, url, lambda: pytest.fail("loads no model")))
        return reward.score(rollouts, collate([one.tokens for one in rollouts], torch.device("cpu"))).tolist()

    return call


def test_it_gets_texts_and_gives_numbers(server: Any, score: Any) -> None:
    url, seen = server(lambda body: (200, json.dumps({"rewards": [len(one) for one in body["query"]], "more": 1}).encode()))
    whole = [f"<|begin_of_text|>Hm?{answer}<|end_of_text|>" for answer in ("Yes", "No")]
    assert score(url) == [float(len(one)) for one in whole]
    assert seen == [("/get_reward", {"query": whole, "prompts": ["<|begin_of_text|>Hm?"] * 2, "labels": ["", ""]})]


def test_it_may_fail_for_a_while(server: Any, score: Any) -> None:
    replies = iter([(503, b""), (200, b'{"rewards": [1, 2]}')])
    url, seen = server(lambda body: next(replies))
    assert score(url) == [1.0, 2.0]
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, b'{"rewards": [1]}'), "gave 1 rewards for 2 answers"),
        ((200, b'{"rewards": [1, null]}'), "has no rewards"),
        ((200, b'{"scores": [1, 2]}'), "has no rewards"),
        ((200, b"[1, 2]"), "has no rewards"),
        ((200, b"<html>"), "has no rewards"),
        ((200, b'{"rewards": [1, NaN]}'), "has no rewards"),
        ((200, b'{"rewards": [1, 1e39]}'), "too large for float32"),
        ((404, b""), r"gave no rewards \(status 404\); the last checkpoint is whole: start the server and give the same"),
        ((500, b""), r"gave no rewards \(status 500\)"),
    ],
)
def test_what_is_no_reward(server: Any, score: Any, reply: tuple[int, bytes], message: str) -> None:
    url, _ = server(lambda body: reply)
    with pytest.raises(EngineError, match=message):
        score(url)


def test_a_server_that_is_not_there(score: Any) -> None:
    with pytest.raises(EngineError, match=r"the reward server http://127.0.0.1:9/x gave no rewards"):
        score("http://127.0.0.1:9/x")


def test_addresses() -> None:
    assert ServerReward.check("", "http://somewhere:1/x") == ""
    for argument, url, message in (
        ("x", "http://somewhere/", "has its address from --reward-url"),
        ("", "", "needs its address: give --reward-url"),
        ("", "somewhere", "the reward server's base URL"),
    ):
        with pytest.raises(UserError, match=message):
            ServerReward.check(argument, url)
