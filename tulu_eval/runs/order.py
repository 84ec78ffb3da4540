"""What a user wishes of one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from tulu_eval import extras
from tulu_eval.backends.base import EngineSettings
from tulu_eval.registry import Suite
from tulu_eval.runs import catalog
from tulu_eval.sandbox import Execution


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """The wishes of a user for one run.

    Attributes:
        model: Value of ``--model``: hub id, name in the registry, folder or file, or name on a server.
        protocol: Name of the protocol; ``None`` for the benchmark's default.
        data: File to read instead of the benchmark's own source, or a folder if that is several files.
        limit: Number of items, from the first on; ``None`` for all.
        backend: Name of the backend. ``auto``: ``openai`` if the settings name a server, else ``vllm`` if it is installed and
            supports this machine's GPU, else ``transformers``.
        seed: Seed of sampling; a greedy protocol ignores it.
        output: Folder of results, which has a folder per model.
        shard: Part from 1 on, and number N of parts: only every Nth item; ``None`` for all.
        date: Day that a chat template with a date writes, YYYY-MM-DD; ``None`` for the day of an earlier run, else today.
        fresh: Whether to begin anew; an earlier run's day is then ignored.
        execution: How programs of the model are run.
        name: Name of a local model in results; empty for the name that training gave it, else for the last two parts of its
            path.
    """

    benchmark: str
    model: str
    protocol: str | None = None
    data: Path | None = None
    limit: int | None = None
    backend: str = "auto"
    settings: EngineSettings = dataclasses.field(default_factory=EngineSettings)
    seed: int = 0
    output: Path = Path("results")
    shard: tuple[int, int] | None = None
    date: str | None = None
    fresh: bool = False
    execution: Execution = Execution()  # noqa: RUF009 - frozen
    name: str = ""


def check_extras(orders: Iterable[Order], suite: Suite) -> None:
    """Raises PreflightError with one line for all extras that orders need, if several are missing; loads nothing."""
    extras.check_all(extra for order in orders for extra in _extras(order, suite))


def _extras(order: Order, suite: Suite) -> Iterator[str]:
    yield catalog.benchmark(order.benchmark).extra
    if order.backend != "auto":
        yield catalog.backend(order.backend).extra
    if order.settings.cluster is not None:
        yield "ray"
    if order.model.endswith(".gguf") or order.model in {model.name for model in suite.models if model.package}:
        yield "gguf"
