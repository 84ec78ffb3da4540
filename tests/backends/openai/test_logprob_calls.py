"""Choices and scores of a completions server: by token id, by echo, and what is no number however it is told."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.openai.backend import OpenAIBackend
from tulu_eval.backends.openai.logprob_calls import NEXT_IDS
from tulu_eval.endpoint.client import Client
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.logprobs import Choice, ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.models.base import Served
from tulu_eval.models.server import Server
from tulu_eval.models.server_request import RequestForm

pytestmark = pytest.mark.usefixtures("quick")

ROOM = 400


def logprob(before: Any, token: Any) -> float:
    """A made-up, repeatable log-probability of a token behind others; 300 of them add up to less than 1."""
    digest = hashlib.sha256(repr((list(before), token)).encode()).digest()
    return -6.0 - digest[0] / 64


def pieces(text: str) -> list[str]:
    return re.findall(r" ?[^ ]+", text)


@pytest.fixture(scope="module")
def logprob_server(servers: Any) -> Any:
    """A completions server with made-up log-probabilities."""

    class LogprobServer(servers.ModelServer):
        """The server.

        Args:
            by_id: Know ``logprob_token_ids``, as new releases of vLLM do.
            echo: Echo a prompt, as other servers do.
            spoil: Alters an answer's choice.
        """

        def __init__(
            self,
            *,
            by_id: bool = True,
            echo: bool = True,
            spoil: Callable[[dict[str, Any]], None] = lambda choice: None,
            **own: Any,
        ) -> None:
            super().__init__(**own)
            self.by_id, self.echo, self.spoil = by_id, echo, spoil

        def good(self, body: dict[str, Any], user: str) -> dict[str, Any]:
            made = super().good(body, user)
            choice, prompt = made["choices"][0], body["prompt"]
            tokens = prompt if isinstance(prompt, list) else pieces(prompt)
            rows = [None, *(logprob(tokens[:at], tokens[at]) for at in range(1, len(tokens)))]
            if self.vllm and self.by_id and "logprob_token_ids" in body:
                top = {f"token_id:{token}": logprob(tokens, token) for token in body["logprob_token_ids"]}
                choice["logprobs"] = {"tokens": ["token_id:5"], "token_logprobs": [-1.0], "top_logprobs": [top]}
            elif self.vllm and "prompt_logprobs" in body:
                named = zip(tokens, rows, strict=True)
                choice["prompt_logprobs"] = [
                    None if value is None else {str(token): {"logprob": value}} for token, value in named
                ]
            elif self.echo and body.get("echo"):
                choice["logprobs"] = {"tokens": [*map(str, tokens), " new"], "token_logprobs": [*rows, -0.5]}
            else:
                choice["logprobs"] = {"tokens": [" new"], "token_logprobs": [-0.5]}
            made["usage"]["prompt_tokens"] = len(tokens)
            self.spoil(choice)
            return made

    return LogprobServer


def backend(server: Any, prompts: Any = "tokens", batch: int = 4) -> OpenAIBackend:
    served = Served(server.url, "llama3-like0", prompts)
    there = Server("vllm-0.32.0" if server.vllm else "unknown", {})
    return OpenAIBackend(RequestForm(served, there, (1,), ROOM), None, Client(server.url, concurrency=batch, timeout=5.0))


def choices(count: int = 5) -> list[ChoiceRequest]:
    made = [ChoiceRequest.of("s", (3, 4, at), "", (7, 8, 9, 7)) for at in range(count)]
    return [*made, ChoiceRequest.of("s", (3, 4), "", tuple(range(NEXT_IDS + 5)))]


def scores(count: int = 5) -> list[ScoreRequest]:
    words = ("a", "b c", "d e f")
    texts = tuple(
        Continuation(tuple(range(20, 21 + at)), "".join(f" {word}" for word in text.split())) for at, text in enumerate(words)
    )
    return [ScoreRequest.of("s", (3, 4, at), f"It is {at}", texts) for at in range(count)]


def right_choice(one: ChoiceRequest) -> tuple[float, ...]:
    return tuple(logprob(one.token_ids, token) for token in one.candidates)


def right_score(one: ScoreRequest, prompts: str) -> list[tuple[float, ...]]:
    rows = []
    for text in one.continuations:
        before = list(one.token_ids) if prompts == "tokens" else pieces(one.text)
        own = text.token_ids if prompts == "tokens" else pieces(text.text)
        rows.append(tuple(logprob([*before, *own[:at]], token) for at, token in enumerate(own)))
    return rows


@pytest.mark.parametrize("server", [{}, {"by_id": False}, {"vllm": False}])
def test_each_server_is_asked_in_its_own_way_and_all_answer_alike(logprob_server: Any, server: dict[str, Any]) -> None:
    with logprob_server(**server) as there, backend(there) as engine:
        chosen = {one.key: one for one in engine.choose(choices())}
        asked = len(there.bodies)
        scored = {one.key: one for one in engine.score(scores())}
        traffic = engine.traffic()
    for one in choices():
        assert chosen[one.key].logprobs == pytest.approx(right_choice(one))
        assert chosen[one.key].seconds > 0
    for request in scores():
        found = scored[request.key].continuations
        assert [text.logprobs for text in found] == [pytest.approx(row) for row in right_score(request, "tokens")]
        assert [len(one.text) for one in found] == [2, 4, 6]
    together, apart = 5 + 2, 5 * 4 + NEXT_IDS + 5
    assert asked == {"{}": together, "{'by_id': False}": together + apart, "{'vllm': False}": apart}[str(server)]
    assert traffic is not None
    assert (traffic.sent, traffic.resent) == (len(there.bodies), 0)
    body = there.bodies[0]
    assert (body["temperature"], body["top_p"], body["max_tokens"], "seed" in body) == (1.0, 1.0, 1, False)


def test_a_servers_own_tokens_of_a_text(logprob_server: Any) -> None:
    with logprob_server(vllm=False) as there, backend(there, "text") as engine:
        scored = {one.key: one for one in engine.score(scores())}
        for request in scores():
            found = [text.logprobs for text in scored[request.key].continuations]
            assert found == [pytest.approx(row) for row in right_score(request, "text")]
        inside = [dataclasses.replace(one, text=f"{one.text} the", key=f"{at}") for at, one in enumerate(scores(3))]
        mixed = [dataclasses.replace(one, continuations=(Continuation((), "re"), *one.continuations)) for one in inside]
        empty = ScoreRequest("empty", (), "", (Continuation((), " a"),))
        spoilt = list(engine.score([*mixed, empty]))
        there.spoil = lambda choice: choice["logprobs"]["tokens"].append("x")
        (uneven,) = engine.score(scores(1))
        there.spoil = lambda choice: choice.update(logprobs={"tokens": [], "token_logprobs": []})
        (nothing,) = engine.score([dataclasses.replace(one, continuations=one.continuations[:1]) for one in scores(1)])
    assert {one.error for one in spoilt} == {
        "none of the server's tokens begins where the continuation does; use --prompts tokens",
        "the prompt or a continuation has no text",
    }
    assert not any(one.continuations for one in spoilt)
    assert nothing.error == "the server echoes 0 tokens where it counts 4, and one may be new"
    assert uneven.error == "the server does not echo a prompt with its log-probabilities; use another backend"


def top(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda choice: choice["logprobs"]["top_logprobs"][0].update({"token_id:8": value})


def rows(change: Callable[[list[Any]], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda choice: choice.update(prompt_logprobs=change(choice["prompt_logprobs"]))


def echoed(change: Callable[[list[Any]], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda choice: choice["logprobs"].update(token_logprobs=change(choice["logprobs"]["token_logprobs"]))


NO_NUMBER = "as a log-probability"
LIES: list[tuple[str, bool, Callable[[dict[str, Any]], None], str]] = [
    *(("choose", True, top(value), NO_NUMBER) for value in (0.1, math.nan, -math.inf, -9999.0, "-1", None, True, [-1.0], {})),
    ("choose", True, top(-1e-9), "add up to more than 1"),
    ("choose", True, lambda choice: choice.update(prompt_token_ids=[5]), "other prompt token ids than it was sent"),
    ("score", True, rows(lambda own: own[:-1]), "no log-probability per token"),
    ("score", True, rows(lambda own: [*own, own[-1]]), "no log-probability per token"),
    ("score", True, rows(lambda own: None), "no log-probability per token"),
    ("score", True, rows(lambda own: [*own[:-1], {"5": {"logprob": -1.0}}]), "of other tokens than it was sent"),
    ("score", True, rows(lambda own: [*own[:-1], {"21": -1.0}]), "of other tokens than it was sent"),
    ("score", True, rows(lambda own: [*own[:-1], None]), "of other tokens than it was sent"),
    ("score", True, rows(lambda own: [*own[:-1], {"21": {"logprob": 3}}]), NO_NUMBER),
    ("score", False, echoed(lambda own: own[:-1]), "does not echo a prompt"),
    ("score", False, echoed(lambda own: [None] * len(own)), NO_NUMBER),
    ("score", False, echoed(lambda own: [2.0] * len(own)), NO_NUMBER),
    ("score", False, lambda choice: choice.update(logprobs={"tokens": ["x"], "token_logprobs": [-1.0]}), "echoes 1 tokens"),
    ("score", False, lambda choice: choice.update(logprobs=None), "does not echo a prompt"),
    ("score", False, lambda choice: choice.update(logprobs={"content": []}), "does not echo a prompt"),
]


@pytest.mark.parametrize(("kind", "vllm", "spoil", "line"), LIES)
def test_a_lie_is_an_error_and_never_a_number(
    logprob_server: Any, kind: str, vllm: bool, spoil: Callable[[dict[str, Any]], None], line: str
) -> None:
    two = tuple(Continuation((20, 21), " b c") for _ in range(1))
    with logprob_server(vllm=vllm, spoil=spoil) as there, backend(there) as engine:
        if kind == "choose":
            done: Any = list(engine.choose([ChoiceRequest.of("s", (3, 4), "", (7, 8))]))
        else:
            done = list(engine.score([ScoreRequest.of("s", (3, 4), "It is", two)]))
    (one,) = done
    assert line in one.error
    assert one.error.isprintable()
    assert not (one.logprobs if isinstance(one, Choice) else one.continuations)


def test_faults_are_retried_as_for_generate_and_nothing_is_lost(logprob_server: Any) -> None:
    turn = itertools.cycle(("429", "500", "drop", "half", "not json", "many", "none", ""))
    with logprob_server(draw=lambda user, times: next(turn) if times <= 4 else "") as there, backend(there) as engine:
        chosen = {one.key: one.logprobs for one in engine.choose(choices(20))}
        traffic = engine.traffic()
    assert chosen == {one.key: pytest.approx(right_choice(one)) for one in choices(20)}
    assert traffic is not None
    assert traffic.resent > 10


def test_a_server_without_them_stops_the_run_and_impossible_requests_are_not_sent(logprob_server: Any) -> None:
    with logprob_server(vllm=False, echo=False) as there, backend(there, batch=1) as engine:
        with pytest.raises(
            EngineError, match=r"^5 requests failed, and none was answered, .*echoes 1 tokens where 4 were sent"
        ):
            list(engine.choose(choices()))
        sent = len(there.bodies)
        bad = [ChoiceRequest("empty", (), "", (5,)), ChoiceRequest("long", (5,) * ROOM, "", (5,))]
        found = {one.key: one.error for one in engine.choose(bad)}
        assert found == {
            "empty": "the prompt has no tokens",
            "long": f"prompt and continuation have {ROOM + 1} tokens, and a row has room for {ROOM - 1}",
        }
        assert len(there.bodies) == sent
        engine.close()
        with pytest.raises(EngineError, match="is closed"):
            next(engine.score(scores()))


def test_prompts_that_have_no_tokens_are_refused_before_anything_is_sent(logprob_server: Any) -> None:
    chat = r"^--prompts chat: chat servers give no log-probabilities of given tokens"
    text = r"^--prompts text: candidates for the next token are token ids; use --prompts tokens$"
    with logprob_server() as there:
        for prompts, kind, line in (("chat", "choose", chat), ("chat", "score", chat), ("text", "choose", text)):
            with pytest.raises(PreflightError, match=line):
                OpenAIBackend.check_kind(kind, EngineSettings(served=Served(there.url, "m", prompts)))  # type: ignore[arg-type]
            engine = backend(there, prompts)
            with pytest.raises(PreflightError, match=line):
                next(engine.choose(choices()) if kind == "choose" else engine.score(scores()))  # type: ignore[type-var]
        for prompts, kind in (("auto", "choose"), ("tokens", "choose"), ("text", "score"), ("chat", "generate")):
            OpenAIBackend.check_kind(kind, EngineSettings(served=Served(there.url, "m", prompts)))  # type: ignore[arg-type]
        assert there.bodies == []
