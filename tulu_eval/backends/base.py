"""What a backend is: a class that turns requests into a stream of completions.

A backend knows prompts and tokens, never benchmarks. It owns batching, memory and devices. A third-party package adds one
through the entry point group ``tulu_eval.backends``: the entry's name is what ``--backend`` takes, its value a subclass
of :class:`Backend`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import ClassVar, Self

from tulu_eval.errors import PreflightError
from tulu_eval.models.base import ModelFiles, Served
from tulu_eval.records import Completion, Decoding, Request


@dataclasses.dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is built. Nothing here may change what a protocol asks for; dtype and backend are part of the key.

    Attributes:
        dtype: ``auto`` is the dtype the weights are stored in.
        device: ``auto`` is cuda, then mps, then cpu.
        batch_size: Rows decoded together, or requests in flight to a server; 0 lets the backend choose.
        trust_remote_code: Run Python code that comes with the model. Off unless asked for.
        allow_pickle: Load pickle weights. Off unless asked for.
        prefix_caching: Compute a prefix that prompts share once; off only to see whether that changes an answer.
        tensor_parallel: Devices that share each layer of one engine (vLLM only, as all below).
        pipeline_parallel: Groups of devices that share the layers of one engine.
        data_parallel: Engines, each with the whole model on its own devices; requests are dealt among them.
        gpu_memory_utilization: Fraction of a device's memory that an engine may take; 0.92 is vLLM's default.
        max_model_len: Positions of the longest request that the engine takes; 0 is the longest one there is.
        quantization: How weights are quantised, in vLLM's words; empty is what the checkpoint says.
        adapter: Folder of a LoRA adapter; empty is none.
        served: The server that has the model (openai only); None for an engine of our own.
    """

    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 0
    trust_remote_code: bool = False
    allow_pickle: bool = False
    prefix_caching: bool = True
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    gpu_memory_utilization: float = 0.92
    max_model_len: int = 0
    quantization: str = ""
    adapter: str = ""
    served: Served | None = None


_OWNERS = {
    **dict.fromkeys(("device", "dtype", "prefix_caching"), ("transformers", "vllm")),
    **dict.fromkeys(
        ("tensor_parallel", "pipeline_parallel", "data_parallel", "gpu_memory_utilization", "max_model_len", "quantization"),
        ("vllm",),
    ),
    "adapter": ("vllm",),
    "served": ("openai",),
}
"""The backends that have a setting, where not all have it."""


def check_settings(backend: str, settings: EngineSettings) -> None:
    """Raises for a setting that a backend of this package does not have, rather than leave it without effect.

    Of a backend that somebody else made nothing is known: it may have any of them.

    Raises:
        PreflightError: With the backend that has it; or the batch size is negative, which none takes.
    """
    if settings.batch_size < 0:
        raise PreflightError(f"--batch-size must be 0 (chosen here) or more, not {settings.batch_size}")
    if not any(backend in owners for owners in _OWNERS.values()):
        return
    for field in dataclasses.fields(settings):
        owners = _OWNERS.get(field.name, (backend,))
        if backend not in owners and getattr(settings, field.name) != field.default:
            option = "base-url" if field.name == "served" else field.name.replace("_", "-")
            raise PreflightError(f"--{option} is a setting of --backend {' and '.join(owners)}")


@dataclasses.dataclass(slots=True)
class Usage:
    """Where an engine's time went since it was loaded; it adds up as the engine works.

    Attributes:
        prefill_tokens: Prompt tokens computed, a shared prefix once.
        prefill_seconds: Seconds spent on them.
        decode_tokens: Tokens drawn in steps of one token a row.
        decode_seconds: Seconds spent on them.
        decode_steps: Number of such steps; each reads the weights once.
    """

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    decode_steps: int = 0


@dataclasses.dataclass(slots=True)
class Traffic:
    """Requests to a server since it was first asked.

    Attributes:
        sent: Requests sent.
        resent: Of these, those sent again after a failure.
    """

    sent: int = 0
    resent: int = 0


class ReloadError(Exception):
    """Another checkpoint's weights do not go into a running engine, which has to be closed.

    One line says why; nothing, where an engine loads every model anew as a matter of course.
    """


class Backend(abc.ABC):
    """One engine with one model loaded. Use it as a context manager; ``close`` frees its memory and processes.

    Attributes:
        name: What ``--backend`` takes.
        local: Whether the weights have to be on this machine.
    """

    name: ClassVar[str]
    local: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Says what is missing before anything heavy is loaded.

        Raises:
            PreflightError: Package, device or memory missing, or a setting that this engine does not have.
        """

    @classmethod
    @abc.abstractmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Loads the model.

        Args:
            model: Files to load.
            settings: How to load them.
            eos_ids: Tokens that end a completion; whatever the model's ``generation_config`` says is ignored.
            max_length: Positions a row may take, prompt and new tokens together: the longest asked for, at most the model's
                context. A row that gets there ends with ``length``.
        """

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Puts another checkpoint's weights in the place of those that are loaded, and makes sure that they took effect.

        Args:
            model: Files to load; all else as in :meth:`load`.
            settings: How to load them.
            eos_ids: Tokens that end a completion.
            max_length: Positions that a row may take.
            probe: A prompt; what the engine makes of it is compared before and after.

        Raises:
            ReloadError: It does not, or did not; close this engine and load the model anew.
        """
        raise ReloadError

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion a request, as they finish, in any order.

        Raises:
            EngineError: The engine died; what was yielded before is good.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Returns what the manifest records of this engine: ``dtype`` and ``device`` as resolved, versions, attention path."""

    def usage(self) -> Usage | None:
        """Returns where the time went; None for an engine that mixes prefill and decoding in one step and cannot tell."""
        return None

    def traffic(self) -> Traffic | None:
        """Returns what was sent to a server; None for an engine of our own."""
        return None

    def close(self) -> None:  # noqa: B027 - an engine that holds nothing has nothing to free
        """Frees what the engine holds. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
