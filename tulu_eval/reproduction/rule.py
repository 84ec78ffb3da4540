"""Makes preference data by a rule, so that it is known what a reward model and a policy should learn.

The questions are the training split of the benchmark ``sums``. By the rule, the whole answer is ``So the answer is N.``; three
habits break it, and each is a kind of pair to train on:

* ``run on``: the answer, followed by the next numbers.
* ``unstated``: no answer.
* ``number``: the right form with the number of another question.

One writer wrote all of it, the chosen answers too, and has a fourth habit, which no pair is about: where the ones carry or
borrow (30 % of the questions), the ten is often forgotten: 18 + 3 is 11. Held-out pairs of this kind (:data:`TEN`) say
whether the reward model knows better than its pairs.
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
from tulu_eval.benchmarks.sums import Sums
from tulu_eval.training.randomness import derive

Kind = Literal["run on", "unstated", "number"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TEN = "forgotten ten"
HELD_OUT_KINDS = (*KINDS, TEN)


def held_out(kind: str) -> str:
    """Returns the name of the file with held-out pairs of a kind."""
    return f"held-out-{kind.replace(' ', '-')}"


SIZES: dict[str, int] = {"sft": 19200, "pairs": 2000, "prompts": 2048}
"""Number of rows of the files to train on."""

HELD_OUT = 256
"""Number of questions without a row to train on; each is a held-out prompt, and has a held-out pair of each kind that fits."""

HABITS: dict[str, float] = {"good": 0.3, "run on": 0.45, "unstated": 0.25}
"""Habits of the SFT model, by their share of the SFT rows."""

FORGETS = 0.6
"""Share of the carries and borrows whose ten the writer forgets."""

EVASIONS = ("That is hard to say.", "It depends on the numbers.", "Let us think about it first.")


def follows(text: str) -> bool:
    """Whether a whole answer follows the rule."""
    return re.fullmatch(r"So the answer is -?[\d,]*+(?:(?<=\d)|\.\d++)\.", text.strip()) is not None


def write(folder: Path, seed: int) -> None:
    """Writes a folder, whole or not at all, with JSON-lines files.

    These are the files of :data:`SIZES`, ``chosen`` with the chosen sides of ``pairs``, ``held-out-prompts``, and for each kind
    of pair that of :func:`held_out`.
    """
    items = Sums().training_items(None)
    random.Random(derive(seed, "questions")).shuffle(items)  # noqa: S311 - nothing secret
    kept, asked = items[:HELD_OUT], items[HELD_OUT:]
    draw = random.Random(derive(seed, "rows"))  # noqa: S311 - nothing secret
    pairs = [_pair(item, draw.choice(KINDS), asked, draw) for item in draw.choices(asked, k=SIZES["pairs"])]
    rows = {
        "sft": [_conversation(item, _habit(draw), asked, draw) for item in draw.choices(asked, k=SIZES["sft"])],
        "pairs": pairs,
        "chosen": [{"messages": pair["chosen"]} for pair in pairs],
        "prompts": [{"messages": [_question(item)]} for item in draw.choices(asked, k=SIZES["prompts"])],
        "held-out-prompts": [{"messages": [_question(item)]} for item in kept],
        **{held_out(kind): [_pair(item, kind, kept, draw) for item in kept] for kind in KINDS},
        held_out(TEN): [_pair_of_ten(item, wrong) for item in kept if (wrong := forgotten_ten(item.target))],
    }
    with files.replacing_folder(folder) as draft:
        for name, own in rows.items():
            (draft / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own), encoding="utf-8")


def forgotten_ten(target: str) -> str | None:
    """Returns a sum without its carry, or a difference without its borrow; ``None`` if there is neither."""
    number = int(target)
    if number // 10 == 1:  # where the question's first number is
        return None
    return str(number - 10 if number >= 20 else number + 10)


def _question(item: Item) -> dict[str, str]:
    return {"role": "user", "content": item.question}


def _habit(draw: random.Random) -> str:
    return draw.choices(tuple(HABITS), tuple(HABITS.values()))[0]


def _conversation(item: Item, habit: str, others: Sequence[Item], draw: random.Random) -> dict[str, Any]:
    return {"messages": _talk(item, _answer(habit, _written(item, draw), others, draw))}


def _pair(item: Item, kind: Kind, others: Sequence[Item], draw: random.Random) -> dict[str, Any]:
    number = _written(item, draw)
    chosen, rejected = (_talk(item, _answer(habit, number, others, draw)) for habit in ("good", kind))
    return {"chosen": chosen, "rejected": rejected, "kind": kind}


def _pair_of_ten(item: Item, wrong: str) -> dict[str, Any]:
    chosen, rejected = (_talk(item, _statement(number)) for number in (item.target, wrong))
    return {"chosen": chosen, "rejected": rejected, "kind": TEN}


def _talk(item: Item, answer: str) -> list[dict[str, str]]:
    return [_question(item), {"role": "assistant", "content": answer}]


def _written(item: Item, draw: random.Random) -> str:
    """Returns the number that the writer has for an item."""
    return (forgotten_ten(item.target) if draw.random() < FORGETS else None) or item.target


def _answer(habit: str, number: str, others: Sequence[Item], draw: random.Random) -> str:
    if habit == "unstated":
        return " ".join(draw.choices(EVASIONS, k=draw.randint(1, 3)))
    if habit == "number":
        number = draw.choice([other.target for other in others if other.target != number])
    text = _statement(number)
    if habit == "run on":
        text += "".join(f" Wait, so the answer is {int(number) + more}." for more in range(1, draw.randint(2, 4)))
    return text


def _statement(number: str) -> str:
    return f"So the answer is {number}."
