"""Which checkpoints may share a running engine by a change of its weights: those that differ in nothing else."""

from __future__ import annotations

from typing import Any

from tulu_eval.backends.base import EngineSettings, ReloadError
from tulu_eval.backends.vllm.preflight import stored_quantization
from tulu_eval.caching import read_json
from tulu_eval.errors import DataError
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.weights import layout

PROBE_LENGTH = 64
"""Tokens of a prompt whose log-probabilities tell which weights an engine has."""

_PROVENANCE = ("_name_or_path", "transformers_version", "use_cache")
"""Fields of a config that say nothing of what the engine computes."""


def check_same_kind(loaded: ModelFiles, model: ModelFiles, before: EngineSettings, settings: EngineSettings) -> None:
    """Raises ReloadError, in one line, if two checkpoints differ in more than weights or these cannot be changed in place."""
    config = read_json(model.path / "config.json")
    reasons = {
        "it is to run with other settings": before != settings,
        f"it is a {model.architecture}, and {loaded.name} a {loaded.architecture}": model.architecture != loaded.architecture,
        "an adapter is on the weights": bool(settings.adapter),
        "its weights are quantised": bool(settings.quantization or stored_quantization(config)),
        f"its dtype is {model.dtype}, not {loaded.dtype}": model.dtype != loaded.dtype,
        "its config differs": _computed(config) != _computed(read_json(loaded.path / "config.json")),
        f"it has {model.context} positions, not {loaded.context}": model.context != loaded.context,
        "its tokenizer differs": model.tokenizer_sha256 != loaded.tokenizer_sha256,
        "it has no safetensors weights": not all(name.endswith(".safetensors") for name in model.weight_files),
    }
    for reason, applies in reasons.items():
        if applies:
            raise ReloadError(reason)
    try:
        same = layout(model.path, model.weight_files) == layout(loaded.path, loaded.weight_files)
    except DataError as error:
        raise ReloadError(str(error)) from error
    if not same:
        raise ReloadError("its weights have other names or shapes")


def _computed(config: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _PROVENANCE}
