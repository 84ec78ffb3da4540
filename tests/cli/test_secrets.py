"""A server that repeats the key wherever it can: it must be in no file and no stream, after whatever came of it."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

KEY = "sk-se/cret+0123456789=="
FORMS = [KEY, urllib.parse.quote(KEY, safe=""), KEY.replace("/", "\\/")]
"""As it is, as it stands in a URL, and as some write it in JSON."""

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def keys(own_places: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in all variables, and retries that hardly wait."""
    from tulu_eval.endpoint import client

    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "TULU_EVAL_JUDGE_KEY", "TULU_EVAL_SERVER_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    defaults = client.Client.__init__.__kwdefaults__
    monkeypatch.setattr(client.Client.__init__, "__kwdefaults__", {**defaults, "first_wait": 0.005})


@pytest.fixture
def clean(tmp_path: Path) -> Callable[..., None]:
    """Looks for the key in what a command said and in every file it could have written."""

    def look(*said: str) -> None:
        for path in tmp_path.rglob("*"):
            if path.is_file():
                raw = path.read_bytes()
                assert not [form for form in FORMS if form.encode() in raw], path
                assert "secret" not in path.name
        assert not [form for form in FORMS for one in said if form in one]

    return look


def everywhere(data: Any, said: str) -> Any:
    """Returns an answer with the key beside or in the place of every text, and as an unknown field's name."""
    if isinstance(data, dict):
        return {**{name: everywhere(one, said) for name, one in data.items()}, said: said}
    if isinstance(data, list):
        return [everywhere(one, said) for one in data]
    return f"{data} {said}" if isinstance(data, str) else data


TOP = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.4}, {"token": KEY, "logprob": -3.0}]
LOGPROBS = {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": TOP}]}
HEADERS = {"Server": KEY, "X-Request-Id": KEY, "Retry-After": KEY, "Location": f"http://127.0.0.1:1/{KEY}"}


def answers(chat: Callable[..., Any], said: str) -> dict[str, Any]:
    """Returns answers by what is odd in them."""
    good = chat("So the answer is 3.", logprobs=LOGPROBS)
    error = {"message": f"bad key {said}", "code": said, "type": said, "param": said}
    return {
        "content": (200, chat(f"The key is {said}.", logprobs=LOGPROBS)),
        "parts": (200, chat([{"type": "text", "text": said}], logprobs=LOGPROBS)),
        "finish_reason": (200, chat("m", said, logprobs=LOGPROBS)),
        "refusal": (200, {**good, "choices": [{**good["choices"][0], "message": {"content": None, "refusal": said}}]}),
        "fields": (200, {**everywhere(good, said), "system_fingerprint": said, "service_tier": said}, HEADERS),
        "index": (200, {**good, "choices": [{**good["choices"][0], "index": said}]}),
        "token ids": (200, {**good, "choices": [{**good["choices"][0], "token_ids": [said]}]}),
        "error in a 200": (200, {"error": error}),
        "error 400 in a 200": (200, {"error": {**error, "code": 400}}),
        "400": (400, {"error": error}),
        "404": (404, {"error": error}),
        "401": (401, {"error": error}),
        "422": (422, {"detail": [{"loc": ["body", said], "msg": said, "type": said, "input": said}]}),
        "429": (429, {"error": error}, {"Retry-After": "4000"}),
        "quota": (429, {"error": {**error, "code": "insufficient_quota"}}),
        "500": (500, said.encode(), HEADERS),
        "502": (502, f"<html><title>{said}</title>".encode()),
        "302": (302, b"", HEADERS),
        "no JSON": (200, said.encode()),
        "no object": (200, [said]),
    }


ODD = list(answers(lambda *a, **b: {"choices": [{}]}, ""))
RUN = ("run", "gsm8k", "--protocol", "custom", "--data", "rows.jsonl", "-o", "out", "--prompts", "chat", "-vv", "--base-url")


def put_rows() -> None:
    rows = [{"question": f"Ann has {n} pens. How many?", "answer": f"#### {n}"} for n in range(4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("odd", ODD)
def test_run_keeps_and_says_no_key(odd: str, escaped: bool, invoke: Run, scripted: Any, clean: Any, caplog: Any) -> None:
    put_rows()
    answer = answers(scripted.chat, KEY)[odd]
    if escaped:  # each letter as an escape of JSON's, which only a reader of JSON sees through
        letters = "".join(f"\\u{ord(letter):04x}" for letter in KEY).encode()
        body = answer[1] if isinstance(answer[1], bytes) else json.dumps(answer[1]).encode()
        answer = (answer[0], body.replace(KEY.encode(), letters), *answer[2:])
    listing = (200, {"data": [{"id": "m", "owned_by": KEY}, {"id": KEY}], KEY: KEY}, {"Server": KEY})
    with scripted.Scripted(lambda seen: listing if seen.method == "GET" else answer) as server:
        done = invoke(*RUN, server.url, "-m", "m")
        other = invoke(*RUN, server.url, "-m", "x")
        assert server.asked
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    clean(done.output, done.stderr, other.output, other.stderr, caplog.text)
    if odd in ("content", "parts"):
        assert "[key]" in next(Path("out").rglob("samples.jsonl")).read_text()
        assert '"key_repeated": "yes"' in next(Path("out").rglob("manifest.json")).read_text()


@pytest.mark.parametrize("status", [200, 400, 401, 500, 302])
@pytest.mark.parametrize("form", range(len(FORMS)))
def test_a_listing_that_repeats_the_key(status: int, form: int, invoke: Run, scripted: Any, clean: Any, caplog: Any) -> None:
    put_rows()
    said = FORMS[form]
    listing = (status, {"error": {"message": said}, "object": "error", "data": said}, HEADERS)
    versions = iter([(200, {"data": [{"id": "m", "owned_by": "vllm"}]}), (200, {"version": said})])
    with scripted.Scripted(lambda seen: listing) as server:
        refused = invoke(*RUN, server.url, "-m", "m")
    with scripted.Scripted(lambda seen: next(versions, (500, {"error": said}))) as server:
        failed = invoke(*RUN, server.url, "-m", "m")
    assert refused.exit_code == 2
    clean(refused.output, refused.stderr, failed.output, failed.stderr, caplog.text)


@pytest.mark.parametrize("method", ["logprobs", "text"])
@pytest.mark.parametrize("odd", ODD)
def test_judge_keeps_and_says_no_key(
    odd: str,
    method: str,
    invoke: Run,
    scripted: Any,
    clean: Any,
    shared: Path,
    make_alpaca_run: Any,
    tmp_path: Path,
    caplog: Any,
) -> None:
    run = make_alpaca_run(tmp_path / "results", 3)
    data, gamed = (shared / "data/alpaca_eval" / name for name in ("alpaca_eval_gpt4_baseline.json", "df_gamed_rederived.csv"))
    answer = answers(scripted.chat, KEY)[odd]
    with scripted.Scripted(lambda seen: (200, {"data": [{"id": KEY}]}) if seen.method == "GET" else answer) as server:
        words = ("judge", run, "--judge", "j", "--judge-url", server.url, "--method", method, "--data", data, "--gamed", gamed)
        done = invoke(*map(str, words), "--yes", "--concurrency", "1")
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    clean(done.output, done.stderr, caplog.text)


def test_a_process_of_its_own_with_everything_logged(start: Any, scripted: Any, clean: Any, tmp_path: Path) -> None:
    put_rows()
    ends = iter([KEY, "stop", None, "error"])

    def answer(seen: Any) -> Any:
        if seen.method == "GET":
            return 200, {"data": [{"id": "m"}]}, HEADERS
        return 200, scripted.chat(f"{KEY} is 3", next(ends, KEY)), HEADERS

    with scripted.Scripted(answer) as server:
        done = start(*RUN, server.url, "-m", "m", "--debug", "--json")
        keyed = server.root.replace("http://", f"http://user:{KEY}@")
        urls = (f"{keyed}/v1", f"{server.url}?api-key={KEY}", f"user:{KEY}@{server.url}", f"{server.url}#{KEY}")
        refused = [start(*RUN, url, "-m", "m", "--debug") for url in urls]
    assert "the server repeats the key in its answers; [key] replaces it" in done.stderr
    assert done.stderr.count("repeats the key") == 1
    assert [one.returncode for one in refused] == [2] * len(urls)
    clean(done.stdout, done.stderr, *(text for one in refused for text in (one.stdout, one.stderr)))
