"""The records and base classes that a caller of the door meets, or that a package with a benchmark or a backend builds on."""

from __future__ import annotations

from tulu_eval.backends.base import Backend, EngineSettings
from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.errors import UserError
from tulu_eval.models.base import Served
from tulu_eval.records import Completion, Decoding, Grade, Request, Result, Turn

__all__ = [
    "Backend",
    "Benchmark",
    "Completion",
    "Decoding",
    "EngineSettings",
    "Grade",
    "Item",
    "Prompt",
    "Protocol",
    "Request",
    "Result",
    "Served",
    "Turn",
    "UserError",
]
