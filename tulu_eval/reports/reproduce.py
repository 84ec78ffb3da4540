"""The report of ``tulu-eval reproduce``: as text, and as the Markdown file beside its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from tabulate import tabulate

if TYPE_CHECKING:
    from tulu_eval.reproduction.summary import HeldOut, ReproducedGain, ReproducedModel, ReproductionSummary
    from tulu_eval.training.assess import HeldOutNumber

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Head and rows."""

MEANING = """\
Act 1 (sums-ppo over sums-sft) can gain form alone. The start has its writer's habits: it goes on behind the answer, or
states none. The reward model learned from pairs that the bare statement is better. The scorer stated-answer reads the
first statement: what it shows of a gain is not form.

Act 2 (sums-rule over sums-ppo) can gain correctness. The writer often forgets the ten where the ones carry or
borrow, in the chosen answers too, so a reward model of these pairs cannot know better. The reward is the benchmark's
scorer: 1 for a right last number, else 0, on training questions alone. Every question that measures is new; its
numbers, name and wording are each in the training questions.

The control (sums-chosen) is plain SFT on the chosen answers, without a reward. The model is tiny and knows nothing
else: this shows that the parts fit and learn, not how large models behave."""


def as_json(found: ReproductionSummary) -> object:
    """Returns the same as plain data, as in ``reproduce.json``."""
    return msgspec.to_builtins(found)


def as_text(found: ReproductionSummary) -> str:
    """Returns the tables and their meaning, for a terminal."""
    return _render(found, "simple")


def as_markdown(found: ReproductionSummary) -> str:
    """Returns the same as a Markdown page."""
    command = f"`tulu-eval reproduce --recipe {found.recipe} --seed {found.seed}`"
    return f"# {command}\n\n{_render(found, 'pipe')}\n"


def _render(found: ReproductionSummary, style: str) -> str:
    def table(shown: Table) -> str:
        head, rows = shown
        return tabulate(rows, head, tablefmt=style, disable_numparse=True)

    n = found.held_out.before.reward.n
    blocks = [
        f"{found.benchmark}, greedy, and whether it agrees with the authors' own run of this seed:",
        table(_models(found.models)),
        "Gains on the same items, in points, by McNemar's test:",
        table(_gains(found.gains)),
        MEANING,
        "The reward model prefers the right side of held-out pairs:",
        table(_accuracies(found.held_out)),
        f"Sampled answers to {n} held-out prompts before and after act 1, mean or share with its 95 % interval:",
        table(_policies(found.held_out)),
        f"Reward gained on the same prompts with the same draws: {_estimate(found.held_out.difference, 2)}.",
    ]
    for name, points in found.curves.items():
        rows = [
            (str(one.step), f"{one.score:.2f}", f"{one.kl:.2f}", f"{100 * one.eos_rate:.0f}", f"{one.length:.1f}")
            for one in points
        ]
        blocks += [
            f"Training of {name}, means over the steps up to the one named:",
            table((("step", "reward", "KL, nats per response", "EOS rate, %", "tokens per response"), rows)),
        ]
    seconds = ", ".join(f"{name} {spent:.0f}" for name, spent in found.seconds.items())
    blocks.append(f"{found.parameters / 1e6:.2f} million parameters; seconds: {seconds}; "
                  f"together {sum(found.seconds.values()):.0f}.")  # fmt: skip
    return "\n\n".join(blocks)


def _models(models: Sequence[ReproducedModel]) -> Table:
    def row(one: ReproducedModel) -> tuple[str, ...]:
        values = [f"{result.value:.1f} [{result.low:.1f}, {result.high:.1f}]" for result in one.results]
        verdict = f"{one.verdict.expected}: {one.verdict.verdict}" if one.verdict else "no run of this seed"
        return one.name, one.training, *values, verdict

    scorers = [f"{result.scorer}, n = {result.n}" for result in models[0].results]
    return ("Model", "training", *scorers, "verdict"), [row(one) for one in models]


def _gains(gains: Sequence[ReproducedGain]) -> Table:
    rows = []
    for one in gains:
        test = one.paired
        gain = f"{test.difference:+.1f} [{test.low:+.1f}, {test.high:+.1f}]"
        found = "none" if test.detectable is None else f"{test.detectable:.1f}"
        rows.append((f"{one.after} over {one.before}", gain, str(test.only_a), str(test.only_b), f"{test.p_value:.2g}", found))
    return ("Models", "gain", "items better", "worse", "p", "found with 80 % power"), rows


def _accuracies(held_out: HeldOut) -> Table:
    rows = [(kind, _estimate(one, 1), str(one.n)) for kind, one in held_out.reward_model.items()]
    return ("what is wrong with the other side", "accuracy, %", "n"), rows


def _policies(held_out: HeldOut) -> Table:
    before, after = held_out.before, held_out.after
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
    return ("", "before", "after"), rows


def _estimate(one: HeldOutNumber, digits: int) -> str:
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"
