"""The report of ``plan SUITE`` for people."""

from __future__ import annotations

from tulu_eval.findings.planned_models import ModelPlan, ModelsPlan, Range
from tulu_eval.reports.layout import grid, terminal_width, wrapped


def as_text(found: ModelsPlan) -> str:
    """Returns the models in their order with GPUs, GPU-hours and times, the columns' GPU-hours, and what is assumed."""
    head = ("model", "engines", "GPUs", "GPU-hours", "verdicts", "from, h", "to, h")
    rows = [
        (
            one.model,
            str(one.engines),
            _gpus(one),
            _range(one.gpu_hours),
            str(one.verdicts),
            f"{one.begin:.2f}",
            f"{one.end:.2f}",
        )
        for one in found.models
    ]
    idle = f"; {found.idle_gpus} of them idle" if found.idle_gpus else ""
    price = f"; price {_range(found.price)} at {found.gpu_hour_price:g} per GPU-hour" if found.price else ""
    total = f"together {_range(found.gpu_hours)} GPU-hours, {_range(found.hours)} hours on {found.gpus} GPUs{idle}{price}"
    blocks = [
        f"{found.suite}: models in this order, most verdicts per GPU-hour first\n\n{grid(head, rows, right=(1, 3, 4, 5, 6))}",
        "\n".join([wrapped(total), *_of_one(found), *_milestones(found)]),
        f"GPU-hours by column with long answers, without the engine's start:\n\n{_columns(found)}",
        "\n".join(["The commands:", *(_shell_lines(one.command) for one in found.models)]),
        "\n".join(
            [
                "Ranges go from usual to long answers; times are those of long ones.",
                "The plan assumes:",
                *(wrapped(f"- {one.name} {_number(one.value)} {one.unit} ({one.source})", "  ") for one in found.assumptions),
            ]
        ),
    ]
    return "\n\n".join(blocks)


def _gpus(one: ModelPlan) -> str:
    last = one.first_gpu + one.gpus * one.engines - 1
    return str(last) if last == one.first_gpu else f"{one.first_gpu}-{last}"


def _of_one(found: ModelsPlan) -> list[str]:
    if all(one.engines == 1 for one in found.models):
        return []
    return [
        wrapped(f"with one engine per model {_range(found.gpu_hours_of_one)} GPU-hours, {_range(found.hours_of_one)} hours")
    ]


def _shell_lines(command: str) -> str:
    """Returns a command on as many lines as it needs, each but the last ended for the shell."""
    return wrapped(f"  {command}", "    ", terminal_width() - len(" \\")).replace("\n", " \\\n")


def _milestones(found: ModelsPlan) -> list[str]:
    said = "a verdict is a published number that 'verify' tests without a judge"
    if not found.milestones:
        return [wrapped(f"no verdict with these models and this suite; {said}")]
    times = ", ".join(f"{one.verdicts} after {one.hours:.2f} h" for one in found.milestones)
    given = ", ".join(f"{one.hours_as_given:.2f}" for one in found.milestones)
    return [wrapped(f"verdicts: {times}, which are all; in the given order after {given} h; {said}")]


def _columns(found: ModelsPlan) -> str:
    head = ("model", *(column.benchmark for column in found.models[0].columns))
    rows = [(one.model, *(f"{column.gpu_hours.long:.2g}" for column in one.columns)) for one in found.models]
    return grid(head, rows, right=range(1, len(head)))


def _range(value: Range) -> str:
    usual, long = f"{value.usual:.2f}", f"{value.long:.2f}"
    return usual if usual == long else f"{usual} to {long}"


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")
