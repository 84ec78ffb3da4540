"""The ranks, sums over them, clipping, and whole copies of sharded weights (:mod:`~tulu_eval.training.sharding`).

Every rank runs the same program under ``torchrun``; there is no controller. With one process, a sum is the tensor itself, so
the stages need no special case.

A loss is the sum over micro-batches and ranks, divided by the count of the whole batch. FSDP averages gradients over the ranks,
so each rank multiplies its part by their number (:meth:`Ranks.backward`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

from tulu_eval.errors import PreflightError, UserError

T = TypeVar("T")

PREPARING = timedelta(days=1)
"""Limit for what is done before the first collective: 140 GB of weights take 8 hours at 5 MB/s."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the others.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the first process, which alone writes shared files."""
        return self.rank == 0

    def sum(self, partial: Tensor) -> Tensor:
        """Returns the sum of a tensor over all ranks, the same on each."""
        if self.world > 1:
            partial = partial.clone()
            dist.all_reduce(partial)
        return partial

    def max(self, number: int) -> int:
        """Returns the largest number of all ranks."""
        if self.world == 1:
            return number
        found = torch.tensor(number, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set on at least one rank."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def merge(self, own: dict[str, T]) -> dict[str, T]:
        """Returns the entries of all ranks; their names must differ."""
        if self.world == 1:
            return own
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, own)
        return {name: value for part in found for name, value in part.items()}

    def wait(self) -> None:
        """Waits for all ranks."""
        if self.world > 1:
            dist.barrier()

    def share(self, rows: Sequence[T]) -> list[T]:
        """Returns this rank's rows of a batch: every ``world``-th, so that each rank has a part of every mini-batch."""
        return list(rows[self.rank :: self.world])

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of this rank's part of a loss; the parts of all ranks add up."""
        (loss * self.world).backward()  # type: ignore[no-untyped-call]

    def refuse_uneven(self, **batches: int) -> None:
        """Raises PreflightError if a batch is not a multiple of the number of ranks."""
        for name, size in batches.items():
            if size % self.world:
                raise PreflightError(f"{name} = {size} cannot be shared evenly by {self.world} ranks")


@contextlib.contextmanager
def ranks(device: str, prepare: Callable[[], None] = lambda: None) -> Iterator[Ranks]:
    """Yields this process among those of ``torchrun``; alone if it did not start it.

    With ``cuda``, each process uses the device of its local rank. ``prepare`` is called first, once on each machine; all ranks
    wait for it, outside any collective, whose time limit is short.

    Raises:
        PreflightError: If ``prepare`` raises a UserError on another machine.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    own = torch.device(device, local) if device == "cuda" else torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    if world == 1:
        prepare()
        try:
            yield Ranks(device=own)
        finally:
            if dist.is_initialized():  # a model was sharded, for its dtype
                dist.destroy_process_group()
        return
    store, rank, world = next(rendezvous("env://"))
    # torchrun's agent keeps one store over restarts, and without a prefix it would return addresses of dead processes.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
    prepared(store, rank, world, prepare if local == 0 else lambda: None)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield Ranks(dist.get_rank(), world, own)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Keeps a sharded model's parameters whole, so that ranks may call it different numbers of times (rollouts)."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()


def prepared(store: Any, rank: int, world: int, prepare: Callable[[], None]) -> None:
    """Calls ``prepare``, and waits until all ranks have done so.

    Raises:
        UserError: If ``prepare`` raises it, here or, as PreflightError, on another rank.
    """
    try:
        prepare()
    except UserError as error:
        store.set(f"prepared {rank}", str(error))
        raise
    store.set(f"prepared {rank}", "")
    names = [f"prepared {each}" for each in range(world)]
    store.wait(names, PREPARING)
    for each, name in enumerate(names):
        if reason := store.get(name).decode():
            raise PreflightError(f"rank {each}: {reason}")


def begin_again(model: nn.Module) -> None:
    """Makes a model usable after an error in the middle of a pass."""
    if isinstance(model, FSDPModule):
        model.reset_iter_state()


def gradient_norm(model: nn.Module) -> float:
    """Returns the norm of a model's whole gradient over all ranks; NaN or infinite if an entry is."""
    norm: Any = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def clip_gradient(model: nn.Module, norm: float, limit: float) -> None:
    """Scales a model's gradient down to a norm of ``limit`` if ``norm`` is larger."""
    if norm > limit:
        scale = limit / norm
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)


def finite(numbers: Iterable[float]) -> bool:
    """Returns whether all numbers are finite."""
    return all(map(math.isfinite, numbers))


def whole_state(model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """Returns a model's state with whole tensors on the CPU, an empty one unless ``keep``; all ranks must call it."""
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            state[name] = gathered.detach().cpu()
    return state
