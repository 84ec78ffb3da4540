"""A protocol with one setting or several changed, as a benchmark of its own protocol: ``card-200+no-template``.

Its name says what it is, so no reader takes its number for the protocol's. It has the protocol's items, scorers and metric.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.hypothesis import PLUS, Hypothesis, OtherDecoding, OtherPrompt, OtherWriting, Writing
from tulu_eval.errors import UnknownName


class VariedBenchmark(Benchmark):
    """What :func:`varied` puts before a benchmark's own class.

    Attributes:
        original: The protocol that is varied.
        hypotheses_in: What is changed, in the order of the name.
    """

    original: ClassVar[Protocol]
    hypotheses_in: ClassVar[tuple[Hypothesis, ...]]

    @property
    def writings(self) -> tuple[Writing, ...]:
        """How the prompts are written instead, in order."""
        return tuple(one.change.how for one in self.hypotheses_in if isinstance(one.change, OtherWriting))

    def under(self, protocol: str) -> Benchmark:
        """Returns itself for the varied protocol."""
        return self if PLUS in protocol else super().under(protocol)

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the items of the original protocol."""
        return super().load(self.original, data)  # type: ignore[safe-super]  # the benchmark's own class comes next

    def render(self, item: Item) -> Prompt:
        """Returns the original prompt as the hypotheses change it, one after the other."""
        prompt = super().render(item)  # type: ignore[safe-super]
        for one in self.hypotheses_in:
            if isinstance(one.change, OtherPrompt):
                prompt = one.change.rewrite(prompt, item)
        return prompt


def name_of(protocol: str, hypotheses: tuple[Hypothesis, ...]) -> str:
    """Returns the name of a varied protocol."""
    return PLUS.join([protocol, *(one.name for one in hypotheses)])


def is_varied(benchmark: Benchmark, protocol: str) -> bool:
    """Whether a protocol's name is that of a varied one."""
    return PLUS in protocol and protocol not in benchmark.protocols


def varied(benchmark: Benchmark, name: str, *, strict: bool = False) -> Benchmark:
    """Returns a benchmark with the varied protocol of a name, e.g. ``card-200+no-template``.

    A hypothesis that the benchmark no longer has is passed over, so that runs of older versions can be read and graded;
    ``strict`` refuses it, since no such run can be made.

    Raises:
        UnknownName: If the protocol is unknown, or, if ``strict``, one of the hypotheses.
    """
    first, *names = name.split(PLUS)
    original = benchmark.protocol(first)
    own = benchmark.under(original.name)
    known = {
        one.name: one for one in own.hypotheses(original) if isinstance(one.change, OtherPrompt | OtherWriting | OtherDecoding)
    }
    if strict and (odd := [one for one in names if one not in known]):
        raise UnknownName(f"change of protocol {original.name}", odd[0], known)
    made = copy.copy(own)
    made.__class__ = _class(type(own), original, name, tuple(known[one] for one in names if one in known))
    return made


@functools.lru_cache(maxsize=256)
def _class(own: type[Benchmark], original: Protocol, name: str, found: tuple[Hypothesis, ...]) -> type[Benchmark]:
    protocols: Mapping[str, Protocol] = MappingProxyType({**own.protocols, name: _protocol(original, name, found)})
    body = {"protocols": protocols, "original": original, "hypotheses_in": found, "__module__": own.__module__}
    return type(own.__name__, (VariedBenchmark, own), body)


def _protocol(original: Protocol, name: str, found: tuple[Hypothesis, ...]) -> Protocol:
    decoding, plain = original.decoding, original.plain_decoding
    if any(isinstance(one.change, OtherWriting) and one.change.how == "plain" for one in found):
        plain = decoding  # the template alone differs
    for one in found:
        if isinstance(one.change, OtherDecoding):
            decoding, plain = one.change.of(decoding), one.change.of(plain)
    asked = PLUS.join([original.prompt_id, *(one.name for one in found if not isinstance(one.change, OtherDecoding))])
    return dataclasses.replace(
        original,
        name=name,
        summary="; ".join([original.summary, *(f"{one.setting}: {one.to}" for one in found)]),
        decoding=decoding,
        plain_decoding=plain,
        prompt_id=original.prompt_id if PLUS not in asked else hashlib.sha256(asked.encode()).hexdigest()[:8],
        covers=(name,),
    )
