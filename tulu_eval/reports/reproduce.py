"""The report of ``tulu-eval reproduce``: as text, and as the Markdown file beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate


def as_text(found: Mapping[str, Any]) -> str:
    """Returns the tables and their meaning, for a terminal."""
    return _render(found, "simple")


def as_markdown(found: Mapping[str, Any]) -> str:
    """Returns the same as a Markdown page."""
    command = f"`tulu-eval reproduce --recipe {found['recipe']}`"
    return f"# {command}\n\n{_render(found, 'pipe')}\n"


def _render(found: Mapping[str, Any], style: str) -> str:
    def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        return tabulate(rows, head, tablefmt=style, disable_numparse=True)

    policies, gain, verdicts = found["policies"], found["gain"], found["verdicts"]
    before, after = policies["tiny-sft"], policies["tiny-ppo"]
    rows = [
        (title, _estimate(before[key], digits), _estimate(after[key], digits))
        for key, title, digits in (
            ("reward", "reward", 2),
            ("kl", "KL from the start, nats a response", 2),
            ("eos_rate", "EOS rate, %", 1),
            ("follows_the_rule", "answers as the rule wants them, %", 1),
            ("length", "tokens a response", 1),
        )
    ]
    model_rows = [
        (
            name,
            alignment,
            _result(found[key]),
            f"{verdicts[name]['expected']}: {verdicts[name]['verdict']}",
        )
        for name, alignment, key in (("tiny-sft", "SFT", "before"), ("tiny-ppo", "PPO", "after"))
    ]
    difference = policies["difference"]
    blocks = [
        f"Sampled answers to {before['reward']['n']} held-out prompts, mean or share with its 95 % interval:",
        table(("", "before PPO", "after PPO"), rows),
        f"Reward gained on the same prompts with the same draws: {_estimate(difference, 2)}.",
        "The reward model prefers the right side of held-out pairs:",
        table(
            ("what is wrong with the other side", "accuracy, %", "n"),
            [(kind, _estimate(one, 1), str(one["n"])) for kind, one in found["reward_model"].items()],
        ),
        f"{found['benchmark']}, greedy, and whether it is what the authors' own run came to:",
        table(("Model", "Alignment", "measured", "verdict"), model_rows),
        f"Gain of PPO on the same {gain['n']} items: {gain['difference']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}], "
        f"{gain['only_a']} items better and {gain['only_b']} worse, p = {gain['p_value']:.2g} (McNemar); "
        f"{_detectable(gain['detectable'])} would have been found with 80 % power.",
        f"{found['parameters'] / 1e6:.2f} million parameters; seconds: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in found["seconds"].items())
        + f", together {sum(found['seconds'].values()):.0f}.",
    ]
    return "\n\n".join(blocks)


def _detectable(points: float | None) -> str:
    return "no gain" if points is None else f"a gain of {points:.1f}"


def _estimate(one: Mapping[str, float], digits: int) -> str:
    return f"{one['value']:.{digits}f} [{one['low']:.{digits}f}, {one['high']:.{digits}f}]"


def _result(rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    return f"{first['value']:.1f} [{first['low']:.1f}, {first['high']:.1f}], n = {first['n']}"
