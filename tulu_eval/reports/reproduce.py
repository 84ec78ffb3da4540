"""The report of ``tulu-eval reproduce``: as text, and as the Markdown file beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from tabulate import tabulate

from tulu_eval.reports.layout import duration, grid, wrapped

if TYPE_CHECKING:
    from tulu_eval.reproduction.planned import Figure, PlannedStage, ReproductionPlan
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


def as_json(found: ReproductionSummary | ReproductionPlan) -> object:
    """Returns a summary, as in ``reproduce.json``, or a plan as plain data."""
    return msgspec.to_builtins(found)


def as_text(found: ReproductionSummary) -> str:
    """Returns the tables and their meaning, for a terminal."""
    meaning = "\n\n".join(wrapped(" ".join(part.split())) for part in MEANING.split("\n\n"))
    return _render(found, meaning, lambda shown: grid(*shown))


def as_markdown(found: ReproductionSummary) -> str:
    """Returns the same as a Markdown page."""
    command = f"`tulu-eval reproduce --recipe {found.recipe} --seed {found.seed}`"
    return f"# {command}\n\n{_render(found, MEANING, _pipes)}\n"


def _pipes(shown: Table) -> str:
    head, rows = shown
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def _render(found: ReproductionSummary, meaning: str, table: Callable[[Table], str]) -> str:
    n = found.held_out.before.reward.n
    blocks = [
        f"{found.benchmark}, greedy, and whether it agrees with the authors' own run of this seed:",
        table(_models(found.models)),
        "Gains on the same items, in points, by McNemar's test:",
        table(_gains(found.gains)),
        meaning,
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


def plan_as_text(plan: ReproductionPlan) -> str:
    """Returns a plan for people: a line per stage, memory and commands where it takes GPUs, and what is behind the figures."""
    about = f", on nodes of {plan.per_node} GPUs ({plan.device})" if plan.per_node else ""
    head = ("stage", "state", "steps", "time", "disk", *(("GPUs",) if plan.per_node else ()))
    rows = [
        (
            one.name,
            one.state,
            _figure(one.steps),
            _figure(one.seconds),
            _figure(one.disk),
            *([str(one.devices)] if about else []),
        )
        for one in plan.stages
    ]
    sources: dict[str, list[str]] = {}
    for one in plan.stages:
        for name, figure in (("steps", one.steps), ("time", one.seconds), ("disk", one.disk)):
            if figure is not None:
                sources.setdefault(f"{name}: {figure.source}", []).append(one.name)
    room = "" if plan.disk.high < plan.free else ", which is not enough"
    return "\n\n".join(
        [
            wrapped(f"{plan.recipe}, seed {plan.seed}, in {plan.folder}{about}:"),
            grid(head, rows, right=(2, 5)),
            wrapped(
                f"What is left takes {_figure(plan.seconds)}, and {_figure(plan.disk)} of the disk, where {_size(plan.free)} "
                f"are free{room}."
            ),
            *(_planned_stage(one, plan.per_node) for one in plan.stages),
            "The figures are computed from:",
            "\n".join(
                wrapped(f"- {'all' if len(names) == len(plan.stages) else ', '.join(names)}, {line}", "  ")
                for line, names in sources.items()
            ),
            "\n".join(wrapped(f"note: {note}", "  ") for note in plan.notes),
        ]
    )


def _planned_stage(one: PlannedStage, per_node: int) -> str:
    start = f"; from {', '.join(one.start)}" if one.start else ""
    lines = [wrapped(f"{one.name}: {one.what}{start}{f'; data: {one.data}' if one.data else ''}", "  ")]
    if one.memory:
        lines += ["", _memory(one)]
    if one.commands:
        nodes = one.devices // per_node
        lines += ["", "on the node:" if nodes == 1 else f"on each of {nodes} nodes:", *(f"  {line}" for line in one.commands)]
    elif per_node:
        lines += ["", f"{one.devices} GPUs have no room for it"]
    return "\n".join(lines)


def _memory(one: PlannedStage) -> str:
    names = dict.fromkeys(name for column in one.memory for name in column.parts)
    rows = [[name, *(_gib(column.parts.get(name)) for column in one.memory)] for name in names]
    rows.append(["together", *(_gib(sum(column.parts.values())) for column in one.memory)])
    rows.append(["fits", *("yes" if column.fits else "no" for column in one.memory)])
    head = ["GiB on each of so many GPUs", *(str(column.devices) for column in one.memory)]
    return grid(head, rows, right=range(1, len(head)))


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**30:,.1f}"


def _figure(figure: Figure | None) -> str:
    """Returns a figure for people, as a range if it is one."""
    if figure is None:
        return "-"
    shown: dict[str, Callable[[float], str]] = {
        "steps": lambda value: f"{value:,.0f}",
        "seconds": duration,
        "bytes": _size,
    }
    low, high = shown[figure.unit](figure.low), shown[figure.unit](figure.high)
    if low == high:
        return high
    return f"{low.partition(' ')[0] if low.partition(' ')[2] == high.partition(' ')[2] else low} to {high}"


def _size(count: float) -> str:
    unit, size = next((one for one in (("GB", 1e9), ("MB", 1e6)) if count >= one[1]), ("kB", 1e3))
    return f"{count / size:,.{0 if count >= 10 * size else 1}f} {unit}"
