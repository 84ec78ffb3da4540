"""Pickled weights: training reads a copy as safetensors, which this module keeps in the user's cache.

The pickle is read with ``weights_only``, so a file that would run code is an error.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tulu_eval import files
from tulu_eval.caching import cache_folder
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models import weights
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.gguf import alone

if TYPE_CHECKING:
    import torch

MOST_COPIED = 1 << 28
"""Largest size in bytes of a file that is copied beside the weights: config, tokenizer."""


def as_safetensors(model: ModelFiles) -> ModelFiles:
    """Returns a model whose weights are safetensors: itself, or the copy of one with pickles, made on first use.

    The weights must be here. The copy keeps the name and the hash of the pickles.

    Raises:
        DataError: If a pickle is corrupt or holds anything but tensors.
        PreflightError: If the copy cannot be written.
    """
    if model.safe:
        return model
    folder = cache_folder() / "pickled" / model.weights_sha256[:16]
    names = tuple(Path(name).stem.replace("pytorch_model", "model") + ".safetensors" for name in model.weight_files)
    if not (folder / "config.json").exists():
        with alone(folder):
            if not (folder / "config.json").exists():
                _convert(model, folder, names)
    return dataclasses.replace(model, path=folder, weight_files=names)


def _convert(model: ModelFiles, folder: Path, names: tuple[str, ...]) -> None:
    from safetensors.torch import save_file

    draft = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        places: dict[str, str] = {}
        for pickled, name in zip(model.weight_files, names, strict=True):
            tensors = _tensors(model.path / pickled)
            # Tied weights share memory, which safetensors refuses.
            save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, draft / name, {"format": "pt"})
            places |= dict.fromkeys(tensors, name)
        if names != (weights.SINGLE,):
            files.write_json(draft / weights.INDEX, {"metadata": {}, "weight_map": places})
        for path in model.path.iterdir():
            kept = path.suffix in (".json", ".model", ".txt", ".jinja") and path.name not in (
                weights.PICKLE_INDEX,
                weights.INDEX,
            )
            if kept and path.is_file() and path.stat().st_size <= MOST_COPIED:
                shutil.copy(path, draft / path.name)
        os.replace(draft, folder)
    except OSError as error:
        raise PreflightError(f"{folder} cannot be written: {error.strerror or error}; set XDG_CACHE_HOME") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a corrupt file makes torch raise
        raise DataError(path, "is no pickle of tensors alone: it is corrupt, or would run code") from error
    if not isinstance(found, dict) or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise DataError(path, "is no pickle of named tensors")
    return found
