"""What is added to each of vLLM's workers, which alone import this: other weights put in place whole, from files or a trainer.

vLLM's CPU build packs an output layer's weight when it loads (``dispatch_cpu_unquantized_gemm``, vLLM 0.32
``model_executor/layers/utils.py``). Its reload packs those layers anew that get weights of their own. An output layer that
shares the embedding's gets none: it would go on with the packed copy of the old weights, unnoticed.
"""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import torch
from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from tulu_eval.backends.vllm import weight_stream


class Extension:
    """A base that vLLM adds to its worker class (``reload_weights`` and ``get_model`` are the worker's)."""

    reload_weights: Any
    get_model: Any

    def replace_weights(self, folder: str) -> None:
        """Reads a checkpoint's weights, a folder's safetensors, in place of those that the worker has."""
        self.reload_weights(weights_path=folder)
        pack_anew(self.get_model())


def pack_anew(model: Any) -> None:
    """Packs those output layers of vLLM's CPU build anew that have a weight of another layer."""
    for layer in model.modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel() and hasattr(layer, "quant_method"):
            layer.quant_method.process_weights_after_loading(layer)


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
        try:
            for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
                weight_stream.fill(tensor, self._connection)
                self._load(name, tensor)
        except BaseException:
            self._connection.close()  # else the trainer would wait for somebody to read the rest
            raise

    def _load(self, name: str, tensor: torch.Tensor) -> None:
        try:
            self.model.load_weights([(name, tensor)])
        except Exception as error:
            raise ValueError(f"{name} {list(tensor.shape)} does not fit the model: {type(error).__name__} {error}") from error

    def finish_weight_update(self) -> None:
        """Puts what came into the place of the old weights."""
        finalize_layerwise_reload(self.model, self.model_config)
        pack_anew(self.model)

    def shutdown(self) -> None:
        """Closes the connection."""
        if hasattr(self, "_connection"):
            self._connection.close()


WeightTransferEngineFactory.register_engine(weight_stream.STREAM, StreamReceiver)
