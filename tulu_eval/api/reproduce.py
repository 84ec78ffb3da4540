"""From data to a verified row of a table, end to end."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tulu_eval.api.paths import AnyPath
from tulu_eval.api.silence import silence
from tulu_eval.api.words import spoken
from tulu_eval.files import write_text
from tulu_eval.reports import reproduce as reproduce_report

if TYPE_CHECKING:
    from tulu_eval.reproduction.planned import ReproductionPlan
    from tulu_eval.reproduction.summary import ReproductionSummary


@dataclasses.dataclass(frozen=True, slots=True)
class Reproduction:
    """What a reproduction came to.

    Attributes:
        folder: Where everything is; its README.md says it for people.
        summary: The stages' measurements, as in ``reproduce.json``.
    """

    folder: Path
    summary: ReproductionSummary


@spoken
def reproduce(
    recipe: str = "sums",
    *,
    seed: int | None = None,
    output: AnyPath | None = None,
    progress: bool | Callable[[str], None] = True,
) -> Reproduction:
    """Makes pairs, trains an SFT start, a reward model and PPO policies, evaluates before and after, verifies and compares.

    >>> tulu_eval.reproduce("sums").folder

    Args:
        recipe: What is trained; ``sums`` has 0.1 million parameters and takes minutes on a CPU. Others are planned only
            (:func:`plan_reproduction`).
        seed: Seed of data, initial weights and draws; the recipe's unless given, 0 for ``sums``.
        output: Folder; ``training/reproduce-<recipe>-<seed>`` unless given. A call that was killed goes on where it stopped.
        progress: Print what happens; or a function that gets each line or table.

    Raises:
        UserError: If the recipe takes GPUs, the folder is of another seed or cannot be written, or a guard stops a stage.
    """
    from tulu_eval.reproduction import plan_card
    from tulu_eval.reproduction import reproduce as whole

    seed, folder = _seed_and_folder(recipe, seed, output)
    if recipe == plan_card.NAME:
        raise plan_card.refusal(folder)
    with silence(progress is False):
        found = whole.reproduce(recipe, folder, _say(progress), seed=seed, quiet=not progress)
    write_text(folder / "README.md", reproduce_report.as_markdown(found))
    return Reproduction(folder, found)


@spoken
def plan_reproduction(recipe: str = "sums", *, seed: int | None = None, output: AnyPath | None = None) -> ReproductionPlan:
    """Returns what a reproduction would do, what of it is there already, and what it takes; trains and downloads nothing.

    >>> plan = tulu_eval.plan_reproduction("card-8b")
    >>> plan.stages[-2].devices, plan.stages[-2].commands

    Args:
        recipe: ``sums``, or ``card-8b``: the way to the checkpoint of the card on GPU nodes, with the commands for each. Its
            number of GPUs is that of the environment's ``WORLD_SIZE``, else the smallest that has room.
        seed: Seed of data, initial weights and draws; the recipe's unless given, 0 for ``sums``, 42 for ``card-8b``.
        output: Folder; ``training/reproduce-<recipe>-<seed>`` unless given.

    Raises:
        UserError: If the recipe is unknown, the folder is of another seed, or GPUs are not whole nodes.
    """
    from tulu_eval.reproduction import plan

    return plan.make(recipe, *_seed_and_folder(recipe, seed, output))


def _seed_and_folder(recipe: str, seed: int | None, output: AnyPath | None) -> tuple[int, Path]:
    from tulu_eval.reproduction import plan

    own = plan.seed_of(recipe)
    seed = own if seed is None else seed
    return seed, Path("training") / f"reproduce-{recipe}-{seed}" if output is None else Path(output)


def _say(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    if callable(progress):
        return progress

    def say(text: str) -> None:
        if progress:
            from tqdm.auto import tqdm

            tqdm.write(text, file=sys.stderr)

    return say
