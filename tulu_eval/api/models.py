"""The registry: models and published numbers."""

from __future__ import annotations

from pathlib import Path

from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import spoken
from tulu_eval.registry import Model, Suite
from tulu_eval.registry import load_suite as load


@spoken
def load_suite(registry: AnyPath | None = None) -> Suite:
    """Returns the suite: models, published numbers with their sources, contradictions.

    >>> suite = tulu_eval.load_suite()
    >>> [cell.printed for cell in suite.cells(suite.find("tulu-2-dpo-13b"), "gsm8k")]

    Args:
        registry: A TOML file with models and published numbers of your own; it may add but not redefine.

    Raises:
        DataError: If the file cannot be read or breaks a rule of the registry.
    """
    return load(None if registry is None else Path(registry))


@spoken
def list_models(stage: str | None = None, *, registry: AnyPath | None = None) -> tuple[Model, ...]:
    """Returns the suite's models by family, then by stage.

    >>> [model.name for model in tulu_eval.list_models("PPO")]

    Args:
        stage: Only models of this stage: base, SFT, DPO, RM, PPO, value or instruct, in any case.
        registry: As :func:`load_suite` takes it.

    Raises:
        UnknownName: If there is no such stage.
    """
    return load_suite(registry).of_stage(stage)


@spoken
def find_model(name: str, *, registry: AnyPath | None = None) -> Model:
    """Returns a model of the suite.

    >>> tulu_eval.find_model("tulu-2-dpo-13b").hub_id
    'allenai/tulu-2-dpo-13b'

    Args:
        name: A hub id, a former hub id, or either without the organisation, in any case.
        registry: As :func:`load_suite` takes it.

    Raises:
        UnknownName: If there is no such model, or there are several.
    """
    return load_suite(registry).find(name)
