"""The records of a reproduction: ``held-out.json`` and ``reproduce.json``."""

from __future__ import annotations

from tulu_eval import files
from tulu_eval.findings.compare import Paired
from tulu_eval.records import Result
from tulu_eval.training.assess import HeldOutNumber, PolicyMeasures


class HeldOut(files.Record, frozen=True):
    """``held-out.json``.

    Attributes:
        reward_model: Share of the held-out pairs that the reward model orders as the rule does, by kind of pair.
        before: The policy before PPO by the reward model.
        after: The policy after it.
        difference: The difference of their rewards on the same held-out prompts.
    """

    reward_model: dict[str, HeldOutNumber]
    before: PolicyMeasures
    after: PolicyMeasures
    difference: HeldOutNumber


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


class ReproducedModel(files.Record, frozen=True):
    """A trained model and what it came to.

    Attributes:
        training: How it was trained, in words.
        verdict: ``None`` if the authors have no run of this seed.
    """

    name: str
    training: str
    results: tuple[Result, ...]
    verdict: ReproducedVerdict | None


class ReproducedGain(files.Record, frozen=True):
    """The paired test of one model against another on the same items: ``after`` minus ``before``."""

    after: str
    before: str
    paired: Paired


class CurvePoint(files.Record, frozen=True):
    """Means over some steps in a row of PPO.

    Attributes:
        step: Number of the last of them, from 1.
        score: Mean reward, after the rule for missing end tokens.
        kl: KL from the stage's start in nats per response.
        eos_rate: Share of the responses with an end token.
        length: Tokens per response.
    """

    step: int
    score: float
    kl: float
    eos_rate: float
    length: float


class ReproductionSummary(files.Record, frozen=True):
    """``reproduce.json``: the measurements of all stages.

    Attributes:
        seed: Seed of data, initial weights and draws.
        gains: Act 1, its control, and act 2, as :data:`~tulu_eval.reproduction.acts.GAINS` has them.
        curves: The points of the two PPO stages, by stage.
        seconds: Seconds by stage, over all calls.
    """

    recipe: str
    seed: int
    benchmark: str
    held_out: HeldOut
    models: tuple[ReproducedModel, ...]
    gains: tuple[ReproducedGain, ...]
    curves: dict[str, tuple[CurvePoint, ...]]
    parameters: int
    seconds: dict[str, float]
    machine: dict[str, str | int]
    commit: str
