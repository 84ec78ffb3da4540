"""Judges behind servers of other makes: no logprobs, content in parts, Azure, a base URL without its end."""

from __future__ import annotations

from typing import Any

import pytest

from tulu_eval.endpoint.replies import EndpointError
from tulu_eval.judging.budget import Budget
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import HttpJudge
from tulu_eval.judging.judge import JudgeJob, UnfitJudgeError, judge_pairs

KEY = "sk-test-0123456789abcdef"
TOP = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.4}]
LOGPROBS = {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": TOP}]}


@pytest.fixture
def judged(pairs: Any, cache_path: Any) -> Any:
    """Judges 30 pairs by a recipe at a base URL."""

    def call(url: str, recipe: Any) -> Any:
        with Cache(cache_path) as cache:
            judge = HttpJudge(url, KEY, timeout=5.0, first_wait=0.01, concurrency=1)
            return judge_pairs(pairs(30), JudgeJob(recipe, cache, Budget()), judge)

    return call


def test_a_judge_without_logprobs_is_told_of_at_the_first_answer_and_stops(
    judged: Any, scripted: Any, recipe: Any, caplog: Any
) -> None:
    with scripted.Scripted(lambda seen: (200, scripted.chat("m"))) as server:
        with pytest.raises(UnfitJudgeError, match="answers without logprobs; --method text reads the answer's text instead"):
            judged(server.url, recipe)
        assert len(server.asked) == 3
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(
        "an answer of the judge 'loopback-judge' has no logprobs; --method text reads the answer's text instead"
    )


@pytest.mark.parametrize("said", ["logprobs are not supported by this model", "'top_logprobs' must be <= 2"])
def test_a_judge_that_refuses_logprobs_is_told_of_at_the_first_answer(
    said: str, judged: Any, scripted: Any, recipe: Any
) -> None:
    with scripted.Scripted(lambda seen: (400, {"error": {"message": said}})) as server:
        with pytest.raises(UnfitJudgeError, match=r"rejects a request for logprobs .*; --method text reads the answer"):
            judged(server.url, recipe)
        assert len(server.asked) == 1


def test_one_answer_without_logprobs_among_verdicts_is_counted(judged: Any, scripted: Any, recipe: Any) -> None:
    def answer(seen: Any) -> Any:
        return 200, scripted.chat(
            "m", logprobs=None if "question 7\n" in str(seen.body["messages"][-1]["content"]) else LOGPROBS
        )

    with scripted.Scripted(answer) as server:
        counts = judged(server.url, recipe).counts
    assert (counts["judged"], counts["no_logprobs"]) == (29, 1)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "m"}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "M?"}]}, {"type": "text", "text": "m"}],
        "<think>M?</think>m",
    ],
)
def test_a_verdict_in_parts(content: Any, judged: Any, scripted: Any, recipes: Any, cache_path: Any) -> None:
    with scripted.Scripted(lambda seen: (200, scripted.chat(content, "end_turn"))) as server:
        counts = judged(server.url, recipes("text")).counts
        assert counts["judged"] == 30
        assert judged(server.url, recipes("text")).cached == 30
        assert len(server.asked) == 30


def test_a_judge_that_only_reasons_is_told_of_its_limit(judged: Any, scripted: Any, recipes: Any) -> None:
    with (
        scripted.Scripted(lambda seen: (200, scripted.chat(None, "max_tokens"))) as server,
        pytest.raises(UnfitJudgeError, match="neither m nor M; it said '' when its limit of tokens cut it off"),
    ):
        judged(server.url, recipes("text"))


@pytest.mark.parametrize("word", ["content_filter", "SAFETY", "content_filtered"])
def test_a_filters_cut_is_a_refusal(word: str, judged: Any, scripted: Any, recipe: Any) -> None:
    with scripted.Scripted(lambda seen: (200, scripted.chat("", word))) as server, pytest.raises(UnfitJudgeError):
        judged(server.url, recipe)


def test_what_a_server_broke_off_is_asked_again(judged: Any, scripted: Any, recipe: Any) -> None:
    ends = iter(["abort", "error"])
    with scripted.Scripted(lambda seen: (200, scripted.chat("m", next(ends, "stop"), logprobs=LOGPROBS))) as server:
        assert judged(server.url, recipe).counts["judged"] == 30
        assert len(server.asked) == 32


def test_a_base_url_without_its_end_is_hinted_at(judged: Any, scripted: Any, recipe: Any) -> None:
    with scripted.Scripted(lambda seen: (404, {"error": {"message": "Not Found"}})) as server:
        with pytest.raises(EndpointError, match=r"\(HTTP 404: Not Found\); a base URL usually ends in /v1"):
            judged(server.root, recipe)
        with pytest.raises(EndpointError, match=r"\(HTTP 404: Not Found\)$"):
            judged(server.url, recipe)
    with scripted.Scripted(lambda seen: (200, b"<html><title>Welcome</title>")) as server:
        words = "the last: HTTP 200 with a body that is not JSON: Welcome; a base URL usually ends in /v1"
        with pytest.raises(EndpointError, match=words):
            judged(server.root, recipe)


def test_a_judge_at_azure(judged: Any, scripted: Any, recipes: Any) -> None:
    path, query = "/openai/deployments/my-judge", "?api-version=2024-10-21"

    def answer(seen: Any) -> Any:
        if seen.headers.get("api-key") != KEY or "authorization" in seen.headers:
            return 401, {"error": {"code": "401", "message": "Access denied"}}
        if seen.path != f"{path}/chat/completions{query}":
            return 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}
        return 200, scripted.chat("m", logprobs=LOGPROBS)

    with scripted.Scripted(answer) as server:
        assert judged(f"{server.root}{path}{query}", recipes(judge="gpt-4.1")).counts["judged"] == 30
        assert judged(f"{server.root}{query}", recipes(judge="my-judge")).counts["judged"] == 30
        with pytest.raises(EndpointError, match=r"does not know 'gpt-4o' \(HTTP 404: The API deployment does not exist.\)$"):
            judged(f"{server.root}/openai/deployments/other{query}", recipes(judge="gpt-4o"))
