"""Whose numbers a run's are: what tells two checkpoints apart in a table, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence

from tulu_eval.registry import Suite
from tulu_eval.runs.identity import of_completions
from tulu_eval.runs.published import as_released, released_model
from tulu_eval.runs.reading import Run


def owners_of(runs: Sequence[Run], suite: Suite) -> dict[str, list[Run]]:
    """Returns runs by whose numbers they are: a hub id for released weights as they are, else the name they are filed under.

    What another harness made has other prompts and stands apart. Where one name has several sets of weights (two checkpoints
    called alike, or one quantised in two ways), what tells them stands behind the name.
    """
    named: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        named.setdefault(_name(run, suite), {}).setdefault(_weights(run, suite), []).append(run)
    owners: dict[str, list[Run]] = {}
    for name, sets in named.items():
        for weights, own in sets.items():
            owners[name if len(sets) == 1 else f"{name} ({weights})"] = own
    return owners


def _name(run: Run, suite: Suite) -> str:
    if run.imported:
        return f"{run.model} (imported from {run.imported})"
    model = released_model(run, suite)
    return model.hub_id if model is not None and as_released(run) else f"{run.model} (own weights)" if model else run.model


def _weights(run: Run, suite: Suite) -> str:
    """Returns what tells the weights that a run measured; empty for a released model as it is, which its name tells."""
    if run.of_files or (released_model(run, suite) is not None and as_released(run)):
        return ""
    facts = of_completions(run.manifest)
    sha256 = str(run.manifest["model"].get("weights_sha256") or run.manifest["model"]["revision"])
    altered = [*filter(None, (facts["quantization"], f"adapter {facts['adapter'][:8]}" if facts["adapter"] else ""))]
    return ", ".join([f"weights {sha256[:8]}", *altered])
