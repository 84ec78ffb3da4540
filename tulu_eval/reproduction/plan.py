"""The plans of all recipes of ``reproduce``."""

from __future__ import annotations

from pathlib import Path

from tulu_eval.errors import UnknownName
from tulu_eval.reproduction import plan_card, plan_sums
from tulu_eval.reproduction.planned import ReproductionPlan

SEEDS = {"sums": 0, plan_card.NAME: plan_card.SEED}
"""Recipes with the seeds that they have unless one is given."""


def make(recipe: str, seed: int, folder: Path) -> ReproductionPlan:
    """Returns what a recipe would do in a folder.

    Raises:
        UserError: If the folder is of another seed, or GPUs are not whole nodes.
    """
    return plan_card.plan(seed, folder) if recipe == plan_card.NAME else plan_sums.plan(seed, folder)


def seed_of(recipe: str) -> int:
    """Returns the seed of a recipe that is given none; raises UnknownName if there is no such recipe."""
    if recipe not in SEEDS:
        raise UnknownName("recipe of reproduce", recipe, SEEDS)
    return SEEDS[recipe]
