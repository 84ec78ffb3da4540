"""Groups runs by checkpoint: two checkpoints are two rows of a table, even if they have one name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tulu_eval.findings.published_cells import as_released, released_model
from tulu_eval.registry import Suite
from tulu_eval.runs.reading import StoredRun
from tulu_eval.store.identity import adapter_hash


def owners_of(runs: Sequence[StoredRun], suite: Suite) -> dict[str, list[StoredRun]]:
    """Returns runs by owner: a hub id for released, unaltered weights, else the name under which the runs are filed.

    Imported runs, which have other prompts, have owners of their own. If one name has several sets of weights, each set is an
    owner: the name with the commit of a hub model (``name@abc1234``), else with the hash and the alterations of the weights.
    Runs without known weights, e.g. of a file of outputs, join the only set; if there are several sets, they are an owner too.
    """
    named: dict[str, dict[str, list[StoredRun]]] = {}
    for run in runs:
        named.setdefault(_name(run, suite), {}).setdefault(_weights(run, suite), []).append(run)
    owners: dict[str, list[StoredRun]] = {}
    for name, sets in named.items():
        unknown = sets.pop("", [])
        if len(sets) < 2:
            owners[name] = [*unknown, *itertools.chain.from_iterable(sets.values())]
            continue
        if unknown:
            owners[name] = unknown
        for weights, own in sets.items():
            label = _with_commit(name, own[0], suite) or f"{name} ({weights})"
            owners[label if label not in owners else f"{label} (weights {weights[:8]})"] = own
    return owners


def _name(run: StoredRun, suite: Suite) -> str:
    if run.imported:
        return f"{run.model} (imported from {run.imported})"
    model = released_model(run, suite)
    return model.hub_id if model is not None and as_released(run) else f"{run.model} (own weights)" if model else run.model


def _weights(run: StoredRun, suite: Suite) -> str:
    """Returns a description that identifies a run's weights; empty if nothing is known of them."""
    if run.of_files:
        return ""
    model, settings = run.about.model, run.about.settings
    sha256 = model.weights_sha256 or model.revision
    if _released(run, suite):
        return sha256
    adapter = f"adapter {adapter_hash(settings.adapter)[:8]}" if settings.adapter else ""
    altered = [*filter(None, (settings.quantization, adapter))]
    return ", ".join([f"weights {sha256[:8]}", *altered])


def _with_commit(name: str, run: StoredRun, suite: Suite) -> str:
    """Returns a name with the run's commit on the hub; empty if the weights are not those of a commit of the hub."""
    revision = run.about.model.revision
    return f"{name}@{revision[:7]}" if _released(run, suite) and not revision.startswith("sha256:") else ""


def _released(run: StoredRun, suite: Suite) -> bool:
    return released_model(run, suite) is not None and as_released(run)
