"""The base of benchmarks that generate nothing: the model says how likely given texts are after a prompt."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar, Literal

from tulu_eval.benchmarks.base import Benchmark, Item
from tulu_eval.records import Decoding, Grade, Likelihood

NO_DECODING = Decoding(max_new_tokens=0)
"""Decoding of a protocol that generates nothing."""


class LikelihoodBenchmark(Benchmark):
    """A benchmark whose items have continuations.

    Attributes:
        kind: ``choose``: each continuation is one token, so a prompt takes one forward pass. ``score``: of any length.
    """

    kind: ClassVar[Literal["choose", "score"]]

    @abc.abstractmethod
    def continuations(self, item: Item) -> tuple[str, ...]:
        """Returns the texts that may follow an item's prompt, at least one.

        They should start with a space or a newline: a text whose first characters share a token with the prompt's last ones is
        refused.
        """

    def grade_failed(self, target: str) -> tuple[Grade, ...]:
        """Returns the grades of no likelihoods."""
        return self.grade_likelihoods(target, ())

    def grade_likelihoods(self, target: str, likelihoods: Sequence[Likelihood]) -> tuple[Grade, ...]:
        """Returns one grade per scorer; unless a benchmark overrides this, those of the likeliest text, the first of equals.

        ``likelihoods`` has one per continuation, in the order of :meth:`continuations`; it is empty if the engine failed.
        """
        return self.grade(target, max(likelihoods, key=lambda one: one.total).text if likelihoods else "")
