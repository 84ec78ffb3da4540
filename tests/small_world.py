"""A made-up model for tests of ``explain``: what it answers depends on the prompt's form, as a real one's does.

Each item has a fixed difficulty. Each change of the prompt makes the model better or worse, and flips items of its own besides.
Its texts say under which form they were written, so two forms never write equal texts. Some answers run on into a question of
their own, so that stop strings and the rule of extraction matter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tulu_eval.records import Completion, Decoding, Request

EFFECTS = {"template": -0.25, "prefill": -0.12, "zero": -0.2, "few": -0.1, "words": 0.15, "bos": -0.1, "system": 0.0,
           "turns": 0.1, "question": -0.3, "reversed": 0.0}  # fmt: skip
"""What each change adds to the share of right answers."""

SKILL = 0.6


def uniform(*parts: object) -> float:
    """Returns a number from 0 to 1 that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6]) / 2**48


def write_rows(path: Path, n: int = 200) -> Path:
    """Writes rows in the form of GSM8K's, whose right answers are from 1 to 97."""
    lines = [{"question": f"Riddle number {k} asks for what?", "answer": f"hm\n#### {k * 7 % 97 + 1}"} for k in range(n)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def features(request: Request, bos: int) -> frozenset[str]:
    """Returns in what a prompt differs from the published one."""
    text = request.text
    shots = text.count("Question: ") - 1
    found = {
        "template": "<|user|>" not in text,
        "prefill": not text.endswith("Answer:"),
        "zero": shots == 0 and "Q: " not in text and "Question: " in text,
        "few": 0 < shots < 8,
        "words": "Q: " in text,
        "bos": request.token_ids[:2].count(bos) != 1,
        "system": "helpful assistant" in text,
        "turns": text.count("<|user|>") > 1,
        "question": "Question: " not in text and "Q: " not in text,
        "reversed": shots == 8 and "trees in the grove" in text[-500:],
    }
    return frozenset(name for name, there in found.items() if there)


class World:
    """Answers requests.

    Args:
        tokenizer: Makes token ids of texts.
        flips: Share of items that flip by chance, as another batch or kernel flips them, each time ``noise`` is another.
        noise: Which flips.
        skill: Share of right answers under the published form.
    """

    def __init__(self, tokenizer: Any, *, flips: float = 0.0, noise: int = 0, seed: int = 0) -> None:
        self.tokenizer, self.flips, self.noise, self.seed = tokenizer, flips, noise, seed
        self.asked = 0

    def __call__(self, request: Request, decoding: Decoding) -> Completion:
        """Returns the answer."""
        self.asked += 1
        number = int(re.findall(r"Riddle number (\d+)", request.text)[-1])
        found = features(request, self.tokenizer.bos_token_id)
        target = number * 7 % 97 + 1
        right = self.right(number, found, decoding)
        stated = target if right else target % 90 + 2
        form = " ".join(sorted(found)) or "as published"
        thought = "so " * (10 + int(120 * uniform(self.seed, "length", number) ** 4))
        if self.flips and uniform(self.seed, self.noise, "text", number) < 0.3:
            thought = "well " + thought
        text = f" Thinking ({form}) {thought}1 = 1. So the answer is {stated}."
        if uniform(self.seed, "runs on", number) < 0.25:
            text += f"\n\nQuestion: What is {number} and 1000?\nAnswer: The answer is {number + 1000}."
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        reason = "stop"
        if len(ids) > decoding.max_new_tokens:
            ids, reason = ids[: decoding.max_new_tokens], "length"
            text = self.tokenizer.decode(ids)
        cuts = [at for stop in decoding.stop if (at := text.find(stop)) >= 0]
        return Completion(request.key, text[: min(cuts)] if cuts else text, tuple(ids), reason if not cuts else "stop", 0.01)

    def right(self, number: int, found: frozenset[str], decoding: Decoding) -> bool:
        """Whether the model is right on an item, before its answer runs on."""
        share = SKILL + sum(EFFECTS[name] for name in found)
        latent = uniform(self.seed, "difficulty", number)
        for name in sorted(found):
            if uniform(self.seed, name, number) < 0.15:
                latent = uniform(self.seed, name, "other", number)
        if not decoding.greedy:
            latent = 0.5 * latent + 0.5 * uniform(self.seed, decoding.seed, "drawn", number)
        right = latent < share
        if self.flips and uniform(self.seed, self.noise, "flip", number) < self.flips:
            return not right
        return right


def answers(world: World, requests: Any, decoding: Decoding) -> Iterator[Completion]:
    """Yields the answers to requests."""
    return (world(request, decoding) for request in requests)
