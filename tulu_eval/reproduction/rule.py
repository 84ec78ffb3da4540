"""Makes preference data by a rule, so that it is known what a reward model and a policy should learn.

The questions come from GSM-Symbolic's templates with other seeds than the benchmark's, without the benchmark's questions. By
the rule, the whole answer is ``So the answer is N.``; three habits break it, and each is a kind of pair:

* ``run on``: the answer, followed by other numbers, often beyond the limit of new tokens.
* ``unstated``: no answer.
* ``number``: the right form with the number of another question. A small reward model can hardly learn this, so its accuracy
  is measured for each kind.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tulu_eval import files
from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm_symbolic import SEED, SIZE, generate
from tulu_eval.training.randomness import derive

Kind = Literal["run on", "unstated", "number"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def held_out(kind: Kind) -> str:
    """Returns the name of the file with held-out pairs of a kind."""
    return f"held-out-{kind.replace(' ', '-')}"


SIZES: dict[str, int] = {
    "sft": 8000,
    "pairs": 2000,
    "prompts": 2048,
    **{held_out(kind): 200 for kind in KINDS},
    "held-out-prompts": 256,
}
"""Number of generated questions by file; there is one file of held-out pairs per kind."""

HABITS: dict[str, float] = {"good": 0.25, "run on": 0.45, "unstated": 0.3}
"""Habits of the SFT model, by their share of the SFT rows."""

LEFT_OUT = "left-out.json"

EVASIONS = ("That is hard to say.", "It depends on the numbers.", "Let us think about it first.")


def follows(text: str) -> bool:
    """Whether a whole answer follows the rule."""
    return re.fullmatch(r"So the answer is -?[\d,]*+(?:(?<=\d)|\.\d++)\.", text.strip()) is not None


def write(folder: Path) -> None:
    """Writes a folder, whole or not at all, with the JSON-lines files of :data:`SIZES` and :data:`LEFT_OUT`.

    :data:`LEFT_OUT` has for each file the number of generated questions that the benchmark has, which the file lacks.
    """
    tested = {item.question for item in generate(SIZE, SEED)}
    left_out = {}
    with files.replacing_folder(folder) as draft:
        for number, (name, size) in enumerate(SIZES.items()):
            items = generate(size, SEED + 1 + number)
            kept = [item for item in items if item.question not in tested]
            left_out[name] = len(items) - len(kept)
            draw = random.Random(derive(SEED, name))  # noqa: S311 - nothing secret
            rows = [_row(name, item, kept, draw) for item in kept]
            (draft / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (draft / LEFT_OUT).write_text(json.dumps(left_out), encoding="utf-8")


def _row(name: str, item: Item, others: Sequence[Item], draw: random.Random) -> dict[str, Any]:
    question = {"role": "user", "content": item.question}
    if "prompts" in name:
        return {"messages": [question]}
    if name == "sft":
        habit = draw.choices(tuple(HABITS), tuple(HABITS.values()))[0]
        return {"messages": [question, _assistant(_answer(habit, item, others, draw))]}
    own = [kind for kind in KINDS if name == held_out(kind)]
    kind = draw.choice(own or KINDS)
    chosen, rejected = (_assistant(_answer(habit, item, others, draw)) for habit in ("good", kind))
    return {"chosen": [question, chosen], "rejected": [question, rejected], "kind": kind}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def _answer(habit: str, item: Item, others: Sequence[Item], draw: random.Random) -> str:
    if habit == "unstated":
        return " ".join(draw.choices(EVASIONS, k=draw.randint(1, 3)))
    number = item.target
    if habit == "number":
        number = draw.choice([other.target for other in draw.sample(list(others), 5) if other.target != number] or ["0"])
    text = f"So the answer is {number}."
    if habit == "run on":
        text += "".join(f" Wait, so the answer is {draw.choice(others).target}." for _ in range(draw.randint(1, 8)))
    return text
