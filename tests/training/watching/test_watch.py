"""Watching a policy: sample rollouts, the probe with its paired gain, curves, and all of it after a resume."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tulu_eval.benchmarks.base import Item
from tulu_eval.errors import PreflightError
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import Rollout
from tulu_eval.training.watching import metrics, watch
from tulu_eval.training.watching.metrics import Metrics


class Words:
    """A tokenizer whose token n is the word n."""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, ids))


class Echo:
    """An engine that answers what it is told to."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for request in reversed(requests):
            yield Completion(request.key, self.answers.get(request.key, "0"), (1,), "stop", 0.0)

    def update(self, policy: Any) -> None:
        pass


def probe(n: int) -> watch.Probe:
    from tulu_eval.benchmarks.gsm8k import GSM8K

    items = tuple(Item(f"i{place}", "?", str(place + 1)) for place in range(n))
    requests = tuple(Request(f"probe-{place}", (1,), "?") for place in range(n))
    return watch.Probe(GSM8K(), items, requests, Decoding(4))


def test_a_probe_says_the_paired_gain_over_the_start_even_after_a_kill(tmp_path: Path) -> None:
    said: list[str] = []

    def look() -> watch.Watch:
        return watch.Watch(tmp_path, Ranks(), Words(), 2, probe(20), said.append)

    look().ask(0, Echo({"probe-0": "So the answer is 1."}))  # type: ignore[arg-type]
    look().ask(2, Echo({f"probe-{n}": f"{n + 1}" for n in range(1, 8)}))  # type: ignore[arg-type]
    look().ask(2, Echo({f"probe-{n}": f"{n + 1}" for n in range(1, 9)}))  # type: ignore[arg-type]
    lines = metrics.read(tmp_path / metrics.PROBE)
    assert [line["step"] for line in lines] == [0, 2]
    assert (lines[0]["value"], lines[0]["gain"], lines[0]["items_needed"]) == (5.0, 0.0, None)
    last = lines[1]
    assert (last["value"], last["gain"]) == (40.0, 35.0)
    assert last["gain_low"] < 35.0 < last["gain_high"]
    assert last["p_value"] == pytest.approx(20 / 512)
    assert last["right"] == [0, *[1] * 8, *[0] * 11]
    assert said[0] == "after 0 steps, gsm8k: 5.0 [0.9, 23.6], n = 20"
    assert "gain +30.0" in said[1]
    assert "items to show" in said[1]


def test_sample_rollouts_are_shown_and_kept(toys: Any, tmp_path: Path) -> None:
    said: list[str] = []
    look = watch.Watch(tmp_path, Ranks(), Words(), 3, None, said.append)
    rollouts = [Rollout(toys.tokens([5, 6, 7, 8], 2), n % 2 == 0) for n in range(9)]
    for step in range(4):
        look.rollouts(step, rollouts, torch.arange(9.0), torch.ones(9))
    lines = metrics.read(tmp_path / metrics.SAMPLES)
    assert [line["step"] for line in lines] == [0, 3]
    assert len(lines[0]["samples"]) == watch.SHOWN
    assert lines[0]["samples"][1] == {
        "prompt": "5 6", "answer": "7 8", "score": 1.0, "kl": 1.0, "ended": False, "tokens": 2,
    }  # fmt: skip
    assert said[0].splitlines()[0] == "rollouts of step 1"
    look.ask(0, Echo({}))  # type: ignore[arg-type]
    assert not (tmp_path / metrics.PROBE).exists()


def test_long_and_hostile_texts_stay_in_one_cell() -> None:
    sample = {"prompt": "x" * 99, "answer": "a\x1b[31m\nb" * 30, "score": 0.0, "kl": 0.0, "ended": True, "tokens": 1}
    table = watch.as_table(0, [sample])
    assert len(table.splitlines()) == 4
    assert "\x1b" not in table


def test_a_probe_whose_prompts_fill_the_context_is_refused(llama3_like: Path, rows: Path) -> None:
    from transformers import AutoTokenizer

    from tulu_eval.benchmarks.gsm_symbolic import GSMSymbolic

    tokenizer = AutoTokenizer.from_pretrained(llama3_like)
    made = watch.make_probe(GSMSymbolic(), 3, None, tokenizer, 4096)
    assert len(made.requests) == 3
    assert made.decoding.max_new_tokens <= 512
    with pytest.raises(PreflightError, match=r"the probe's longest prompt has .* tokens, and the policy has 100 positions"):
        watch.make_probe(GSMSymbolic(), 3, None, tokenizer, 100)


def test_curves_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PreflightError, match=r"pip install 'tulu-eval\[tensorboard\]'"):
        Metrics(tmp_path, tensorboard=True)


def test_curves_are_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    written = Metrics(tmp_path, tensorboard=True)
    written.write(0, {"loss": 1.5})
    written.write(1, {"loss": float("nan")})
    assert [line["loss"] for line in metrics.read(tmp_path / metrics.METRICS)] == [1.5, None]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_cut_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for step in range(3):
        metrics.append(path, step, {"x": step})
    path.write_text(path.read_text() + '{"step": 3, "x')
    assert [line["x"] for line in metrics.read(path)] == [0, 1, 2]
    metrics.append(path, 1, {"x": 9})
    assert [json.loads(line)["x"] for line in path.read_text().splitlines()] == [0, 9]
    assert metrics.read(tmp_path / "absent") == []
