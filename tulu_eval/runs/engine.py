"""One engine for several plans: started when the first sample is needed; another model's weights go into it where they can."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tulu_eval.backends.base import Backend, ReloadError
from tulu_eval.models.model_files import fetch
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan


class Engine:
    """A backend that is loaded on first use; use it as a context manager.

    Args:
        plans: All that it may be started for, model by model; it takes the longest row of those that it can serve.
        progress: Is told when it starts.

    Attributes:
        load_seconds: What starting it, or changing its weights, took, downloads not counted; 0 before it is started.
    """

    def __init__(self, plans: Sequence[Plan], progress: Progress) -> None:
        self._plans = plans
        self._progress = progress
        self._backend: Backend | None = None
        self._loaded: list[Any] = []
        self._checked: list[list[Any]] = []
        self.load_seconds = 0.0

    def check(self, plan: Plan) -> None:
        """Says what a plan's engine lacks, before any is loaded; raises as the backend's ``check`` does."""
        if self._backend is None and _needs(plan) not in self._checked:
            plan.backend.check(plan.model, plan.order.settings)
            self._checked.append(_needs(plan))

    def start(self, plan: Plan) -> Backend:
        """Returns the backend with a plan's model, downloading weights and loading it where it is not there yet."""
        if self._backend is not None and self._loaded == _needs(plan):
            return self._backend
        if plan.backend.local:
            fetch(plan.model)
        if self._backend is None or not self._change(self._backend, plan):
            self._progress.loading(plan.model.name, plan.backend.name)
            began = time.perf_counter()
            self._backend = plan.backend.load(plan.model, plan.order.settings, plan.eos_ids, self._longest(plan))
            self.load_seconds = time.perf_counter() - began
        self._loaded = _needs(plan)
        return self._backend

    def _change(self, backend: Backend, plan: Plan) -> bool:
        """Puts a plan's weights into the running engine; closes it and returns False where they do not go in."""
        began = time.perf_counter()
        probe = plan.planned[0].request.token_ids
        try:
            if not isinstance(backend, plan.backend):
                raise ReloadError
            backend.reload(plan.model, plan.order.settings, plan.eos_ids, self._longest(plan), probe)
        except ReloadError as error:
            if str(error):
                self._progress.say(f"{plan.model.name} gets a fresh engine: {error}")
            self._close()
            plan.backend.check(plan.model, plan.order.settings)
            return False
        self.load_seconds = time.perf_counter() - began
        self._progress.say(f"{plan.model.name}: its weights are in the running engine after {self.load_seconds:.1f} s")
        return True

    def _longest(self, plan: Plan) -> int:
        """Returns the positions of the longest row of any plan whose model has as many positions as this one's."""
        return max(other.max_length for other in self._plans if other.model.context == plan.model.context)

    def _close(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
            self._loaded = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()


def _needs(plan: Plan) -> list[Any]:
    """Returns what an engine is started with: plans that need the same share it as it is."""
    return [plan.backend, plan.model, plan.order.settings, plan.eos_ids]
