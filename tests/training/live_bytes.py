"""Follows the bytes of live tensors, operation by operation, forward and backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import toys
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from tulu_eval.training import sft, sharding
from tulu_eval.training.networks import Policy, checkpoint_activations
from tulu_eval.training.parallel import Ranks

TOKENS, ROW = 512, 128
"""Tokens of a micro-batch, and of a row."""

Label = Callable[[str, Tensor], str]
"""Returns the label of a new tensor from the name of its operation and the tensor; an empty one leaves it out of the counts."""


class LiveBytes(TorchDispatchMode):
    """Counts the storages of new tensors while they live, whatever size they have (FSDP empties and fills its own).

    ``states`` returns tensors that are labelled ``states`` whatever made them.

    Attributes:
        peak: Largest number of bytes after any operation.
        parts: The bytes at that moment by label.
    """

    def __init__(self, label: Label, states: Callable[[], Iterable[Tensor]] = tuple) -> None:
        super().__init__()
        self._label, self._states = label, states
        self._live: dict[int, str] = {}  # labels by weak references to storages
        self.peak, self.parts = 0, Counter[str]()

    def follow(self, made: Any, how: str) -> None:
        """Adds tensors, as made by an operation."""
        for tensor in tree_leaves(made):
            local = _local(tensor)
            if isinstance(local, Tensor) and (label := self._label(how, local)):
                self._live.setdefault(_reference(local, known=self._live), label)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.follow(made, str(func))
        self._look()
        return made

    def _look(self) -> None:
        sizes: dict[int, int] = {}
        for reference in list(self._live):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference)
            if storage is None:
                del self._live[reference]
                torch.UntypedStorage._free_weak_ref(reference)
            else:
                sizes[reference] = storage.nbytes()
        if (total := sum(sizes.values())) > self.peak:
            states = {_reference(_local(tensor), known=self._live) for tensor in self._states()}
            parts = Counter[str]()
            for reference, size in sizes.items():
                parts["states" if reference in states else self._live[reference]] += size
            self.peak, self.parts = total, parts


def _reference(tensor: Tensor, known: Mapping[int, str]) -> int:
    """Returns a weak reference to a tensor's storage; a known one is held once."""
    storage = tensor.untyped_storage()
    found: int = storage._weak_ref()
    if found in known:
        torch.UntypedStorage._free_weak_ref(found)
    return found


def _local(tensor: Tensor) -> Tensor:
    found: Tensor = getattr(tensor, "_local_tensor", tensor)
    return found


class Peak(NamedTuple):
    """The moment of a training step that needs most.

    Attributes:
        parts: Bytes of states, buffers (of weights and gradients) and activations.
        resident: Growth of the process's resident set to its largest.
    """

    parts: dict[str, int]
    resident: int


def training_peak(folder: Path, shape: LlamaConfig, compute: str, checkpointing: bool, ranks: Ranks) -> Peak:
    """Returns the peak of an SFT step of two micro-batches of :data:`TOKENS` tokens on each rank."""
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident set is that of now (man 5 proc)
    before = _largest_resident()
    torch.manual_seed(0)
    policy = Policy(LlamaForCausalLM(shape), getattr(torch, compute))
    if checkpointing:
        checkpoint_activations(policy)
    sharding.shard(policy, ranks)
    draw = torch.Generator().manual_seed(0)
    count = 2 * TOKENS // ROW * ranks.world
    rows = [toys.tokens(torch.randint(2, 500, (ROW,), generator=draw).tolist(), ROW - 1) for _ in range(count)]
    made = toys.recipe("sft", batch=count, micro_tokens=TOKENS, compute_dtype=compute, epochs=1, warmup=0.0)
    run = toys.trainer(folder, made, {"policy": policy}, count, ranks=ranks)
    optimizer = run._trained["policy"].optimizer
    parameters = list(policy.parameters())  # the sharded ones: in its pass, a unit has others
    wanted = {parameter.shape for parameter in parameters}

    def states() -> Iterator[Tensor]:
        for parameter in parameters:
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
            yield from optimizer.state.get(parameter, {}).values()

    def label(how: str, tensor: Tensor) -> str:
        flat = how.startswith(("aten.empty", "aten._to_copy")) and tensor.ndim == 1 and tensor.is_floating_point()
        return "buffers" if flat or tensor.shape in wanted else "activations"

    live = LiveBytes(label, states)
    live.follow(list(states()), "")
    with live:
        sft.train(run, policy, rows)
    return Peak(dict(live.parts), _largest_resident() - before)


def _largest_resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
