"""What is installed here, and what each extra would add."""

from __future__ import annotations

from typing import Any

from tulu_eval.api.words import spoken
from tulu_eval.runs import checkup


@spoken
def doctor() -> dict[str, Any]:
    """Returns versions, machine, devices, hub, free disk space and extras as plain data.

    >>> tulu_eval.doctor()["extras"]["vllm"]["installed"]
    """
    return checkup.look()
