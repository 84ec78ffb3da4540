"""AlpacaEval's requests to its judges: the prompts, the order of the two outputs, and the settings.

This module reads prompts and settings from the installed ``alpaca-eval`` package without importing it (an import sets the root
logger and needs setuptools<82), and checks a prompt's sha256. This is AlpacaEval 2's request for an instruction I with the
baseline's output A and the model's output B, if the seeded order is not swapped::

    system: You are a highly efficient assistant, ...
    user:   ... {"model_identifier": "m", "output": A} ... {"model_identifier": "M", "output": B} ...

AlpacaEval 1 has the same instructions and the same order, another baseline, and a judge that ranks "model_1" and "model_2".

Source: tatsu-lab/alpaca_eval @ 46ca37b6 (v0.6.2), ``evaluators_configs/weighted_alpaca_eval_gpt4_turbo`` and
``alpaca_eval_gpt4``, ``processors.py``, ``utils.py``.
One deliberate difference: an output with ``{output_2}`` or ``<|im_start|>`` in it does not change the template.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tulu_eval.benchmarks.alpaca_baselines import BASELINE, DAVINCI, KnownBaseline, find_known
from tulu_eval.benchmarks.alpaca_set import position
from tulu_eval.errors import PreflightError
from tulu_eval.records import Role, content_hash

Method = Literal["logprobs", "text", "ranking", "labels"]
"""How a judge gives its verdict. ``logprobs`` and ``text`` are ways to ask AlpacaEval 2's question, ``ranking`` is AlpacaEval
1's question with AlpacaEval 1's baseline. ``labels`` is a benchmark's own question about one answer."""

ORIGINAL_JUDGE = "gpt-4-1106-preview"
"""The leaderboard's judge; any other judge gives another column."""

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
PROMPT_SHA256 = "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62"
"""Hash of ``alpaca_eval_clf.txt`` in alpaca-eval 0.6.6; the bytes are the same since v0.6."""

TEXT_LIMIT = 4096
"""Token limit of a text verdict. A reasoning judge needs many tokens before its one letter; other judges stop by themselves."""

FIRST, SECOND = "m", "M"
"""The names that AlpacaEval 2's prompt gives to the output shown first and to the one shown second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Edition:
    """AlpacaEval 1 or 2: what its published win rates were made with.

    Attributes:
        title: ``AlpacaEval 1`` or ``AlpacaEval 2``.
        annotator: Name of the judge's configuration in the package.
        judge: Name of the judge.
        win_rate: Metric of its raw win rate.
        lc: Whether it has a length-controlled win rate.
    """

    title: str
    annotator: str
    judge: str
    method: Method
    prompt_sha256: str
    baseline_name: str
    win_rate: str
    lc: bool

    @property
    def baseline(self) -> KnownBaseline:
        """The baseline with the hashes of its outputs."""
        return find_known(self.baseline_name)


ALPACA_EVAL_2 = Edition("AlpacaEval 2", ANNOTATOR, ORIGINAL_JUDGE, "logprobs", PROMPT_SHA256, BASELINE, "win_rate", True)
ALPACA_EVAL_1 = Edition(
    "AlpacaEval 1",
    "alpaca_eval_gpt4",
    "gpt-4",
    "ranking",
    "cf4bace43fa6ac71944b9ca2506587ad7c509478a219e98a3950abf9d5b42a98",
    DAVINCI,
    "alpaca_eval_1_win_rate",
    False,
)
EDITIONS = (ALPACA_EVAL_2, ALPACA_EVAL_1)
"""Hash of AlpacaEval 1's prompt: ``alpaca_eval_gpt4/alpaca_eval.txt`` in alpaca-eval 0.6.6."""


def edition_of(method: str) -> Edition:
    """Returns the edition whose question a method asks; AlpacaEval 2 for a method that is not known."""
    return ALPACA_EVAL_1 if method == ALPACA_EVAL_1.method else ALPACA_EVAL_2


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn of a request; its role is ``system`` or ``user``."""

    role: Role
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two outputs to compare: the baseline's, and the model's (``output``).

    Attributes:
        id: Stable name, ``alpaca-<place>`` for one of the 805.
    """

    id: str
    instruction: str
    baseline: str
    output: str


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge.

    Attributes:
        key: sha256 of judge, prompt, parameters and messages; equal keys mean the same question.
        model: The judge's name at its endpoint.
        parameters: All other fields of the request's body.
    """

    key: str
    model: str
    messages: tuple[Message, ...]
    parameters: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """Returns the body of the request to ``/chat/completions``."""
        turns = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"model": self.model, "messages": turns, **self.parameters}


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeRecipe:
    """A judge with its prompt and settings.

    Attributes:
        judge: The model's name at its endpoint.
        method: ``logprobs`` weighs the first token's probabilities, as AlpacaEval 2 does; ``text`` reads the answer's text;
            ``ranking`` reads AlpacaEval 1's ranking.
        template: Turns with ``{instruction}``, ``{output_1}`` and ``{output_2}``.
        parameters: Fields of the request's body besides model and messages.
    """

    judge: str
    method: Method
    template: tuple[Message, ...]
    prompt_sha256: str
    parameters: Mapping[str, Any]

    @property
    def published(self) -> bool:
        """Whether this is the leaderboard's judge with the leaderboard's method."""
        return (self.judge, self.method) == (self.edition.judge, self.edition.method)

    @property
    def edition(self) -> Edition:
        """The edition whose question this is."""
        return edition_of(self.method)

    def question(self, pair: Pair) -> Question:
        """Returns the request for a pair, its outputs in the seeded order."""
        first, second = (pair.output, pair.baseline) if swapped(pair.instruction) else (pair.baseline, pair.output)
        values = {"instruction": pair.instruction, "output_1": first, "output_2": second}
        return self.ask(values)

    def ask(self, values: Mapping[str, str]) -> Question:
        """Returns the request with these texts in the template, by their names in it."""
        turns = tuple(Message(turn.role, fill(turn.content, values)) for turn in self.template)
        identity = {
            "judge": self.judge,
            "prompt": self.prompt_sha256,
            "parameters": dict(self.parameters),
            "messages": [[turn.role, turn.content] for turn in turns],
        }
        return Question(content_hash(identity), self.judge, turns, self.parameters)


def swapped(instruction: str) -> bool:
    """Whether the judge sees the model's output first; depends on the instruction only (annotator seed 0)."""
    seed = f"is_switched_outputs{instruction}0"
    return random.Random(seed).choices([False, True], k=1)[0]  # noqa: S311 - the recipe's own generator


def fill(template: str, values: Mapping[str, str]) -> str:
    """Returns the template with each ``{name}`` replaced in one pass, so that a name in an inserted text is not replaced."""
    return re.sub("|".join(re.escape(f"{{{name}}}") for name in values), lambda found: values[found[0][1:-1]], template)


def parse_template(text: str) -> tuple[Message, ...]:
    """Returns the turns of a template, each between ``<|im_start|>role`` and ``<|im_end|>``, with stripped contents.

    Raises:
        ValueError: If there is no such turn.
    """
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", text, flags=re.DOTALL)
    if not turns:
        raise ValueError("no turn between <|im_start|> and <|im_end|>")
    return tuple(Message(role, content.strip()) for role, content in turns)


@functools.cache
def _package(edition: Edition) -> tuple[str, Mapping[str, Any]]:
    """Returns an edition's prompt and its judge's settings from the installed package.

    Raises PreflightError if the package is missing or its prompt is not the published one.
    """
    import yaml

    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or not spec.submodule_search_locations:
        raise PreflightError("the judge's prompt is part of the package alpaca-eval: pip install 'tulu-eval[alpaca]'")
    folder = Path(spec.submodule_search_locations[0]) / "evaluators_configs"
    wrong = PreflightError(f"{folder} does not hold the published judge prompt: pip install 'alpaca-eval==0.6.6'")
    try:
        settings = yaml.safe_load((folder / edition.annotator / "configs.yaml").read_text(encoding="utf-8"))[edition.annotator]
        raw = (folder / settings["prompt_template"]).read_bytes()
        kwargs = dict(settings["completions_kwargs"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise wrong from error
    if hashlib.sha256(raw).hexdigest() != edition.prompt_sha256 or kwargs.pop("model_name", None) != edition.judge:
        raise wrong
    return raw.decode("utf-8"), kwargs


def load_recipe(judge: str = ORIGINAL_JUDGE, method: Method = "logprobs") -> JudgeRecipe:
    """Returns the published recipe of the method's edition, for any judge.

    ``text`` reads the answer's text, so the request asks for no logprobs and sets no temperature (reasoning models accept only
    their own).

    Judges other than the original get temperature 0, which does not change the logprobs. vLLM's server lists the sampled token
    first and cuts after five, so a sampled token outside the five most likely displaces the fifth, which may be m or M (6 of 79
    judgments by SmolLM2 at temperature 1, up to 0.35 off; vllm 0.32).
    """
    edition = edition_of(method)
    text, settings = _package(edition)
    parameters = {"max_completion_tokens": TEXT_LIMIT} if method == "text" else {**settings, "top_p": 1.0}
    if method == "logprobs" and judge != ORIGINAL_JUDGE:
        parameters["temperature"] = 0
    return JudgeRecipe(judge, method, parse_template(text), edition.prompt_sha256, parameters)


def preview(pairs: Sequence[Pair], recipe: JudgeRecipe, n: int = 3) -> list[str]:
    """Returns the texts of the first n requests, for ``--dry-run``."""
    shown = []
    for pair in pairs[:n]:
        order = "model first" if swapped(pair.instruction) else "baseline first"
        turns = "\n".join(f"[{turn.role}]\n{turn.content}" for turn in recipe.question(pair).messages)
        shown.append(f"--- {pair.id}, {order}, {recipe.judge} {dict(recipe.parameters)}\n{turns}")
    return shown


def pair_id(instruction: str) -> str:
    """Returns ``alpaca-<place>`` for one of the 805 instructions, else ``other-`` and the first 12 hex digits of its hash."""
    place = position(instruction)
    return f"alpaca-{place}" if place is not None else f"other-{content_hash(instruction)[:12]}"
