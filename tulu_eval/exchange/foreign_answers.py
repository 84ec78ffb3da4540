"""Records of another harness's file: its answers with what it says of prompts, settings and the model."""

from __future__ import annotations

import dataclasses

from tulu_eval.exchange.lm_eval import ForeignDecoding
from tulu_eval.records import Likelihood
from tulu_eval.store.signature import UNKNOWN


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignAnswer:
    """A model's answer to one item.

    Attributes:
        line: One-based line in the file.
        question: The question as in the file.
        answer: The right answer as in the file, in the form of an item's target, or a whole solution; ``None`` for none.
        prompt: The whole prompt; ``None`` if the harness did not keep it, or a server's template made it.
        text: The model's text; empty if the file has null, which lm-eval writes for a server that sent no content.
        prediction: The answer that the harness extracted; ``None`` if it did not keep it.
        turns: Contents of the messages to a chat server; empty for any other model.
        group: Group of the item, e.g. a subject; empty if the file does not name it.
        likelihoods: How likely each choice is, in the file's order, all its tokens in one number; empty for a generated text.
    """

    line: int
    question: str
    answer: str | None
    prompt: str | None
    text: str
    prediction: str | None
    turns: tuple[str, ...] = ()
    group: str = ""
    likelihoods: tuple[Likelihood, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """A file of another harness. What the file does not say is ``unknown`` or ``None``; nothing is guessed.

    Attributes:
        task: The harness's name of the task.
        answers: Answers in the file's order: one per item, two for an item that the file has twice.
        engine: The harness's name of the engine.
        other_decoding: Sampling settings that a manifest has no field for, as ``name=value``.
        quantization: Name of the method; empty for unquantised weights.
        adapter: Name of the adapter; empty for none.
        limit: The harness's limit of items; ``None`` for no limit.
        nulls: Number of answers that are null in the file.
        revision: Commit of the model on the hub.
        parameters: Number of the model's parameters; 0 if unknown.
        dtype: The weights' dtype, e.g. ``bfloat16``.
        template_sha256: Hash of the chat template; ``none`` for a prompt without one.
        called: The harness's name of the model, without a path.
    """

    harness: str
    version: str
    task: str
    answers: tuple[ForeignAnswer, ...]
    lines: int
    decoding: ForeignDecoding
    engine: str = UNKNOWN
    other_decoding: tuple[str, ...] = ()
    quantization: str = UNKNOWN
    adapter: str = UNKNOWN
    limit: float | str | None = UNKNOWN
    nulls: int = 0
    revision: str = UNKNOWN
    parameters: int = 0
    dtype: str = UNKNOWN
    template_sha256: str = UNKNOWN
    called: str = ""
