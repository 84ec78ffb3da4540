"""Good runs to change, places to run commands in, and the table at the end of ``-m fuzz``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from robustness import tally as tallies
from robustness import verbs
from robustness.bench import Bench
from robustness.places import Place, make_place
from robustness.tally import Tally

TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("FUZZ_TALLY")
    config.stash[TALLY] = Tally(Path(path) if path else None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves all of it to ``-m fuzz``: it takes long."""
    if "fuzz" not in config.option.markexpr:
        left = [item for item in items if item.get_closest_marker("fuzz")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    tried = config.stash[TALLY].tried.values()
    if tried and "fuzz" in config.option.markexpr and not config.stash[TALLY].path:
        terminalreporter.write_line(f"\n{tallies.table(tried)}")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """What was tried in this session."""
    return request.config.stash[TALLY]


@pytest.fixture
def quiet_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and caches of the test's own, no keys, no hub, and retries that hardly wait."""
    from tulu_eval.endpoint import client

    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("OPENAI_API_KEY", "TULU_EVAL_JUDGE_KEY", "TULU_EVAL_SERVER_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "LONGEST_WAIT", 0.01)
    monkeypatch.setitem(client.Client.__init__.__kwdefaults__, "first_wait", 0.005)
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)  # as the command has it where stderr is no terminal
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bench(quiet_place: Path, make_run_in: Callable[..., Path]) -> Bench:
    """A good run of six items."""
    good = make_run_in(quiet_place / "good", 3, limit=6, model=verbs.MODEL)
    other = make_run_in(quiet_place / "other", 2, limit=6, model=verbs.MODEL, revision="5b372aa0")
    return Bench(quiet_place / "bench", good, f"a/gsm8k/{good.name}", verbs.VERBS, other)


@pytest.fixture
def of_alpaca(shared: Path) -> dict[str, Path]:
    """AlpacaEval's files."""
    folder = shared / "data/alpaca_eval"
    return {"data": folder / "alpaca_eval_gpt4_baseline.json", "gamed": folder / "df_gamed_rederived.csv"}


@pytest.fixture
def alpaca_runs(
    quiet_place: Path, make_alpaca_run: Callable[..., Path], of_alpaca: dict[str, Path], loopback: Any
) -> tuple[Path, Path]:
    """Two runs of AlpacaEval, of twelve outputs each; the first is judged."""
    from robustness.endings import in_process

    good = make_alpaca_run(quiet_place / "good-alpaca", 12)
    other = make_alpaca_run(quiet_place / "other-alpaca", 12, {1: "Another answer."})
    with loopback() as server:
        words = ["judge", str(good), "--judge", "a-judge", "--judge-url", server.url, "--yes", "-q", "--partial"]
        done = in_process([*words, "--data", str(of_alpaca["data"]), "--gamed", str(of_alpaca["gamed"])])
    assert (done.code, done.failure) == (0, ""), done.err
    return good, other


@pytest.fixture
def alpaca_bench(quiet_place: Path, alpaca_runs: tuple[Path, Path], of_alpaca: dict[str, Path]) -> Bench:
    """A run of AlpacaEval with a judge's folder inside."""
    good, other = alpaca_runs
    place = good.relative_to(quiet_place / "good-alpaca").as_posix()
    return Bench(quiet_place / "bench", good, place, verbs.ALPACA_VERBS, other, **of_alpaca)


def _annotations(shared: Path, folder: Path, first: int) -> Path:
    whole = shared / "data/alpaca_eval/models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    few = folder / f"annotations-{first}.json"
    few.write_text(json.dumps(json.loads(whole.read_text())[first : first + 20]))
    return few


@pytest.fixture
def judged_bench(shared: Path, quiet_place: Path, of_alpaca: dict[str, Path]) -> Bench:
    """Win rates of twenty real annotations."""
    from tulu_eval.judging.numbers import results
    from tulu_eval.judging.session import score_files
    from tulu_eval.judging.win_rates import Scoring
    from tulu_eval.runs import rescored

    def made(name: str, first: int) -> Path:
        few = _annotations(shared, quiet_place, first)
        scored = score_files(few, None, Scoring())
        return rescored.keep(quiet_place / name, few, scored, results(scored.score))

    good, other = made("good", 0), made("other", 40)
    place = good.relative_to(quiet_place / "good").as_posix()
    return Bench(quiet_place / "bench", good, place, verbs.JUDGED_VERBS, other, **of_alpaca)


@pytest.fixture
def audit_bench(quiet_place: Path, llama3_like: Path, rows: Path) -> Bench:
    """A run of a real tiny model, which is run again."""
    from robustness.endings import in_process

    def made(name: str, *more: str) -> Path:
        words = ["run", "gsm8k", "-m", str(llama3_like), "--protocol", "custom", "--data", str(rows), "--device", "cpu", *more]
        done = in_process([*words, "--dtype", "float32", "-q", "-o", str(quiet_place / name)])
        assert (done.code, done.failure) == (0, ""), done.err
        return next((quiet_place / name).rglob("manifest.json")).parent

    good, other = made("good", "--limit", "4"), made("other", "--limit", "5")
    return Bench(quiet_place / "bench", good, "a/gsm8k/custom", verbs.AUDIT_VERBS, other, model=llama3_like, rows=rows)


@pytest.fixture
def place(
    shared: Path, quiet_place: Path, make_run_in: Callable[..., Path], alpaca_runs: tuple[Path, Path],
    of_alpaca: dict[str, Path], llama3_like: Path, rows: Path,
) -> Place:  # fmt: skip
    """Good inputs of every verb."""
    run, second = (
        make_run_in(quiet_place / name, right, limit=6, model=verbs.MODEL) for name, right in (("run", 3), ("second", 2))
    )
    few = _annotations(shared, quiet_place, 0)
    fixed = {"model": llama3_like, "rows": rows, "annotations": few, "set": shared / "data/gsm8k/test.jsonl", **of_alpaca}
    runs = {"run": run, "second": second, "alpaca": alpaca_runs[0], "alpaca2": alpaca_runs[1]}
    return make_place(quiet_place, runs, fixed)
