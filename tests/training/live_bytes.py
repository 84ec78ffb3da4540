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
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tulu_eval.training import ppo, sft, sharding
from tulu_eval.training.at_once import ROLLOUT_ROWS
from tulu_eval.training.loop import Trainer
from tulu_eval.training.networks import Policy, Scorer, checkpoint_activations
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine
from tulu_eval.training.stages import PPORecipe

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
        parts: Bytes of states (frozen weights too), buffers (of weights and gradients) and activations.
        resident: Growth of the process's resident set to its largest.
    """

    parts: dict[str, int]
    resident: int


def training_peak(folder: Path, shape: LlamaConfig, compute: str, checkpointing: bool, ranks: Ranks) -> Peak:
    """Returns the peak of an SFT step of two micro-batches of :data:`TOKENS` tokens on each rank."""
    before = _forget_largest_resident()
    policy = _model(shape, compute, ranks, checkpointing=checkpointing)
    draw = torch.Generator().manual_seed(0)
    count = 2 * TOKENS // ROW * ranks.world
    rows = [toys.tokens(torch.randint(2, 500, (ROW,), generator=draw).tolist(), ROW - 1) for _ in range(count)]
    made = toys.recipe("sft", batch=count, micro_tokens=TOKENS, compute_dtype=compute, epochs=1, warmup=0.0)
    run = toys.trainer(folder, made, {"policy": policy}, count, ranks=ranks)
    return _peak(lambda: sft.train(run, policy, rows), run, (), before)


def ppo_peak(folder: Path, shape: LlamaConfig, made: PPORecipe, prompt: int, ranks: Ranks) -> Peak:
    """Returns the peak of a PPO step with four models of one shape, prompts of a length, and answers as long as allowed."""
    before = _forget_largest_resident()
    compute, saving = made.compute_dtype, made.activation_checkpointing
    policy = _model(shape, compute, ranks, checkpointing=saving)
    value = _model(shape, compute, ranks, checkpointing=saving, scorer=True)
    reference = _model(shape, compute, ranks, trained=False)
    reward = _model(shape, compute, ranks, trained=False, scorer=True)
    draw = torch.Generator().manual_seed(0)
    rows = [toys.tokens(torch.randint(2, 500, (prompt,), generator=draw).tolist()) for _ in range(made.rollout_batch)]
    four = ppo.Models(policy, reference, value, Mixture.of_model(reward))
    updates = made.rollout_batch // made.batch
    trained = {"policy": policy, "value": value}
    run = toys.trainer(folder, made, trained, len(rows), per_step=len(rows), updates=updates, ranks=ranks)
    engine = PolicyEngine(policy, [], ROLLOUT_ROWS)
    frozen = [*reference.parameters(), *reward.parameters()]
    return _peak(lambda: ppo.train(run, four, engine, rows, made), run, frozen, before)


def _model(
    shape: LlamaConfig, compute: str, ranks: Ranks, *, trained: bool = True, scorer: bool = False, checkpointing: bool = False
) -> Any:
    """Returns a model with random weights as :mod:`tulu_eval.training.loading` makes one of files."""
    torch.manual_seed(0)
    dtype = getattr(torch, compute)
    inner: Any = LlamaForSequenceClassification(shape) if scorer else LlamaForCausalLM(shape)
    inner = inner.to(torch.float32 if trained else dtype).requires_grad_(trained)
    model: Any = Scorer(inner, dtype) if scorer else Policy(inner, dtype)
    if checkpointing and trained:
        checkpoint_activations(model)
    return sharding.shard(model, ranks)


def _peak(step: Callable[[], None], run: Trainer, frozen: Iterable[Tensor], before: int) -> Peak:
    """Returns the peak of a step; ``before`` is the largest resident set before its models were made."""
    optimizers = [one.optimizer for one in run._trained.values()]
    parameters = [parameter for one in run._trained.values() for parameter in one.model.parameters()]  # the sharded ones
    frozen = list(frozen)
    wanted = {parameter.shape for parameter in [*parameters, *frozen]}

    def states() -> Iterator[Tensor]:
        yield from frozen
        for parameter in parameters:
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
            for optimizer in optimizers:
                yield from optimizer.state.get(parameter, {}).values()

    def label(how: str, tensor: Tensor) -> str:
        flat = how.startswith(("aten.empty", "aten._to_copy")) and tensor.ndim == 1 and tensor.is_floating_point()
        return "buffers" if flat or tensor.shape in wanted else "activations"

    live = LiveBytes(label, states)
    live.follow(list(states()), "")
    with live:
        step()
    return Peak(dict(live.parts), _largest_resident() - before)


def _forget_largest_resident() -> int:
    """Makes the largest resident set that of now (man 5 proc), and returns it."""
    Path("/proc/self/clear_refs").write_text("5")
    return _largest_resident()


def _largest_resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
