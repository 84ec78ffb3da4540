"""Finds benchmarks and backends by name, in this package and in any other package that declares them as entry points."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from tulu_eval import plugins
from tulu_eval.backends.base import Backend
from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.benchmarks.suites import BenchmarkSuite
from tulu_eval.benchmarks.varied import is_varied, varied
from tulu_eval.errors import PreflightError, UnknownName
from tulu_eval.plugins import BACKENDS, BENCHMARKS, SUITES, names


def benchmark(name: str, protocol: str | None = None) -> Benchmark:
    """Returns the benchmark of a name, with the prompts and scorers of the protocol if there is one, a varied one too.

    Raises:
        UnknownName: If no package declares this benchmark.
        PreflightError: If its package cannot be imported, or its entry point is not a subclass of ``Benchmark``.
    """
    found = entry(BENCHMARKS, "benchmark", name)
    if not (isinstance(found, type) and issubclass(found, Benchmark)):
        raise PreflightError(f"the entry point {name!r} of {BENCHMARKS} is not a subclass of Benchmark")
    made = found()
    if protocol is not None and is_varied(made, protocol):
        return varied(made, protocol)
    return made if protocol is None else made.under(protocol)


def protocol_name(benchmark_name: str, name: str) -> str:
    """Returns the current name of a protocol, or ``name`` itself if the benchmark is not installed here."""
    if benchmark_name not in names(BENCHMARKS):
        return name
    return benchmark(benchmark_name).aliases.get(name, name)


def backend(name: str) -> type[Backend]:
    """Returns the backend class of a name; raises the same errors as :func:`benchmark`."""
    found = entry(BACKENDS, "backend", name)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise PreflightError(f"the entry point {name!r} of {BACKENDS} is not a subclass of Backend")
    return found


def suite(name: str) -> BenchmarkSuite:
    """Returns the suite of a name; raises the same errors as :func:`benchmark`."""
    found = entry(SUITES, "suite", name)
    if not isinstance(found, BenchmarkSuite):
        raise PreflightError(f"the entry point {name!r} of {SUITES} is not a BenchmarkSuite")
    return found


def default_backend() -> str:
    """Returns ``vllm`` if vLLM is installed and supports this machine's GPU, else ``transformers``; imports neither."""
    from tulu_eval.backends.vllm.backend import default_here

    return "vllm" if default_here() else "transformers"


def entry(group: str, kind: str, name: str) -> Any:
    """Returns what an entry point of a group is, imported; raises UnknownName or PreflightError if there is none."""
    entries = tuple(entry for entry in plugins.declared(group) if entry.name == name)
    if not entries:
        raise UnknownName(kind, name, names(group))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a plug-in prints while it is imported is no result
            return entries[0].load()
    except (ImportError, AttributeError) as error:
        raise PreflightError(f"the {kind} {name!r} cannot be imported: {error}") from error
