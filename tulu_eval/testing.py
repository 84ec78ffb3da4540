"""An engine for tests: it loads nothing and answers from a script.

>>> def answer(request, decoding):
...     return f" So the answer is {len(request.text)}."
>>> plan = dataclasses.replace(plan, backend=ScriptedBackend.of(answer))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Self

from tulu_eval.backends.base import Backend, EngineSettings
from tulu_eval.logprobs import Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Kind, Request

Answer = Callable[[Request, Decoding], str | Completion]
"""Makes an answer: a text, which becomes a completion that ended by itself after 0.1 s, or a whole completion."""


class ScriptedBackend(Backend):
    """Answers requests in their order with :meth:`answer`. Subclass it, or call :meth:`of`.

    Attributes:
        described: The manifest's record of the engine.
    """

    name: ClassVar[str] = "scripted"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "choose", "score"})
    described: ClassVar[Mapping[str, str]] = {"dtype": "float32", "device": "cpu"}

    @classmethod
    def of(cls, answer: Answer, *, name: str = "scripted", described: Mapping[str, str] | None = None) -> type[ScriptedBackend]:
        """Returns an engine with a script.

        ``name`` is what ``--backend`` would take, a part of a run's identity; ``described`` is the manifest's record of the
        engine, a device and a dtype unless given.
        """
        body = {"name": name, "described": described or cls.described, "answer": staticmethod(answer)}
        return type("ScriptedBackend", (cls,), body)

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        """Returns the answer to a request."""
        raise NotImplementedError

    def logprob(self, prompt: str, text: str) -> float:
        """Returns the log-probability of each token of a text after a prompt."""
        raise NotImplementedError

    @classmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Accepts every model."""

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Loads nothing."""
        return cls()

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields the answers; the token ids of a text are the code points of its characters."""
        for request in requests:
            said = self.answer(request, decoding)
            yield Completion(request.key, said, tuple(map(ord, said)), "stop", 0.1) if isinstance(said, str) else said

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[Choice]:
        """Yields the log-probabilities of the candidates, which must have texts."""
        for request in requests:
            yield Choice(request.key, tuple(self.logprob(request.text, text) for text in request.texts), 0.1)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scores]:
        """Yields the log-probabilities of the continuations."""
        for request in requests:
            found = [one.scored([self.logprob(request.text, one.text)] * len(one.token_ids)) for one in request.continuations]
            yield Scores(request.key, tuple(found), 0.1)

    def describe(self) -> dict[str, str]:
        """Returns ``described``."""
        return dict(self.described)
