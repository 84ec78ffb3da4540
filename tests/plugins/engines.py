"""A backend as somebody else would write it, whose answers depend on the prompt alone, and which dies of some prompts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

from tulu_eval import Completion, Decoding, Request
from tulu_eval.testing import ScriptedBackend

POISON = "has 7 pens"
"""What the question has that ends the process of a :class:`Mortal` engine."""


class Engine(ScriptedBackend):
    """Answers at once, or each after a time."""

    name: ClassVar[str] = "transformers"

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        return f" So the answer is {len(request.text) % 7}."

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for request in requests:
            time.sleep(self.seconds)
            yield from super().generate([request], decoding)

    seconds: ClassVar[float] = 0.0


class Slow(Engine):
    seconds: ClassVar[float] = 0.02


class Mortal(Engine):
    """Dies of the poison, as a kernel that crashes does."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        if POISON in request.text.rpartition("Ann")[2]:
            os._exit(3)
        return super().answer(request, decoding)


class Failing(Engine):
    """Raises instead of answering anything."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        raise ZeroDivisionError("no luck")
