"""Writes trained models as folders that transformers and vLLM load, each with a model card.

A folder has safetensors in the recipe's compute dtype (hamishivi/EasyLM @ dbf2212c also saves bfloat16), config, a tokenizer
with the Tulu template, the policy's ``generation_config``, ``training.json`` (the run's manifest, the model's name and the hash
of its weights) and ``README.md``.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tulu_eval.errors import DataError, EngineError, PreflightError, UserError
from tulu_eval.models import exported, model_files
from tulu_eval.models.exported import Exported
from tulu_eval.records import Result
from tulu_eval.store.identity import safe_name
from tulu_eval.training import loading, parallel
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.stages import RATES, Recipe, Stage
from tulu_eval.training.watching import metrics

MANIFEST = exported.FILE
CARD = "README.md"

NAMES: dict[Stage, tuple[str, ...]] = {
    "sft": ("policy",),
    "rm": ("reward_model",),
    "dpo": ("policy",),
    "ppo": ("policy", "value_model"),
}
"""Folders of the models that each stage trains, in the run's folder."""

SHOWN = {
    "loss": "loss",
    "accuracy": "accuracy",
    "score": "score",
    "kl": "KL, nats per response",
    "eos_rate": "EOS rate",
    "length": "tokens per response",
}
"""Numbers of the first and the last step on a card, with their names."""


def made(folder: Path, stage: Stage, identity: Mapping[str, str]) -> bool:
    """Whether a folder has all models of a run with this identity, with unchanged weights."""
    return all(_identity(folder / name) == identity and _whole(folder / name) for name in NAMES[stage])


def drafts(folder: Path) -> list[Path]:
    """Returns the folders of unfinished models."""
    return [_draft(folder / name) for name in sorted({name for names in NAMES.values() for name in names})]


def _draft(final: Path) -> Path:
    return final.with_suffix(".tmp")


def _whole(folder: Path) -> bool:
    """Whether a model's weights are unchanged; always if its manifest, of an older version, has no hash."""
    try:
        stated = exported.read(folder).weights_sha256
        return not stated or model_files.inspect(folder, folder.name).weights_sha256 == stated
    except UserError:
        return False


def refuse_others(folder: Path, stage: Stage, identity: Mapping[str, str]) -> None:
    """Raises PreflightError if a folder has models of another run, which would be overwritten."""
    for name in NAMES[stage]:
        if (folder / name).exists() and _identity(folder / name) != identity:
            raise PreflightError(
                f"{folder / name} exists and belongs to another run; give another --output, or --fresh to rename it"
            )


def refuse_other_rates(folder: Path, stage: Stage, recipe: Recipe) -> None:
    """Raises PreflightError if a finished run had other rates at its end, since they would have no effect any more."""
    settings = exported.read(folder / NAMES[stage][0]).settings
    if other := [name for name in RATES if settings[name].value != getattr(recipe, name)]:
        raise PreflightError(
            f"{folder} is finished, so another {' and '.join(other)} would have no effect; give another --output, or --fresh"
        )


def set_aside(folder: Path, stage: Stage) -> None:
    """Renames a run's models and metrics, not its checkpoints, so that their names start with the time.

    Raises:
        PreflightError: If the folder cannot be written.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    try:
        for name in (*NAMES[stage], metrics.METRICS, metrics.SAMPLES, metrics.PROBE):
            if (folder / name).exists():
                (folder / name).replace(folder / f"{stamp}-{name}")
    except OSError as error:
        raise PreflightError(f"{folder} cannot be written: {error.strerror}; give another --output") from error


def _identity(folder: Path) -> dict[str, str] | None:
    try:
        return exported.read(folder).identity
    except DataError:
        return None


def write(folder: Path, name: str, model: Any, tokenizer: Any, manifest: Exported, ranks: Ranks) -> Path:
    """Writes one trained model into a run's folder, whole or not at all; all ranks must call it.

    Raises:
        EngineError: If it cannot be written.
    """
    import torch
    from safetensors import SafetensorError

    dtype = getattr(torch, str(manifest.settings["compute_dtype"].value))
    final = folder / name
    state = parallel.whole_state(model, keep=ranks.first)
    if ranks.first:
        draft = _draft(final)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            loading.save(model, {key: value.to(dtype) for key, value in state.items()}, draft, tokenizer)
            weights = model_files.inspect(draft, name).weights_sha256
            called = name_of(name, manifest.recipe.name, manifest.stage, weights)
            own = {"name": called, "weights_sha256": weights, **as_manifest(manifest)}
            (draft / MANIFEST).write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
            (draft / CARD).write_text(card(final, manifest, folder, ()), encoding="utf-8")
            shutil.rmtree(final, ignore_errors=True)
            draft.replace(final)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise EngineError(
                f"{final} cannot be written: {error}; the last checkpoint is whole: make room and give the same command again"
            ) from error
    ranks.wait()
    return final


def as_manifest(manifest: Exported) -> dict[str, object]:
    """Returns the content of a run's ``manifest.json``, which is about no single model."""
    found: dict[str, object] = msgspec.to_builtins(manifest)
    return {key: value for key, value in found.items() if key not in ("name", "weights_sha256")}


def name_of(kind: str, recipe: str, stage: Stage, weights: str) -> str:
    """Returns the name of a trained model in results: recipe, stage and hash, so that no two models have the same.

    ``kind`` is ``policy``, which the name leaves out, ``value_model`` or ``reward_model``.
    """
    name = safe_name(recipe)[-40:].lstrip("._-") or "recipe"
    return "-".join((name, stage, *([] if kind == "policy" else [kind]), weights[:8]))


def card(model: Path, manifest: Exported, run: Path, results: Sequence[Result]) -> str:
    """Returns the card of a trained model; the last two parts of the model's path are the title."""
    import yaml

    head = {"library_name": "transformers", "tags": ["tulu-eval", manifest.stage]}
    with_reward = f", reward model {manifest.reward_model}" if manifest.reward_model else ""
    dropped = ", ".join(f"{n} {reason}" for reason, n in manifest.rows_dropped.items()) or "none"
    text = [
        f"---\n{yaml.safe_dump(head)}---",
        f"# {'/'.join(model.parts[-2:])}",
        f"Stage {manifest.stage}, recipe {manifest.recipe.name} (`{manifest.recipe.sha256[:8]}`), "
        f"from {manifest.model}{with_reward}, by tulu-eval {manifest.version}. Everything here is from `{MANIFEST}` "
        f"beside this file, the run's `{metrics.METRICS}`, and the evaluation runs named below.",
        *(f"Reward: {weight:g} x {name}." for name, weight in manifest.rewards.items()),
        f"{manifest.rows_kept:,} rows, dropped: {dropped}. {manifest.steps:,} steps on {manifest.ranks} rank(s).",
        "## Settings",
        _table(("setting", "value", "source"), [(key, one.value, one.source) for key, one in manifest.settings.items()]),
        *_changes(manifest),
        "## Training",
        _training(metrics.read(run / metrics.METRICS)),
        "## Results",
        _results(results),
    ]
    return "\n\n".join(text) + "\n"


def _changes(manifest: Exported) -> list[str]:
    if not manifest.changes:
        return []
    rows = [(one.setting, f"{one.step:,}", f"{one.before:g}", f"{one.after:g}") for one in manifest.changes]
    return ["Changed where the run went on:", _table(("setting", "after step", "before", "after"), rows)]


def _training(lines: Sequence[Mapping[str, Any]]) -> str:
    if not lines:
        return "No step was logged."
    first, last = lines[0], lines[-1]
    rows = [(name, _number(first[key]), _number(last[key])) for key, name in SHOWN.items() if key in last and key in first]
    return _table(("", "first step", "last step"), rows)


def _results(results: Sequence[Result]) -> str:
    if not results:
        return "Not measured yet: `tulu-eval run gsm8k --model` with this folder does."
    return _table(
        ("benchmark", "protocol", "scorer", "value", "95 % interval", "n", "signature"),
        [
            (
                one.benchmark,
                one.protocol,
                one.scorer,
                f"{one.value:.1f}",
                f"[{one.low:.1f}, {one.high:.1f}]",
                one.n,
                one.signature,
            )
            for one in results
        ],
    )


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), ["---"] * len(head), *cells])
