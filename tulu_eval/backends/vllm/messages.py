"""What an engine's process and its parent say to each other, over one connection."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tulu_eval.backends.base import Usage
from tulu_eval.backends.branches import Branches, BranchScores
from tulu_eval.records import Completion, Decoding, Request, content_hash

SAME_LOGPROB = 1e-4
"""Log-probabilities that differ by less are of the same weights: an engine repeats a lone prompt to the last bit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What the engine is built from.

    Attributes:
        engine: Keyword arguments of ``vllm.LLM``.
        folder: The model's folder, with its tokenizer.
        name: The model's name, for messages.
        adapter: Folder of a LoRA adapter; empty for none.
        cpus: Cores that this engine computes on; empty for all.
    """

    engine: dict[str, Any]
    folder: Path
    name: str
    trust_remote_code: bool
    eos_ids: tuple[int, ...]
    adapter: str
    cpus: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class EngineJob:
    """Requests of one ``generate`` call; ``None`` in place of a job ends the process."""

    number: int
    requests: tuple[Request, ...]
    decoding: Decoding


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreOrder:
    """Prompts of one ``choose`` or ``score`` call."""

    number: int
    asked: tuple[Branches, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Drop what is left of a job."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """The engine is loaded; facts for the manifest."""

    facts: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Reload:
    """Put another checkpoint's weights in the place of those that are loaded; between two jobs.

    Attributes:
        folder: With safetensors; all else there is as in the folder before.
        probe: Token ids of a prompt, whose log-probabilities are looked at before and after.
        eos_ids: Tokens that end a completion from now on; None for those that do.
    """

    folder: Path
    probe: tuple[int, ...]
    eos_ids: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """One step of a transfer of weights from a trainer, between two jobs; it is answered by :class:`Done`.

    Attributes:
        method: A method of vLLM's ``VLLMWeightSyncClient``, which each of its workers has.
        arguments: Its keyword arguments.
    """

    method: str
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Sleep:
    """Free the memory of weights, keys and values until the next transfer of weights; it is answered by :class:`Done`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """What was asked for is done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """Say what the engine makes of a probe, the token ids of a prompt; it is answered by a :class:`Fingerprint`."""

    probe: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Fingerprint:
    """What an engine makes of a probe: what weights do, rather than what they are said to be.

    Attributes:
        logprobs: Log-probability of each token of the probe but the first.
    """

    logprobs: tuple[float, ...]

    def like(self, other: Fingerprint) -> bool:
        """Whether both are of the same weights, as far as a probe can tell."""
        pairs = zip(self.logprobs, other.logprobs, strict=True)
        return all(abs(one - another) <= SAME_LOGPROB for one, another in pairs)

    def digest(self) -> str:
        """Returns 16 hex digits for the manifest."""
        return content_hash([round(one, 3) for one in self.logprobs])[:16]


@dataclasses.dataclass(frozen=True, slots=True)
class Reloaded:
    """The weights were put in place, as far as vLLM says; what the engine made of the probe before and after tells."""

    before: Fingerprint
    after: Fingerprint


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """Completions of one step; ``last`` after a job's last one; ``usage`` since the message before."""

    number: int
    completions: tuple[Completion, ...]
    last: bool
    usage: Usage = dataclasses.field(default_factory=Usage)


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of one step; the rest is as for :class:`Finished`."""

    number: int
    scores: tuple[BranchScores, ...]
    last: bool
    usage: Usage = dataclasses.field(default_factory=Usage)


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """The engine is gone; one line with the cause."""

    cause: str
