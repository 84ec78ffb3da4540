"""How AlpacaEval 2 asks its judge: the prompt, the order of the two outputs, and the settings of the request.

The prompt and the settings are read from the installed ``alpaca-eval`` package, without importing it (an import sets the root
logger and needs setuptools<82), and the prompt is checked by its sha256. What a request looks like for an instruction I with
the baseline's output A and the model's output B, when the seeded order is not swapped::

    system: You are a highly efficient assistant, ...
    user:   ... {"model_identifier": "m", "output": A} ... {"model_identifier": "M", "output": B} ...

Source: tatsu-lab/alpaca_eval @ 46ca37b6 (v0.6.2), ``evaluators_configs/weighted_alpaca_eval_gpt4_turbo``, ``processors.py``,
``utils.py``. Left out on purpose: an output that contains ``{output_2}`` or ``<|im_start|>`` does not change the template here.
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

from tulu_eval.benchmarks.alpaca_set import position
from tulu_eval.errors import PreflightError
from tulu_eval.records import content_hash

Method = Literal["logprobs", "text"]

ORIGINAL_JUDGE = "gpt-4-1106-preview"
"""The judge behind the leaderboard; any other makes another column."""

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
PROMPT_SHA256 = "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62"
"""Of ``alpaca_eval_clf.txt`` in alpaca-eval 0.6.6; the same bytes since v0.6."""

TEXT_LIMIT = 4096
"""Tokens for a text verdict: a reasoning judge spends them before it says one letter. Others stop by themselves."""

FIRST, SECOND = "m", "M"
"""How the prompt names the output shown first and the one shown second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn of a request.

    Attributes:
        role: ``system`` or ``user``.
        content: Its text.
    """

    role: str
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """Two outputs to compare.

    Attributes:
        id: Stable name, ``alpaca-<place>`` for one of the 805.
        instruction: What both were asked.
        baseline: The baseline's output.
        output: The model's output.
    """

    id: str
    instruction: str
    baseline: str
    output: str


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge.

    Attributes:
        key: sha256 over judge, prompt, parameters and messages: equal keys are the same question.
        model: The judge's name at its endpoint.
        messages: The turns.
        parameters: Everything else in the request's body.
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
    """A judge and how it is asked.

    Attributes:
        judge: The model's name at its endpoint.
        method: ``logprobs`` weighs the first token's probabilities, as published; ``text`` reads the answer: another method.
        template: Turns with ``{instruction}``, ``{output_1}`` and ``{output_2}``.
        prompt_sha256: Of the template's file.
        parameters: Of the request.
    """

    judge: str
    method: Method
    template: tuple[Message, ...]
    prompt_sha256: str
    parameters: Mapping[str, Any]

    @property
    def published(self) -> bool:
        """Whether this is the judge behind the leaderboard, asked as it was."""
        return self.judge == ORIGINAL_JUDGE and self.method == "logprobs"

    def question(self, pair: Pair) -> Question:
        """Returns the request for a pair, its outputs in the seeded order."""
        first, second = (pair.output, pair.baseline) if swapped(pair.instruction) else (pair.baseline, pair.output)
        values = {"instruction": pair.instruction, "output_1": first, "output_2": second}
        turns = tuple(Message(turn.role, fill(turn.content, values)) for turn in self.template)
        identity = {
            "judge": self.judge,
            "prompt": self.prompt_sha256,
            "parameters": dict(self.parameters),
            "messages": [[turn.role, turn.content] for turn in turns],
        }
        return Question(content_hash(identity), self.judge, turns, self.parameters)


def swapped(instruction: str) -> bool:
    """Whether the model's output is shown first; depends on the instruction alone (annotator seed 0)."""
    seed = f"is_switched_outputs{instruction}0"
    return random.Random(seed).choices([False, True], k=1)[0]  # noqa: S311 - the recipe's own generator


def fill(template: str, values: Mapping[str, str]) -> str:
    """Returns the template with each ``{name}`` replaced in one pass, so that what was put in is never read again."""
    return re.sub("|".join(re.escape(f"{{{name}}}") for name in values), lambda found: values[found[0][1:-1]], template)


def parse_template(text: str) -> tuple[Message, ...]:
    """Returns the turns of a template with ``<|im_start|>role`` and ``<|im_end|>`` around each, contents stripped.

    Raises:
        ValueError: There is no such turn.
    """
    turns = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", text, flags=re.DOTALL)
    if not turns:
        raise ValueError("no turn between <|im_start|> and <|im_end|>")
    return tuple(Message(role, content.strip()) for role, content in turns)


@functools.cache
def _package() -> tuple[str, Mapping[str, Any]]:
    """Returns the prompt's text and the judge's settings, as installed."""
    import yaml

    spec = importlib.util.find_spec("alpaca_eval")
    if spec is None or not spec.submodule_search_locations:
        raise PreflightError("the judge's prompt is part of the package alpaca-eval: pip install 'tulu-eval[alpaca]'")
    folder = Path(spec.submodule_search_locations[0]) / "evaluators_configs"
    wrong = PreflightError(f"{folder} does not hold the published judge prompt: pip install 'alpaca-eval==0.6.6'")
    try:
        settings = yaml.safe_load((folder / ANNOTATOR / "configs.yaml").read_text(encoding="utf-8"))[ANNOTATOR]
        raw = (folder / settings["prompt_template"]).read_bytes()
        kwargs = dict(settings["completions_kwargs"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise wrong from error
    if hashlib.sha256(raw).hexdigest() != PROMPT_SHA256 or kwargs.pop("model_name", None) != ORIGINAL_JUDGE:
        raise wrong
    return raw.decode("utf-8"), kwargs


def load_recipe(judge: str = ORIGINAL_JUDGE, method: Method = "logprobs") -> JudgeRecipe:
    """Returns the published way to ask, for any judge.

    With ``text`` the answer is read, not weighed: no logprobs, no temperature (reasoning models accept none but their own).

    Other judges than the original are asked with temperature 0, which leaves the logprobs alone: vLLM's server lists the drawn
    token first and cuts after five, so that a drawn token outside the five likeliest pushes the fifth out, and with it, at
    times, m or M (6 of 79 judgments by SmolLM2 at temperature 1, up to 0.35 off; vllm 0.32).

    Raises:
        PreflightError: alpaca-eval is missing, or what it ships is not the published prompt.
    """
    text, settings = _package()
    parameters = {**settings, "top_p": 1.0} if method == "logprobs" else {"max_completion_tokens": TEXT_LIMIT}
    if method == "logprobs" and judge != ORIGINAL_JUDGE:
        parameters["temperature"] = 0
    return JudgeRecipe(judge, method, parse_template(text), PROMPT_SHA256, parameters)


def preview(pairs: Sequence[Pair], recipe: JudgeRecipe, n: int = 3) -> list[str]:
    """Returns the first n requests as text for people, for ``--dry-run``."""
    shown = []
    for pair in pairs[:n]:
        order = "model first" if swapped(pair.instruction) else "baseline first"
        turns = "\n".join(f"[{turn.role}]\n{turn.content}" for turn in recipe.question(pair).messages)
        shown.append(f"--- {pair.id}, {order}, {recipe.judge} {dict(recipe.parameters)}\n{turns}")
    return shown


def pair_id(instruction: str) -> str:
    """Returns ``alpaca-<place>`` for one of the 805 instructions, else ``other-`` and the start of its hash."""
    place = position(instruction)
    return f"alpaca-{place}" if place is not None else f"other-{content_hash(instruction)[:12]}"
