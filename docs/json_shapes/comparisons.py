"""JSON of verify, compare and explain."""

from __future__ import annotations

from typing import Literal

from json_shapes.base import Shape
from tulu_eval.findings.audit import Allowance
from tulu_eval.findings.changes import Change
from tulu_eval.findings.compare import Flip, Paired
from tulu_eval.findings.deviations import Setting
from tulu_eval.findings.explaining.explanation import NotTried, Tried
from tulu_eval.findings.verify import Comparison
from tulu_eval.records import Result
from tulu_eval.registry import Contradiction, PublishedCell


class NotTested(Shape, frozen=True):
    """A published number that no test compares with the run's.

    Attributes:
        reason: Why not.
        verdict: Always that nothing can be told.
    """

    cell: PublishedCell
    row: Result
    reason: str
    verdict: Literal["cannot tell"]


class Verified(Shape, frozen=True):
    """Whether a run agrees with what was published.

    Attributes:
        run: The run's folder.
        model: Hub id of the model whose published numbers are meant.
        same_weights: Whether the run's weights count as those behind the number.
        inconsistent: Whether any number is inconsistent.
        comparisons: One per published number that was tested.
        beside: Rows of other scorers.
        allowance: What is allowed for noise between two greedy runs; null for none.
        contradictions: What the record says twice and differently of these numbers.
        differences: Settings that differ from the published recipe.
        not_recorded: What nobody recorded of the published number.
        next_step: Command that looks for the setting behind an inconsistent number; empty for none.
    """

    run: str
    model: str
    benchmark: str
    same_weights: bool
    inconsistent: bool
    comparisons: tuple[Comparison, ...]
    untested: tuple[NotTested, ...]
    beside: tuple[Result, ...]
    allowance: Allowance | None
    contradictions: tuple[Contradiction, ...]
    differences: tuple[Setting, ...]
    conclusion: str
    not_recorded: str
    notes: tuple[str, ...]
    next_step: str


class ComparedRuns(Shape, frozen=True):
    """Two runs, item by item.

    Attributes:
        a: Folder of the first run.
        b: Folder of the second run.
        flips: Items that one run has right and the other wrong.
        changes: What differs between the manifests.
        left_out: Items on which an engine failed.
        only_in_a: Number of items that only the first run has.
        only_in_b: Number of items that only the second run has.
        unhashed: Of each run, why its samples cannot be held against hashes; empty if they can.
    """

    a: str
    b: str
    benchmark: str
    scorer: str
    paired: Paired
    flips: tuple[Flip, ...]
    changes: tuple[Change, ...]
    left_out: int
    only_in_a: int
    only_in_b: int
    unhashed: tuple[str, str]


class GapBetween(Shape, frozen=True):
    """The gap between two numbers, as shares and in points.

    Attributes:
        noise: Whether chance alone gives such a gap.
    """

    base: float
    goal: float
    points: float
    p_value: float
    test: str
    n: int
    noise: bool


class Step(Shape, frozen=True):
    """A step on the way from one number to the other, in points."""

    step: str
    points: float


class Explained(Shape, frozen=True):
    """Which setting explains the gap between two numbers.

    Attributes:
        sentence: The answer.
        base: Whose settings were changed.
        goal: What the number should agree with.
        chance: Gap that flips alone give, as a share.
        named: Names of the changes that explain it together; empty for none.
        rivals: Changes that fit about as well.
        generated: Samples that were generated.
        budget: Samples that might be generated.
        dollars: What a server cost; null if it has no price.
        everything: Samples that trying everything on all items would need.
        short: Whether the budget ended the search.
        scored: Those of the named changes that say how the texts were scored.
        method: How the intervals are made.
        steps: The way from one number to the other.
    """

    sentence: str
    base: str
    goal: str
    gap: GapBetween | None
    n: int
    chance: float
    named: tuple[str, ...]
    rivals: tuple[tuple[str, ...], ...]
    tried: tuple[Tried, ...]
    untried: tuple[NotTried, ...]
    generated: int
    budget: int
    dollars: float | None
    everything: int
    short: bool
    seconds: float
    next_step: str
    scored: tuple[str, ...]
    method: str
    steps: tuple[Step, ...]
