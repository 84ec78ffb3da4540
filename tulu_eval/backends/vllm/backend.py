"""vLLM as a backend: one engine process a group of devices, all requests in flight at once, completions as they finish.

Each engine is a process (:mod:`tulu_eval.backends.vllm.worker`), which sees only its own devices. With ``data_parallel`` N
there are N of them, and requests are dealt by a hash of their key, so that who computes what depends on the request alone.
The process that calls imports neither vllm nor torch and holds no memory on any device.

Neither the tokenizer's nor ``generation_config``'s end tokens and sampling defaults have any effect: only what the caller says.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar

from tulu_eval.backends import branches, usage
from tulu_eval.backends.base import Backend, EngineSettings, ReloadError, Usage
from tulu_eval.backends.branches import Branches, BranchScores
from tulu_eval.backends.vllm import preflight as preflight
from tulu_eval.backends.vllm.messages import (
    EngineJob,
    Finished,
    Look,
    Reload,
    Reloaded,
    Scored,
    ScoreOrder,
    Sleep,
    Stop,
    Transfer,
)
from tulu_eval.backends.vllm.process import EngineProcess, incoming
from tulu_eval.backends.vllm.reload import PROBE_LENGTH, check_same_kind
from tulu_eval.backends.vllm.settings import environment, make_spec
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.logprobs import Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Kind, Request

Asked = TypeVar("Asked", Request, Branches)


def default_here() -> bool:
    """Whether vLLM is what a run should use here: it is installed, and a GPU that it supports is there."""
    return preflight.supported_here()


class VllmBackend(Backend):
    """One or more vLLM engines with one model.

    Args:
        facts: What the manifest records.
        max_length: Positions that the engines have.
    """

    name: ClassVar[str] = "vllm"
    extra: ClassVar[str] = "vllm"
    over_nodes: ClassVar[bool] = True
    by_ids: ClassVar[bool] = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "choose", "score"})
    own_settings: ClassVar[frozenset[str] | None] = frozenset(
        {
            "dtype",
            "device",
            "prefix_caching",
            "tensor_parallel",
            "pipeline_parallel",
            "data_parallel",
            "gpu_memory_utilization",
            "max_model_len",
            "quantization",
            "adapter",
        }
    )

    def __init__(
        self,
        engines: Sequence[EngineProcess],
        facts: dict[str, str],
        max_length: int,
        model: ModelFiles,
        settings: EngineSettings,
    ) -> None:
        self._engines, self._facts, self._max_length = list(engines), facts, max_length
        self._model, self._settings = model, settings
        self._job = 0
        self._usage = Usage()

    @classmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Raises PreflightError if something is missing; see :func:`tulu_eval.backends.vllm.preflight.check`."""
        cls.check_settings(settings)
        preflight.check(model, settings)

    @classmethod
    def load(
        cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, transfer: str = ""
    ) -> Self:
        """Starts the engines side by side and waits until all are ready.

        ``transfer`` says how weights will come from a trainer; see :func:`tulu_eval.backends.vllm.settings.make_spec`.

        Raises:
            PreflightError: The longest request is longer than the model or ``max_model_len`` allows.
            EngineError: An engine did not start.
        """
        positions = settings.max_model_len or max_length
        if positions < max_length:
            raise PreflightError(f"--max-model-len {positions} is less than the longest request, {max_length} tokens")
        if model.context and positions > model.context:
            raise PreflightError(f"the longest request has {positions} tokens, and {model.name} has {model.context} positions")
        engines: list[EngineProcess] = []
        try:
            for number in range(settings.data_parallel):
                spec = make_spec(model, settings, eos_ids, positions, number, transfer)
                engines.append(EngineProcess(spec, environment(model, settings, positions, number, transfer)))
            answers = [engine.ready() for engine in engines]
        except BaseException:
            for engine in engines:
                engine.kill()
            raise
        sizes = {name: str(getattr(settings, name)) for name in ("tensor_parallel", "pipeline_parallel", "data_parallel")}
        return cls(engines, {**answers[0], **sizes, "adapter": settings.adapter or "none"}, positions, model, settings)

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Reads another checkpoint's weights into the running engines.

        Raises:
            ReloadError: The checkpoints are not of one kind, an engine failed, or what it makes of the probe did not change.
        """
        if not self._engines:
            raise ReloadError("the engine is closed")
        if max_length > self._max_length:
            raise ReloadError(f"its requests have up to {max_length} tokens, and the engine was built for {self._max_length}")
        check_same_kind(self._model, model, self._settings, settings)
        try:
            answers: list[Reloaded] = self.ask(Reload(model.path, probe[:PROBE_LENGTH], eos_ids))
        except EngineError as error:
            raise ReloadError(str(error)) from error
        if any(answer.after.like(answer.before) for answer in answers):
            raise ReloadError(f"the engine answers as with {self._model.name} before ({answers[0].after.digest()})")
        self._facts |= {
            "weights": f"put into the engine in place of {self._model.name}'s",
            "fingerprint_before": answers[0].before.digest(),
            "fingerprint": answers[0].after.digest(),
        }
        self._model = model

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request, as they finish; its seconds count from its submission, when all are submitted.

        A row that gets to the last position of the engine ends with ``length``, as in the transformers backend.

        Raises:
            EngineError: An engine died, or a prompt is longer than the engines were built for.
        """
        if not self._engines:
            raise EngineError("the vLLM engine is closed")
        longest = max((len(request.token_ids) for request in requests), default=0)
        if longest >= self._max_length:
            raise EngineError(
                f"a prompt has {longest} tokens, and the engine was built for {self._max_length}, new ones included"
            )
        with contextlib.closing(self._answers(requests, lambda number, share: EngineJob(number, share, decoding))) as stream:
            for message in stream:
                if isinstance(message, Finished):
                    yield from message.completions

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[Choice]:
        """Yields log-probabilities of each request's candidates, as they come; an impossible request's answer is an error."""
        yield from branches.choices(self._likelihoods(branches.of_choices(requests)))

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scores]:
        """Yields log-probabilities of each request's continuations, as they come; an impossible request's is an error."""
        yield from branches.scores(requests, self._likelihoods(branches.of_scores(requests)))

    def _likelihoods(self, asked: Sequence[Branches]) -> Iterator[BranchScores]:
        if not self._engines:
            raise EngineError("the vLLM engine is closed")
        with contextlib.closing(self._answers(asked, ScoreOrder)) as stream:
            for message in stream:
                if isinstance(message, Scored):
                    yield from message.scores

    def _answers(
        self, asked: Sequence[Asked], order: Callable[[int, tuple[Asked, ...]], object]
    ) -> Generator[Finished | Scored, None, None]:
        """Deals what is asked to the engines and yields what they send, until all are done or the caller wants no more.

        ``order`` makes an engine's job of its number and the engine's share. Raises EngineError if an engine died.
        """
        self._job += 1
        working = []
        try:
            for engine, share in zip(self._engines, deal(asked, len(self._engines)), strict=True):
                if share:
                    engine.send(order(self._job, share))
                    working.append(engine)
            while working:
                for engine, message in incoming(working):
                    if message.number == self._job:
                        usage.add(self._usage, message.usage, len(self._engines))
                        if message.last:
                            working.remove(engine)
                        yield message
        except EngineError:
            self._kill()
            raise
        finally:
            for engine in working if self._engines else ():
                engine.send(Stop())

    def usage(self) -> Usage:
        """Returns where the time went, over all engines."""
        return self._usage

    def ask(
        self,
        message: Reload | Transfer | Sleep | Look,
        during: Callable[[], object] = lambda: None,
        seconds: float | None = None,
    ) -> list[Any]:
        """Sends a message to all engines, calls ``during``, and returns their answers; between two ``generate`` calls.

        Raises:
            EngineError: An engine died, failed, or did not answer for ``seconds``; all are ended then.
        """
        if not self._engines:
            raise EngineError("the vLLM engine is closed")
        try:
            for engine in self._engines:
                engine.send(message)
            during()
            return [_reply(engine, seconds) for engine in self._engines]
        except EngineError:
            self._kill()
            raise

    def describe(self) -> dict[str, str]:
        """Returns version, dtype, device, parallelism and what vLLM chose by itself."""
        return dict(self._facts)

    def close(self) -> None:
        """Ends all engines and every process that they started."""
        for engine in self._engines:
            engine.send(None)
        for engine in self._engines:
            engine.end()
        self._engines = []

    def _kill(self) -> None:
        for engine in self._engines:
            engine.kill()
        self._engines = []


def _reply(engine: EngineProcess, seconds: float | None) -> Any:
    """Returns the next message of an engine that is not about a job, whose caller wanted no more."""
    while isinstance(found := engine.receive(seconds), Finished | Scored):
        continue
    return found


def deal(requests: Sequence[Asked], engines: int) -> list[tuple[Asked, ...]]:
    """Returns each engine's requests, dealt by a hash of their key."""
    shares: list[list[Asked]] = [[] for _ in range(engines)]
    for request in requests:
        digest = hashlib.sha256(request.key.encode("utf-8", "surrogatepass")).digest()
        shares[int.from_bytes(digest[:8], "big") % engines].append(request)
    return [tuple(share) for share in shares]
