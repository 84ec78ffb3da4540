"""Takes samples over from other runs with the same model, settings and prompts, so that nothing is generated twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tulu_eval.errors import UserError
from tulu_eval.records import content_hash
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.rereading import NOT_AS_MADE
from tulu_eval.runs.run_plan import SHARDS, Plan
from tulu_eval.store import manifest as files
from tulu_eval.store.identity import of_completions
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.packed import there


def adopt(plan: Plan, ledger: Ledger, folder: Path, progress: Progress) -> None:
    """Copies samples with the same model, settings and prompts from runs with another limit, protocol or shard."""
    asked = {(one.request.key, one.item.id): one for one in plan.planned}
    wanted = {name: one for name, one in asked.items() if not ledger.has(*name)}
    grader = Grader.of(plan.benchmark, plan.setup)
    for sibling in _siblings(plan, folder) if wanted else ():
        run = read_run(sibling)
        if run.doubts:
            progress.say(f"nothing is taken over from {sibling.name}, which {NOT_AS_MADE}: {run.doubts[0]}")
            continue
        taken = 0
        for sample in run.samples():
            one = wanted.get((sample.completion.key, sample.item))
            same = one is not None and (one.item.target, one.prompt_sha256) == (sample.target, sample.prompt_sha256)
            if same and sample.completion.finish_reason != "error":
                ledger.append(grader.grade(sample))
                del wanted[sample.completion.key, sample.item]
                taken += 1
        if taken:
            progress.say(f"{taken} samples of the same settings taken over from {sibling.name}")


def _siblings(plan: Plan, folder: Path) -> Iterator[Path]:
    """Yields the folders of other runs and shards that have the plan's model and settings."""
    own = content_hash(of_completions(plan.setup))
    for pattern in ("*", f"*/{SHARDS}/*"):
        for path in sorted(plan.run_folder.parent.glob(f"{pattern}/{files.MANIFEST}")):
            if path.parent == folder:
                continue
            try:
                same = content_hash(of_completions(files.read_manifest(path.parent))) == own
            except (UserError, KeyError, TypeError, AttributeError):
                continue  # no samples can be copied from such a folder
            if same and there(path.parent / files.LEDGER):
                yield path.parent
