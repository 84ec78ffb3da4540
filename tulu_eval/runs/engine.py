"""Shares one engine between several plans: starts it for the first missing sample, and reloads weights for the next model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tulu_eval.backends.base import Backend, ReloadError
from tulu_eval.backends.cluster.backend import leave, on_cluster
from tulu_eval.models.model_files import fetch
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan


class Engine:
    """A backend that is loaded on first use; use it as a context manager.

    Args:
        plans: All plans that it may have to serve, model by model. It makes room for the longest row of the plans that it can
            serve.
        progress: Receives a message when the engine starts or changes its weights.

    Attributes:
        load_seconds: Seconds that the last start or change of weights took, without downloads; 0 before the first.
    """

    def __init__(self, plans: Sequence[Plan], progress: Progress) -> None:
        self._plans = list(plans)
        self._progress = progress
        self._backend: Backend | None = None
        self._loaded: list[Any] = []
        self._checked: list[list[Any]] = []
        self._room = 0
        self.load_seconds = 0.0

    def add(self, plans: Sequence[Plan]) -> None:
        """Adds plans that it may have to serve; one with longer rows than the running engine has room for starts it anew."""
        self._plans += plans

    def check(self, plan: Plan) -> None:
        """Checks that a plan's engine can start, unless one runs already; raises the same errors as the backend's ``check``."""
        if self._backend is None and _needs(plan) not in self._checked:
            _engine(plan).check(plan.model, plan.order.settings)
            self._checked.append(_needs(plan))

    def start(self, plan: Plan) -> Backend:
        """Returns the backend with a plan's model; downloads the weights and loads the model if need be."""
        if self._backend is not None and self._loaded == _needs(plan):
            if plan.max_length <= self._room:
                return self._backend
            self.close()
        if _engine(plan).local:
            fetch(plan.model)
        if self._backend is None or not self._change(self._backend, plan):
            self._progress.loading(plan.model.name, plan.backend.name)
            began = time.perf_counter()
            self._backend = _engine(plan).load(plan.model, plan.order.settings, plan.eos_ids, self._longest(plan))
            self.load_seconds = time.perf_counter() - began
        self._loaded, self._room = _needs(plan), self._longest(plan)
        return self._backend

    def _change(self, backend: Backend, plan: Plan) -> bool:
        """Puts a plan's weights into the running engine; closes the engine and returns ``False`` if it cannot take them."""
        began = time.perf_counter()
        probe = plan.planned[0].request.token_ids
        try:
            if not isinstance(backend, _engine(plan)):
                raise ReloadError
            backend.reload(plan.model, plan.order.settings, plan.eos_ids, self._longest(plan), probe)
        except ReloadError as error:
            if str(error):
                self._progress.say(f"{plan.model.name} gets a fresh engine: {error}")
            self.close()
            _engine(plan).check(plan.model, plan.order.settings)
            return False
        self.load_seconds = time.perf_counter() - began
        if self._loaded[1] != plan.model:
            self._progress.say(f"{plan.model.name}: its weights are in the running engine after {self.load_seconds:.1f} s")
        return True

    def _longest(self, plan: Plan) -> int:
        """Returns the number of positions of the longest row of all plans whose models have this model's context length."""
        return max(other.max_length for other in self._plans if other.model.context == plan.model.context)

    def close(self) -> None:
        """Ends the running engine, if there is one; the next start loads anew."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None
            self._loaded = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.close()
        finally:
            leave()


def _engine(plan: Plan) -> type[Backend]:
    """Returns what answers a plan's requests: its backend, or on a cluster many engines of it."""
    return plan.backend if plan.order.settings.cluster is None else on_cluster(plan.backend)


def _needs(plan: Plan) -> list[Any]:
    """Returns everything that an engine's start depends on; plans with equal needs share an engine without a reload."""
    return [plan.backend, plan.model, plan.order.settings, plan.eos_ids]
