"""One engine for several plans of one model: started when the first sample is needed, at most once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tulu_eval.backends.base import Backend
from tulu_eval.backends.loading import fetch
from tulu_eval.runs.plan import Plan
from tulu_eval.runs.progress import Progress


class Engine:
    """A backend that is loaded on first use; use it as a context manager.

    Args:
        plans: Plans of one model, backend and settings; the engine takes the longest row of any of them.
        progress: Is told when it starts.

    Attributes:
        load_seconds: What starting it took, downloads not counted; 0 before it is started.
    """

    def __init__(self, plans: Sequence[Plan], progress: Progress) -> None:
        self._plan = plans[0]
        self._max_length = max(plan.max_length for plan in plans)
        self._progress = progress
        self._backend: Backend | None = None
        self.load_seconds = 0.0

    def check(self) -> None:
        """Says what is missing before anything is loaded; raises as the backend's ``check`` does."""
        if self._backend is None:
            self._plan.backend.check(self._plan.model, self._plan.order.settings)

    def start(self) -> Backend:
        """Returns the backend, downloading weights and loading the model the first time."""
        if self._backend is None:
            plan = self._plan
            if plan.backend.local:
                fetch(plan.model, plan.order.settings.allow_pickle)
            self._progress.loading(plan.model.name, plan.backend.name)
            began = time.perf_counter()
            self._backend = plan.backend.load(plan.model, plan.order.settings, plan.eos_ids, self._max_length)
            self.load_seconds = time.perf_counter() - began
        return self._backend

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None
