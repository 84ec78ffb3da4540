"""Every mistake with a judge, its endpoint or its files: one clear line, exit code 2, nothing sent that need not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]
MakeRun = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("own_places")
ANNOTATIONS = "annotations_weighted_alpaca_eval_gpt4_turbo.json"
ALL = "unordered outputs"
"""Words that every request has."""


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
        "null": preferring(None),
        "zero": preferring(0),
        "three": preferring(3),
        "text": preferring("m"),
        "true": preferring(True),
        "nulls": [{**row, "preference": None} for row in annotations],
        "nameless": [{**row, "output_1": "x", "generator_1": None} for row in annotations],
        "mixed": [{**annotations[0], "output_1": "x"}, *annotations[1:]],
        "edited": [annotations[0], {**annotations[1], "preference": 1.25}, *annotations[2:]],
        "anonymous": [{name: row[name] for name in row if name != "generator_2"} for row in annotations],
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
SCORE = "score alpaca-eval --annotations {%s} --gamed {df}"
AGAIN = "score {dir} --gamed {df}"
CALIBRATE = "calibrate-judge {annotations} --judge some-judge --judge-url {url} --yes -o {out}"

CASES: list[tuple[str, list[str], str]] = [
    (OUTPUTS % "missing", [], "3 of the 805 instructions are missing, the first is number 1; see --partial"),
    (OUTPUTS % "twice", [], "row 806 has the same instruction as row 7"),
    (OUTPUTS % "changed", [], "is one of AlpacaEval's up to white space (changed or foreign)"),
    (OUTPUTS % "foreign", [], "row 1: the instruction 'Say hello.'... is not one of AlpacaEval's 805 (changed or foreign)"),
    (OUTPUTS % "wordless", [], "row 1: field 'output' is missing or not a string"),
    (OUTPUTS % "several", [], "has 2 different values of 'generator': another, claude-2"),
    (OUTPUTS % "prose", [], "prose.txt:1: is not JSON"),
    (JUDGE.replace("{run}", "nowhere"), [], "nowhere: no such file"),
    (JUDGE.replace("{run}", "{dir}"), [], "is not a run folder: it has no manifest.json"),
    (JUDGE + " --limit 0", [], "--limit must be 1 or more, not 0"),
    (JUDGE + " --concurrency 0", [], "concurrency and attempts must be 1 or more"),
    (JUDGE + " --price cheap", [], "price 'cheap' is not IN,OUT in dollars per million tokens, e.g. 2.5,10"),
    (JUDGE + " --prices {prices}", [], "is not a price table: date, [models], NAME = "),
    (JUDGE + " --price 1,2 --prices {prices}", [], "--price and --prices both say what it costs; give one of them"),
    (JUDGE + " --max-cost 1", [], "--max-cost needs a price, and the table has none for some-judge: give --price IN,OUT"),
    (JUDGE + " --max-cost 0.001 --price 10,30", [], "there is nothing to score: no row is judged (over_budget 24)"),
    (JUDGE + " --max-cost -1 --price 1,1", [], "--max-cost -1.0 is not 0 or more dollars"),
    (JUDGE + " --method guess", [], "Invalid value for '--method': 'guess' is not one of 'logprobs', 'text', 'ranking'."),
    (CALIBRATE + " --method ranking", [], "--method ranking is AlpacaEval 1's, and a calibration maps to AlpacaEval 2's judge"),
    (JUDGE + " --calibration {prose}", [], "is not a calibration of a judge; make one with tulu-eval calibrate-judge"),
    (JUDGE + " --judge-vllm {dir}", [], "--judge-url and --judge-vllm are two judges; give one of them"),
    (JUDGE.replace("--judge some-judge", ""), [], "who judges? --judge NAME"),
    (JUDGE.replace("{base}", "{set}"), [], "whose outputs are not those of the baseline gpt4_1106_preview"),
    (JUDGE.replace("--data {base}", ""), [], "give a copy of alpaca_eval_gpt4_baseline.json with --data"),
    (JUDGE.replace("{df}", "{gamed}") + " --partial", [], "is not df_gamed.csv: its sha256 is "),
    (JUDGE.replace("{url}", "ftp://x"), [], "the judge's base URL 'ftp://x' should look like https://HOST:PORT/v1"),
    (
        JUDGE.replace("{url}", "http://127.0.0.1:9/v1"),
        [],
        "the judge http://127.0.0.1:9/v1 cannot be reached (ConnectionRefused",
    ),
    (JUDGE.replace("--judge-url {url}", ""), [], "needs a key in the environment variable OPENAI_API_KEY"),
    (JUDGE, ["401", "..."], "does not accept the key (HTTP 401: fault 401, key was), which is read from TULU_EVAL_JUDGE_KEY;"),
    (JUDGE, ["404", "..."], "unknown judge at http://127.0.0.1:"),
    (
        JUDGE + " --method text",
        ["say Both are fine.", "..."],
        "none with a verdict; the last: neither m nor M; it said 'Both are",
    ),
    (
        JUDGE,
        ["no logprobs", "..."],
        "the judge 'some-judge' answers without logprobs; --method text reads the answer's text instead",
    ),
    (SCORE % "three", [], "row 2: preference 3 is not a number from 1 (baseline) to 2 (model), or null"),
    (SCORE % "null", [], "row 2 has no preference (null); the judge failed in 1 of 805 rows: --partial counts them"),
    (SCORE % "zero", [], "row 2: preference 0 is impossible for weighted_alpaca_eval_gpt4_turbo, which gives 1 to 2"),
    (SCORE % "text", [], "row 2: preference 'm' is not a number"),
    (SCORE % "true", [], "row 2: preference True is not a number"),
    (SCORE % "nulls" + " --partial", [], "there is nothing to score: no row is judged (missing 805)"),
    (SCORE % "nameless", [], "the baseline is unknown: neither output_1 nor output_2 are the outputs of a known"),
    (SCORE % "mixed", [], "has outputs of the baseline gpt4_1106_preview in 804 of 805 rows and none in row 1"),
    (SCORE % "edited", [], "row 2: preference 1.25 does not match its raw completion: "),
    (SCORE % "anonymous" + " -o {out}", [], "does not name the model, or names it as the baseline: whose numbers these are"),
    (
        SCORE % "annotations" + " --c 0",
        [],
        "--c 0.0 must be from 0.0001 to 10000, the ends of the grid of the published recipe",
    ),
    (SCORE % "annotations" + " --c nan", [], "Invalid value for '--c': 'nan' is not a number."),
    ("score {run} --c 2", [], "--c is for judgments, and "),
    (SCORE % "good", [], "row 1: field 'output_1' is missing or not a string"),
    (SCORE % "dir", [], "is a folder, not a file"),
    (AGAIN, [], "--gamed is for judgments, and "),
    ("score {dir}", [], "is not a run folder: it has no manifest.json"),
    ("score {run} --positional", [], "--positional is for judgments, and "),
    ("score {run} --annotations {annotations}", [], "--annotations goes with alpaca-eval: tulu-eval score alpaca-eval --annot"),
    ("score alpaca-eval", [], "score alpaca-eval needs --annotations FILE"),
    ("score alpaca-eval --outputs {good}", [], "score alpaca-eval needs --annotations FILE"),
    ((SCORE % "annotations").replace("{df}", "{gamed}"), [], "is not df_gamed.csv: its sha256 is "),
    ((SCORE % "annotations").replace("{df}", "nowhere.csv"), [], "nowhere.csv: no such file"),
    ("score alpaca-eval --annotations {annotations}", [], "give a copy of df_gamed.csv with --gamed"),
    (SCORE % "annotations" + " --outputs {run}", [], "judges other outputs than those given: 805 of 805 differ"),
    ("compare-outputs {good} --with {prose}", [], "is not JSON"),
    ("compare-outputs {good} --with nowhere", [], "nowhere: no such file"),
    ("compare-outputs {good}", [], "Missing option '--with'."),
    (
        CALIBRATE.replace("{annotations}", "{ae1}"),
        [],
        "was judged by alpaca_eval_gpt4, not by the original to calibrate against",
    ),
    (CALIBRATE.replace("{annotations}", "{nameless}"), [], "the baseline is unknown"),
    (CALIBRATE + " --limit 5", [], "a calibration needs 30 or more judged pairs; 5 is too few"),
    (
        CALIBRATE,
        ["401", "..."],
        "does not accept the key (HTTP 401: fault 401, key was), which is read from TULU_EVAL_JUDGE_KEY;",
    ),
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
    assert not [folder for folder in run.rglob("judged/*") if [path.name for path in folder.iterdir()] == [".lock"]]
