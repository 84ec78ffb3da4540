"""The openai backend through the real planner and runner, against a server that fails and lies in every way it can."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.openai.backend import OpenAIBackend
from tulu_eval.errors import EngineError, PreflightError, UnknownName
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest_schema import StoredTraffic
from tulu_eval.store.sample_line import Sample

QUIET = Progress(quiet=True)
pytestmark = pytest.mark.usefixtures("quick")


def plan_of(order: Order) -> Plan:
    return make_plan(order, load_suite())


def samples(folder: Path) -> list[Sample]:
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        assert not ledger.corrupt
        return list(ledger.samples())


def test_token_ids_go_out_and_come_back_and_every_field_is_said(model_server: Any, order: Any, llama3_like: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama3_like)
    with model_server(context=2048) as server:
        plan = plan_of(order(server))
        outcome = execute(plan, QUIET)
    assert (outcome.generated, outcome.tally.failed) == (48, 0)
    sent = {json.dumps(body["prompt"]): body for body in server.bodies[1:]}
    assert set(sent) == {json.dumps(list(one.request.token_ids)) for one in plan.planned}
    body = server.bodies[-1]
    assert {name: value for name, value in body.items() if name != "prompt"} == {
        "model": "llama3-like0", "max_tokens": 512, "temperature": 0.0, "top_p": 1.0, "n": 1, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "stream": False, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0,
        "skip_special_tokens": True, "return_token_ids": True, "ignore_eos": True, "stop_token_ids": [1],
        "include_stop_str_in_output": True,
    }  # fmt: skip
    for sample in samples(outcome.folder):
        assert sample.completion.text == tokenizer.decode(sample.completion.token_ids, skip_special_tokens=True)
        assert sample.completion.token_ids[-1] == 1
        assert sample.completion.finish_reason == "stop"
    manifest = files.read_manifest(outcome.folder)
    expected = {"software": "vllm-0.0.1", "prompts": "tokens", "token_ids": "returned", "served_name": "llama3-like0"}
    assert expected.items() <= manifest.engine.items()
    assert manifest.sessions[0].traffic == StoredTraffic(sent=48, resent=0)
    assert "|e:openai+vllm-0.0.1/served" in outcome.results[0].signature
    assert outcome.speed.startswith("start ")
    assert "48 requests, 0 of them sent again" in outcome.speed
    assert server.most_in_flight <= 8


FAULTS = ("429", "500", "503", "408", "409", "drop", "half", "not json", "stall", "429 after 0.02", "many", "index", "none",
          "long", "prompt", "text")  # fmt: skip


def misbehave(seed: int, share: float, most: int = 4) -> Callable[[str, int], str]:
    """A share of the requests, drawn by lot, fails, at most ``most`` times for one prompt; each fault in turn."""
    chance, turn, lock = random.Random(seed), itertools.cycle(FAULTS), threading.Lock()

    def draw(user: str, times: int) -> str:
        with lock:
            return next(turn) if chance.random() < share and times <= most else ""

    return draw


def test_no_sample_is_lost_or_counted_twice(model_server: Any, order: Any, record_property: Any) -> None:
    with model_server() as server:
        right = {sample.item: sample.completion for sample in samples(execute(plan_of(order(server)), QUIET).folder)}
    with model_server(misbehave(3, 0.4)) as server:
        made = order(server, timeout=0.5)
        plan = plan_of(dataclasses.replace(made, output=made.output / "bad"))
        probes = sum(server.requests.values())
        outcome = execute(plan, QUIET)
    kept = samples(outcome.folder)
    assert (outcome.tally.failed, len(kept)) == (0, 48)
    assert {sample.item: (sample.completion.text, sample.completion.token_ids) for sample in kept} == {
        item: (done.text, done.token_ids) for item, done in right.items()
    }
    (session,) = files.read_manifest(outcome.folder).sessions
    faults = {name: n for name, n in server.injected.items() if name}
    assert set(faults) == set(FAULTS)
    assert session.samples == 48
    assert session.traffic
    resent = session.traffic.resent or 0
    assert session.traffic.sent == sum(server.requests.values()) - probes == 48 + resent
    assert resent >= 20
    record_property("traffic", f"{session.traffic} served {sum(server.served.values())} kept {len(kept)} faults {faults}")


def test_what_fails_to_the_last_is_counted_and_redone(model_server: Any, order: Any) -> None:
    bad = {f"Ann has {n} pens" for n in (3, 11, 40)}

    def draw(user: str, times: int) -> str:
        return "500" if any(word in user for word in bad) else ""

    with model_server(draw) as server:
        made = order(server, prompts="chat", model="llama3-like0")
        outcome = execute(plan_of(made), QUIET)
        assert outcome.tally.failed == 3
        assert outcome.results[0].counts["engine_error"] == 3
        assert outcome.results[0].n == 48
        failing = [sample for sample in samples(outcome.folder) if sample.completion.error]
        assert {sample.completion.error for sample in failing} == {"HTTP 500: fault 500, key was [key]"}
        bad.clear()
        again = execute(plan_of(made), QUIET)
    assert (again.generated, again.tally.failed) == (3, 0)
    assert again.results[0].counts["engine_error"] == 0


def test_a_server_that_dies_midway_leaves_what_it_answered(model_server: Any, order: Any) -> None:
    count = collections.Counter()

    def draw(user: str, times: int) -> str:
        count["all"] += 1
        return "500" if count["all"] > 17 else ""

    with model_server(draw) as server:
        plan = plan_of(order(server, batch_size=1))
        with pytest.raises(EngineError, match=r"25 requests in a row failed at the server http.*; the last: HTTP 500"):
            execute(plan, QUIET)
        manifest = files.read_manifest(plan.folder)
        assert manifest.status == "incomplete"
        assert sum(sample.completion.finish_reason != "error" for sample in samples(plan.folder)) == 16
        server.draw = lambda user, times: ""
        done = execute(plan, QUIET)
    assert (done.generated, done.tally.failed) == (32, 0)
    assert max(server.served.values()) == 1


def test_a_model_that_only_the_server_has_is_asked_in_turns(model_server: Any, order: Any, caplog: Any) -> None:
    with model_server(models=("gpt-x", "gpt-x-mini"), vllm=False) as server:
        plan = plan_of(order(server, model="gpt-x"))
        outcome = execute(plan, QUIET)
        assert "prompts go as chat turns, to the server's own template: no tokenizer of 'gpt-x' is here" in caplog.text
        body = server.bodies[-1]
        assert body["messages"][0]["role"] == "user"
        assert body["messages"][0]["content"].startswith("Answer the following questions.")
        assert not {"top_k", "return_token_ids", "stop_token_ids", "prompt"} & set(body)
        with pytest.raises(UnknownName, match="Did you mean 'gpt-x-mini'"):
            plan_of(order(server, model="gpt-x-min"))
    manifest = files.read_manifest(outcome.folder)
    assert (manifest.template.form, manifest.model.revision) == ("served", "served")
    assert manifest.engine["token_ids"] == "not returned"
    assert all(sample.completion.token_ids == () and sample.completion.text for sample in samples(outcome.folder))
    signature = outcome.results[0].signature
    assert "/served@" in signature
    assert signature.endswith("|m:gpt-x@served|e:openai+unknown/served")
    assert read_run(outcome.folder).doubts == ()


def test_a_manifest_that_names_another_server_is_noticed(model_server: Any, order: Any) -> None:
    with model_server(models=("only",)) as server:
        outcome = execute(plan_of(order(server, model="only", prompts="chat")), QUIET)
    path = outcome.folder / files.MANIFEST
    written = path.read_text()
    for change in ({"url": "http://elsewhere/v1"}, {"name": "other"}, {"prompts": "text"}):
        manifest = json.loads(written)
        manifest["settings"]["served"] |= change
        path.write_text(json.dumps(manifest))
        (line,) = read_run(outcome.folder).doubts
        assert "settings_sha256 differs" in line


def test_chat_and_tokens_and_another_server_are_other_runs(model_server: Any, order: Any) -> None:
    with model_server() as one, model_server(models=("only",)) as two, model_server(models=("only",)) as three:
        plans = [plan_of(order(one)), plan_of(order(one, prompts="chat")), plan_of(order(one, prompts="text"))]
        plans += [plan_of(order(server, model="only", prompts="chat")) for server in (two, three)]
        assert len({plan.settings_sha256 for plan in plans}) == 5


def test_the_same_weights_at_another_port_are_the_same_run(model_server: Any, order: Any) -> None:
    with model_server() as one, model_server() as two:
        assert plan_of(order(one)).settings_sha256 == plan_of(order(two)).settings_sha256
        first = execute(plan_of(order(one)), QUIET)
        again = execute(plan_of(order(two)), QUIET)
    assert (first.generated, again.generated) == (48, 0)
    assert read_run(again.folder).doubts == ()


def test_a_server_that_takes_no_token_ids_is_asked_in_turns_and_says_so(model_server: Any, order: Any, caplog: Any) -> None:
    with model_server(takes_ids=False) as server:
        plan = plan_of(order(server))
        assert plan.order.settings.served is not None
        assert plan.order.settings.served.prompts == "chat"
        assert "does not take token ids as a prompt (HTTP 400: prompt must be a string)" in caplog.text
        with pytest.raises(PreflightError, match="--prompts chat sends turns to the server's own template"):
            plan_of(order(server, prompts="tokens"))


def test_ctrl_c_is_quick_while_requests_hang_and_the_run_goes_on(
    model_server: Any, order: Any, llama3_like: Path, tmp_path: Path, programs: Any
) -> None:
    with model_server(lambda user, times: "stall" if sum(server.served.values()) > 20 else "") as server:
        made = order(server)
        words = ["run", "gsm8k", "-m", str(llama3_like), "--protocol", "custom", "--data", str(made.data), "--base-url",
                 server.url, "-o", str(tmp_path / "out"), "--batch-size", "4", "--timeout", "600"]  # fmt: skip
        child = programs.start(sys.executable, "-m", "tulu_eval", *words)
        while server.injected["stall"] < 4 and child.poll() is None:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, stderr = child.communicate()
        assert child.returncode == 130, stderr
        assert time.monotonic() - began < 20
        assert "of 48 samples are kept in" in stderr
        server.draw = lambda user, times: ""
        plan = plan_of(order(server, batch_size=4))
        kept = {sample.item for sample in samples(plan.folder)}
        done = execute(plan, QUIET)
    assert 20 - 4 <= len(kept) == 48 - done.generated < 48, "an answer in flight at Ctrl-C may be lost, and 4 are at most"
    assert done.tally.failed == 0
    served = {one.item.id: server.served[json.dumps(list(one.request.token_ids))] for one in plan.planned}
    assert {served[item] for item in kept} == {1}, "nothing that was kept was asked again"
    assert set(served.values()) <= {1, 2}


def test_a_closed_backend_says_so(model_server: Any, order: Any) -> None:
    with model_server() as server:
        plan = plan_of(order(server))
        backend = OpenAIBackend.load(plan.model, plan.order.settings, plan.eos_ids, plan.max_length)
        backend.close()
        with pytest.raises(EngineError, match="is closed"):
            next(backend.generate([one.request for one in plan.planned], plan.decoding))
