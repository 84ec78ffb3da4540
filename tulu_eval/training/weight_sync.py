"""The policy's weights on their way to a vLLM engine: from the ranks' shards, one whole tensor at a time, to no file.

vLLM 0.32 takes weights from a trainer (``vllm/distributed/weight_transfer``): a source yields tensors with the names of a
checkpoint, and an engine for CUDA IPC, NCCL or a transport of one's own brings them to the workers, which load them layer by
layer. Each rank has an engine on its own device. On a GPU both share its memory, so vLLM's IPC engine moves the weights, packed
into a buffer that is used again and again; NCCL, for engines on other devices, has no use here. **That way is written by vLLM's
source and untested: no GPU was at hand.** Without a GPU a socket does (:mod:`~tulu_eval.backends.vllm.weight_stream`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.backends.vllm.messages import Transfer
from tulu_eval.backends.vllm.settings import IPC
from tulu_eval.backends.vllm.weight_stream import STREAM, TRANSFER_SECONDS, WeightSender
from tulu_eval.training.at_once import BUFFER_BYTES
from tulu_eval.training.networks import Policy

_BITS = {2: torch.int16, 4: torch.int32}


class Described(NamedTuple):
    """A tensor to come, as vLLM's ``ParamMeta``."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class PolicyWeights:
    """A policy's weights as vLLM's ``WeightSource``, with the names and shapes of a checkpoint.

    All ranks must go through them together: each tensor is cast, gathered, and let go before the next. A weight that two layers
    share comes once, under its first name, as transformers saves it and vLLM loads it.

    Args:
        dtype: The engine's.

    Attributes:
        sums: The sum of each tensor's bits, taken as integers, of the last pass; it tells different weights apart.
        bytes: Size of all tensors of the last pass.
    """

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        self._model, self._dtype = policy.model, dtype
        self._empty = {
            name: torch.empty(parameter.shape, dtype=dtype, device="meta") for name, parameter in self._model.named_parameters()
        }
        # To find how names are saved takes transformers 20 ms, so it is asked about single parameters only where it matters.
        self._plain = set(self._converted(self._empty)) == set(self._empty)
        self.sums: tuple[int, ...] = ()
        self.bytes = 0

    def metadata(self) -> list[Described]:
        """Returns what a pass yields, without gathering anything."""
        found = [self._as_saved(name, empty) for name, empty in self._empty.items()]
        return [Described(name, self._dtype, tuple(value.shape)) for saved in found for name, value in saved.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        sums, self.bytes = [], 0
        for name, parameter in self._model.named_parameters():
            cast = parameter.detach().to(self._dtype)
            whole = cast.full_tensor() if isinstance(cast, DTensor) else cast
            for saved, value in self._as_saved(name, whole).items():
                value = value.contiguous()
                sums.append(_bits(value).sum(dtype=torch.int64))
                self.bytes += value.nbytes
                yield saved, value
            del cast, whole, value  # before the next one is gathered
        self.sums = tuple(torch.stack(sums).tolist())

    def _as_saved(self, name: str, whole: Tensor) -> dict[str, Tensor]:
        """Returns a parameter by its names in a checkpoint, of which the experts of a mixture have many."""
        return {name: whole} if self._plain else self._converted({name: whole})

    def _converted(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns parameters as transformers saves them."""
        from transformers.core_model_loading import revert_weight_conversion

        found: dict[str, Tensor] = revert_weight_conversion(self._model, dict(tensors))
        return found


def _bits(value: Tensor) -> Tensor:
    """Returns a contiguous tensor's bits as integers: of 8 bytes where they fit, whose sum takes a twentieth of the time."""
    flat, many = value.reshape(-1), 8 // value.element_size()
    fits = flat.numel() % many == 0 and flat.storage_offset() % many == 0
    return flat.view(torch.int64 if fits else _BITS[value.element_size()])


class Transport(Protocol):
    """Brings weights to the engine of this rank."""

    def send(self, weights: PolicyWeights) -> int:
        """Puts weights into the engine; returns the bytes that moved."""

    def close(self) -> None:
        """Frees what the transport holds."""


class StreamTransport:
    """Sends weights through a socket to :class:`~tulu_eval.backends.vllm.stream_receiver.StreamReceiver`.

    Raises:
        EngineError: If the engine does not connect.
    """

    def __init__(self, engine: VllmBackend) -> None:
        self._client, self._sender = SyncClient(engine), WeightSender()
        self._client.init_weight_transfer_engine({"address": self._sender.address})
        self._sender.accept()

    def send(self, weights: PolicyWeights) -> int:
        """Puts weights into the engine; returns the bytes that the socket took."""
        told, before = weights.metadata(), self._sender.sent
        coming = {
            "names": [one.name for one in told],
            "dtype_names": [str(one.dtype).removeprefix("torch.") for one in told],
            "shapes": [list(one.shape) for one in told],
        }
        self._client.start_weight_update()
        self._client.update_weights(coming, during=lambda: self._stream(weights))
        self._client.finish_weight_update()
        return self._sender.sent - before

    def _stream(self, weights: PolicyWeights) -> None:
        listens = True
        for _, tensor in weights:  # to the end in any case: the other ranks gather with this one
            listens = listens and self._sender.send(tensor.cpu())
            del tensor

    def close(self) -> None:
        """Closes the socket."""
        self._sender.close()


class IpcTransport:
    """Lets the engine read weights from the GPU that it shares with this rank, by vLLM's own trainer and worker engines."""

    def __init__(self, engine: VllmBackend) -> None:
        self._client = SyncClient(engine)

    def send(self, weights: PolicyWeights) -> int:
        """Puts weights into the engine; returns the bytes that went through the buffer."""
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo, IPCTrainerWeightTransferEngine

        largest = max(one.dtype.itemsize * torch.Size(one.shape).numel() for one in weights.metadata())
        # Each rank is the sender to its own engine; their handles are merged, and an engine takes those of its device.
        init = IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=max(BUFFER_BYTES, largest))
        IPCTrainerWeightTransferEngine.trainer_init(init, client=self._client, source=weights).send_weights()
        return weights.bytes

    def close(self) -> None:
        """Does nothing; the buffer went with the last transfer."""


TRANSPORTS: dict[str, type[StreamTransport | IpcTransport]] = {STREAM: StreamTransport, IPC: IpcTransport}


class SyncClient:
    """An engine as vLLM's ``VLLMWeightSyncClient``, with a time limit for each answer."""

    def __init__(self, engine: VllmBackend) -> None:
        self._engine = engine

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connects the engine's workers to the trainer."""
        self._call("init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Makes the engine's workers ready for weights."""
        self._call("start_weight_update", {})

    def update_weights(self, update_info: dict[str, Any], during: Any = lambda: None) -> None:
        """Has the engine's workers take tensors, while ``during`` sends them."""
        self._engine.ask(Transfer("update_weights", {"update_info": update_info}), during, TRANSFER_SECONDS)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Has the engine's workers put what came in place."""
        self._call("finish_weight_update", {})

    def _call(self, method: str, arguments: dict[str, Any]) -> None:
        self._engine.ask(Transfer(method, arguments), seconds=TRANSFER_SECONDS)
