"""What goes into the page, read back as a browser would."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tulu_eval.exchange.import_file import import_file
from tulu_eval.judging.numbers import results as score_rows
from tulu_eval.judging.session import score_files
from tulu_eval.judging.win_rates import Scoring
from tulu_eval.registry import load_suite
from tulu_eval.reports import board, page
from tulu_eval.reports.report import make
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.rescored import keep
from tulu_eval.store.manifest_schema import Session
from tulu_eval.store.setup_schema import StoredServed


class Parsed(HTMLParser):
    """Scripts by their id or place, and every element that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.sources: list[str] = []
        self.policy = ""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.sources += [
            f"{tag} {name}" for name in ("src", "href", "srcset", "action") if not (given.get(name) or "#").startswith("#")
        ]
        if tag == "script":
            self._open = given.get("id") or f"script {len(self.scripts)}"
            self.scripts[self._open] = ""
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given.get("content") or ""

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == "script" else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.scripts[self._open] += data


def opened(parsed: Parsed, name: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(parsed.scripts[name])))


@pytest.fixture(scope="module")
def parsed(report: Path) -> Parsed:
    return Parsed(report.read_text(encoding="utf-8"))


def test_nothing_is_loaded_and_every_script_has_its_hash(parsed: Parsed) -> None:
    assert parsed.sources == []
    assert parsed.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in parsed.policy
    own = [text for name, text in parsed.scripts.items() if name.startswith("script ")]
    assert len(own) == len(page.SCRIPTS)
    for text in own:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in parsed.policy


def test_every_sample_of_every_run_is_there_once_and_whole(parsed: Parsed, results: Path, hostile: str) -> None:
    data = json.loads(parsed.scripts["data"])
    assert [run["folder"].split("/")[0] for run in data["runs"]] == [
        "allenai__llama-3-tulu-2-8b",
        "allenai__llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm",
        "allenai__tulu-2-13b",
        "my__checkpoint",
    ]
    assert len(data["groups"]) == 1, "all four ran the same items"
    texts: dict[tuple[int, int], str] = {}
    for number, start in enumerate(data["groups"][0]["starts"]):
        for offset, (_, written) in enumerate(opened(parsed, f"block-0-{number}")):
            for run, number, text, *_ in written:
                assert number == 1
                assert (run, start + offset) not in texts
                texts[run, start + offset] = text
    group = opened(parsed, "group-0")
    for place, run in enumerate(data["runs"]):
        index = opened(parsed, f"run-{place}")
        lines = [json.loads(line) for line in (results / run["folder"] / "samples.jsonl").read_text().splitlines()]
        by_item = {line["item"]: line for line in lines}
        assert len(index["items"]) == len(lines)
        for at, item in enumerate(index["items"]):
            line = by_item[group["items"][item]]
            assert texts[place, item] == line["text"]
            assert group["targets"][item] == line["target"]
            assert data["statuses"][index["statuses"][at]] == line["status"]
            assert index["scores"][at] == [grade["score"] for grade in line["grades"]]
            assert index["answers"][at] == [grade["answer"] if grade["answered"] else None for grade in line["grades"]]
    assert hostile in texts.values()


def test_rows_of_the_card_come_first_and_every_published_number_is_there(parsed: Parsed) -> None:
    rows = json.loads(parsed.scripts["data"])["board"]
    assert [row["label"] for row in rows if row["scope"] == "card"][::2][0].startswith("Tulu V2.5 PPO Llama 3 70B")
    suite = load_suite()
    wanted = {
        (c.model, c.metric_key, f"{c.value:.1f}")
        for c in suite.cells()
        if c.metric_key in ("GSM8K_8shot_CoT", "AlpacaEval2_LC")
    }
    titles = {"GSM8K": "GSM8K_8shot_CoT", "AlpacaEval 2 LC": "AlpacaEval2_LC"}
    published = [row for row in rows if row["published"] and row["chart"] in titles]
    shown = [(row["model"], titles[row["chart"]], row["published"]["printed"]) for row in published]
    assert sorted(shown) == sorted(wanted), "each once"
    start = next(row for row in rows if row["model"] == "allenai/llama-3-tulu-2-8b" and row["chart"] == "GSM8K")
    assert start["published"]["printed"] == "61.0"
    assert start["verdict"]["name"] in ("consistent", "inconsistent", "cannot tell"), "numbers off the card are compared too"
    both = next(row for row in rows if row["published"] and row["published"]["printed"] == "58.0" and row["chart"] == "GSM8K")
    assert len(both["published"]["sources"]) == 2


def test_the_page_says_nothing_about_the_machine(parsed: Parsed, report: Path, results: Path, trained: Path) -> None:
    text = report.read_text(encoding="utf-8") + json.dumps([opened(parsed, f"training-{place}") for place in range(2)])
    for folder in (results, results.parent, trained):
        assert str(folder) not in text


def test_the_same_results_give_the_same_bytes(report: Path, results: Path, trained: Path) -> None:
    assert make(load_suite(), results, {}, training=trained).text == report.read_text(encoding="utf-8")


def test_a_forged_run_is_named_and_is_no_result(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run(60, model="my/forged", revision="sha256:1", limit=80)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model"]["name"] = "allenai/tulu-2-13b"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = make(load_suite(), tmp_path / "results", {})
    assert found.runs == 0
    (line,) = found.problems
    assert line.startswith("my__forged/gsm8k/card-200-first80-")
    assert "settings_sha256 differs" in line
    rows = json.loads(Parsed(found.text).scripts["data"])["board"]
    assert not any(row["measured"] for row in rows)


def test_runs_with_other_right_answers_are_not_put_together(make_run: Callable[..., Path], tmp_path: Path) -> None:
    make_run(10, limit=20)
    folder = make_run(10, limit=20, model="my/other", revision="sha256:2", protocol="full")
    data = json.loads(Parsed(make(load_suite(), tmp_path / "results", {}).text).scripts["data"])
    assert [run["group"] for run in data["runs"]] == [0, 0], folder


def test_a_judged_run_shows_preferences_and_no_instruction(
    make_alpaca_run: Callable[..., Path], tmp_path: Path, loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_alpaca_run(tmp_path / "results", 6)
    monkeypatch.setattr("tulu_eval.reports.samples.preferences", lambda _: {"gpt-x": {"alpaca-0": 1.25, "alpaca-1": None}})
    parsed = Parsed(make(load_suite(), tmp_path / "results", {}).text)
    assert opened(parsed, "run-0")["judges"] == {"gpt-x": [1.25, None, None, None, None, None]}
    instructions = [row["instruction"] for row in json.loads((folder / "model_outputs.json").read_text())]
    assert instructions[0] not in json.dumps([opened(parsed, name) for name in parsed.scripts if name.startswith("block-")])


def test_another_judges_win_rate_has_a_chart_of_its_own_without_a_published_number(shared: Path, tmp_path: Path) -> None:
    data = shared / "data/alpaca_eval"
    annotations = data / "models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    rows = [{**row, "generator_2": "tulu-2-dpo-70b"} for row in json.loads(annotations.read_text(encoding="utf-8"))]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    scored = score_files(tmp_path / "a.json", None, Scoring(data / "df_gamed_rederived.csv"), False)
    other = dataclasses.replace(scored.score.terms, judge=dataclasses.replace(scored.score.judge, name="some-judge"))
    for one in (scored, dataclasses.replace(scored, score=dataclasses.replace(scored.score, terms=other))):
        keep(tmp_path / "results", tmp_path / "a.json", one, score_rows(one.score))
    assert len(list((tmp_path / "results").glob("*/alpaca-eval/judged/*/result.json"))) == 2
    parsed = Parsed(make(load_suite(), tmp_path / "results", {}).text)
    found = json.loads(parsed.scripts["data"])
    axes = {chart["name"]: chart["axis"] for chart in found["charts"]}
    assert axes["AlpacaEval 2 LC"] == "AlpacaEval 2 LC, percent, judged by gpt-4-1106-preview as published"
    assert axes["AlpacaEval 2 LC, judge some-judge"] == "AlpacaEval 2 LC, percent, judged by some-judge"
    of = {
        name: [(row["judge"], bool(row["published"])) for row in found["board"] if row["chart"] == name and row["measured"]]
        for name in axes
    }
    assert of["AlpacaEval 2 LC"] == [("gpt-4-1106-preview", True)]
    assert of["AlpacaEval 2 LC, judge some-judge"] == [("some-judge", False)]
    assert not [row for row in found["board"] if row["chart"].endswith("some-judge") and row["published"]]


def test_a_run_without_its_text_lists_items_classes_and_preferences(
    make_alpaca_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_alpaca_run(tmp_path / "results", 6, {3: ""}, failed=1)
    for name in ("samples.jsonl", "model_outputs.json"):
        (folder / name).unlink()
    monkeypatch.setattr("tulu_eval.reports.samples.preferences", lambda _: {"gpt-x": {"alpaca-0": 1.25}})
    parsed = Parsed(make(load_suite(), tmp_path / "results", {}).text)
    index, statuses = opened(parsed, "run-0"), json.loads(parsed.scripts["data"])["statuses"]
    named = [statuses[status] for status in index["statuses"]]
    assert named == ["engine_error", "ok", "ok", "empty", "ok", "ok"]
    assert index["judges"] == {"gpt-x": [1.25, None, None, None, None, None]}
    assert [written for _, written in opened(parsed, "block-0-0")] == [[]] * 6, "no text is not an empty text"


def test_runs_of_every_kind_say_what_they_are(make_run: Callable[..., Path], shared: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    make_run(10, limit=20)
    annotations = shared / "data/alpaca_eval/models/alpaca-7b/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    scoring = Scoring(shared / "data/alpaca_eval/df_gamed_rederived.csv")
    found = score_files(annotations, None, scoring, False)
    keep(results, annotations, found, score_rows(found.score))
    predictions = tmp_path / "predictions.jsonl"
    lines = [json.loads(line) for line in (shared / "data/gsm8k/test.jsonl").read_text().splitlines()[:4]]
    predictions.write_text("".join(
        json.dumps({"question": line["question"], "answer": line["answer"].split("#### ")[1], "model_output": " So it is 3.",
                    "prediction": "3"}) + "\n" for line in lines
    ))  # fmt: skip
    data = shared / "data/gsm8k/test.jsonl"
    import_file(predictions, "my/imported", "gsm8k", data, results, load_suite())
    made = make(load_suite(), results, {"gsm8k": data})
    assert made.problems == ()
    parsed = Parsed(made.text)
    shown = {run["model"]: run for run in json.loads(parsed.scripts["data"])["runs"]}
    assert shown["my/imported"]["source"] == "open-instruct's predictions.jsonl"
    assert shown["my/imported"]["before"], "the question is the benchmark's, whatever was sent"
    assert not shown["my/imported"]["proven"]
    assert (shown["alpaca-7b"]["source"], shown["alpaca-7b"]["engine"]) == ("re-scored", "")
    assert shown["allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"]["source"] == ""
    assert (shown["my/imported"]["samples"], shown["alpaca-7b"]["samples"]) == (4, 0)
    rows = {row["model"]: row for row in json.loads(parsed.scripts["data"])["board"] if row["measured"]}
    assert rows["alpaca-7b"]["beware"] == ["re-scored"]


@given(st.text(st.characters(codec=None, categories=None)), st.text())
@settings(deadline=None, max_examples=200)
def test_no_text_ends_the_script_it_is_in(text: str, more: str) -> None:
    for hostile in (text, f"</script>{text}", f"<!--{more}<script>", f"]]>{text}"):
        body = page._json({"text": hostile})
        assert "<" not in body
        assert json.loads(body)["text"] == hostile


def test_vendored_files_are_those_that_the_list_names() -> None:
    folder = resources.files("tulu_eval.reports") / "web" / "vendor"
    listed = re.findall(
        r"^\| `([\w.]+\.js)` .* `([0-9a-f]{64})` \|$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(listed) == 2
    for name, digest in listed:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    for name in ("d3-LICENSE", "plot-LICENSE"):
        assert "Permission to use, copy, modify" in (folder / name).read_text(encoding="utf-8")


def test_a_served_and_a_merged_run_say_so(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = read_run(make_run(10, limit=20))
    assert board.run(run, tmp_path)["engine"] == "vllm, bfloat16, cpu"
    served = StoredServed(url="http://gpu-7:8000/v1", name="m", prompts="tokens", timeout=600.0)
    manifest = replace(
        run.manifest,
        backend="openai",
        settings=replace(run.manifest.settings, served=served),
        engine={"software": "vllm-0.32.0", "prompts": "tokens"},
        sessions=tuple(Session(started="2026-11-30", shard=shard) for shard in ("1/2", "2/2", "2/2")),
    )
    shown = board.run(dataclasses.replace(run, about=manifest), tmp_path)
    assert shown["engine"] == "vllm-0.32.0 behind a server, prompts sent as tokens"
    assert shown["shards"] == 2
    assert "gpu-7" not in json.dumps(shown), "a page says nothing about the machine"
