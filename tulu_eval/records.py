"""The records that cross rooms: frozen, slotted, and equal after a round trip through JSON.

A backend takes ``Request`` and ``Decoding`` and yields a ``Completion`` (:mod:`tulu_eval.logprobs` has its other requests and
answers); a benchmark turns that into one ``Grade`` per scorer; all grades of a scorer give a ``Result``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import random
from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant"]
"""Who speaks in a turn."""

FinishReason = Literal["stop", "length", "error", "unknown"]
"""Why generation ended. ``stop``: an end token or stop string. ``length``: the token limit. ``error``: the engine failed.
``unknown``: another harness or a server made the completion and gave no reason, or one that this project does not know."""

Kind = Literal["generate", "choose", "score"]
"""What a request asks: a continuation of a prompt; how likely tokens are to come next; how likely given continuations are."""

Status = Literal["ok", "empty", "truncated", "no_answer", "engine_error", "judge_error", "unfinished_reasoning"]
"""The class of a sample; see :func:`tulu_eval.benchmarks.base.classify`."""

STATUSES: tuple[Status, ...] = (
    "ok", "empty", "truncated", "no_answer", "engine_error", "judge_error", "unfinished_reasoning",
)  # fmt: skip

FAILURES: tuple[Status, ...] = ("engine_error", "judge_error")
"""Classes that leave open whether the model is right; all others are answers of the model."""


def to_json(record: Any) -> str:
    """Returns a frozen record (or plain JSON data) as one canonical line: sorted keys, no spaces, no NaN."""
    data = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(record: Any) -> str:
    """Returns the sha256 (64 hex digits) of the canonical JSON of a record."""
    return hashlib.sha256(to_json(record).encode("utf-8", "surrogatepass")).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Decoding:
    """The settings of generation; part of a protocol.

    Attributes:
        max_new_tokens: Largest number of generated tokens, including the end token.
        temperature: Sampling temperature, 0 or more; 0 is greedy.
        top_p: Probability mass of nucleus sampling, 0 to 1; 1 is off.
        top_k: Number of most likely tokens to sample from; 0 is off.
        stop: Strings that end generation; the text does not include them.
        seed: Seed of the sampling; no effect if greedy.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Whether generation always takes the most likely token."""
        return self.temperature == 0.0

    def draws(self, key: str) -> random.Random:
        """Returns the random number generator for the request with this key; it depends on the seed and the key only."""
        return random.Random(hashlib.sha256(f"{self.seed}\0{key}".encode()).digest())  # noqa: S311 - nothing secret


class Turn(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


def request_key(settings: str, token_ids: tuple[int, ...], text: str, **more: Any) -> str:
    """Returns a request's content key: equal keys mean equal work.

    ``settings`` is the hash of what requests share and what can change the answer (model, decoding, dtype, backend).
    ``token_ids`` are the whole prompt, empty if a server tokenizes it; ``text`` is part of the key only without them.
    """
    prompt: dict[str, Any] = {"token_ids": token_ids} if token_ids else {"token_ids": (), "text": text}
    return content_hash({"settings": settings} | prompt | more)


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One prompt for a backend to continue.

    Attributes:
        key: Content key, as :func:`request_key` makes it.
        token_ids: The whole prompt, including the beginning-of-sequence token.
        text: The same prompt as text, without the beginning-of-sequence token if the tokenizer adds it; for a server that
            applies its own template, the content of the one user turn, or several turns as JSON.
        turns: The turns for a server that applies its own template; empty if ``text`` is the one user turn, and for all others.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str
    turns: tuple[Turn, ...] = ()

    @classmethod
    def of(
        cls, settings: str, token_ids: tuple[int, ...], text: str, *, turns: tuple[Turn, ...] = (), draw: int = 0
    ) -> Request:
        """Returns a request with its key, for which ``settings`` is as for :func:`request_key`.

        ``turns`` are for a server that applies its own template. ``draw`` is the number of this sample of the prompt, 0 or
        more. Each draw has its own key and thus its own seed (:meth:`Decoding.draws`), so any process may compute any draw. The
        key of draw 0 is that of a single sample.
        """
        key = request_key(settings, token_ids, text, **({"draw": draw} if draw else {}))
        return cls(key, token_ids, text, turns)


@dataclasses.dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation of a prompt is.

    Attributes:
        logprobs: Natural log-probability of each token of the text after the prompt and the tokens before it, at least one.
    """

    text: str
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        """Natural log-probability of the whole text."""
        return math.fsum(self.logprobs)

    @property
    def per_token(self) -> float:
        """``total`` divided by the number of tokens."""
        return self.total / len(self.logprobs)

    @property
    def per_byte(self) -> float:
        """``total`` divided by the number of bytes in UTF-8; minus infinity for an empty text."""
        size = len(self.text.encode("utf-8", "surrogatepass"))
        return self.total / size if size else -math.inf


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A backend's output for one request.

    Attributes:
        text: Generated text without special tokens and stop string, not stripped; or the likeliest of given texts.
        token_ids: Generated tokens, including the end token if the model generated one; or those of the likeliest text.
        seconds: Wall-clock seconds from the request's start in the engine to its end.
        error: One line about an ``error``, or about a server's ``unknown`` end; else empty.
        likelihoods: How likely each given text is, in the request's order; empty for generated text.
    """

    key: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    seconds: float
    error: str = ""
    likelihoods: tuple[Likelihood, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Grade:
    """One scorer's judgment of one completion.

    Attributes:
        answer: The answer that the scorer extracted from the text; may be empty.
        score: 0 to 1.
        weight: How much the score counts in a ratio of sums, 0 or more: the number of parts that the score is the mean of.
    """

    scorer: str
    answer: str
    answered: bool
    score: float
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One number with its items, interval, counts and signature.

    Attributes:
        protocol: Name of the protocol whose items these are.
        metric: Name of the value, e.g. ``exact_match``.
        value: In percent, 0 to 100.
        n: Graded items, including items on which an engine failed. A scorer of a part of the items counts only these.
        n_protocol: Items of the protocol, likewise; ``n < n_protocol`` is a partial result.
        planned: Items of the protocol that the run was to answer. If the run stopped early, ``n`` of them are graded: the
            longest complete prefix of the run's order, never the items that happened to finish first.
        low: Lower end of the 95 % interval, in percent; with failures, the lower end if all of them were wrong.
        high: Upper end of the 95 % interval, in percent; with failures, the upper end if all of them were right.
        interval: Name of the interval's method: ``wilson95`` for a share of right items, ``clustered95`` for a value that is no
            such share; ``none`` if there is no interval.
        counts: Number of samples per status.
        signature: One line from which the number can be repeated.
        samples: Samples per item.
    """

    benchmark: str
    protocol: str
    scorer: str
    metric: str
    value: float
    n: int
    n_protocol: int
    planned: int
    low: float
    high: float
    interval: str
    counts: dict[str, int]
    signature: str
    samples: int = 1

    @property
    def partial(self) -> bool:
        """Whether items of the protocol are missing."""
        return self.n < self.n_protocol

    @property
    def unfinished(self) -> bool:
        """Whether the run stopped before it had all its planned items of the protocol."""
        return self.n < self.planned

    @property
    def failed(self) -> int:
        """Number of samples on which an engine or a judge failed."""
        return sum(self.counts.get(status, 0) for status in FAILURES)

    @property
    def is_share(self) -> bool:
        """Whether the value is a share of the n items, so that it can be tested as a number of right items."""
        right = self.value * self.n / 100
        return not self.interval.startswith("clustered") and abs(right - round(right)) < 1e-6

    @property
    def whole(self) -> bool:
        """Whether the result covers all items of its protocol, each with an answer of the model."""
        return not self.partial and not self.failed

    def to_fields(self) -> dict[str, Any]:
        """Returns the fields as JSON data; a single sample per item, which older versions did not write, is left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if (name, value) != ("samples", 1)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Returns the result of :meth:`to_fields`; raises ValueError if a field is missing, unknown or of another type.

        An old result without ``planned`` gets ``planned`` equal to ``n``, and one without ``samples`` gets 1.
        """
        data = {"planned": data.get("n"), "samples": 1, **data}
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(data) != fields:
            raise ValueError(f"fields of a result differ: {', '.join(sorted(set(data) ^ fields))}")
        for name in ("value", "low", "high"):
            if isinstance(data[name], bool) or not isinstance(data[name], int | float):
                raise ValueError(f"{name} is not a number")
        for name in ("n", "n_protocol", "planned", "samples"):
            if isinstance(data[name], bool) or not isinstance(data[name], int):
                raise ValueError(f"{name} is not a whole number")
        return cls(**data)
