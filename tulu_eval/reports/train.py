"""The report of ``tulu-eval train --dry-run``: recipe with sources, rows, memory and time."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tulu_eval.reports.layout import duration

if TYPE_CHECKING:
    from tulu_eval.training.job import Job
    from tulu_eval.training.sizes.cost import TrainingCost
    from tulu_eval.training.stages import Sourced, Stage

NOUNS: dict[Stage, str] = {"sft": "conversations", "rm": "pairs", "dpo": "pairs", "ppo": "prompts"}
"""The rows of each stage."""


def as_json(job: Job, cost: TrainingCost, world: int) -> dict[str, Any]:
    """Returns a job with its cost as plain data."""
    sourced = job.sourced
    recipe = dataclasses.asdict(sourced.recipe)
    return {
        "stage": sourced.stage,
        "recipe": sourced.name,
        "about": sourced.about,
        "settings": {key: {"value": value, "source": sourced.sources[key]} for key, value in recipe.items()},
        "sources": sourced.legend,
        "otherwise": sourced.otherwise,
        "model": job.model.name,
        "reward_model": job.reward_model.name if job.reward_model else None,
        "rewards": {part.shown: part.weight for part in job.rewards},
        "notices": list(job.notices),
        "rows_kept": len(job.rows.rows),
        "rows_dropped": job.rows.dropped,
        "tokens": job.tokens,
        "steps": job.steps,
        "updates": job.steps * job.updates_per_step,
        "ranks": world,
        "memory_bytes": cost.memory,
        "seconds_at_least": cost.seconds_low,
        "seconds_at_most": cost.seconds_high,
        "folder": str(job.folder),
    }


def recipe_as_text(sourced: Sourced) -> str:
    """Returns a recipe for people, every value with its source."""
    recipe = dataclasses.asdict(sourced.recipe)
    values = {key: "off" if value is None else json.dumps(value) for key, value in recipe.items()}
    width, widest = max(map(len, values)), max(map(len, values.values()))
    return "\n".join(
        [
            f"{sourced.stage}, recipe {sourced.name}: {sourced.about}",
            *(f"  {key:<{width}}  {value:<{widest}}  {sourced.sources[key]}" for key, value in values.items()),
            *(f"  {name}: {meaning}" for name, meaning in sourced.legend.items()),
            *(f"  otherwise than EasyLM, {name.replace('_', ' ')}: {what}" for name, what in sourced.otherwise.items()),
        ]
    )


def as_text(job: Job, cost: TrainingCost, world: int) -> str:
    """Returns the rest of a job for people: models, rows, memory, time; see :func:`as_json`."""
    dropped = ", ".join(f"{n} {reason}" for reason, n in job.rows.dropped.items()) or "none"
    total = sum(cost.memory.values())
    return "\n".join(
        [
            f"model: {job.model.name}" + (f"; reward model: {job.reward_model.name}" if job.reward_model else ""),
            *([f"rewards: {', '.join(f'{one.weight:g} x {one.shown}' for one in job.rewards)}"] if job.rewards else []),
            *(f"note: {notice}" for notice in job.notices),
            f"data: {len(job.rows.rows):,} {NOUNS[job.sourced.stage]} kept, {job.tokens:,} tokens; dropped: {dropped}",
            f"steps: {job.steps:,}, updates: {job.steps * job.updates_per_step:,}",
            f"memory on each of {world} device(s), about {total / 2**30:,.2f} GiB:",
            *(f"  {size / 2**30:10,.2f} GiB  {part}" for part, size in cost.memory.items()),
            f"time: between {duration(cost.seconds_low)} and {duration(cost.seconds_high)} on devices like the one here",
            f"folder: {job.folder}",
        ]
    )
