"""Shards models among the ranks, and has them compute in the recipe's dtype.

A trained model's parameters are float32. FSDP gathers one unit at a time in the compute dtype, frees it after its pass, and
adds the gradients of all ranks in float32. A unit is a layer, or a module outside the layers: embedding, norm, head. So a
device never holds the whole model in the compute dtype: at most the unit in use, and the buffer through which the next comes.
Embedding and head with a common weight belong to the root, which is whole during each of a pass's two directions.

One rank uses FSDP too where it has to cast; else its model stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from tulu_eval.training.networks import Policy, Scorer, layers
from tulu_eval.training.parallel import Ranks

M = TypeVar("M", Policy, Scorer)

METHODS = ("settle", "next_logits", "logprobs")
"""Methods besides ``forward`` that use a model's or a unit's parameters."""


def shard(model: M, among: Ranks) -> M:
    """Makes a model compute in its compute dtype, and shards it where that or the ranks need it; returns it.

    The model is in main memory, from which it goes to the rank's device, or on the meta device, where it stays for
    :func:`fill`.
    """
    if among.world == 1 and all(parameter.dtype == model.compute for parameter in model.parameters()):
        return model if _is_meta(model) else model.to(among.device)
    mesh = _mesh(among)
    policy = MixedPrecisionPolicy(param_dtype=model.compute, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for unit in [*units(model), model]:
        made = fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        if isinstance(unit, nn.Embedding):
            made.set_unshard_in_backward(False)  # its gradient needs only the ids
        if all(parameter.ndim == 1 for parameter in unit.parameters()):
            made._set_unshard_async_op(True)  # a norm's buffer, else kept for overlap, goes before the head's comes
        for method in METHODS:
            if hasattr(unit, method):
                register_fsdp_forward_method(unit, method)
    return model


def fill(model: Policy | Scorer, weights: Mapping[str, Path | Tensor], among: Ranks) -> None:
    """Gives a model of the meta device its weights; each rank reads the rows of its own shards, and nothing else.

    ``weights`` has the file, or the whole tensor, of each of the model's tensors by name.
    """
    from safetensors import safe_open

    model.to_empty(device=among.device)
    inner = model.model
    for module in inner.modules():
        if module._non_persistent_buffers_set:
            inner._init_weights(module)
    inner.tie_weights()
    state = inner.state_dict(keep_vars=True)
    files = {file for file in weights.values() if isinstance(file, Path)}
    with torch.no_grad():
        for file in sorted(files):
            with safe_open(file, framework="pt") as opened:
                for name in (name for name, place in weights.items() if place == file):
                    _copy(opened.get_slice(name), state[name], among)
        for name, whole in weights.items():
            if isinstance(whole, Tensor):
                _copy(whole, state[name], among)
    model.settle()


def _copy(source: Any, target: Tensor, among: Ranks) -> None:
    """Copies a whole tensor, of which ``source`` gives slices, into this rank's rows of a tensor."""
    if isinstance(target, DTensor):
        local = target.to_local()
        first = min(among.rank * -(-target.shape[0] // among.world), target.shape[0])
        local.copy_(source[first : first + local.shape[0]])
    else:
        target.copy_(source[:])


def _is_meta(model: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in model.parameters())


def units(model: nn.Module) -> Iterator[nn.Module]:
    """Yields the units of a model besides its root: its layers, and each other module with parameters that are its own."""
    yield from (inner := layers(model))
    inside = {id(module) for module in inner.modules()}
    outside = [module for module in model.modules() if id(module) not in inside]
    holders = Counter(id(parameter) for module in outside for parameter in module.parameters(recurse=False))
    for module in outside:
        own = list(module.parameters(recurse=False))
        if own and all(holders[id(parameter)] == 1 for parameter in own):
            yield module


def _mesh(among: Ranks) -> DeviceMesh:
    if not dist.is_initialized():  # one process without torchrun
        backend = "nccl" if among.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    return init_device_mesh(among.device.type, (among.world,))
