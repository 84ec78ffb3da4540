"""Follows the bytes of live tensors, operation by operation, forward and backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Label = Callable[[str, Tensor], str]
"""Says what a new tensor is, from the operation that made it; empty: it does not count."""


class LiveBytes(TorchDispatchMode):
    """Counts the storages of new tensors while they live, whatever size they have (FSDP empties and fills its own).

    Attributes:
        peak: Largest number of bytes after any operation.
        parts: The bytes at that moment by label.
    """

    def __init__(self, label: Label) -> None:
        super().__init__()
        self._label = label
        self._live: dict[StorageWeakRef, str] = {}
        self.peak, self.parts = 0, Counter[str]()

    def follow(self, made: Any, how: str) -> None:
        """Adds tensors, as made by an operation."""
        for tensor in tree_leaves(made):
            local = getattr(tensor, "_local_tensor", tensor)
            if isinstance(local, Tensor) and (label := self._label(how, local)):
                self._live.setdefault(StorageWeakRef(local.untyped_storage()), label)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.follow(made, str(func))
        self._look()
        return made

    def _look(self) -> None:
        parts = Counter[str]()
        for reference, label in list(self._live.items()):
            storage = torch.UntypedStorage._new_with_weak_ptr(reference.cdata)
            if storage is None:
                del self._live[reference]
            else:
                parts[label] += storage.nbytes()
        if (total := parts.total()) > self.peak:
            self.peak, self.parts = total, parts
