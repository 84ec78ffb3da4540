"""A suite for many models on many GPUs, before anybody pays for it."""

from __future__ import annotations

from collections.abc import Sequence

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import spoken
from tulu_eval.findings import plan_models as findings
from tulu_eval.findings.planned_models import ModelsPlan


@spoken
def plan_models(
    suite: str,
    models: Sequence[AnyPath],
    gpus: int,
    *,
    gpu_hour_price: float | None = None,
    registry: AnyPath | None = None,
) -> ModelsPlan:
    """Returns the GPU-hours of a suite for many models, which GPUs each gets when, what to run first, and the price.

    The GPUs are H200, in nodes of 8. The field ``assumptions`` has each assumed length and speed with its source. No weights
    and no items are loaded.

    >>> planned = tulu_eval.plan_models("tulu-2.5", ["tulu-2-13b", "llama-3-tulu-2-8b"], gpus=64, gpu_hour_price=3)
    >>> planned.gpu_hours, planned.price, [one.model for one in planned.models]

    Args:
        suite: Name of the suite.
        models: Hub ids, folders, GGUF files, or names of the registry.
        gpus: Number of GPUs.
        gpu_hour_price: Price of one GPU for one hour, in any currency.
        registry: TOML file with models of your own.

    Raises:
        UserError: If there is no such suite or model, a model's size is unknown or larger than the GPUs, or no model is given.
    """
    return findings.plan_models(suite, [str(model) for model in models], gpus, load_suite(registry), gpu_hour_price)
