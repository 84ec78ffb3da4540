"""The receiver of a trainer's weights in vLLM's workers, which alone import this; a backend of vLLM's own weight transfer.

Its life is that of vLLM's NCCL engine (vLLM 0.32, ``distributed/weight_transfer/nccl_engine.py``): weights as a checkpoint has
them, which vLLM's layerwise reload puts in the place of the old ones.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from typing import Any

import torch
from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from tulu_eval.backends.vllm import weight_stream
from tulu_eval.backends.vllm.extension import Extension, pack_anew


class ReceivingExtension(Extension):
    """The extension of workers that get weights from a trainer: vLLM finds the receiver once it has imported this."""


@dataclasses.dataclass
class StreamAddress(WeightTransferInitInfo):  # type: ignore[misc]
    """Where the trainer sends weights from (:class:`~tulu_eval.backends.vllm.weight_stream.WeightSender`)."""

    address: str


@dataclasses.dataclass
class StreamedTensors(WeightTransferUpdateInfo):  # type: ignore[misc]
    """The tensors that come, in order; dtypes by their names in torch."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


class StreamReceiver(WeightTransferEngine):  # type: ignore[misc]
    """The worker's end of a stream of weights, for vLLM's factory; the same life as its NCCL engine's.

    Each tensor has memory of its own, because vLLM keeps a layer's tensors until the last of them has come.
    """

    init_info_cls = StreamAddress
    update_info_cls = StreamedTensors
    _connection: socket.socket

    def init_transfer_engine(self, init_info: StreamAddress) -> None:
        """Connects to the trainer."""
        self._connection = weight_stream.connect(init_info.address)

    def start_weight_update(self) -> None:
        """Makes the model ready for weights as a checkpoint has them."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Takes over the tensors; vLLM's own method would then wait for a GPU."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: StreamedTensors) -> None:
        """Takes over the tensors; closes the connection and raises ValueError at one that does not fit the model."""
        last = ""

        def arriving() -> Iterator[tuple[str, torch.Tensor]]:
            nonlocal last
            for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
                weight_stream.fill(tensor, self._connection)
                last = f"{name} {shape}"
                yield name, tensor

        try:
            self.model.load_weights(arriving())
        except BaseException as error:
            self._connection.close()  # else the trainer would wait for somebody to read the rest
            if isinstance(error, OSError) or not isinstance(error, Exception):
                raise
            raise ValueError(f"{last} does not fit the model: {type(error).__name__} {error}") from error

    def finish_weight_update(self) -> None:
        """Puts what came into the place of the old weights."""
        finalize_layerwise_reload(self.model, self.model_config)
        pack_anew(self.model)

    def shutdown(self) -> None:
        """Closes the connection."""
        if hasattr(self, "_connection"):
            self._connection.close()


WeightTransferEngineFactory.register_engine(weight_stream.STREAM, StreamReceiver)
