"""What is added to each of vLLM's workers: weights put in place whole, tied output layers included.

vLLM's CPU build packs an output layer's weight when it loads (``dispatch_cpu_unquantized_gemm``, vLLM 0.32
``model_executor/layers/utils.py``). Its ``reload_weights`` packs those layers anew that a checkpoint has weights of. An output
layer that shares the embedding's has none there: it would go on with the packed copy of the old weights, unnoticed.
"""

from __future__ import annotations

from typing import Any

CLASS = f"{__name__}.Extension"
"""vLLM's argument ``worker_extension_cls``."""

REPLACE = "replace_weights"
"""Name of the method, for ``LLM.collective_rpc``."""


class Extension:
    """A base that vLLM adds to its worker class (``reload_weights`` and ``get_model`` are the worker's)."""

    reload_weights: Any
    get_model: Any

    def replace_weights(self, folder: str) -> None:
        """Reads a checkpoint's weights, a folder's safetensors, in place of those that the worker has."""
        self.reload_weights(weights_path=folder)
        pack_anew(self.get_model())


def pack_anew(model: Any) -> None:
    """Packs those output layers of vLLM's CPU build anew that have the weight of another layer."""
    for layer in model.modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel() and hasattr(layer, "quant_method"):
            layer.quant_method.process_weights_after_loading(layer)
