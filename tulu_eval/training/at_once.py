"""How much goes through a device at once. These sizes change memory and time, and no result.

They stand apart from the code that uses them, so that the memory of a run can be said without loading that code.
"""

from __future__ import annotations

ROLLOUT_ROWS = 64
"""Number of rows that a rank decodes together."""

HEAD_ROWS = 128
"""Number of tokens whose logits :func:`~tulu_eval.training.formulas.head_logprobs` holds at once.

4096 tokens, width 256, vocabulary 32000, float32, forward and backward on one CPU thread: 3.7 s and 15 MiB with 128, 3.7 s and
93 MiB with 512, 6.2 s and 11 MiB with torch's own choice (16); without the split 4.5 s and 2000 MiB.
"""
HEAD_ROWS_CUDA = 1024

BUFFER_BYTES = 1 << 28
"""Least size of the buffer for weights by CUDA IPC; it must hold the largest tensor."""
