"""What runs on a cluster's nodes: the actor that looks at its node first, and then has an engine.

One process does both, since the start of each costs a second of a CPU, most of it Ray's own import. What it is asked comes
pickled; what it answers is bytes (:mod:`tulu_eval.backends.cluster.node_messages`).
"""

from __future__ import annotations

import dataclasses
import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tulu_eval.backends.base import Backend, EngineSettings, ReloadError, Usage
from tulu_eval.backends.cluster.node_messages import ActorPlace, Answer, AnswerBatch, Loaded, NodeReport, written
from tulu_eval.backends.cluster.versions import versions
from tulu_eval.backends.growing import one_line
from tulu_eval.backends.usage import spent
from tulu_eval.caching import file_sha256
from tulu_eval.errors import DataError, UserError
from tulu_eval.logprobs import AnyRequest, Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import fetch, from_hub, inspect
from tulu_eval.records import Completion, Decoding, Request

R = TypeVar("R", Request, ChoiceRequest, ScoreRequest)

_ANSWERS = (Completion, Choice, Scores)

MOST_WORDS = 4000
"""Characters of a line that goes to the driver."""

MOST_ANSWERS = 512
"""Largest number of answers in one message, and of answers that wait for one: an engine that is ahead of the driver waits."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoadOrder:
    """What an engine is loaded with; the fields are as for :meth:`tulu_eval.backends.base.Backend.load`.

    Attributes:
        model: The model as the driver sees it; the node finds its own files.
        config: Hash of the config that the driver sees.
    """

    model: ModelFiles
    config: str
    settings: EngineSettings
    eos_ids: tuple[int, ...]
    max_length: int


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteJob:
    """Requests of one kind for one engine; ``decoding`` has no effect on those for log-probabilities."""

    asked: tuple[AnyRequest, ...]
    decoding: Decoding


def config_of(model: ModelFiles) -> str:
    """Returns the hash of a model's config, on which its answers depend as on its weights; empty if it cannot be read."""
    try:
        return file_sha256(model.path / "config.json")
    except DataError:
        return ""


def find_model(model: ModelFiles, settings: EngineSettings, config: str) -> ModelFiles:
    """Returns a model's files on this node: in its own cache of the hub, or in the folder that the driver named.

    ``config`` is the hash of the driver's config.

    Raises:
        UserError: If the node does not see the model, or sees other weights, another tokenizer or another config.
    """
    pickle = settings.allow_pickle
    if model.revision.startswith("sha256:"):
        found = inspect(model.path, model.name, allow_pickle=pickle)
    else:
        found = from_hub(model.name, model.revision, allow_pickle=pickle)
    theirs = {"weights": model.weights_sha256, "tokenizer": model.tokenizer_sha256, "config": config}
    ours = {"weights": found.weights_sha256, "tokenizer": found.tokenizer_sha256, "config": config_of(found)}
    for what, here in ours.items():
        there = theirs[what]
        if here != there:
            raise UserError(f"{found.path} has another {what}: {here[:12]}, and the driver's is {there[:12]}")
    return found


class EngineActor:
    """Has one engine; the driver's one pending call gets the next answers.

    The engine lives in a thread of its own, since a call waits for answers while the engine makes more, and since some of
    torch's state belongs to a thread.

    Args:
        inner: Class of the engine.
        spread: Whether the engine has GPUs of several nodes, for which it asks Ray itself, as vLLM's Ray executor does.
    """

    def __init__(self, inner: type[Backend], spread: bool) -> None:
        self._inner = inner
        if spread:
            _join()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._made: queue.Queue[Answer | AnswerBatch] = queue.Queue(MOST_ANSWERS)
        self._backend: Backend | None = None

    def place(self) -> bytes:
        """Returns where the actor is; it takes no record of the driver's, which other versions may not have."""
        import ray

        return written(ActorPlace(str(ray.get_runtime_context().get_node_id()), versions()))

    def look(self, model: ModelFiles, settings: EngineSettings, config: str) -> bytes:
        """Looks whether this node has the same model as the driver; downloads no weights."""
        try:
            find_model(model, settings, config)
        except UserError as error:
            return written(NodeReport(f"cannot use {model.name}: {error.command_line}"[:MOST_WORDS]))
        return written(NodeReport(""))

    def load(self, order: LoadOrder) -> bytes:
        """Finds the model and loads it."""
        return written(self._thread.submit(self._load, order).result())

    def _load(self, order: LoadOrder) -> Loaded:
        try:
            model = find_model(order.model, order.settings, order.config)
            self._inner.check(model, order.settings)
            fetch(model)
            self._backend = self._inner.load(model, order.settings, order.eos_ids, order.max_length)
        except UserError as error:
            return _refusal(error.command_line)
        return Loaded(self._backend.describe(), self._backend.usage() is not None)

    def reload(self, order: LoadOrder, probe: tuple[int, ...]) -> bytes:
        """Puts another model's weights into the engine; the refusal is empty for an engine that never does."""
        return written(self._thread.submit(self._reload, order, probe).result())

    def _reload(self, order: LoadOrder, probe: tuple[int, ...]) -> Loaded:
        backend = self._running()
        try:
            model = find_model(order.model, order.settings, order.config)
            fetch(model)
            backend.reload(model, order.settings, order.eos_ids, order.max_length, probe)
        except (ReloadError, UserError) as error:
            return _refusal(str(error))
        return Loaded(backend.describe(), backend.usage() is not None)

    def work(self, job: RemoteJob) -> bytes:
        """Starts a job and returns its first answers."""
        self._thread.submit(self._work, job)
        return self.more()

    def more(self) -> bytes:
        """Waits for answers and returns those that are there."""
        batch = self._waited()
        try:
            return written(batch)
        except (TypeError, ValueError, OverflowError) as error:  # as of a plug-in's text with half a character
            return written(AnswerBatch(last=True, failure=f"an answer cannot be sent: {one_line(error)}"))

    def _waited(self) -> AnswerBatch:
        found, made = [], self._made.get()
        while isinstance(made, _ANSWERS):
            found.append(made)
            if len(found) >= MOST_ANSWERS:
                return _batch(found, AnswerBatch())
            try:
                made = self._made.get_nowait()
            except queue.Empty:
                return _batch(found, AnswerBatch())
        return _batch(found, made)

    def _work(self, job: RemoteJob) -> None:
        failure, usage = "", None
        try:
            backend = self._running()
            before = dataclasses.replace(backend.usage() or Usage())
            for answer in _answers(backend, job):
                if not isinstance(answer, _ANSWERS):
                    raise TypeError(f"the engine answered with a {type(answer).__name__}")
                self._made.put(answer)
            after = backend.usage()
            usage = None if after is None else spent(before, after)
        except Exception as error:  # of any engine, some of which raise of any kind; the driver counts it as its end
            failure = error.command_line if isinstance(error, UserError) else one_line(error)
        self._made.put(AnswerBatch(last=True, usage=usage, failure=failure[:MOST_WORDS]))

    def close(self) -> None:
        """Ends the engine, once it has no job."""
        self._thread.submit(self._close).result()

    def _close(self) -> None:
        if self._backend is not None:
            self._backend.close()

    def _running(self) -> Backend:
        if self._backend is None:
            raise RuntimeError("the engine has no model")
        return self._backend


def _refusal(cause: str) -> Loaded:
    return Loaded({}, counts=False, refusal=cause[:MOST_WORDS], refused=True)


def _batch(answers: Sequence[Answer], end: AnswerBatch) -> AnswerBatch:
    """Returns a message of answers with what came behind them."""
    return dataclasses.replace(
        end,
        completions=tuple(one for one in answers if isinstance(one, Completion)),
        choices=tuple(one for one in answers if isinstance(one, Choice)),
        scores=tuple(one for one in answers if isinstance(one, Scores)),
    )


def _join() -> None:
    """Lets programs started from here find the cluster and this node's GPUs, which Ray hides from an actor without GPUs."""
    import ray

    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    if not os.environ.get("CUDA_VISIBLE_DEVICES"):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def _answers(backend: Backend, job: RemoteJob) -> Iterator[Answer]:
    yield from backend.generate(generated, job.decoding) if (generated := _of(Request, job)) else ()
    yield from backend.choose(chosen) if (chosen := _of(ChoiceRequest, job)) else ()
    yield from backend.score(scored) if (scored := _of(ScoreRequest, job)) else ()


def _of(kind: type[R], job: RemoteJob) -> list[R]:
    return [one for one in job.asked if isinstance(one, kind)]
