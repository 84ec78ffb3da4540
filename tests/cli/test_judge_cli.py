"""judge, score-annotations, compare-outputs and calibrate-judge as a user types them, against the tests' own server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tulu_eval.runs.finished import read

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
ANNOTATIONS = "annotations_weighted_alpaca_eval_gpt4_turbo.json"
ALL = "unordered outputs"
"""Words that every request has."""


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "alpaca_eval"


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    for name in ("OPENAI_API_KEY", "TULU_EVAL_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def words(folder: Path) -> Callable[..., tuple[str, ...]]:
    """The words after ``tulu-eval`` that judge something."""

    def call(target: Path, url: str, *more: str) -> tuple[str, ...]:
        data, gamed = folder / "alpaca_eval_gpt4_baseline.json", folder / "df_gamed_rederived.csv"
        given = ("judge", target, "--judge", "some-judge", "--judge-url", url, "--data", data, "--gamed", gamed, *more)
        return tuple(map(str, given))

    return call


def test_a_run_is_judged_beside_itself_and_never_paid_twice(
    invoke: Run, alpaca_run: MakeRun, loopback: Any, words: Any, tmp_path: Path
) -> None:
    run = alpaca_run(12)
    with loopback() as server:
        done = invoke(*words(run, server.url, "--yes"))
        assert done.exit_code == 0, done.output
        assert sum(server.requests.values()) == 12
        assert {body["model"] for body in server.bodies} == {"some-judge"}
        assert server.authorizations == {None}
    folder = run / "judged" / "some-judge-logprobs"
    assert "805 = 12 judged + 793 failed (absent 793) + 0 identical" in done.stdout
    assert "beware: no length-controlled win rate: only 12 of the 805 instructions have a preference" in done.stdout
    assert "beware: judged by some-judge: not comparable with the leaderboard's numbers" in done.stdout
    assert "12 requests, about " in done.stderr
    assert "12/12 answers" in done.stderr
    assert f"sent 12 requests: 1,200 prompt and 12 answer tokens\n{folder}" in done.stderr
    assert read(run).results[-1].scorer == "some-judge"
    again = invoke(*words(run, server.url, "--json", "-q"))  # the server is gone
    assert again.exit_code == 0, again.output
    assert again.stderr == ""
    data = json.loads(again.stdout)
    assert data["folder"] == str(folder)
    assert data["results"][0]["n"] == 12
    assert f"{data['results'][0]['value']:.2f}" in done.stdout
    assert (tmp_path / "cache" / "tulu-eval" / "judge" / "some-judge.jsonl").exists()


def test_all_805_of_a_file_have_lc_and_a_folder_under_results(
    invoke: Run, loopback: Any, words: Any, folder: Path, tmp_path: Path
) -> None:
    with loopback() as server:
        done = invoke(*words(folder / "models" / "claude-2" / "model_outputs.json", server.url, "--yes", "--json", "-q"))
        assert sum(server.served.values()) == 804
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert [row["metric"] for row in data["results"]] == ["lc_win_rate", "win_rate"]
    assert data["folder"] == "results/claude-2/alpaca-eval/judged/some-judge-logprobs"
    scored = invoke("score-annotations", data["folder"], "--gamed", folder / "df_gamed_rederived.csv", "--json")
    assert json.loads(scored.stdout)["results"] == data["results"]
    by_text = invoke(
        "score-annotations", tmp_path / data["folder"] / "annotations.json", "--gamed", folder / "df_gamed_rederived.csv",
        "--outputs", folder / "models" / "claude-2" / "model_outputs.json", "--json",
    )  # fmt: skip
    assert [row["value"] for row in json.loads(by_text.stdout)["results"]] == [row["value"] for row in data["results"]]


def test_every_fault_is_counted_and_only_the_failed_are_asked_again(
    invoke: Run, alpaca_run: MakeRun, loopback: Any, words: Any
) -> None:
    marks = {0: "zebra", 1: "yak", 2: "walrus", 3: "vole", 4: "urchin", 5: "toad"}
    faults = {
        "zebra": ["429 after 0", "500"], "yak": ["half"], "walrus": ["drop"], "vole": ["neither"], "urchin": ["no logprobs"],
        "toad": ["refusal"],
    }  # fmt: skip
    run = alpaca_run(12, marks)
    with loopback(faults) as server:
        first = invoke(*words(run, server.url, "--yes"))
        assert "9 judged + 796 failed (refusal 1, no_logprobs 1, no_verdict 1, absent 793) + 0 identical" in first.stdout
        assert sum(server.requests.values()) == 12 + 4, "two tries more for the zebra, one for the yak, one for the walrus"
        again = invoke(*words(run, server.url, "--yes"))
        assert "12 judged + 793 failed (absent 793)" in again.stdout
        assert sum(server.requests.values()) == 12 + 4 + 3
        assert set(server.served.values()) == {1}


def test_it_asks_before_it_costs(invoke: Run, alpaca_run: MakeRun, loopback: Any, words: Any) -> None:
    run = alpaca_run(12)
    with loopback() as server:
        done = invoke(*words(run, server.url))
        assert done.exit_code == 2
        estimate, message = done.stderr.strip().splitlines()
        assert "12 requests, about" in estimate
        assert "at a price that is not known (give --price IN,OUT)" in estimate
        assert message == "tulu-eval: 12 requests to a judge may cost money: say --yes, or --max-cost DOLLARS"
        assert not server.requests


def test_max_cost_stops_and_a_later_call_goes_on(invoke: Run, alpaca_run: MakeRun, loopback: Any, words: Any) -> None:
    run = alpaca_run(12)
    with loopback() as server:
        limited = (*words(run, server.url, "--concurrency", "1"), "--price", "10,30", "--max-cost", "0.045")
        done = invoke(*limited)
        assert done.exit_code == 0, done.output
        assert "over_budget" in done.stdout
        spent = json.loads((run / "judged" / "some-judge-logprobs" / "judging.json").read_text())["spent"]
        assert 0 < spent["dollars"] <= 0.045
        assert spent["requests"] == sum(server.requests.values()) < 12
        assert "12 judged" in invoke(*words(run, server.url, "--yes")).stdout
        assert set(server.served.values()) == {1}


def test_dry_run_prints_three_prompts_sends_and_writes_nothing(
    invoke: Run, alpaca_run: MakeRun, loopback: Any, words: Any, tmp_path: Path
) -> None:
    run = alpaca_run(12)
    before = sorted(tmp_path.rglob("*"))
    with loopback() as server:
        done = invoke(*words(run, server.url, "--dry-run", "--price", "10,30"))
        assert not server.requests
    assert done.exit_code == 0, done.output
    assert "12 requests, about" in done.stdout
    assert "(given by --price)" in done.stdout
    assert done.stdout.count("--- alpaca-") == 3
    assert "Answer number 2." in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_killed_in_its_midst_and_nothing_is_lost(
    alpaca_run: MakeRun, loopback: Any, words: Any, invoke: Run, tmp_path: Path
) -> None:
    run = alpaca_run(60)
    samples = (run / "samples.jsonl").read_bytes()
    cache = tmp_path / "cache" / "tulu-eval" / "judge" / "some-judge.jsonl"
    with loopback(delay=0.05) as server:
        command = [sys.executable, "-m", "tulu_eval", *words(run, server.url, "--yes", "--concurrency", "2")]
        for wanted in (10, 25):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
            deadline = time.monotonic() + 60
            while len(server.served) < wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert 20 <= len(cache.read_text().splitlines()) < 60
        done = invoke(*words(run, server.url, "--yes"))
        assert "60 judged" in done.stdout
        assert len(server.served) == 60
        assert sum(server.served.values()) <= 60 + 2 * 2, "only what was in flight at a kill is asked twice"
    assert (run / "samples.jsonl").read_bytes() == samples


def test_ctrl_c_says_what_is_kept(alpaca_run: MakeRun, loopback: Any, words: Any) -> None:
    run = alpaca_run(60)
    with loopback(delay=0.05) as server:
        command = [sys.executable, "-m", "tulu_eval", *words(run, server.url, "--yes", "--concurrency", "2")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
        deadline = time.monotonic() + 60
        while len(server.served) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert "answers more are kept in" in stderr.strip().splitlines()[-1]
    assert "Traceback" not in stderr


def test_published_annotations_are_scored_offline(invoke: Run, folder: Path) -> None:
    model = folder / "models" / "claude-2"
    done = invoke(
        "score-annotations", model / ANNOTATIONS, "--outputs", model / "model_outputs.json",
        "--gamed", folder / "df_gamed_rederived.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "805 = 804 judged + 0 failed + 1 identical" in done.stdout
    assert "length-controlled win rate  gpt-4-1106-preview    28.16" in done.stdout
    assert "raw win rate                gpt-4-1106-preview    17.19" in done.stdout
    assert "beware" not in done.stdout


@pytest.mark.parametrize(("value", "account"), [(None, "803 judged + 1 failed (missing 1)"), (0, "804 judged + 0 failed")])
def test_null_is_a_counted_failure_and_0_an_old_tie(
    invoke: Run, folder: Path, tmp_path: Path, value: float | None, account: str
) -> None:
    rows = json.loads((folder / "models" / "claude-2" / ANNOTATIONS).read_text())
    rows[5]["preference"] = value
    (tmp_path / "a.json").write_text(json.dumps(rows))
    done = invoke("score-annotations", tmp_path / "a.json", "--gamed", folder / "df_gamed_rederived.csv")
    assert done.exit_code == 0, done.output
    assert account in done.stdout
    assert ("no length-controlled win rate: only 804 of the 805" in done.stdout) == (value is None)


def test_outputs_are_compared_with_published_ones(invoke: Run, folder: Path) -> None:
    model = folder / "models" / "claude-2"
    done = invoke("compare-outputs", model / "model_outputs.json", "--with", model / ANNOTATIONS)
    assert done.stdout.startswith("805 of 805 outputs are the same to the character")
    assert done.stdout.strip().endswith("805 of 805 published judgments still apply")
    other = folder / "models" / "tulu-2-dpo-7b" / "model_outputs.json"
    data = json.loads(invoke("compare-outputs", other, "--with", model / "model_outputs.json", "--json").stdout)
    assert (data["n"], data["exact"], data["still_apply"]) == (805, 0, 0)
    assert len(data["divergence"]) == 805


def test_a_judge_is_calibrated_and_its_number_mapped(
    invoke: Run, alpaca_run: MakeRun, loopback: Any, words: Any, folder: Path, tmp_path: Path
) -> None:
    files = [folder / "models" / name / ANNOTATIONS for name in ("claude-2", "alpaca-7b")]
    out = tmp_path / "some-judge.json"
    with loopback() as server:
        asked = ("--judge", "some-judge", "--judge-url", server.url, "--size", "60", "-o", out)
        dry = invoke("calibrate-judge", *files, *asked, "--dry-run")
        assert "requests, about" in dry.stdout
        assert not server.requests
        done = invoke("calibrate-judge", *files, *asked, "--yes")
        assert done.exit_code == 0, done.output
        assert "some-judge (logprobs) against the original judge: " in done.stdout
        assert "kappa" in done.stdout
        judged = invoke(*words(alpaca_run(12), server.url, "--yes", "--json", "--calibration", str(out)))
        rows = {row["metric"]: row for row in json.loads(judged.stdout)["results"]}
        assert set(rows) == {"win_rate", "win_rate_calibrated"}
        assert "calibrated:" in rows["win_rate_calibrated"]["signature"]
        other = invoke(*words(alpaca_run(12), server.url, "--method", "text", "--yes", "--calibration", str(out)))
    assert other.exit_code == 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, shared: Path, make_alpaca_run: MakeRun) -> dict[str, str]:
    """Paths that the commands below name in braces: a good run and good files, and spoiled ones."""
    tmp_path, folder = tmp_path_factory.mktemp("bad"), shared / "data" / "alpaca_eval"
    model = folder / "models" / "claude-2"
    outputs = json.loads((model / "model_outputs.json").read_text())
    annotations = json.loads((model / ANNOTATIONS).read_text())

    def preferring(value: Any) -> list[dict[str, Any]]:
        return [annotations[0], {**annotations[1], "preference": value}, *annotations[2:]]

    spoiled: dict[str, Any] = {
        "missing": outputs[3:],
        "twice": [*outputs, outputs[6]],
        "changed": [{**outputs[0], "instruction": outputs[0]["instruction"] + " "}, *outputs[1:]],
        "foreign": [{**outputs[0], "instruction": "Say hello."}, *outputs[1:]],
        "wordless": [{"instruction": row["instruction"]} for row in outputs],
        "several": [{**outputs[0], "generator": "another"}, *outputs[1:]],
        "three": preferring(3),
        "text": preferring("m"),
        "true": preferring(True),
        "nulls": [{**row, "preference": None} for row in annotations],
        "ae1": [{**row, "annotator": "alpaca_eval_gpt4"} for row in annotations],
    }
    names = {"run": str(make_alpaca_run(tmp_path / "results", 24)), "out": str(tmp_path / "made"), "dir": str(tmp_path)}
    for name, rows in spoiled.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
        names[name] = str(tmp_path / f"{name}.json")
    for name, content in {"prose": "Dear reader,", "gamed": "a,b\n1,2\n", "prices": "[models]\n"}.items():
        (tmp_path / f"{name}.txt").write_text(content)
        names[name] = str(tmp_path / f"{name}.txt")
    names |= {"good": str(model / "model_outputs.json"), "annotations": str(model / ANNOTATIONS)}
    names |= {"base": str(folder / "alpaca_eval_gpt4_baseline.json"), "df": str(folder / "df_gamed_rederived.csv")}
    names["set"] = str(folder / "alpaca_eval_set.json")
    return names


JUDGE = "judge {run} --judge some-judge --judge-url {url} --data {base} --gamed {df} --yes"
OUTPUTS = JUDGE.replace("{run}", "{%s}")
SCORE = "score-annotations {%s} --gamed {df}"
CALIBRATE = "calibrate-judge {annotations} --judge some-judge --judge-url {url} --yes -o {out}"

CASES: list[tuple[str, list[str], str]] = [
    (OUTPUTS % "missing", [], "3 of the 805 instructions are missing, the first is number 1; see --partial"),
    (OUTPUTS % "twice", [], "row 806 has the same instruction as row 7"),
    (OUTPUTS % "changed", [], "is one of AlpacaEval's but for white space (changed or foreign)"),
    (OUTPUTS % "foreign", [], "row 1: the instruction 'Say hello.'... is not one of AlpacaEval's 805 (changed or foreign)"),
    (OUTPUTS % "wordless", [], "row 1: field 'output' is missing or not a string"),
    (OUTPUTS % "several", [], "has 2 different values of 'generator': another, claude-2"),
    (OUTPUTS % "prose", [], "prose.txt:1: is neither a JSON list nor JSON lines"),
    (JUDGE.replace("{run}", "nowhere"), [], "nowhere: no such file"),
    (JUDGE.replace("{run}", "{dir}"), [], "is not a run folder: it has no manifest.json"),
    (JUDGE + " --limit 0", [], "--limit must be 1 or more, not 0"),
    (JUDGE + " --concurrency 0", [], "concurrency and attempts must be 1 or more"),
    (JUDGE + " --price cheap", [], "price 'cheap' is not IN,OUT in dollars per million tokens, e.g. 2.5,10"),
    (JUDGE + " --prices {prices}", [], "is not a price table: date, [models], NAME = "),
    (JUDGE + " --max-cost 1", [], "--max-cost needs a price, and the table has none for some-judge: give --price IN,OUT"),
    (JUDGE + " --max-cost 0.001 --price 10,30", [], "there is nothing to score: no row is judged (over_budget 24)"),
    (JUDGE + " --max-cost -1 --price 1,1", [], "--max-cost -1.0 is not 0 or more dollars"),
    (JUDGE + " --method guess", [], "Invalid value for '--method': 'guess' is not one of 'logprobs', 'text'."),
    (JUDGE + " --calibration {prose}", [], "is not a calibration of a judge; make one with tulu-eval calibrate-judge"),
    (JUDGE + " --judge-vllm {dir}", [], "--judge-url and --judge-vllm are two judges; give one of them"),
    (JUDGE.replace("--judge some-judge", ""), [], "who judges? --judge NAME"),
    (JUDGE.replace("{base}", "{set}"), [], "not those of the baseline gpt4_1106_preview"),
    (JUDGE.replace("--data {base}", ""), [], "give a copy of alpaca_eval_gpt4_baseline.json with --data"),
    (JUDGE.replace("{df}", "{gamed}") + " --partial", [], "is not df_gamed.csv: its sha256 is "),
    (JUDGE.replace("{url}", "ftp://x"), [], "the judge's base URL 'ftp://x' should look like https://HOST:PORT/v1"),
    (
        JUDGE.replace("{url}", "http://127.0.0.1:9/v1"),
        [],
        "the judge http://127.0.0.1:9/v1 cannot be reached (ConnectionRefused",
    ),
    (JUDGE.replace("--judge-url {url}", ""), [], "needs a key in the environment variable OPENAI_API_KEY"),
    (JUDGE, ["401", "..."], "does not accept the key (HTTP 401); nothing was retried"),
    (JUDGE, ["404", "..."], "unknown judge at http://127.0.0.1:"),
    (
        JUDGE + " --method text",
        ["say Both are fine.", "..."],
        "no verdict among them; the last: neither m nor M; it said 'Both are",
    ),
    (JUDGE, ["no logprobs", "..."], "the endpoint returned no logprobs; try the text method"),
    (SCORE % "three", [], "row 2: preference 3 is none; it must be from 1 (baseline) to 2 (model), 0 or null"),
    (SCORE % "text", [], "row 2: preference 'm' is none"),
    (SCORE % "true", [], "row 2: preference True is none"),
    (SCORE % "nulls", [], "there is nothing to score: no row is judged (missing 805)"),
    (SCORE % "good", [], "row 1: field 'output_1' is missing or not a string"),
    (SCORE % "dir", [], "is no folder that 'tulu-eval judge' wrote: its judging.json cannot be read"),
    (SCORE % "dir" + " --positional", [], "--outputs and --positional are for a file of annotations, not for a judge's folder"),
    ((SCORE % "annotations").replace("{df}", "{gamed}"), [], "is not df_gamed.csv: its sha256 is "),
    ((SCORE % "annotations").replace("{df}", "nowhere.csv"), [], "nowhere.csv: no such file"),
    ("score-annotations {annotations}", [], "give a copy of df_gamed.csv with --gamed"),
    (SCORE % "annotations" + " --outputs {run}", [], "judges other outputs than those given: 805 of 805 differ"),
    ("compare-outputs {good} --with {prose}", [], "is neither a JSON list nor JSON lines"),
    ("compare-outputs {good} --with nowhere", [], "nowhere: no such file"),
    ("compare-outputs {good}", [], "Missing option '--with'."),
    (
        CALIBRATE.replace("{annotations}", "{ae1}"),
        [],
        "was judged by alpaca_eval_gpt4, not by the original to calibrate against",
    ),
    (CALIBRATE + " --size 5", [], "a calibration needs 30 or more judged pairs; 5 is too few"),
    (CALIBRATE, ["401", "..."], "does not accept the key (HTTP 401); nothing was retried"),
]


@pytest.mark.parametrize(("command", "fault", "message"), CASES, ids=[f"{at}-{case[0][:60]}" for at, case in enumerate(CASES)])
def test_one_line_exit_code_2_the_ledger_intact(
    invoke: Run, place: dict[str, str], loopback: Any, command: str, fault: list[str], message: str
) -> None:
    run = Path(place["run"])
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with loopback({ALL: fault} if fault else {}, models=("another-judge",)) as server:
        done = invoke(*(word.format(url=server.url, **place) for word in command.split()))
        assert bool(server.requests) == bool(fault), "nothing is sent where the mistake can be seen before"
        if fault[:1] == ["401"]:
            assert set(server.requests.values()) == {1}, "nothing is retried"
    *shown, last = done.stderr.strip().splitlines()
    assert done.exit_code == 2, done.output
    assert last.startswith("tulu-eval: ")
    assert message in last
    assert all("requests, about" in line or line.endswith(" answers") for line in shown), done.stderr
    assert done.stdout == ""
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert not list(run.rglob("judged/*/result.json"))
