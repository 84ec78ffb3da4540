"""The records of a plan of a suite for many models."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """A number where answers have their usual length, and where they are long."""

    usual: float
    long: float


@dataclasses.dataclass(frozen=True, slots=True)
class Assumption:
    """A number that a plan assumes, and its source; name, value and unit, one after the other, are a sentence."""

    name: str
    value: float
    unit: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What a benchmark of the suite takes of one model's GPUs; the engine's start is not in it.

    Attributes:
        samples: Number of answers.
        prompt_tokens: Tokens of all prompts; what they have in common counts once.
        verdict: Whether ``verify`` can test a published number of this model with it, without a judge.
    """

    benchmark: str
    protocol: str
    samples: int
    prompt_tokens: float
    new_tokens: Range
    gpu_hours: Range
    verdict: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model's place in the plan.

    Attributes:
        parameters: Number of parameters.
        size_source: Where that is from.
        gpus: Number of GPUs of an engine.
        engines: Number of engines, which share the items of a column.
        gpu_hours: All columns and the start of each engine.
        verdicts: Number of columns with a verdict.
        first_gpu: Number of the first of its GPUs, from 0 on; it has ``gpus`` times ``engines``.
        begin: Hours from the start of everything to its own, with long answers.
        end: Hours from the start of everything to its end, with long answers.
        command: What to type.
    """

    model: str
    parameters: int
    size_source: str
    gpus: int
    engines: int
    gpu_hours: Range
    verdicts: int
    first_gpu: int
    begin: float
    end: float
    columns: tuple[ColumnPlan, ...]
    command: str


@dataclasses.dataclass(frozen=True, slots=True)
class Milestone:
    """When a number of verdicts is there, in hours, in the plan's order and in the order in which the models were given."""

    verdicts: int
    hours: float
    hours_as_given: float


@dataclasses.dataclass(frozen=True, slots=True)
class ModelsPlan:
    """The result of :func:`~tulu_eval.findings.plan_models.plan_models`.

    Attributes:
        models: In the order in which they begin, the most verdicts per GPU-hour of one engine first.
        gpu_hours: Of all models.
        hours: From the first model's start to the last one's end.
        gpu_hours_of_one: Of all models, if each has one engine.
        hours_of_one: As ``hours``, if each has one engine.
        idle_gpus: Number of GPUs that no model gets.
        verdicts: Number of verdicts, over all models.
        milestones: Times of a quarter, half, three quarters and all of the verdicts; empty if there are none.
        gpu_hour_price: Price of one GPU for one hour; ``None`` if none was given.
        price: Price of ``gpu_hours``; ``None`` without ``gpu_hour_price``.
    """

    suite: str
    gpus: int
    models: tuple[ModelPlan, ...]
    gpu_hours: Range
    hours: Range
    gpu_hours_of_one: Range
    hours_of_one: Range
    idle_gpus: int
    verdicts: int
    milestones: tuple[Milestone, ...]
    gpu_hour_price: float | None
    price: Range | None
    assumptions: tuple[Assumption, ...]
