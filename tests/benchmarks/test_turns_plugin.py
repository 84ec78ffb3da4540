"""A plug-in as somebody else would write it: examples drawn per item, as turns; and what a run and the report make of it."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from tulu_eval import Benchmark, Decoding, Grade, Item, Prompt, Protocol, Turn, plugins
from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks.base import read_rows
from tulu_eval.models.base import Served
from tulu_eval.registry import load_suite
from tulu_eval.reports.samples import pack
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.prompts import PromptSource
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.testing import ScriptedBackend


@dataclasses.dataclass(frozen=True, slots=True)
class ShownItem(Item):
    shots: tuple[tuple[str, str], ...] = ()


class Capitals(Benchmark):
    """Capital cities, two examples per item."""

    name: ClassVar[str] = "capitals"
    scorers: ClassVar[tuple[str, ...]] = ("exact",)
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {"full": Protocol("full", "all capitals", 0, Decoding(8), Decoding(8), "exact_match", "e3b0c442", ("full",))}
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        assert data is not None
        rows = [(row.text("question"), row.text("answer")) for row in read_rows(data, ("question", "answer"))]
        draw = random.Random(1)
        return [
            ShownItem(str(at), *row, shots=tuple(draw.sample([other for other in rows if other != row], 2)))
            for at, row in enumerate(rows)
        ]

    def render(self, item: Item) -> Prompt:
        assert isinstance(item, ShownItem)
        earlier = [turn for asked, answer in item.shots for turn in (Turn("user", asked), Turn("assistant", answer))]
        return Prompt(user=item.question, prefill="", plain=item.question, earlier=tuple(earlier))

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        return (Grade("exact", text.strip(), bool(text.strip()), float(text.strip() == target)),)


ROWS = [("Capital of Chad?", "N'Djamena"), ("Of Peru?", "Lima"), ("Of Mali?", "Bamako"), ("Of Oman?", "Muscat")]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    class Declared:
        name = "capitals"

        def load(self) -> type[Benchmark]:
            return Capitals

    declared = plugins.declared
    mine: Any = Declared()
    extra = {plugins.BENCHMARKS: (mine,)}
    monkeypatch.setattr(plugins, "declared", lambda group: (*declared(group), *extra.get(group, ())))
    path = tmp_path / "capitals.jsonl"
    path.write_text("".join(json.dumps({"question": asked, "answer": answer}) + "\n" for asked, answer in ROWS))
    return path


def test_each_prompt_of_the_tulu_template_is_proven_and_shown_whole(data: Path, llama3_like: Path, tmp_path: Path) -> None:
    settings = EngineSettings(dtype="float32", device="cpu")
    order = Order("capitals", str(llama3_like), data=data, settings=settings, output=tmp_path / "results")
    plan = make_plan(order, load_suite())
    eos = "<|end_of_text|>"
    first = plan.planned[0]
    (asked, answer), (second, reply) = first.item.shots  # type: ignore[attr-defined]
    assert first.request.text == (
        f"<|user|>\n{asked}\n<|assistant|>\n{answer}{eos}\n<|user|>\n{second}\n<|assistant|>\n{reply}{eos}\n"
        "<|user|>\nCapital of Chad?\n<|assistant|>\n"
    )
    scripted = ScriptedBackend.of(lambda request, decoding: "Lima", name="transformers")
    run = read_run(execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder)
    assert [row.value for row in run.results] == [25.0]
    source = PromptSource({"capitals": data})
    found = source.prompts(run, list(run.samples()))
    assert (found.proven, found.before, found.after) == (True, "", "\n<|assistant|>\n")
    for one in plan.planned:
        assert found.own[one.item.id] + found.questions[one.item.id] + found.after == one.request.text
    packed = pack([(run, list(run.samples()))], source)
    assert packed.runs[0]["before"] == ""
    assert packed.runs[0]["proven"]


def test_a_server_gets_the_turns(data: Path, model_server: Any, tmp_path: Path) -> None:
    with model_server() as server:
        settings = EngineSettings(served=Served(server.url, prompts="chat"))
        order = Order("capitals", "llama3-like0", data=data, backend="openai", settings=settings, output=tmp_path / "results")
        plan = make_plan(order, load_suite())
    assert [turn.role for turn in plan.planned[0].request.turns] == ["user", "assistant"] * 2 + ["user"]
    assert json.loads(plan.planned[0].request.text)[-1] == {"role": "user", "content": "Capital of Chad?"}
