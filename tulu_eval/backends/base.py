"""The interface of a backend: a class that turns requests into a stream of answers.

A backend knows prompts and tokens, never benchmarks. It owns batching, memory and devices. A third-party package adds a backend
through the entry point group ``tulu_eval.backends``: the entry's name is the name for ``--backend``, its value a subclass of
:class:`Backend`.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import ClassVar, Self

from tulu_eval.errors import PreflightError
from tulu_eval.logprobs import Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models.base import ModelFiles, Served
from tulu_eval.records import Completion, Decoding, Kind, Request


@dataclasses.dataclass(frozen=True, slots=True)
class EngineSettings:
    """The settings of an engine. They must not change what a protocol fixes; dtype and backend are part of a request's key.

    Attributes:
        dtype: dtype of the computation; ``auto`` is the dtype of the stored weights.
        device: torch device; ``auto`` is cuda, then mps, then cpu.
        batch_size: Rows decoded together, or requests in flight to a server; 0 lets the backend choose.
        trust_remote_code: Whether Python code that comes with the model may run.
        prefix_caching: Whether to compute the prompts' shared prefix once; off only to test whether it changes an answer.
        tensor_parallel: Number of devices that share each layer of one engine.
        pipeline_parallel: Number of groups of devices, among which the layers of one engine are divided.
        data_parallel: Number of engines, each with the whole model on its own devices, among which requests are divided.
        gpu_memory_utilization: Fraction (0 to 1) of a device's memory that an engine may take; 0.92 is vLLM's default.
        max_model_len: Largest length of a request in positions; 0 is the length of the longest request.
        quantization: vLLM's name of the weights' quantisation; empty is the checkpoint's own.
        adapter: Folder of a LoRA adapter; empty for none.
        served: The server that has the model; ``None`` for an engine in this program.
        cluster: ``ray`` for a Ray cluster of this machine's own, ``HOST:PORT`` for a running one; ``None`` for this machine
            alone. On a cluster every backend has ``data_parallel``, of which 0 is as many as fit.
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
    cluster: str | None = None


COMMON_SETTINGS = frozenset({"batch_size", "trust_remote_code", "allow_pickle"})
"""Settings that every backend has."""

_ASKED: dict[Kind, str] = {
    "generate": "generate text",
    "choose": "give the log-probabilities of next tokens",
    "score": "give the log-probabilities of given texts",
}


def _refusal(backend: str, kind: Kind) -> PreflightError:
    """Returns the error of a backend that cannot answer a kind of requests."""
    return PreflightError(f"--backend {backend} cannot {_ASKED[kind]}, which this benchmark needs; use another backend")


@dataclasses.dataclass(slots=True)
class Usage:
    """An engine's tokens and seconds since it was loaded; the engine adds to them while it works.

    Attributes:
        prefill_tokens: Computed prompt tokens; a shared prefix counts once.
        prefill_seconds: Seconds of prefill, including the shared prefix's.
        decode_tokens: Tokens generated in decoding steps, each of one token per row.
        decode_steps: Number of decoding steps; each reads the weights once.
    """

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    decode_steps: int = 0


@dataclasses.dataclass(slots=True)
class Traffic:
    """The number of requests to a server since the first one.

    Attributes:
        sent: Requests sent, including repeated ones.
    """

    sent: int = 0
    resent: int = 0


class ReloadError(Exception):
    """A running engine cannot take another checkpoint's weights, so the caller must close it.

    The message is one line with the reason; it is empty for an engine that loads every model anew by design.
    """


class Backend(abc.ABC):
    """One engine with one loaded model; a context manager, whose ``close`` frees memory and processes.

    Attributes:
        name: Name for ``--backend``.
        local: Whether the weights must be on this machine.
        kinds: Kinds of requests that it answers.
        own_settings: Fields of :class:`EngineSettings` that it has besides :data:`COMMON_SETTINGS`; ``None`` for all.
        over_nodes: Whether an engine can have GPUs of several nodes of a Ray cluster.
        by_ids: Whether a completion's text and end are what ``tulu_eval.backends.growing.Finisher`` makes of its token ids.
        extra: Extra of this package that it needs; empty for none.
    """

    name: ClassVar[str]
    local: ClassVar[bool] = True
    over_nodes: ClassVar[bool] = False
    by_ids: ClassVar[bool] = False
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate"})
    own_settings: ClassVar[frozenset[str] | None] = None
    extra: ClassVar[str] = ""

    @classmethod
    def check_settings(cls, settings: EngineSettings) -> None:
        """Checks that the backend has every setting that is not at its default, instead of ignoring it.

        Raises:
            PreflightError: If it lacks one, or the batch size is negative.
        """
        if settings.batch_size < 0:
            raise PreflightError(f"--batch-size must be 0 (the backend chooses) or more, not {settings.batch_size}")
        if cls.own_settings is None:
            return
        own = COMMON_SETTINGS | cls.own_settings
        if cls.local:
            own |= {"cluster"} if settings.cluster is None else {"cluster", "data_parallel"}
        for field in dataclasses.fields(settings):
            changed = getattr(settings, field.name) != field.default
            if changed and field.name not in own:
                option = "base-url" if field.name == "served" else field.name.replace("_", "-")
                raise PreflightError(f"--{option} is no setting of --backend {cls.name}")

    @classmethod
    def check_kind(cls, kind: Kind, settings: EngineSettings) -> None:
        """Raises PreflightError if the backend cannot answer requests of a kind; loads nothing and sends no request."""
        if kind not in cls.kinds:
            raise _refusal(cls.name, kind)

    @classmethod
    @abc.abstractmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Raises PreflightError if a package, a device or memory is missing, or the engine does not have a setting.

        It loads nothing heavy.
        """

    @classmethod
    @abc.abstractmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Loads the model.

        Only ``eos_ids`` end a completion; the engine ignores the model's ``generation_config``. ``max_length`` is the largest
        length of a row in positions, prompt and new tokens together: that of the longest request, at most the model's context.
        A row of this length ends with ``length``.
        """

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Replaces the loaded weights by another checkpoint's, and checks that the new ones took effect.

        The arguments are as for :meth:`load`; the engine's output for the prompt ``probe`` is compared before and after.

        Raises:
            ReloadError: If the engine cannot replace the weights, or did not; close it and load the model anew.
        """
        raise ReloadError

    @abc.abstractmethod
    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request as soon as it finishes, in any order.

        Raises:
            EngineError: If the engine fails; completions yielded before are valid.
        """

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[Choice]:
        """Yields the log-probabilities of each request's candidates, in any order.

        Raises:
            PreflightError: If the backend cannot; see :attr:`kinds`.
            EngineError: If the engine fails; answers yielded before are valid.
        """
        raise _refusal(self.name, "choose")

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scores]:
        """Yields the log-probabilities of each request's continuations, in any order.

        Raises:
            PreflightError: If the backend cannot; see :attr:`kinds`.
            EngineError: If the engine fails; answers yielded before are valid.
        """
        raise _refusal(self.name, "score")

    @abc.abstractmethod
    def describe(self) -> dict[str, str]:
        """Returns the manifest's record of this engine: the resolved ``dtype`` and ``device``, versions, attention path."""

    def usage(self) -> Usage | None:
        """Returns tokens and seconds; ``None`` for an engine that mixes prefill and decoding in one step."""
        return None

    def traffic(self) -> Traffic | None:
        """Returns the number of requests to a server; ``None`` for an engine in this program."""
        return None

    def close(self) -> None:  # noqa: B027 - an engine that holds nothing has nothing to free
        """Frees the engine's memory and processes; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
