"""What a comparison of two models needs, before anybody pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import spoken
from tulu_eval.errors import UserError
from tulu_eval.findings.plan import Planning, plan_comparison


@spoken
def items_needed(
    benchmark: str,
    models: Sequence[AnyPath],
    detect: float,
    *,
    data: AnyPath | None = None,
    registry: AnyPath | None = None,
) -> Planning:
    """Returns how many items of a benchmark show a difference between two models, whether it has them, and what both runs cost.

    "Show" means 80 % power at 5 %, two-sided, of the very test that will be run. No weights are loaded.

    >>> found = tulu_eval.items_needed("gsm8k", ["tulu-2-13b", "tulu-v2.5-dpo-13b-uf-mean"], detect=2.0)
    >>> found.paired, found.unpaired

    Args:
        benchmark: Name of the benchmark.
        models: The two models: hub ids, folders, GGUF files, or names of the registry.
        detect: Difference that the comparison has to show, in percent points, above 0 and at most 100.
        data: File of rows to count tokens in instead of the benchmark's own source.
        registry: TOML file with models of your own.

    Raises:
        UserError: If the benchmark, a model or its size is unknown, or the difference is out of range.
    """
    names = [str(model) for model in models]
    if len(names) != 2:
        raise UserError(f"models: a comparison is of two models, not {len(names)}")
    return plan_comparison(benchmark, names, detect, load_suite(registry), None if data is None else Path(data))
