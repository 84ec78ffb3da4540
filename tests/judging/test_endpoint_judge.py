"""Judging through the client, against a server on the loopback that fails in every way it can."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import socket
import sys
import time

import pytest

from tulu_eval.endpoint.replies import EndpointError
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.judging.budget import Budget, Price
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import HttpJudge
from tulu_eval.judging.judge import FAILURES, JudgeJob, UnfitJudgeError, judge_pairs
from tulu_eval.judging.judge_recipe import swapped

KEY = "sk-test-0123456789abcdef"


def judge(url, **settings):
    return HttpJudge(url, **{"key": KEY, "timeout": 1.5, "first_wait": 0.01, "concurrency": 4, **settings})


def run(server, recipe, pairs, path, budget=None, **settings):
    with Cache(path) as cache:
        return judge_pairs(pairs, JudgeJob(recipe, cache, budget or Budget()), judge(server.url, **settings))


def test_every_pair_is_asked_once_and_unswapped(loopback, recipe, pairs, cache_path):
    rows = pairs(40)
    with loopback() as server:
        found = run(server, recipe, rows, cache_path)
    assert found.counts["judged"] == 40
    assert len(server.served) == 40
    assert set(server.served.values()) == {1}
    for pair, judgment in zip(rows, found.judgments, strict=True):
        first, second = (pair.output, pair.baseline) if swapped(pair.instruction) else (pair.baseline, pair.output)
        user = f"Task: {pair.instruction}\nm: {first}\nM: {second}\nBest:"
        assert user in server.served
        p_second = int(hashlib.sha256(user.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF * 0.98 + 0.01
        expected = 2 - p_second if swapped(pair.instruction) else 1 + p_second
        assert judgment.preference == pytest.approx(expected, abs=1e-12)
        assert judgment.swapped == swapped(pair.instruction)
    assert {swapped(pair.instruction) for pair in rows} == {True, False}


def test_what_is_sent(loopback, recipe, pairs, cache_path):
    with loopback() as server:
        run(server, recipe, pairs(1), cache_path)
    (body,) = server.bodies
    assert {name: body[name] for name in body if name != "messages"} == {
        "model": "loopback-judge", "max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 5, "top_p": 1.0,
    }  # fmt: skip
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert server.authorizations == {f"Bearer {KEY}"}


FAULTS = {
    "f429": ["429", "429"],
    "f500": ["500", "503"],
    "f408": ["408", "409"],
    "fhalf": ["half"],
    "fdrop": ["drop", "drop"],
    "fstall": ["stall"],
    "fhtml": ["not json"],
    "fafter": ["429 after 0.1"],
    "pnologprobs": ["no logprobs", "..."],
    "pneither": ["neither", "..."],
    "prefusal": ["refusal", "..."],
    "pfiltered": ["filtered", "..."],
    "prejected": ["400", "..."],
    "pempty": ["no choices", "..."],
    "pdead": ["500", "..."],
}


def test_every_fault_is_mended_or_counted_in_its_class(loopback, recipe, pairs, cache_path):
    words = list(FAULTS)
    rows = pairs(60, lambda at: f"<{words[at % 20]}>" if at % 20 < len(words) else "")
    with loopback(FAULTS) as server:
        found = run(server, recipe, rows, cache_path)
        counts = found.counts
        assert counts == {
            "judged": 39, "identical": 0, "refusal": 6, "no_logprobs": 3, "no_verdict": 3, "endpoint": 3, "rejected": 3,
            "bad_answer": 3, "over_budget": 0, "not_asked": 0,
        }  # fmt: skip
        assert sum(counts.values()) == 60
        assert str(found) == (
            "60 = 39 judged + 21 failed (refusal 6, no_logprobs 3, no_verdict 3, endpoint 3, rejected 3, bad_answer 3) "
            "+ 0 identical"
        )
        assert all(judgment.detail for judgment in found.judgments if judgment.kind in FAILURES)
        served = dict(server.served)
        requests = sum(server.requests.values())

        # failures were not cached: all of them and only they are asked again, and mend when the server does
        server.faults = {}
        again = run(server, recipe, rows, cache_path)
        assert again.counts["judged"] == 60
        assert again.cached == 39
        assert sum(server.requests.values()) - requests == 21
        assert all(server.served[user] == n for user, n in served.items())
        # 39 good answers needed 39 + 3 * (2+2+2+1+2+1+1+1) requests
        assert requests == 39 + 3 * 12 + 3 * 6 + 18


def test_equal_questions_are_asked_once_and_equal_outputs_never(loopback, recipe, pairs, cache_path):
    row = pairs(1)[0]
    rows = [row, dataclasses.replace(row, id="twin"), dataclasses.replace(row, id="same", output=row.baseline)]
    with loopback() as server:
        found = run(server, recipe, rows, cache_path)
    assert sum(server.requests.values()) == 1
    assert [judgment.kind for judgment in found.judgments] == ["judged", "judged", "identical"]
    assert found.judgments[0].preference == found.judgments[1].preference
    assert found.judgments[2].preference == 1.5


def test_concurrency_is_bounded_and_used(loopback, recipe, pairs, cache_path):
    with loopback(delay=0.02) as server:
        run(server, recipe, pairs(40), cache_path, concurrency=5)
    assert server.most_in_flight == 5


def test_retry_after_holds_every_thread(loopback, recipe, pairs, cache_path):
    with loopback({"<wait>": ["429 after 0.5"]}) as server:
        run(server, recipe, pairs(30, lambda at: "<wait>" if at == 0 else ""), cache_path, concurrency=2)
    gaps = [later - earlier for earlier, later in zip(sorted(server.times), sorted(server.times)[1:], strict=False)]
    assert max(gaps) > 0.4


def test_a_dripping_server_meets_the_deadline(loopback, recipe, pairs, cache_path):
    started = time.monotonic()
    with loopback({"<drip>": ["drip"]}) as server:
        found = run(server, recipe, pairs(6, lambda at: "<drip>" if at == 0 else ""), cache_path)
    assert found.counts["judged"] == 6
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_wrong_key_stops_at_once_and_is_not_shown(loopback, recipe, pairs, cache_path, status):
    with loopback({"question": [status, "..."]}) as server, pytest.raises(EndpointError) as caught:
        run(server, recipe, pairs(50), cache_path, concurrency=1)
    assert sum(server.requests.values()) == 1
    assert "does not accept the key" in str(caught.value)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_key_that_the_server_repeats_is_taken_out(loopback, recipe, pairs, cache_path):
    with loopback({"<bad>": ["400", "..."]}) as server:
        found = run(server, recipe, pairs(8, lambda at: "<bad>" if at == 0 else ""), cache_path)
    assert found.judgments[0].detail == "HTTP 400: fault 400, key was [key]"
    assert KEY not in cache_path.read_text()
    assert KEY not in repr(found)


def test_an_unknown_judge_stops_with_the_names_that_there_are(loopback, recipes, pairs, cache_path):
    with (
        loopback({"question": ["404", "..."]}, models=("gpt-4.1", "gpt-4.1-mini")) as server,
        pytest.raises(UnknownName) as caught,
    ):
        run(server, recipes(judge="gpt-41"), pairs(50), cache_path, concurrency=1)
    assert "Did you mean 'gpt-4.1'" in str(caught.value)
    assert sum(server.requests.values()) == 1


@pytest.mark.parametrize(
    ("fault", "words"), [("quota", "no quota left"), ("302", "redirects"), ("429 after 4000", "asks to wait 4000 s")]
)
def test_what_will_not_pass_stops_at_once(loopback, recipe, pairs, cache_path, fault, words):
    with loopback({"question": [fault, "..."]}) as server, pytest.raises(EndpointError, match=words):
        run(server, recipe, pairs(50), cache_path, concurrency=1)
    assert sum(server.requests.values()) == 1


def test_an_endpoint_that_is_down_is_one_error(recipe, pairs, cache_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        Cache(cache_path) as cache,
        pytest.raises(EndpointError, match="5 requests failed, and none was answered, at the judge"),
    ):
        judge_pairs(pairs(50), JudgeJob(recipe, cache, Budget()), judge(f"http://127.0.0.1:{port}/v1", attempts=2))


def test_a_judge_that_answers_in_prose_stops_before_it_costs_805_answers(loopback, recipes, pairs, cache_path):
    with loopback({"question": ["say The first one, I think.", "..."]}) as server, pytest.raises(UnfitJudgeError) as caught:
        run(server, recipes("text"), pairs(100), cache_path, concurrency=1)
    assert sum(server.requests.values()) == 20
    assert "20 answers of the judge 'loopback-judge' and none with a verdict" in str(caught.value)
    assert "The first one, I think." in str(caught.value)


def test_a_text_verdict_is_another_question_than_logprobs(loopback, recipes, pairs, cache_path):
    rows = pairs(6)
    with loopback() as server:
        run(server, recipes(), rows, cache_path)
        server.faults = {"question": ["say M", "say M"]}
        found = run(server, recipes("text"), rows, cache_path)
    assert [judgment.preference for judgment in found.judgments] == [1.0 if swapped(row.instruction) else 2.0 for row in rows]
    assert all(body.get("logprobs") is None for body in server.bodies[6:])


def test_an_endpoint_that_dies_midway_keeps_what_was_paid(loopback, recipe, pairs, cache_path):
    rows = pairs(60)
    with loopback({f"question {at}\n": ["500", "..."] for at in range(20, 60)}) as server:
        with pytest.raises(EndpointError, match="25 requests in a row failed"):
            run(server, recipe, rows, cache_path, concurrency=1, attempts=1)
        with Cache(cache_path) as cache:
            assert len(cache) == 20
            assert len(JudgeJob(recipe, cache, Budget()).missing(rows)) == 40
        server.faults = {}
        assert run(server, recipe, rows, cache_path).counts["judged"] == 60
        assert set(server.served.values()) == {1}


CHILD = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from conftest import make_pairs, make_recipe
from tulu_eval.judging.budget import Budget
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import HttpJudge
from tulu_eval.judging.judge import JudgeJob, judge_pairs
with Cache(Path({path!r})) as cache:
    judge_pairs(make_pairs(200), JudgeJob(make_recipe(), cache, Budget()), HttpJudge({url!r}, concurrency=4))
"""


def test_sigkill_loses_nothing_that_was_paid_but_what_was_in_flight(loopback, recipe, pairs, cache_path, programs):
    rows, concurrency = pairs(200), 4
    with loopback(delay=0.01) as server:
        code = CHILD.format(folder=os.path.dirname(__file__), path=str(cache_path), url=server.url)
        for target in (30, 80, 130):  # killed three times
            child = programs.start(sys.executable, "-c", code)
            while sum(server.served.values()) < target and child.poll() is None:
                time.sleep(0.002)
            child.kill()
            assert child.communicate()[1] == ""
            assert child.returncode == -signal.SIGKILL
            time.sleep(0.05)
            lines = cache_path.read_bytes().split(b"\n")
            assert len([line for line in lines if line]) >= len(server.served) - concurrency
        cache_path.write_bytes(cache_path.read_bytes() + b'{"key": "cut by a ki')  # and once in the midst of a line
        found = run(server, recipe, rows, cache_path)
    assert found.counts["judged"] == 200
    assert found.cached > 100
    twice = [user for user, n in server.served.items() if n > 1]
    assert len(server.served) == 200
    assert len(twice) <= 3 * concurrency, "only what was in flight at a kill is paid again"
    assert max(server.served.values()) <= 4
    keys = [json.loads(line)["key"] for line in cache_path.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 200


def test_the_limit_is_never_crossed_and_judging_goes_on_later(loopback, recipe, pairs, cache_path):
    rows = pairs(50)
    price = Price(10.0, 30.0, "test")
    each = price.dollars(100, 1)
    with loopback() as server:
        budget = Budget(price, max_cost=10.5 * each)
        found = run(server, recipe, rows, cache_path, budget)
        assert found.spent.dollars <= 10.5 * each
        assert budget.stopped
        assert found.counts["judged"] == sum(server.served.values()) >= 9
        assert found.counts["over_budget"] == 50 - found.counts["judged"]
        assert run(server, recipe, rows, cache_path).counts["judged"] == 50
        assert set(server.served.values()) == {1}


def test_a_request_that_was_never_answered_counts_against_the_limit(loopback, recipe, pairs, cache_path):
    with loopback({"question": ["stall", "..."]}) as server:
        budget = Budget(Price(10.0, 30.0, "test"), max_cost=0.003)
        found = run(server, recipe, pairs(4), cache_path, budget, timeout=0.1, attempts=2)
    spent = found.spent
    assert spent.dollars == 0
    assert spent.unconfirmed >= 1
    assert spent.unconfirmed_dollars <= 0.003
    assert found.counts["over_budget"] >= 1


def test_two_processes_do_not_pay_for_the_same(recipe, cache_path):
    with Cache(cache_path), pytest.raises(UserError, match="another process is judging"):
        Cache(cache_path)
