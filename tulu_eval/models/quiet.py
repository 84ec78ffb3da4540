"""Reading and writing weights without transformers' own progress bars, which our lines stand in for."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Switches transformers' bars off for a while; the hub's, which show a download, stay."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def converting(name: str) -> Iterator[None]:
    """Gives transformers' reading of a GGUF file a bar that says what is done, and only on a terminal.

    transformers 5.19 (``modeling_gguf_pytorch_utils.py``) draws its own into pipes and files too, whatever its settings say.
    """
    from tqdm.auto import tqdm

    reading: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    before = reading.tqdm
    reading.tqdm = lambda tensors, **_: tqdm(tensors, f"converting {name} once", disable=None, leave=False)
    try:
        yield
    finally:
        reading.tqdm = before
