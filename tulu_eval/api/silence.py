"""Switches other packages' progress bars off."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

_TRANSFORMERS = "transformers.utils.logging"


@contextlib.contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """Switches the hub's and transformers' bars off for a while, unless the environment says whether they are drawn.

    transformers reads the hub's switch when it is imported, and may be imported meanwhile: its bars come back too.
    """
    from huggingface_hub.constants import HF_HUB_DISABLE_PROGRESS_BARS as SAID
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if not wanted or SAID is not None or are_progress_bars_disabled():
        yield
        return
    before = sys.modules.get(_TRANSFORMERS)
    drawn = before is None or before.is_progress_bar_enabled()
    disable_progress_bars()
    if before is not None:
        before.disable_progress_bar()
    try:
        yield
    finally:
        enable_progress_bars()
        if drawn and _TRANSFORMERS in sys.modules:
            sys.modules[_TRANSFORMERS].enable_progress_bar()
