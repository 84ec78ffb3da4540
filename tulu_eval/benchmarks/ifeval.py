r"""IFEval: 541 prompts with 834 instructions that a program can check, as open-instruct measured the Tulu suite.

Sources: Google's data and graders (arXiv 2311.07911, google-research ``instruction_following_eval``); the recipe of
allenai/open-instruct @ 3c335be7, ``eval/ifeval/run_eval.py``. One raw row of the data (``input_data.jsonl``)::

    {"key": 1001, "prompt": "I am planning a trip to Japan, ... You are not allowed to use any commas in your response.",
     "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}

The prompt is the one user turn, nothing is prefilled, and the whole response is graded. Strictly, a response follows an
instruction if its checker says so; loosely, if the checker says so of any of eight forms: with or without the first line, with
or without the last, and with or without all asterisks. On the prompt level an item is right if all its instructions are
followed; on the instruction level the value is the share of all instructions.

Two families of scorers stand side by side. Google's grader, and so open-instruct's, replaces a character that is no letter by a
random letter: two items ask for ``#`` and ``!``. The scorers ``oi-...`` draw as open-instruct does, after ``random.seed(42)``,
first for all items strictly, then for all items loosely; those letters are part of an item. The other scorers count the
character that was asked for. ``langdetect`` is seeded in both, which it is not in the originals.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from tulu_eval import files
from tulu_eval.benchmarks import base
from tulu_eval.benchmarks.base import Aggregate, Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.ifeval_checkers import Instruction, check, checker, draw_letter, replaced_letter
from tulu_eval.errors import DataError
from tulu_eval.records import Decoding, Grade

HUB_ID, HUB_FILE, HUB_REVISION = "google/IFEval", "ifeval_input_data.jsonl", "966cd89545d6b6acfd7638bc708b98261ca58e84"
ADVICE = "give the file with --data input_data.jsonl (github.com/google-research, instruction_following_eval/data)"

SIZE = 541
SEED = 42
"""Of open-instruct's grader (``run_eval.py`` l.215, ``random.seed(42)``)."""

ROWS_SHA256 = "0318994c83590b2c52212c2cde4c71d904e45cf39c49b9f3af8e484a97bee278"
"""Hash of the keys, prompts and instructions of ``input_data.jsonl`` (sha256 67ffeee0...) in their order."""

FAMILIES = ("oi-", "")
LEVELS = ("loose-prompt", "loose-instruction", "strict-prompt", "strict-instruction")
METRICS = {
    "loose-prompt": "loose_accuracy",
    "loose-instruction": "loose_instruction_accuracy",
    "strict-prompt": "strict_accuracy",
    "strict-instruction": "strict_instruction_accuracy",
}


def _protocol(name: str, summary: str, n: int, limit: int) -> Protocol:
    decoding = Decoding(max_new_tokens=limit)
    return Protocol(name, summary, n, decoding, decoding, METRICS[LEVELS[0]], hashlib.sha256(b"").hexdigest()[:8], (name,))


class Followed(NamedTuple):
    """Whether each instruction of an item is followed, by one family's letters.

    Attributes:
        strict: One per instruction.
        loose: One per instruction.
        failed: What a checker raised, by place of its instruction; the instruction counts as not followed.
    """

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]
    failed: Mapping[int, str]


class IFEval(Benchmark):
    """IFEval with both families of scorers; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "ifeval"
    extra: ClassVar[str] = "ifeval"
    scorers: ClassVar[tuple[str, ...]] = tuple(family + level for family in FAMILIES for level in LEVELS)
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType(
        {family + level: "ratio" for family in FAMILIES for level in LEVELS if level.endswith("instruction")}
    )
    metrics: ClassVar[Mapping[str, str]] = MappingProxyType(
        {family + level: METRICS[level] for family in FAMILIES for level in LEVELS}
    )
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            # open-instruct: greedy, 2048 tokens, no stop string, chat form or the prompt alone (run_eval.py l.252-269)
            "card-541": _protocol("card-541", "the 541 prompts as open-instruct runs them, 2048 tokens", SIZE, 2048),
            # lighteval @ea46419a, extended|ifeval|0|0: greedy, 1280 tokens, no stop string
            "lighteval": _protocol("lighteval", "the 541 prompts as lighteval runs them, 1280 tokens", SIZE, 1280),
            "custom": _protocol("custom", "the published recipe on the rows of --data", 0, 2048),
        }
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the items in the file's order, after a look at whether their checkers can run."""
        custom = protocol.name == "custom"
        if custom and data is None:
            raise DataError("--protocol custom", "needs --data FILE")
        check()
        path = data or base.file_of_hub(HUB_ID, HUB_FILE, HUB_REVISION, ADVICE)
        items = read_items(path, unknown=custom)
        try:
            if not custom:
                check_items(items, data)
        except DataError:
            read_items(path)  # an instruction that is wrong says more
            raise
        return [Item(f"row-{place}", item.question, item.target) for place, item in enumerate(items)] if custom else items

    def render(self, item: Item) -> Prompt:
        """Returns the prompt alone, in both forms."""
        return Prompt(user=item.question, prefill="", plain=item.question)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns open-instruct's four grades, then the corrected ones; on the instruction level a score is a share.

        Raises:
            DataError: If the target is not an item's instructions, or names one that is not known.
        """
        place = files.Place("an item's instructions")
        instructions = files.decode(target, list[Instruction], place)
        try:
            corrected = follow(instructions, text)
        except ValueError as error:
            raise place.error(str(error)) from error
        drawn = follow_drawn(instructions, text, corrected)
        return tuple(
            _grade(family + level, instructions, found, level)
            for family, found in zip(FAMILIES, (drawn, corrected), strict=True)
            for level in LEVELS
        )


def _grade(scorer: str, instructions: Sequence[Instruction], found: Followed, level: str) -> Grade:
    followed = found.loose if level.startswith("loose") else found.strict
    missed = [
        one.id + (f" ({found.failed[place]})" if place in found.failed else "")
        for place, (one, good) in enumerate(zip(instructions, followed, strict=True))
        if not good
    ]
    answer = f"{sum(followed)} of {len(followed)}" + (f", not {', '.join(missed)}" if missed else "")
    if level.endswith("prompt"):
        return Grade(scorer, answer, not found.failed, float(all(followed)))
    return Grade(scorer, answer, not found.failed, sum(followed) / len(followed), float(len(followed)))


def follow(instructions: Sequence[Instruction], text: str) -> Followed:
    """Returns which instructions a response follows, each character counted as it was asked for."""
    strict: list[bool] = []
    loose: list[bool] = []
    failed: dict[int, str] = {}
    forms = list(loose_forms(text))
    for place, instruction in enumerate(instructions):
        check = checker(instruction)
        try:
            strict.append(bool(text.strip()) and check(text))
            loose.append(strict[-1] or any(check(form) for form in forms))
        except Exception as error:  # whatever a checker makes of a model's output is an outcome, and recorded
            failed[place] = type(error).__name__
            strict[place:], loose[place:] = [False], [False]
    return Followed(tuple(strict), tuple(loose), failed)


def follow_drawn(instructions: Sequence[Instruction], text: str, corrected: Followed) -> Followed:
    """Returns which instructions a response follows where a letter that was drawn takes the place of a character.

    ``corrected`` is what :func:`follow` returns of them; only instructions with drawn letters are checked again.
    """
    strict, loose = list(corrected.strict), list(corrected.loose)
    for place, instruction in enumerate(instructions):
        if instruction.letters:
            first, second = (
                follow([Instruction(instruction.id, {**instruction.kwargs, "letter": letter})], text)
                for letter in instruction.letters
            )
            strict[place], loose[place] = first.strict[0], second.loose[0]
    return Followed(tuple(strict), tuple(loose), corrected.failed)


def loose_forms(text: str) -> Iterator[str]:
    """Yields the forms of a response that count loosely and are not blank, each once; the response itself is the first."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    yield from dict.fromkeys(form for form in (*cut, *(one.replace("*", "") for one in cut)) if form.strip())


def read_items(path: Path, *, unknown: bool = True) -> list[Item]:
    """Returns the items of a file in its order, by key; a target is the item's instructions as JSON.

    Raises:
        DataError: If a row lacks a field, or, in a file of ``unknown`` items, has an instruction that cannot be checked.
    """
    found: list[tuple[str, str, list[Instruction]]] = []
    for row in base.read_rows(path, ("prompt",)):
        names, kwargs, key = (row.data.get(name) for name in ("instruction_id_list", "kwargs", "key"))
        if not isinstance(names, list) or not isinstance(kwargs, list) or not names or len(names) != len(kwargs):
            raise row.error("'instruction_id_list' and 'kwargs' are not two lists of equal length")
        if not isinstance(key, str | int):
            raise row.error("field 'key' is missing or neither a number nor a text")
        given = [{"id": name, "kwargs": _given(one)} for name, one in zip(names, kwargs, strict=True)]
        try:
            instructions = files.checked(given, list[Instruction], row.place)
            for one in instructions if unknown else ():
                checker(one)
        except ValueError as error:
            raise row.error(str(error)) from error
        found.append((str(key), row.text("prompt"), instructions))
    drawn = with_letters([instructions for _, _, instructions in found], SEED)
    return [Item(key, prompt, target(one)) for (key, prompt, _), one in zip(found, drawn, strict=True)]


def _given(kwargs: object) -> object:
    """Returns parameters without those that are null, which the hub's file has for every other kind of instruction."""
    return {name: value for name, value in kwargs.items() if value is not None} if isinstance(kwargs, dict) else kwargs


def with_letters(items: Sequence[Sequence[Instruction]], seed: int) -> list[list[Instruction]]:
    """Returns the items' instructions with the letters that open-instruct's grader draws: all items strictly, then loosely."""
    draws = random.Random(seed)  # noqa: S311 - the recipe's own generator
    passes = [[[draw_letter(draws) if replaced_letter(one) else "" for one in item] for item in items] for _ in range(2)]
    return [
        [Instruction(one.id, one.kwargs, tuple(filter(None, pair))) for one, *pair in zip(item, *letters, strict=True)]
        for item, *letters in zip(items, *passes, strict=True)
    ]


def target(instructions: Sequence[Instruction]) -> str:
    """Returns an item's instructions as :meth:`IFEval.grade` reads them; letters are left out where none are drawn."""
    return json.dumps(
        [{"id": one.id, "kwargs": one.kwargs, **({"letters": one.letters} if one.letters else {})} for one in instructions],
        sort_keys=True,
        separators=(",", ":"),
    )


def check_items(items: Sequence[Item], data: Path | None) -> None:
    """Raises DataError if the items are not the 541 in their order, because published numbers are then of other items."""
    text = "\n".join(f"{item.id}\n{item.question}\n{item.target}" for item in items)
    if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == ROWS_SHA256:
        return
    what = "other prompts, instructions or order than those" if len(items) == SIZE else f"{len(items)} rows, not the {SIZE}"
    hint = "; --protocol custom runs the recipe on it" if data else "; give the file with --data input_data.jsonl"
    raise DataError(data or HUB_ID, f"{what} of IFEval, so no published protocol applies{hint}")
