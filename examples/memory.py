"""The memory arithmetic of the examples: what ``tulu-eval train ppo --dry-run`` prints, without the weights or the data.

``python examples/memory.py`` writes the tables into ``ppo_8b_on_h200.md``; ``--check`` says whether the page still has them.
Shapes are Llama 3's (its config.json); the longest prompt is the recipe's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tulu_eval.reproduction.plan_card import device_memory
from tulu_eval.runs.estimate import H200_GIB, SHARE
from tulu_eval.training import recipes
from tulu_eval.training.job import TrainingOrder
from tulu_eval.training.sizes import sizing

PAGE = Path(__file__).with_name("ppo_8b_on_h200.md")

DEVICES = (8, 16, 32)


class Example(NamedTuple):
    """A reward model, and the settings that all its columns share."""

    reward: str
    share: float
    changes: tuple[str, ...]


EXAMPLES = {
    "8B policy, 8B reward model": Example("8B", 0.3, ()),
    "8B policy, 70B reward model": Example("70B", 0.25, ("micro_tokens=8192",)),
}


def parts(example: Example, world: int) -> dict[str, int]:
    """Returns the bytes on each of ``world`` devices, by part, with those that vLLM gets."""
    sourced = recipes.load("ppo", "easylm", example.changes)
    order = TrainingOrder("ppo", "easylm", rollouts="vllm", rollout_memory=example.share, changes=example.changes)
    with tempfile.TemporaryDirectory() as name:
        policy = sizing.model_files("8B", Path(name), scorer=False)
        scorer = sizing.model_files(example.reward, Path(name), scorer=True)
        job = sizing.job(order, sourced, policy, scorer, rows=1, tokens=sourced.recipe.max_length)
        return device_memory(job, world, H200_GIB)


def table(example: Example) -> str:
    """Returns one example's parts as Markdown, and which numbers of devices fit."""
    columns = [parts(example, world) for world in DEVICES]
    sums = [sum(column.values()) / 2**30 for column in columns]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(f"{column[name] / 2**30:.1f}" if name in column else "-" for column in columns)] for name in names]
    rows.append([f"together, of {H200_GIB:.0f}", *(f"{total:.1f}" for total in sums)])
    rows.append(["fits", *("yes" if total < SHARE * H200_GIB else "no" for total in sums)])
    head = ["GiB on each device", *(f"{world} devices" for world in DEVICES)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def filled(page: str) -> str:
    """Returns a page with the tables of today between their marks."""
    for title, example in EXAMPLES.items():
        begin, end = f"<!-- {title} -->\n", f"\n<!-- end of {title} -->"
        before, _, rest = page.partition(begin)
        page = before + begin + table(example) + end + rest.partition(end)[2]
    return page


def main() -> None:
    """Writes the tables into the page, or checks it."""
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(f"{PAGE.name} has other numbers; python examples/memory.py writes them" if filled(page) != page else 0)
    PAGE.write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main()
