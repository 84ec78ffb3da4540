"""Two runs item by item, and a model's outputs against published ones."""

from __future__ import annotations

from pathlib import Path

from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, folder_of, read
from tulu_eval.api.words import spoken
from tulu_eval.findings.compare import Compared
from tulu_eval.findings.compare import compare as compare_runs
from tulu_eval.judging import compare_outputs as outputs_of
from tulu_eval.judging.annotations import read_reference
from tulu_eval.runs import judge
from tulu_eval.runs.reading import finished


@spoken
def compare(a: Run | AnyPath, b: Run | AnyPath, *, scorer: str | None = None) -> Compared:
    """Compares two runs on the items that both have: McNemar's test, each item that flipped and why, settings that differ.

    >>> found = tulu_eval.compare("results/a/gsm8k/card-200-1a2b3c4d", "results/b/gsm8k/card-200-5e6f7a8b")
    >>> [(flip.item, flip.cause) for flip in found.flips]

    Args:
        a: A run, or its folder.
        b: Another run, or its folder.
        scorer: Name of the scorer to compare by; the first that both have unless given.

    Raises:
        UserError: If there is no such scorer, they cannot be compared, or one is unfinished or was changed by hand.
    """
    return compare_runs(finished(read(a)), finished(read(b)), scorer)


@spoken
def compare_outputs(run_or_outputs: Run | AnyPath, reference: Run | AnyPath) -> outputs_of.OutputComparison:
    """Compares AlpacaEval outputs with published ones, without a judge; either side may have fewer than 805.

    >>> print(tulu_eval.compare_outputs("model_outputs.json", "annotations.json"))

    Args:
        run_or_outputs: A run of alpaca-eval, or a file in the form of alpaca_eval's model_outputs.json.
        reference: A published model_outputs.json or annotations.json, or another run.

    Raises:
        UserError: If a file or folder is neither.
    """
    mine = judge.find(folder_of(run_or_outputs), partial=True).outputs
    path: Path = folder_of(reference)
    other = read_reference(path) if path.is_file() else judge.find(path).outputs
    return outputs_of.compare_outputs(mine, other)
