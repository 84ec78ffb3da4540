"""What is installed here, and what each extra would add."""

from __future__ import annotations

from tulu_eval.api.words import spoken
from tulu_eval.findings.doctor import Installation, examine


@spoken
def doctor() -> Installation:
    """Returns versions, machine, devices, hub, free disk space and extras.

    >>> tulu_eval.doctor().extras["vllm"].installed
    """
    return examine()
