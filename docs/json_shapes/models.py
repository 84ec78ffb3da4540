"""JSON of models and card."""

from __future__ import annotations

from typing import Any

from json_shapes.base import Shape
from tulu_eval.registry import Contradiction, Model, PublishedCell
from tulu_eval.registry.lint import AverageCheck


class ListedModel(Shape, frozen=True):
    """A model of the registry, as [Model](#model), with its published numbers."""

    hub_id: str
    stage: str
    size: str
    family: str
    name: str
    aliases: tuple[str, ...]
    base: str | None
    sft_data: str | None
    preference_split: str | None
    reward_model: str | None
    value_model: str | None
    trained_with: str | None
    prompts: str | None
    template: str
    context: int | None
    architecture: str | None
    package: dict[str, str] | None
    defects: tuple[dict[str, Any], ...]
    inferred: tuple[str, ...]
    note: str
    numbers: tuple[PublishedCell, ...]


class Relative(Shape, frozen=True):
    """A model in another's lineage."""

    hub_id: str
    stage: str


class LineageOf(Shape, frozen=True):
    """Where a model comes from; null for none."""

    ancestors: tuple[Relative, ...]
    copied_from: Relative | None
    reward_model: Relative | None
    value_model: Relative | None
    trained_with: Relative | None


class ShownModel(Shape, frozen=True):
    """One model with all that the registry knows."""

    model: Model
    lineage: LineageOf
    numbers: tuple[PublishedCell, ...]
    averages: tuple[AverageCheck, ...]
    contradictions: tuple[Contradiction, ...]


class MadeCard(Shape, frozen=True):
    """What belongs on a model's card.

    Attributes:
        metadata: The front matter, YAML.
        section: The results, Markdown.
        files: Text of the hub's files by their paths.
    """

    model: str
    metadata: str
    section: str
    files: dict[str, str]


class CardFinding(Shape, frozen=True):
    """A place where a card contradicts itself or the registry.

    Attributes:
        check: Name of the check.
        says: What the card says.
        instead: What is known instead.
        source: From where.
        advice: What to do; may be empty.
    """

    line: int
    check: str
    says: str
    instead: str
    source: str
    advice: str


class CheckedCard(Shape, frozen=True):
    """A model card that was checked.

    Attributes:
        card: The file.
        model: Hub id of the card's model; null if it is not known.
    """

    card: str
    model: str | None
    findings: tuple[CardFinding, ...]
