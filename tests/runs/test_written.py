"""Prompts that have too many tokens lose examples, as many as the original's loop takes, and every reader knows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from tulu_eval import Benchmark, Decoding, Grade, Item, Prompt, Protocol, plugins
from tulu_eval.benchmarks.base import read_rows
from tulu_eval.benchmarks.mmlu import MMLU, SubjectItem
from tulu_eval.errors import PreflightError
from tulu_eval.models.text_writer import TextWriter
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer
from tulu_eval.registry import load_suite
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import Order, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.runs.written import WrittenPrompts, write_prompts
from tulu_eval.testing import ScriptedBackend

CARD = MMLU.protocols["card-5-shot"]


@pytest.fixture(scope="module", params=["llama3_like", "llama2_like"])
def writer(request: pytest.FixtureRequest) -> PromptWriter:
    folder = request.getfixturevalue(request.param)
    return PromptWriter(load_tokenizer(folder, "tiny", False), "tiny", tulu=True)


def item(name: str, words: int, examples: int = 5) -> SubjectItem:
    """A question of a made-up subject, with examples of growing length."""
    shots = tuple(f"How many? {'and so on ' * 10 * n}\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n" for n in range(examples))
    question = f"{name}: what of {'this, ' * words}?\nA. 1\nB. 2\nC. 3\nD. 4"
    return SubjectItem(name, question, "A", "long_subject", examples=shots)


def written(items: list[SubjectItem], writer: PromptWriter, protocol: Protocol = CARD) -> WrittenPrompts:
    return write_prompts(MMLU(), protocol, items, [MMLU().render(one) for one in items], writer, "")


def original(one: SubjectItem, tokenizer: Any, longest: int) -> str:
    """The original's loop (``run_eval.py`` l.46-80), which is given up where it would never end."""
    shots = len(one.examples)
    while True:
        text = "The following are multiple choice questions (with answers) about  long subject.\n\n"
        text += "".join(one.examples[:shots])
        text = f"<|user|>\n{text}{one.question}\nAnswer:\n<|assistant|>\nThe answer is:"
        if len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= longest or not shots:
            return text
        shots -= 1


def test_prompts_lose_as_many_examples_as_the_original_takes(writer: PromptWriter) -> None:
    items = [item(f"q{words}", words) for words in range(0, 1800, 100)]
    found = written(items, writer)
    assert found.texts == [original(one, writer.tokenizer, 2048) for one in items]
    left = [len(one.examples) for one in found.items if isinstance(one, SubjectItem)]
    assert {0, 5} < set(left)
    assert left == sorted(left, reverse=True)
    assert found.rows == writer.encode(found.texts, found.names)
    assert found.prompts == [MMLU().render(one) for one in found.items]
    fewer = [one.id for one, examples in zip(items, left, strict=True) if examples < 5]
    sizes = [len(ids) for ids in writer.tokenizer(found.texts, add_special_tokens=False)["input_ids"]]
    still = [one.id for one, size in zip(items, sizes, strict=True) if size > 2048]
    assert len(fewer) > len(still) > 0
    assert found.notices == (
        f"{len(fewer)} prompts have more than 2048 tokens and are asked in a shorter form (first: item {fewer[0]})",
        f"{len(still)} prompts have more than 2048 tokens in their shortest form (first: item {still[0]})",
    )


def test_a_beginning_of_sequence_token_does_not_count(writer: PromptWriter) -> None:
    one = item("q", 9)
    (whole,) = written([one], writer, dataclasses.replace(CARD, longest_prompt=0)).rows
    assert whole[0] == writer.tokenizer.bos_token_id
    own = len(whole) - 1
    assert written([one], writer, dataclasses.replace(CARD, longest_prompt=own)).items == [one]
    assert written([one], writer, dataclasses.replace(CARD, longest_prompt=own - 1)).items == [MMLU().shorter(one)]


def test_a_server_that_makes_the_tokens_is_refused() -> None:
    one = item("q", 1)
    with pytest.raises(PreflightError, match="mmlu makes prompts of more than 2048 tokens shorter, and this server makes the"):
        write_prompts(MMLU(), CARD, [one], [MMLU().render(one)], TextWriter(turns=False), "")


@dataclasses.dataclass(frozen=True, slots=True)
class Day(Item):
    """A question with the entries before it."""

    entries: tuple[str, ...] = ()


class Diary(Benchmark):
    """A plug-in that generates, whose prompts have up to 60 tokens."""

    name: ClassVar[str] = "diary"
    scorers: ClassVar[tuple[str, ...]] = ("same",)
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            "two": Protocol(
                "two", "-", 0, Decoding(4, 0.5), Decoding(4, 0.5), "same", "0", ("two",), samples=2, longest_prompt=60
            )
        }
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        assert data is not None
        return [
            Day(row.text("id"), row.text("q"), "x", entries=(row.text("before"),) * 3) for row in read_rows(data, ("id", "q"))
        ]

    def render(self, item: Item) -> Prompt:
        text = "".join(item.entries if isinstance(item, Day) else ()) + item.question
        return Prompt(user=text, prefill="", plain=text)

    def shorter(self, item: Item) -> Item | None:
        return dataclasses.replace(item, entries=item.entries[1:]) if isinstance(item, Day) and item.entries else None

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        return (Grade("same", text, True, float(text == target)),)


def test_a_run_is_read_with_the_prompts_that_were_asked(order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "diary.jsonl"
    rows = [{"id": f"d{n}", "q": "Who?", "before": "it rained " * n} for n in (1, 2, 4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    class Declared:
        name = "diary"

        def load(self) -> type[Benchmark]:
            return Diary

    before = plugins.declared
    monkeypatch.setattr(
        plugins, "declared", lambda group: (*before(group), *([Declared()] if group == plugins.BENCHMARKS else []))
    )
    plan = make_plan(dataclasses.replace(order, benchmark="diary", protocol="two", data=data), load_suite())
    asked = [one.request.text.count("rained") for one in plan.planned]
    assert asked[:2] == [3, 3]
    assert 0 < asked[-1] < 12
    assert [one.item.id for one in plan.planned] == ["d1#1", "d1#2", "d2#1", "d2#2", "d4#1", "d4#2"]
    assert [one for one in plan.notices if "tokens" in one] == [
        "2 prompts have more than 60 tokens and are asked in a shorter form (first: item d2)"
    ]
    scripted = ScriptedBackend.of(lambda request, decoding: "x", name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert run.doubts == ()
    assert run.manifest.protocol.longest_prompt == 60
    found = PromptSource({"diary": data}).prompts(run, list(run.samples()))
    assert found.proven
    assert {name: text.count("rained") for name, text in found.own.items()} == dict(
        zip((one.item.id for one in plan.planned), asked, strict=True)
    )
