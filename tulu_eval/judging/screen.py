"""Finds outputs that are not answers: constant, copied, or addressed to the judge.

A constant output that imitates the end of the judge's prompt reaches 86 LC on the public leaderboard ("NullModel",
tatsu-lab/alpaca_eval pull request 414), so reports show these flags together with the number.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from tulu_eval.judging.judge_recipe import Pair

SHARE = 0.02
"""Share of repeated or copied outputs (0 to 1) from which the number is doubtful. Among the 805 outputs of each of five honest
models, at most 2 were the same text, and at most 4 equalled the baseline's (short answers such as a name)."""

TO_THE_JUDGE = re.compile(
    r"model_identifier|best model identifier|<\|im_(?:start|end)\|>|unordered outputs from the models"
    r"|(?:select|choose|prefer|pick|vote for|output)\s+(?:the\s+)?(?:model|identifier|answer)\s+[\"'`]?[mM][\"'`]?(?!\w)"
    r"|(?:evaluator|judge|grader)\s*[:,]\s*(?:please\s+)?(?:ignore|disregard|select|choose|prefer)",
    re.IGNORECASE,
)
"""Phrases of the judge's prompt (``alpaca_eval_clf.txt``), its chat marks, or a command to choose one of its identifiers."""


REASONING = re.compile(r"</?(?:think|thinking|thought|reasoning|reflection)>|<\|channel\|>analysis|\[/?THINK\]", re.IGNORECASE)
"""Marks around a model's reasoning before its answer: DeepSeek-R1 and Qwen3 (``<think>``), gpt-oss's harmony format
(``<|channel|>analysis``), Magistral (``[THINK]``), and the names that fine-tuned models use."""


@dataclasses.dataclass(frozen=True, slots=True)
class Screen:
    """Suspicious outputs of a model; all fields but ``n`` are ids of pairs.

    Attributes:
        n: Number of outputs.
        constant: The pairs that share the most common output, if at least two do.
        copies_instruction: The output equals the instruction up to white space.
        copies_baseline: The output equals the baseline's up to white space.
        to_the_judge: The output addresses the judge.
        empty: The output has no text.
        reasoning: The output has a reasoning block. The published recipe leaves outputs unchanged, so the judge sees the block,
            and it counts in the length for which LC controls.
    """

    n: int
    constant: tuple[str, ...]
    copies_instruction: tuple[str, ...]
    copies_baseline: tuple[str, ...]
    to_the_judge: tuple[str, ...]
    empty: tuple[str, ...]
    reasoning: tuple[str, ...] = ()

    @property
    def flags(self) -> list[str]:
        """One line per finding that makes the number doubtful; empty if there is none."""
        found = (
            (self.constant, "outputs are the same text", SHARE),
            (self.copies_instruction, "outputs repeat the instruction", SHARE),
            (self.copies_baseline, "outputs equal the baseline's", SHARE),
            (self.empty, "outputs are empty", SHARE),
            (self.to_the_judge, "outputs address the judge", 0.0),
            (self.reasoning, "outputs have a reasoning block, which is judged and counts in their length", 0.0),
        )
        return [
            f"{len(ids)} of {self.n} {what}, e.g. {ids[0]}" for ids, what, share in found if ids and len(ids) >= share * self.n
        ]


def screen(pairs: Sequence[Pair]) -> Screen:
    """Returns the suspicious outputs among a model's pairs."""
    common = Counter(pair.output.strip() for pair in pairs if pair.output.strip()).most_common(1)
    text, times = common[0] if common else ("", 0)
    return Screen(
        n=len(pairs),
        constant=tuple(pair.id for pair in pairs if times > 1 and pair.output.strip() == text),
        copies_instruction=tuple(pair.id for pair in pairs if pair.output.strip() and _same(pair.output, pair.instruction)),
        copies_baseline=tuple(pair.id for pair in pairs if _same(pair.output, pair.baseline)),
        to_the_judge=tuple(
            pair.id for pair in pairs if TO_THE_JUDGE.search(pair.output) and not TO_THE_JUDGE.search(pair.instruction)
        ),
        empty=tuple(pair.id for pair in pairs if not pair.output.strip()),
        reasoning=tuple(pair.id for pair in pairs if REASONING.search(pair.output) and not REASONING.search(pair.instruction)),
    )


def _same(left: str, right: str) -> bool:
    return left.strip() == right.strip()
