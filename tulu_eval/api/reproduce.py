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
    recipe: str = "sums", *, seed: int = 0, output: AnyPath | None = None, progress: bool | Callable[[str], None] = True
) -> Reproduction:
    """Makes pairs, trains an SFT start, a reward model and PPO policies, evaluates before and after, verifies and compares.

    >>> tulu_eval.reproduce("sums").folder

    Args:
        recipe: What is trained; ``sums`` has 0.1 million parameters and takes minutes on a CPU.
        seed: Seed of data, initial weights and draws.
        output: Folder; ``training/reproduce-<recipe>-<seed>`` unless given. A call that was killed goes on where it stopped.
        progress: Print what happens; or a function that gets each line or table.

    Raises:
        UserError: If the folder is of another seed or cannot be written, or a guard stops a stage.
    """
    from tulu_eval.reproduction import reproduce as whole

    folder = Path("training") / f"reproduce-{recipe}-{seed}" if output is None else Path(output)
    with silence(progress is False):
        found = whole.reproduce(recipe, folder, _say(progress), seed=seed, quiet=not progress)
    write_text(folder / "README.md", reproduce_report.as_markdown(found))
    return Reproduction(folder, found)


def _say(progress: bool | Callable[[str], None]) -> Callable[[str], None]:
    if callable(progress):
        return progress

    def say(text: str) -> None:
        if progress:
            from tqdm.auto import tqdm

            tqdm.write(text, file=sys.stderr)

    return say
