"""The suite as TOML data, and the code that reads it: models, aliases, published numbers with sources, contradictions."""

from tulu_eval.registry.card_tables import CardRow, FamilyRow, Link, plain
from tulu_eval.registry.entries import Defect, Metric, Model, Package, Source
from tulu_eval.registry.lineage import Lineage
from tulu_eval.registry.published import Contradiction, PublishedCell
from tulu_eval.registry.suite import Suite, load_suite

__all__ = [
    "CardRow",
    "Contradiction",
    "Defect",
    "FamilyRow",
    "Lineage",
    "Link",
    "Metric",
    "Model",
    "Package",
    "PublishedCell",
    "Source",
    "Suite",
    "load_suite",
    "plain",
]
