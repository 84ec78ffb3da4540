"""A model before any weight is loaded: its files here, or its name at a server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

SERVED = "served"
"""Revision of a model that only a server has, and dtype of every served one."""

Prompts = Literal["auto", "tokens", "text", "chat"]
"""How a server gets prompts: as token ids; as text that it tokenizes; as a user's turn, to which it applies its own template.
``auto`` is tokens where the model's tokenizer is here and the server takes them, else chat."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk, resolved and described, with no weight loaded.

    Attributes:
        name: Name under which results are filed: hub id, name of the registry, or a local model's name (``--name``).
        path: Folder with config, tokenizer and weights (for GGUF: a de-quantised copy in the user's cache).
        revision: Commit of the hub, or ``sha256:...`` of the weights for local files.
        weights_sha256: Hash over the weight files' hashes.
        tokenizer_sha256: Hash over the tokenizer files.
        architecture: ``architectures[0]`` of the config.
        parameters: Number of parameters, read from the weight files' headers.
        dtype: dtype that the config names, else that of the weights; ``--dtype auto`` takes it.
        context: Number of positions, after corrections of known defects of released configs.
        missing_bytes: Bytes of the weights that are still to be downloaded from the hub.
        weight_files: Names of the weight files in ``path``; empty if only a server has them.
    """

    name: str
    path: Path
    revision: str
    weights_sha256: str
    tokenizer_sha256: str
    architecture: str
    parameters: int
    dtype: str
    context: int
    weight_bytes: int
    missing_bytes: int = 0
    weight_files: tuple[str, ...] = ()

    @property
    def safe(self) -> bool:
        """Whether all weights are safetensors."""
        return all(name.endswith(".safetensors") for name in self.weight_files)


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A model behind an OpenAI-compatible server.

    Attributes:
        url: The server's base URL, such as ``http://localhost:8000/v1``.
        name: The model's name there; empty for the name in ``--model``.
        timeout: Limit for one answer in seconds.
    """

    url: str
    name: str = ""
    prompts: Prompts = "auto"
    timeout: float = 600.0
