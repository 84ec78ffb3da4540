"""The few nouns that cross rooms: frozen, slotted, and the same after a round trip through JSON.

``Request`` and ``Decoding`` go into a backend, ``Completion`` comes out; a benchmark turns it into one ``Grade`` a scorer;
all grades of a scorer make a ``Result``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from typing import Any, Literal

FinishReason = Literal["stop", "length", "error", "unknown"]
"""Why generation ended: an end token or stop string, the token limit, or an error of the engine; ``unknown`` where another
harness or a server made the completion and did not say, or said it in a word that is not known here."""

Status = Literal["ok", "empty", "truncated", "no_answer", "engine_error", "judge_error"]
"""The one class a sample falls in; see :func:`tulu_eval.benchmarks.base.classify`."""

STATUSES: tuple[Status, ...] = ("ok", "empty", "truncated", "no_answer", "engine_error", "judge_error")

FAILURES: tuple[Status, ...] = ("engine_error", "judge_error")
"""Classes in which nobody knows whether the model is right; all others are answers of the model."""


def to_json(record: Any) -> str:
    """Returns a frozen record (or plain JSON data) as one canonical line: sorted keys, no spaces, no NaN."""
    data = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(record: Any) -> str:
    """Returns the sha256 (64 hex digits) of the canonical JSON of a record."""
    return hashlib.sha256(to_json(record).encode("utf-8", "surrogatepass")).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are drawn; part of a protocol.

    Attributes:
        max_new_tokens: Limit of generated tokens, the end token included.
        temperature: 0 is greedy.
        top_p: Nucleus mass; 1 is off.
        top_k: Number of likeliest tokens drawn from; 0 is off.
        stop: Strings that end generation and are cut from the text.
        seed: Seed of the draw; no effect when greedy.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0

    def draws(self, key: str) -> random.Random:
        """Returns the source of random numbers of the request with a key; it depends on the seed and the key only."""
        return random.Random(hashlib.sha256(f"{self.seed}\0{key}".encode()).digest())  # noqa: S311 - nothing secret


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One prompt for a backend.

    Attributes:
        key: Content key: equal keys mean equal work (model, token ids, decoding, dtype, backend).
        token_ids: The whole prompt, beginning-of-sequence token included.
        text: The same prompt as text, without the beginning-of-sequence token where the tokenizer adds it.
    """

    key: str
    token_ids: tuple[int, ...]
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """What a backend made of one request.

    Attributes:
        key: The request's key.
        text: Generated text, special tokens left out, stop string cut off; not stripped.
        token_ids: Generated tokens, the end token included where one was generated.
        finish_reason: Why it ended.
        seconds: Wall-clock seconds from the request's start in the engine to its end.
        error: One line, where ``finish_reason`` is ``error``; of a server also what it said where that is ``unknown``.
    """

    key: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    seconds: float
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Grade:
    """One scorer's judgment of one completion.

    Attributes:
        scorer: The scorer's name.
        answer: What the scorer read out of the text.
        answered: Whether it found an answer there at all.
        score: 0 to 1.
    """

    scorer: str
    answer: str
    answered: bool
    score: float


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One number, with everything that must go with it.

    Attributes:
        benchmark: Name of the benchmark.
        protocol: Name of the protocol whose items these are.
        scorer: Name of the scorer.
        metric: What the value is, e.g. ``exact_match``.
        value: In percent.
        n: Items graded, those that an engine failed on among them.
        n_protocol: Items the protocol has; ``n < n_protocol`` is a partial result.
        planned: Items of the protocol that the run was to answer. Where the run was stopped before, ``n`` of them are graded:
            the longest whole beginning of the run's order, never what happened to finish first.
        low: Lower end of the 95 % interval, in percent. With failures it is that of all of them wrong.
        high: Upper end of the 95 % interval, in percent. With failures it is that of all of them right.
        interval: Name of the interval's method, e.g. ``wilson95``; ``none`` where there is no interval.
        counts: Number of items in each status.
        signature: One line, enough to repeat the number.
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

    @property
    def partial(self) -> bool:
        """Whether items of the protocol are missing."""
        return self.n < self.n_protocol

    @property
    def unfinished(self) -> bool:
        """Whether the run was stopped before it had all items of the protocol that it was to answer."""
        return self.n < self.planned

    @property
    def failed(self) -> int:
        """Items that an engine or a judge failed on."""
        return sum(self.counts.get(status, 0) for status in FAILURES)

    @property
    def whole(self) -> bool:
        """Whether it stands on all items of its protocol, each with an answer of the model."""
        return not self.partial and not self.failed

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Returns the result that :func:`to_json` wrote; before ``planned`` was written, all that was planned was graded.

        Raises:
            ValueError: If a field is missing, unknown or of another type.
        """
        data = {"planned": data.get("n"), **data}
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(data) != fields:
            raise ValueError(f"fields of a result differ: {', '.join(sorted(set(data) ^ fields))}")
        for name in ("value", "low", "high"):
            if isinstance(data[name], bool) or not isinstance(data[name], int | float):
                raise ValueError(f"{name} is not a number")
        for name in ("n", "n_protocol", "planned"):
            if isinstance(data[name], bool) or not isinstance(data[name], int):
                raise ValueError(f"{name} is not a whole number")
        return cls(**data)
