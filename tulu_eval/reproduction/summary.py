"""The records of a reproduction: ``held-out.json`` and ``reproduce.json``."""

from __future__ import annotations

import msgspec

from tulu_eval import files
from tulu_eval.findings.compare import Paired
from tulu_eval.records import Result
from tulu_eval.training.assess import HeldOutNumber, PolicyMeasures


class HeldOutPolicies(files.Record, frozen=True):
    """The policies before and after PPO, and the difference of their rewards on the same held-out prompts."""

    before: PolicyMeasures = msgspec.field(name="tiny-sft")
    after: PolicyMeasures = msgspec.field(name="tiny-ppo")
    difference: HeldOutNumber


class HeldOut(files.Record, frozen=True):
    """``held-out.json``.

    Attributes:
        reward_model: Share of the held-out pairs that the reward model orders as the rule does, by kind of pair.
    """

    reward_model: dict[str, HeldOutNumber]
    policies: HeldOutPolicies


class ReproducedVerdict(files.Record, frozen=True):
    """Whether a model came to what the authors' own run of it came to.

    Attributes:
        expected: Percent as printed.
        measured: Percent.
        verdict: ``consistent``, ``inconsistent`` or ``cannot tell``.
        detectable: Smallest difference in percent points that the test finds with 80 % power; ``None`` if it finds none.
    """

    expected: str
    measured: float
    verdict: str
    p_value: float
    detectable: float | None


class ReproductionSummary(files.Record, frozen=True):
    """``reproduce.json``: the measurements of all stages.

    Attributes:
        before: Results of the model before PPO.
        after: Results of the model after PPO.
        gain: The paired test of ``after`` against ``before``.
        left_out_of_data: Number of questions in each data file that the benchmark has and the file therefore lacks.
        seconds: Seconds by stage, over all calls.
    """

    recipe: str
    benchmark: str
    reward_model: dict[str, HeldOutNumber]
    policies: HeldOutPolicies
    before: tuple[Result, ...]
    after: tuple[Result, ...]
    gain: Paired
    verdicts: dict[str, ReproducedVerdict]
    left_out_of_data: dict[str, int]
    parameters: int
    seconds: dict[str, float]
    machine: dict[str, str | int]
    commit: str
