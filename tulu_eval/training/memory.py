"""The bytes of one model on each device: what it always needs, and what a training pass needs for a time.

The activations are those of a Llama's layer as transformers 5.19 computes it, in numbers that autograd keeps per token:

- two norms: in bfloat16 each keeps its input in float32, its result before and after the weight (8 bytes a number); in float32
  these are three tensors of 4 bytes;
- attention: queries, keys, values and the result, which is copied once where it is not variable-length flash attention;
- feed-forward: gate, its activation, the other input and their product.

FSDP (torch 2.13) gathers a unit into a buffer and copies it out. After a unit's backward pass its gradients, in the compute
dtype, are copied into a float32 buffer, which lives until the next unit's pass ends. ``benchmarks/memory.py`` measures it all.
"""

from __future__ import annotations

import dataclasses

from tulu_eval.models import config as configs
from tulu_eval.models.base import ModelFiles

STATE_BYTES = 16
"""Weights, gradients and two moments in float32, per parameter."""

FLOAT32 = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model.

    Attributes:
        parameters: Number.
        attention: Width of all heads' queries.
        keys: Width of all heads' keys, or values.
        head: Parameters of an output layer of its own; 0 if it shares the embedding's, or there is none.
        tied: Whether embedding and output layer are one.
    """

    parameters: int
    layers: int
    width: int
    heads: int
    attention: int
    keys: int
    feed_forward: int
    vocabulary: int
    head: int
    tied: bool

    @classmethod
    def of(cls, model: ModelFiles, *, scorer: bool) -> Shape:
        """Returns the shape of a model; that of a ``scorer`` is without an output layer, even where its files have one."""
        config = configs.read(model.path)
        width, heads = config.width, max(1, config.heads)
        attention = heads * (config.head_size or width // heads)
        keys = attention // heads * (config.kv_heads or heads)
        feed_forward = config.feed_forward or 4 * width
        layer = 2 * width * (attention + keys) + 3 * width * feed_forward + 2 * width
        embedding = config.vocabulary * width
        own = embedding and model.parameters - config.layers * layer > 1.5 * embedding
        parameters = model.parameters - (embedding if own and scorer else 0)
        head = embedding if own and not scorer else 0
        sizes = (config.layers, width, heads, attention, keys, feed_forward, config.vocabulary)
        return cls(parameters, *sizes, head, tied=not own and not scorer)

    @property
    def embedding(self) -> int:
        """Number of parameters of the embedding."""
        return self.vocabulary * self.width

    @property
    def layer(self) -> int:
        """Number of parameters of a layer."""
        return max(0, self.parameters - self.embedding - self.head) // max(1, self.layers)


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """A forward and backward pass over a micro-batch.

    Attributes:
        number: Bytes of a number of the compute dtype.
        tokens: Tokens that go through the layers.
        said: Tokens whose log-probability is computed at once.
        checkpointing: Whether layers keep only their input.
        world: Number of ranks.
        flash: Whether attention is the variable-length kernel.
    """

    number: int
    tokens: int
    said: int
    checkpointing: bool
    world: int
    flash: bool

    def cast(self, frozen: bool) -> bool:
        """Whether FSDP gathers a model: it is sharded, or its parameters have another dtype than its passes."""
        return self.world > 1 or (not frozen and self.number != FLOAT32)


def states(shape: Shape, world: int) -> int:
    """Returns the bytes of a trained model's weights, gradients and moments."""
    return STATE_BYTES * shape.parameters // world


def kept_by_layer(shape: Shape, one: Pass) -> int:
    """Returns the bytes that a layer keeps for its backward pass."""
    norm = 8 if one.number == 2 else 3 * FLOAT32
    attention = ((2 if one.flash else 3) * shape.attention + 2 * shape.keys) * one.number + FLOAT32 * shape.heads
    return one.tokens * (2 * (norm * shape.width + FLOAT32) + attention + 4 * shape.feed_forward * one.number)


def kept_by_layers(shape: Shape, one: Pass) -> int:
    """Returns the bytes that all layers keep at the end of a forward pass."""
    return shape.layers * (_numbers(shape, one) if one.checkpointing else kept_by_layer(shape, one))


def activations(shape: Shape, one: Pass) -> int:
    """Returns the bytes kept at the end of a forward pass: those of the layers, the last norm and the head's input."""
    norm = (4 if one.number == 2 else 3) * _numbers(shape, one)
    head = _numbers(shape, one) if shape.head or shape.tied else 0
    return kept_by_layers(shape, one) + norm + head


def _numbers(shape: Shape, one: Pass) -> int:
    """Returns the bytes of the numbers between two layers."""
    return one.tokens * shape.width * one.number


def in_layer(shape: Shape, one: Pass) -> int:
    """Returns the bytes that a layer's backward pass needs besides: its activations anew, and gradients of activations."""
    again = 0
    if one.checkpointing:
        again = kept_by_layer(shape, one) - (_numbers(shape, one) if one.number == FLOAT32 else 0)  # its input is there
    return again + one.tokens * one.number * 2 * shape.feed_forward + 2 * _numbers(shape, one)


def logits(shape: Shape, one: Pass) -> int:
    """Returns the bytes of the logits of some tokens; in bfloat16, three steps of their gradient are there as well."""
    if not (shape.head or shape.tied):
        return 0
    return (4 if one.number == 2 else 1) * FLOAT32 * min(one.said, one.tokens) * shape.vocabulary


def reduced(unit: int, one: Pass) -> int:
    """Returns the bytes of a unit's gradients in float32: before and after the sum over ranks."""
    return FLOAT32 * unit + FLOAT32 * unit // one.world


def peak(shape: Shape, one: Pass) -> dict[str, int]:
    """Returns the bytes, by part, of the moment of a training pass that needs most."""
    number, kept = one.number, activations(shape, one)
    at_head, in_last_layer = kept + logits(shape, one), kept_by_layers(shape, one) + in_layer(shape, one)
    whole = number * shape.embedding if shape.tied else 0  # as the root's, all the time
    if not one.cast(frozen=False):
        moments = [
            (at_head, FLOAT32 * shape.head),
            (in_last_layer, FLOAT32 * shape.width * shape.feed_forward),
            (0, FLOAT32 * shape.embedding),
        ]
    else:
        gradients = whole or number * shape.head
        moments = [
            (at_head, (whole or number * shape.head) + gradients),
            (kept, whole + reduced(shape.head, one)),
            # The head's gradients are still on their way; the layer's weights, its gradients, and the next one's weights.
            (in_last_layer, whole + FLOAT32 * shape.head + 3 * number * shape.layer),
            (0, whole + number * shape.embedding + reduced(shape.embedding, one)),
        ]
    numbers, buffers = max(moments, key=sum)
    return {"activations of a micro-batch": numbers, "buffers of a pass": buffers}
