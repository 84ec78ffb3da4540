r"""AlpacaEval 2's 805 instructions, answered as open-instruct generated the Tulu suite's outputs. A judge scores them later.

Source: allenai/open-instruct @ ea3467db, ``eval/alpaca_farm/run_eval.py``. One raw row of the data (tatsu-lab/alpaca_eval,
``alpaca_eval_gpt4_baseline.json``)::

    {"instruction": "What are the names of some famous actors ...?", "output": "Several famous actors ...", "dataset": ...}

becomes one user turn, the unchanged instruction, in the Tulu template::

    <|user|>
    What are the names of some famous actors ...?
    <|assistant|>

Decoding is greedy, up to 8192 new tokens or the model's context, without a stop string. The output is not stripped, because
its length counts. No answer is right or wrong here: the only scorer tells whether there is an answer at all.
``tulu-eval judge`` and ``tulu-eval score`` compute the win rate from the judge's preferences.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.alpaca_set import ALPACA_EVAL_2, SIZE, EvalRow, check_instructions, load_baseline, read_rows
from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.records import Decoding, Grade

DECODING = Decoding(max_new_tokens=8192)
"""``--max_new_tokens`` default of open-instruct's ``run_eval.py``; greedy, no stop string, for chat and base models alike.
The public leaderboard's Tulu 2 entries used 7500 tokens and stripped outputs (tatsu-lab/alpaca_eval, ``models_configs``)."""


class AlpacaEval(Benchmark):
    """AlpacaEval 2's instructions; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "alpaca-eval"
    scorers: ClassVar[tuple[str, ...]] = ("answered",)
    publishable: ClassVar[bool] = False  # outputs quote instructions, which are CC-BY-NC-4.0
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            ALPACA_EVAL_2: Protocol(
                name=ALPACA_EVAL_2,
                summary="the 805 instructions, greedy, 8192 tokens; to be judged",
                n=SIZE,
                decoding=DECODING,
                plain_decoding=DECODING,
                metric="answered",
                prompt_id=hashlib.sha256(b"").hexdigest()[:8],  # nothing of the prompt is constant
                covers=(ALPACA_EVAL_2,),
            )
        }
    )

    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({"published": ALPACA_EVAL_2})  # until 2026-11-30

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the 805 instructions in the data set's order.

        ``data`` is ``alpaca_eval.json`` or ``alpaca_eval_gpt4_baseline.json``; both have the same instructions. ``None`` loads
        the pinned file from the hub.
        """
        if data is None:
            rows = load_baseline()
        else:
            found = read_rows(data, ("instruction",))
            rows = check_instructions(data, [EvalRow(row["instruction"], "", "") for row in found])
        return [Item(f"alpaca-{place}", row.instruction) for place, row in enumerate(rows)]

    def render(self, item: Item) -> Prompt:
        """Returns the unstripped instruction as the only turn; a base model gets only its text, as in ``run_eval.py``."""
        return Prompt(user=item.question, prefill="", plain=item.question)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns one grade: 1 if the text is not blank, else 0."""
        answered = bool(text.strip())
        return (Grade("answered", "", answered, float(answered)),)

    def scores_of_class(self, status: str) -> tuple[float, ...]:
        """Returns 1 if there is any text, else 0, which the class alone decides."""
        return (float(status not in ("empty", "engine_error")),)

    def export(self, answers: Iterable[tuple[Item, str]], model: str) -> dict[str, str]:
        """Returns ``model_outputs.json`` as alpaca_eval's own tools read it: instructions and unstripped outputs."""
        rows = [{"instruction": item.question, "output": text, "generator": model} for item, text in answers]
        return {"model_outputs.json": json.dumps(rows, indent=1) + "\n"}
