"""Servers other than OpenAI's and vLLM's, through the real planner and runner: their words, addresses and errors."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.endpoint.replies import EndpointError
from tulu_eval.errors import EngineError, UserError
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import RunOutcome, execute
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import Sample

KEY = "sk-served-0123456789"
"""The key that the fixture ``quick`` puts into the environment."""
LISTING = (200, {"data": [{"id": "m"}]})
SAID = "She has 3. So the answer is 3."
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def ask(order: Callable[..., Order]) -> Callable[..., RunOutcome]:
    """Runs 6 questions at a base URL in chat turns."""

    def call(url: str, model: str = "m", n: int = 6, **served: Any) -> RunOutcome:
        made = dataclasses.replace(order(url, model=model, **{"prompts": "chat", **served}), limit=n)
        return execute(make_plan(made, load_suite()), Progress(quiet=True))

    return call


@pytest.fixture
def answering(scripted: Any) -> Callable[..., Any]:
    """Makes a server that lists one model and answers every question alike."""
    return lambda answer, **more: scripted.Scripted(lambda seen: LISTING if seen.method == "GET" else answer, **more)


def samples(folder: Path) -> list[Sample]:
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        return list(ledger.samples())


@pytest.mark.parametrize("word", ["eos_token", "end_turn", "eos", "stop_sequence"])
def test_another_servers_word_for_an_end_is_an_end(word: str, ask: Any, answering: Any, scripted: Any) -> None:
    with answering((200, scripted.chat(SAID, word))) as server:
        outcome = ask(server.url)
    assert outcome.tally.failed == 0
    assert {(one.completion.text, one.completion.finish_reason) for one in samples(outcome.folder)} == {(SAID, "stop")}


@pytest.mark.parametrize(
    ("word", "cause"), [(None, "the server did not say why it ended"), ("done\x1b[2J", "for 'done\\x1b[2J'")]
)
def test_an_unknown_word_is_kept_counted_and_said(
    word: Any, cause: str, ask: Any, answering: Any, scripted: Any, caplog: Any
) -> None:
    with answering((200, scripted.chat(SAID, word))) as server:
        outcome = ask(server.url)
    assert (outcome.tally.failed, outcome.results[0].counts["ok"]) == (0, 6)
    for one in samples(outcome.folder):
        assert (one.completion.text, one.completion.finish_reason) == (SAID, "unknown")
        assert cause in one.completion.error
    said = [record.getMessage() for record in caplog.records if cause in record.getMessage()]
    assert len(said) == 1
    assert said[0].endswith("its text is graded as it is; whether it was cut at the limit of tokens is not known")
    assert str(files.read_manifest(outcome.folder).engine["unknown_ends"]).endswith(": 6")


def test_a_filters_cut_is_a_failure_whose_text_is_kept(ask: Any, answering: Any, scripted: Any) -> None:
    with answering((200, scripted.chat("She has", "content_filter"))) as server:
        outcome = ask(server.url)
        assert len(server.asked) == 6
    assert (outcome.tally.failed, outcome.results[0].counts["engine_error"]) == (6, 6)
    for one in samples(outcome.folder):
        assert (one.completion.text, one.completion.finish_reason) == ("She has", "error")
        assert one.completion.error == "the provider's filter cut it off ('content_filter')"


def test_what_a_server_broke_off_is_asked_again(ask: Any, scripted: Any) -> None:
    ends = iter(["abort", "error"] + ["stop"] * 9)

    def answer(seen: Any) -> Any:
        return LISTING if seen.method == "GET" else (200, scripted.chat(SAID, next(ends)))

    with scripted.Scripted(answer) as server:
        outcome = ask(server.url)
        assert (outcome.tally.failed, len(server.asked)) == (0, 8)


def test_content_in_parts_and_reasoning_beside_it(ask: Any, answering: Any, scripted: Any) -> None:
    parts = [{"type": "thinking", "thinking": "5?"}, {"type": "text", "text": "She has 3. "}, {"type": "text", "text": "Yes."}]
    with answering((200, scripted.chat(parts))) as server:
        outcome = ask(server.url)
    assert {one.completion.text for one in samples(outcome.folder)} == {"She has 3. Yes."}
    answer = scripted.chat(None)
    answer["choices"][0]["message"]["reasoning_content"] = "So the answer is 3."
    with answering((200, answer)) as server:
        outcome = ask(server.url, model="other", name="m")
    assert outcome.results[0].counts["empty"] == 6


def test_a_server_at_an_ipv6_address(ask: Any, scripted: Any) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    def answer(seen: Any) -> Any:
        if seen.path == "/version":
            return 200, {"version": "0.32.0"}
        return (200, {"data": [{"id": "m", "owned_by": "vllm"}]}) if seen.method == "GET" else (200, scripted.chat(SAID))

    with scripted.Scripted(answer, host="::1") as server:
        outcome = ask(f"{server.root}/v1/")
        assert server.seen[0].headers["host"] == server.root.removeprefix("http://")
    engine = files.read_manifest(outcome.folder).engine
    assert (engine["url"], engine["software"]) == (server.url, "vllm-0.32.0")


@pytest.mark.parametrize("prompts", ["tokens", "chat"])
def test_a_key_in_token_ids_is_taken_out_with_them(prompts: str, ask: Any, scripted: Any, llama3_like: Path) -> None:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(llama3_like).encode(f"It is {KEY}.", add_special_tokens=False)

    def answer(seen: Any) -> Any:
        if seen.method == "GET":
            return 200, {"data": [{"id": "m", "owned_by": "vllm"}], "version": "1"}
        said = {"message": {"content": f"It is {KEY}."}} if "messages" in seen.body else {"text": ""}
        return 200, {"model": "m", "choices": [{**said, "finish_reason": "stop", "token_ids": [*ids, 1]}]}

    with scripted.Scripted(answer) as server:
        outcome = ask(server.url, model=str(llama3_like), prompts=prompts, name="m", n=2)
    assert {(one.completion.text, one.completion.token_ids) for one in samples(outcome.folder)} == {("It is [key].", ())}
    assert files.read_manifest(outcome.folder).engine["key_repeated"] == "yes"


FORGED = ["0.1|m:org/other@1234", "0.1\x1b[2J", "x" * 99, 7, None, {"a": 1}, "0.1\n"]


@pytest.mark.parametrize("version", FORGED)
def test_no_version_forges_a_signature(version: Any, ask: Any, scripted: Any) -> None:
    def answer(seen: Any) -> Any:
        if seen.path == "/version":
            return 200, {"version": version}
        return (200, {"data": [{"id": "m", "owned_by": "vllm"}]}) if seen.method == "GET" else (200, scripted.chat(SAID))

    with scripted.Scripted(answer) as server:
        outcome = ask(server.url, n=1)
    assert outcome.results[0].signature.endswith("|e:openai+vllm-unknown/served")


PROBLEM = {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]}


@pytest.mark.parametrize(
    ("answer", "tries", "cause"),
    [
        ((422, PROBLEM), 1, "HTTP 422: body.n: Extra inputs are not permitted"),
        ((400, {"message": "too \x1b[31mlong"}), 1, "HTTP 400: too ?[31mlong"),
        ((200, {"error": {"message": "no GPU", "code": 503}}), 6, "HTTP 200 with error 503: no GPU"),
        ((200, {"error": {"message": "bad field", "code": 400}}), 1, "HTTP 200 with error 400: bad field"),
        ((200, {"error": "out of memory"}), 6, "HTTP 200 with an error: out of memory"),
        ((200, {"choices": None, "error": {"message": "odd", "code": "odd"}}), 6, "HTTP 200 with an error: odd"),
        ((200, b"<html><title>Sign in</title>"), 6, "HTTP 200 with a body that is not JSON: Sign in"),
        ((200, b"[" * 100_000), 6, "HTTP 200 with a body that is not JSON: " + "[" * 159 + "…"),
        ((502, b"<html><head><title>502 Bad Gateway</title></head></html>"), 6, "HTTP 502: 502 Bad Gateway"),
        ((500, b""), 6, "HTTP 500"),
        ((200, {"choices": []}), 6, "HTTP 200 with choices [] for one request"),
    ],
)
def test_the_cause_is_in_every_failed_sample(answer: Any, tries: int, cause: str, ask: Any, answering: Any) -> None:
    with answering(answer) as server:
        outcome = ask(server.url, n=2)
        assert len(server.asked) == 2 * tries
    assert {one.completion.error for one in samples(outcome.folder)} == {cause}


def test_a_rate_limit_inside_a_200_holds_every_thread(ask: Any, scripted: Any) -> None:
    limited = iter([True, *[False] * 20])

    def answer(seen: Any) -> Any:
        if seen.method == "GET":
            return LISTING
        if next(limited):
            return 200, {"error": {"message": "slow down", "code": 429}}, {"Retry-After": "0.05"}
        return 200, scripted.chat(SAID)

    with scripted.Scripted(answer) as server:
        outcome = ask(server.url)
        assert (outcome.tally.failed, len(server.asked)) == (0, 7)


def test_a_refused_key_inside_a_200_stops_at_once(ask: Any, answering: Any) -> None:
    with answering((200, {"error": {"message": "no such key", "code": 401}})) as server:
        with pytest.raises(EngineError, match=r"does not accept the key \(HTTP 200 with error 401: no such key\)"):
            ask(server.url)
        assert len(server.asked) <= 6


def test_a_server_that_wants_the_newer_limit_gets_it(ask: Any, scripted: Any) -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    def answer(seen: Any) -> Any:
        if seen.method == "GET":
            return LISTING
        if "max_tokens" in seen.body:
            return 400, {"error": {"message": words, "param": "max_tokens", "code": "unsupported_parameter"}}
        return 200, scripted.chat(SAID)

    with scripted.Scripted(answer) as server:
        outcome = ask(server.url)
    assert outcome.tally.failed == 0
    assert {seen.body["max_completion_tokens"] for seen in server.asked if "max_tokens" not in seen.body} == {512}


def azure(scripted: Any, path: str, query: str = "?api-version=2024-10-21", name: str = "my-gpt") -> Any:
    """An Azure resource: the key in its header, the version in every query, one deployment, models that are not deployed."""

    def answer(seen: Any) -> Any:
        if seen.headers.get("api-key") != KEY or "authorization" in seen.headers:
            return 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key"}}
        root = path.partition("/deployments/")[0]
        if seen.method == "GET":
            listed = seen.path == f"{root}/models{query}"
            return (200, {"data": [{"id": "gpt-4o"}]}) if listed else (404, {"error": {"code": "404"}})
        if seen.path != f"{path}/chat/completions{query}" or seen.body["model"] != name:
            return 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}
        return 200, scripted.chat(SAID)

    return scripted.Scripted(answer)


CLASSIC = "/openai/deployments/my-gpt"


def test_azures_classic_address(ask: Any, scripted: Any) -> None:
    with azure(scripted, CLASSIC) as server:
        outcome = ask(f"{server.root}{CLASSIC}?api-version=2024-10-21", model="gpt-4o")
        assert outcome.tally.failed == 0
        assert len(server.asked) == 6
        named = ask(f"{server.root}?api-version=2024-10-21", model="gpt-4o", name="my-gpt")
        assert named.tally.failed == 0
    engine = files.read_manifest(outcome.folder).engine
    assert engine["served_name"] == "my-gpt"
    assert engine["url"] == f"{server.root}{CLASSIC}?api-version=2024-10-21"
    assert outcome.results[0].signature.endswith("|m:gpt-4o@served|e:openai+azure-2024-10-21/served")


def test_azures_newer_address(ask: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(scripted, "/openai/v1", query="") as server:
        port = server.root.rpartition(":")[2]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        outcome = ask(f"http://mine.openai.azure.com:{port}/openai/v1/", model="my-gpt")
        assert outcome.tally.failed == 0
        assert len(server.asked) == 6
    assert outcome.results[0].signature.endswith("|e:openai+azure-v1/served")


def test_what_azure_refuses_is_one_line(ask: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with azure(scripted, CLASSIC) as server:
        with pytest.raises(
            UserError, match=r"does not know 'other' or /chat/completions \(HTTP 404: The API deployment does not"
        ):
            ask(f"{server.root}/openai/deployments/other?api-version=2024-10-21")
        monkeypatch.setenv("TULU_EVAL_SERVER_KEY", "wrong-key-0123")
        with pytest.raises(UserError, match=r"does not accept the key \(HTTP 401: Access denied due to invalid"):
            ask(f"{server.root}{CLASSIC}?api-version=2024-10-21")
    with pytest.raises(EndpointError, match="nothing answers at"):
        ask(f"{server.root}{CLASSIC}?api-version=2024-10-21")
