"""The report of ``tulu-eval reproduce``: as text, and as the Markdown file beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from tabulate import tabulate

from tulu_eval.records import Result

if TYPE_CHECKING:
    from tulu_eval.reproduction.summary import ReproductionSummary
    from tulu_eval.training.assess import HeldOutNumber


def as_json(found: ReproductionSummary) -> object:
    """Returns the same as plain data, as in ``reproduce.json``."""
    return msgspec.to_builtins(found)


def as_text(found: ReproductionSummary) -> str:
    """Returns the tables and their meaning, for a terminal."""
    return _render(found, "simple")


def as_markdown(found: ReproductionSummary) -> str:
    """Returns the same as a Markdown page."""
    command = f"`tulu-eval reproduce --recipe {found.recipe}`"
    return f"# {command}\n\n{_render(found, 'pipe')}\n"


def _render(found: ReproductionSummary, style: str) -> str:
    def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        return tabulate(rows, head, tablefmt=style, disable_numparse=True)

    before, after, gain = found.policies.before, found.policies.after, found.gain
    detectable = "no gain" if gain.detectable is None else f"a gain of {gain.detectable:.1f}"
    rows = [
        (title, _estimate(one, digits), _estimate(other, digits))
        for title, one, other, digits in (
            ("reward", before.reward, after.reward, 2),
            ("KL from the start, nats per response", before.kl, after.kl, 2),
            ("EOS rate, %", before.eos_rate, after.eos_rate, 1),
            ("answers as the rule wants them, %", before.follows_the_rule, after.follows_the_rule, 1),
            ("tokens per response", before.length, after.length, 1),
        )
    ]
    model_rows = [
        (name, alignment, _result(results), f"{found.verdicts[name].expected}: {found.verdicts[name].verdict}")
        for name, alignment, results in (("tiny-sft", "SFT", found.before), ("tiny-ppo", "PPO", found.after))
    ]
    blocks = [
        f"Sampled answers to {before.reward.n} held-out prompts, mean or share with its 95 % interval:",
        table(("", "before PPO", "after PPO"), rows),
        f"Reward gained on the same prompts with the same draws: {_estimate(found.policies.difference, 2)}.",
        "The reward model prefers the right side of held-out pairs:",
        table(
            ("what is wrong with the other side", "accuracy, %", "n"),
            [(kind, _estimate(one, 1), str(one.n)) for kind, one in found.reward_model.items()],
        ),
        f"{found.benchmark}, greedy, and whether it agrees with the authors' own run:",
        table(("Model", "Alignment", "measured", "verdict"), model_rows),
        f"Gain of PPO on the same {gain.n} items: {gain.difference:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}], "
        f"{gain.only_a} items better and {gain.only_b} worse, p = {gain.p_value:.2g} (McNemar); "
        f"{detectable} would have been found with 80 % power.",
        f"{found.parameters / 1e6:.2f} million parameters; seconds: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in found.seconds.items())
        + f", together {sum(found.seconds.values()):.0f}.",
    ]
    return "\n\n".join(blocks)


def _estimate(one: HeldOutNumber, digits: int) -> str:
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def _result(rows: Sequence[Result]) -> str:
    first = rows[0]
    return f"{first.value:.1f} [{first.low:.1f}, {first.high:.1f}], n = {first.n}"
