"""The bytes of one model on each device: what it always needs, and what a training pass needs for a time.

The activations are those of a Llama's layer as transformers 5.19 computes it, in numbers that autograd keeps per token:

- two norms: in bfloat16 each keeps its input in float32, its result before and after the weight (8 bytes a number); in float32
  these are three tensors of 4 bytes;
- attention: queries, keys, values and the result, which is copied once where it is not variable-length flash attention;
- feed-forward: gate, its activation, the other input and their product.

FSDP (torch 2.13) gathers a unit into a buffer and copies it out; with several ranks the next layer's buffer comes while a layer
is in its pass. After a unit's backward pass its gradients, in the compute dtype, are copied into a float32 buffer, which lives
until the next unit's pass ends: a layer's beside the next layer, the head's beside the norm only. ``benchmarks/memory.py``
measures it all.
"""

from __future__ import annotations

import dataclasses

from tulu_eval.models import config as configs
from tulu_eval.models.base import ModelFiles

STATE_BYTES = 12
"""Weights and two moments in float32, per parameter."""

FLOAT32 = 4

ACTIVATIONS, BUFFERS, GRADIENTS = "activations of a micro-batch", "buffers of a pass", "gradients"
"""Parts of a moment of a pass."""


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
        accumulated: Whether the gradients of an earlier micro-batch are there.
        flash: Whether attention is the variable-length kernel.
    """

    number: int
    tokens: int
    said: int
    checkpointing: bool
    world: int
    accumulated: bool
    flash: bool

    def cast(self, frozen: bool) -> bool:
        """Whether FSDP gathers a model: it is sharded, or its parameters have another dtype than its passes."""
        return self.world > 1 or (not frozen and self.number != FLOAT32)


def states(shape: Shape, world: int) -> int:
    """Returns the bytes of a trained model's weights and moments."""
    return STATE_BYTES * shape.parameters // world


def gradients(shape: Shape, world: int) -> int:
    """Returns the bytes of a model's whole gradient, or the shard of it."""
    return FLOAT32 * shape.parameters // world


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
    return (4 if one.number == 2 else 1) * logits_row(shape, one)


def logits_row(shape: Shape, one: Pass) -> int:
    """Returns the bytes of one float32 copy of the logits of some tokens."""
    return FLOAT32 * min(one.said, one.tokens) * shape.vocabulary if shape.head or shape.tied else 0


def reduced(unit: int, one: Pass) -> int:
    """Returns the bytes of a unit's gradients at their sum over ranks: in the compute dtype, in float32, and the shard."""
    own = one.number * unit if one.world > 1 else 0
    return own + FLOAT32 * unit + FLOAT32 * unit // one.world


def peak(shape: Shape, one: Pass) -> dict[str, int]:
    """Returns the bytes, by part, of the moment of a training pass that needs most."""
    moments = _moments_of_fsdp(shape, one) if one.cast(frozen=False) else _moments_alone(shape, one)
    whole = gradients(shape, one.world)
    found = [
        (numbers, buffers, whole if one.accumulated else FLOAT32 * done // one.world) for numbers, buffers, done in moments
    ]
    return dict(zip((ACTIVATIONS, BUFFERS, GRADIENTS), max(found, key=sum), strict=True))


Moment = tuple[int, int, int]
"""Bytes of activations and of buffers, and the number of parameters whose gradients the pass has added up."""


def _moments_alone(shape: Shape, one: Pass) -> list[Moment]:
    """Returns the moments of a pass in float32 on one rank, which adds up each gradient at once."""
    layers, inside = kept_by_layers(shape, one), in_layer(shape, one)
    return [
        (activations(shape, one) + logits(shape, one), FLOAT32 * shape.head, 0),
        (layers + inside, 0, shape.head),
        (layers // max(1, shape.layers) + inside, 0, shape.parameters - shape.embedding - shape.layer),
        (0, FLOAT32 * shape.embedding, shape.parameters - shape.embedding),
    ]


def _moments_of_fsdp(shape: Shape, one: Pass) -> list[Moment]:
    """Returns the moments of a pass that FSDP gathers for."""
    number, kept, layers, inside = one.number, activations(shape, one), kept_by_layers(shape, one), in_layer(shape, one)
    whole = number * shape.embedding if shape.tied else 0  # as the root's, all the time, and from the head on its gradient
    each, outside = layers // max(1, shape.layers), shape.parameters - shape.embedding
    # A layer's weights, with several ranks the next one's too, and the gradient of the first of its matrices.
    own = 2 * whole + (2 if one.world > 1 else 1) * number * shape.layer + number * shape.width * shape.feed_forward
    on_their_way = FLOAT32 * shape.layer  # the gradients of the layer behind it
    summed = 2 * whole + reduced(shape.layer, one) + (number * shape.layer if one.world > 1 else 0)
    last = 2 * whole + on_their_way + (0 if whole else number * shape.embedding)
    return [
        (kept + logits(shape, one), 2 * (whole or number * shape.head), 0),
        (kept + logits_row(shape, one), 2 * whole + reduced(shape.head, one), 0),
        (layers + inside, own, shape.head),
        (layers - each + inside, own + on_their_way, shape.head + shape.layer),
        (each + inside, own + on_their_way, outside - shape.layer),
        (layers - each, summed, shape.head),
        (0, last, outside),
        (0, whole + reduced(shape.embedding, one), outside),
    ]
