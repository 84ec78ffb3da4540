"""What the openai backend refuses in one line: servers that are down, foreign or too small, keys, settings of other engines."""

from __future__ import annotations

import dataclasses
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.endpoint.replies import EndpointError
from tulu_eval.errors import EngineError, PreflightError, UserError
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger

QUIET = Progress(quiet=True)
KEY = "sk-served-0123456789"
"""The key that the fixture ``quick`` puts into the environment."""
pytestmark = pytest.mark.usefixtures("quick")


def plan_of(order: Order) -> Plan:
    return make_plan(order, load_suite())


def kept(folder: Path) -> int:
    with Ledger(folder / files.LEDGER, read_only=True) as ledger:
        return len(ledger)


def lister(status: int, body: Any) -> dict[str, Any]:
    return {"listing": (status, body)}


@pytest.mark.parametrize(
    ("server", "served", "message"),
    [
        (
            lister(401, {"error": {"message": f"bad key {KEY}"}}),
            {},
            "does not accept the key (HTTP 401: bad key [key]), which is read from TULU",
        ),
        (lister(404, "nothing"), {}, "does not speak the OpenAI protocol (GET /models: HTTP 404"),
        (lister(200, ["x"]), {}, "does not speak the OpenAI protocol (GET /models has no list of models)"),
        (lister(200, {"data": [1]}), {}, "does not speak the OpenAI protocol"),
        (lister(503, {"error": "starting"}), {}, "fails (HTTP 503"),
        ({"models": ("other",)}, {}, "has 'other', not "),
        ({"models": ("b", "c")}, {}, "unknown model at http://127.0.0.1:"),
        ({}, {"name": "llama3-like"}, "Did you mean 'llama3-like0'?"),
        ({}, {"timeout": 0}, "--timeout must be more than 0 seconds, and at most a day's, not 0"),
    ],
)
def test_a_server_that_is_not_as_asked_is_one_line(
    model_server: Any, order: Any, server: dict[str, Any], served: dict[str, Any], message: str
) -> None:
    with model_server(**server) as there, pytest.raises(UserError) as caught:
        plan_of(order(there, **served))
    assert message in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_base_url_that_is_down_or_no_web_server(order: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=r"nothing answers at http.*\(ConnectionRefusedError\); is the server up\?"):
            plan_of(order(url))
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(EndpointError, match=r"does not answer as a server should \(connection: BadStatusLine\)"):
            plan_of(order(f"http://127.0.0.1:{other.getsockname()[1]}/v1"))
        other.shutdown(socket.SHUT_RDWR)


def test_too_few_positions_at_the_server(model_server: Any, order: Any) -> None:
    with model_server(context=300) as server:
        plan = plan_of(order(server))
        with pytest.raises(
            PreflightError, match=r"takes \d+ tokens with its new ones, and 'llama3-like0' at .* has 300 positions"
        ):
            execute(plan, QUIET)
    assert not kept(plan.folder)


def test_a_key_that_is_refused_midway_stops_at_once_and_is_nowhere(model_server: Any, order: Any, tmp_path: Path) -> None:
    with model_server() as server:
        plan = plan_of(order(server, batch_size=1))
        server.draw = lambda user, times: "401" if sum(server.served.values()) > 10 else ""
        with pytest.raises(EngineError, match="does not accept the key"):
            execute(plan, QUIET)
        assert sum(server.injected[name] for name in ("401",)) == 1
        assert server.authorizations == {f"Bearer {KEY}"}
    assert kept(plan.folder) == 10
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_settings_of_an_engine_are_refused(model_server: Any, order: Any) -> None:
    with model_server() as server:
        made = order(server)
        for change in ({"dtype": "float16"}, {"tensor_parallel": 2}, {"adapter": "x"}):
            with pytest.raises(PreflightError, match=r"is no setting of --backend openai"):
                plan_of(dataclasses.replace(made, settings=dataclasses.replace(made.settings, **change)))
        with pytest.raises(PreflightError, match="--base-url is no setting of --backend "):
            execute(plan_of(dataclasses.replace(made, backend="transformers")), QUIET)
    with pytest.raises(PreflightError, match="needs --base-url URL"):
        plan_of(dataclasses.replace(made, settings=EngineSettings()))
