"""Hashes everything that a completion or a run depends on, from the setup that a plan and a manifest share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import UnsetType

from tulu_eval.caching import file_sha256
from tulu_eval.models.base import SERVED
from tulu_eval.records import content_hash
from tulu_eval.store.setup_schema import Setup, StoredModel, StoredServed, plain


def settings_hash(setup: Setup) -> str:
    """Returns the hash of everything that all samples of a model, benchmark and setting have in common, whichever items run.

    If the protocol fixes the items, the hash does not depend on the file or data set that they were read from.
    """
    benchmark, protocol, model = setup.benchmark, setup.protocol, setup.model
    if setup.imported:  # two files of another harness may leave out the same settings, so the hash of the file stands for them
        about = setup.backend, setup.imported.sha256, model.name, model.revision
        return content_hash([*about, benchmark.name, benchmark.version])
    return content_hash(
        {
            "benchmark": benchmark.name,
            "benchmark_version": benchmark.version,
            "prompt": protocol.prompt_id,
            "template": setup.template.sha256,
            "data": "" if protocol.n else null(benchmark.data_sha256),
            **of_completions(setup),
        }
    )


def of_completions(setup: Setup) -> dict[str, Any]:
    """Returns everything but the prompt's token ids that can change a completion."""
    model, settings = setup.model, setup.settings
    return {
        "adapter": adapter_hash(settings.adapter),
        "quantization": settings.quantization,
        "model": [model.name, model.revision, null(model.weights_sha256), model.tokenizer_sha256],
        "decoding": plain(setup.decoding),
        "eos_ids": setup.eos_ids,
        "dtype": setup.dtype,
        "backend": setup.backend,
        **_server(model, settings.served),
    }


def data_hash(data: Path | None, items_sha256: str) -> str:
    """Returns the hash of a benchmark's data: of the file, or of the items if there is no file or several in a folder.

    So a folder's hash depends on what the benchmark reads there, and on no path, no order and no other file.
    """
    return items_sha256 if data is None or data.is_dir() else file_sha256(data)


def null(value: str | UnsetType | None) -> str | None:
    """Returns the value of a manifest's field; ``None`` if it is null, or if an older file does not have the field."""
    return value if isinstance(value, str) else None


def adapter_hash(folder: str) -> str:
    """Returns the hash of an adapter's weights, or ``folder`` itself if this machine has no such weights."""
    weights = Path(folder) / "adapter_model.safetensors"
    return file_sha256(weights) if folder and weights.exists() else folder


def _server(model: StoredModel, served: StoredServed | UnsetType) -> dict[str, Sequence[str]]:
    """Returns the server's part of what can change a completion; its address counts only if no other server has the model."""
    if not served:
        return {}
    return {"served": [served.name, served.prompts, served.url if model.revision == SERVED else ""]}


LONGEST_NAME = 200
"""Largest number of bytes of a folder's name; temporary names are a few bytes longer."""


def safe_name(name: str) -> str:
    """Returns a folder name for a model: ``/`` becomes ``__``, other unusual characters ``-``; never hidden, never a path.

    It cuts a name of more than :data:`LONGEST_NAME` bytes and appends its hash, since file systems allow 255 bytes.
    """
    safe = re.sub(r"[^\w.-]", "-", name.replace("/", "__"), flags=re.ASCII).lstrip(".") or "model"
    return safe if len(safe) <= LONGEST_NAME else f"{safe[: LONGEST_NAME - 9]}-{content_hash(name)[:8]}"
