"""Calibrates a replacement judge: maps its win rate to the original judge's scale, with the error that this adds.

The replacement judges a sample of pairs that the original has judged, stratified by length difference and by the original's
preference. Weights extend the sample to all annotated pairs. The calibration has:

* agreement and Cohen's kappa on the winner; the position bias and the length bias of each judge;
* the mapping ``original ~ intercept + slope * replacement`` on preferences minus 1, by weighted least squares;
* the added variance. A mapped win rate has the variance of its own pairs, plus that of the mean residual (prediction-powered
  inference: Angelopoulos et al. 2023, arXiv:2301.09633) and of the slope, plus, with several annotated models, the spread of
  mean residuals between them, because a judge may shift by that much on a new model.

A mapped number is an estimate in its own column. It is never the original judge's number.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tulu_eval.errors import UserError
from tulu_eval.judging.annotations import Annotation
from tulu_eval.judging.judge_recipe import swapped
from tulu_eval.records import content_hash

if TYPE_CHECKING:
    from tulu_eval.stats.length_control import Array

LENGTH_EDGES = (-800, -200, 200)
"""Edges between length strata, in characters (baseline minus model)."""

PREFERENCE_EDGES = (1.05, 1.5, 1.95)
"""Edges between preference strata: certain of the baseline, leaning to it, leaning to the model, certain of the model."""

FEWEST = 30
"""Smallest number of pairs of a calibration."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """One annotated pair drawn for calibration.

    Attributes:
        weight: Number of annotated pairs that it represents.
    """

    model: str
    annotation: Annotation
    weight: float


class Bias(NamedTuple):
    """The biases of a judge's preferences minus 1, on the same weighted pairs.

    Attributes:
        position: Mean preference for the output shown first, 0 to 1; 0.5 is no bias if the random order balances quality.
        length: Correlation (-1 to 1) between the preference for the model and how much longer its output is.
    """

    position: float
    length: float


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """A replacement judge measured against the original.

    Attributes:
        method: Method of asking the replacement: ``logprobs`` or ``text``.
        n: Pairs that both judges have judged.
        agreement: Weighted share of pairs for which both judges name the same winner, 0 to 1.
        intercept: Intercept of the mapping, in preference minus 1.
        center: The replacement's weighted mean preference minus 1 on the pairs; the slope's error has no effect there.
        residual_se: Standard error of the mean residual, in percentage points.
        between_se: Standard deviation of mean residuals between models, in percentage points; ``None`` with one model.
    """

    judge: str
    method: str
    prompt_sha256: str
    n: int
    failed: int
    models: tuple[str, ...]
    agreement: float
    kappa: float
    replacement_bias: Bias
    original_bias: Bias
    intercept: float
    slope: float
    slope_se: float
    center: float
    residual_se: float
    between_se: float | None

    def apply(self, win_rate: float, standard_error: float) -> tuple[float, float]:
        """Returns the mapped win rate and its standard error, with the added variance; all are in percent."""
        between = self.between_se or 0.0
        lever = (win_rate - 100.0 * self.center) * self.slope_se
        variance = (self.slope * standard_error) ** 2 + self.residual_se**2 + lever**2 + between**2
        return 100.0 * self.intercept + self.slope * win_rate, math.sqrt(variance)


def stratum(annotation: Annotation) -> tuple[int, int]:
    """Returns the stratum of a judged pair: the numbers of its length stratum and its preference stratum, both from 0."""
    difference = len(annotation.baseline) - len(annotation.output)
    preference = _score(annotation) + 1.0
    return sum(difference > edge for edge in LENGTH_EDGES), sum(preference > edge for edge in PREFERENCE_EDGES)


def _score(annotation: Annotation) -> float:
    """Returns the original's preference minus 1; an old tie (0) counts as 1.5."""
    return (annotation.preference or 1.5) - 1.0


def draw(annotations: Mapping[str, Sequence[Annotation]], size: int, seed: int = 0) -> list[Sampled]:
    """Returns about ``size`` judged pairs (all, if fewer): from each stratum of each model its share, but at least one.

    A hash of model, instruction and seed decides within a stratum, so a larger sample contains the smaller one and reuses its
    paid answers.

    Raises:
        UserError: If fewer than 30 pairs are requested or available.
    """
    strata: dict[tuple[str, int, int], list[Annotation]] = defaultdict(list)
    for model, rows in annotations.items():
        for row in rows:
            if row.preference is not None and row.baseline != row.output:
                strata[(model, *stratum(row))].append(row)
    total = sum(map(len, strata.values()))
    if min(size, total) < FEWEST:
        raise UserError(f"a calibration needs {FEWEST} or more judged pairs; {min(size, total)} is too few")
    chosen = []
    for (model, *_), rows in sorted(strata.items()):
        take = max(1, round(min(1.0, size / total) * len(rows)))
        ranked = sorted(rows, key=lambda row: content_hash([seed, model, row.instruction]))
        chosen += [Sampled(model, row, len(rows) / take) for row in ranked[:take]]
    return chosen


def calibrate(
    sample: Sequence[Sampled], preferences: Sequence[float | None], judge: str, method: str, prompt_sha256: str
) -> Calibration:
    """Measures a replacement judge against the original.

    ``preferences`` has the replacement's for each pair, in [1, 2], 2 if the model wins; ``None`` if it failed.

    Raises:
        UserError: If the replacement judged too few pairs, or gives every pair the same preference.
    """
    import numpy as np

    judged = [(one, value - 1.0) for one, value in zip(sample, preferences, strict=True) if value is not None]
    if len(judged) < FEWEST:
        raise UserError(
            f"the judge {judge!r} judged {len(judged)} of {len(sample)} pairs; a calibration needs {FEWEST} or more"
        )
    weight = np.array([one.weight for one, _ in judged])
    weight = weight / weight.sum()
    x = np.array([value for _, value in judged])
    y = np.array([_score(one.annotation) for one, _ in judged])
    if np.ptp(x) < 1e-9:
        raise UserError(f"the judge {judge!r} gives every pair the same preference; there is nothing to calibrate")
    center, spread = float(weight @ x), _covariance(x, x, weight)
    slope = _covariance(x, y, weight) / spread
    intercept = float(weight @ y) - slope * center
    residual = y - intercept - slope * x
    models = [one.model for one, _ in judged]
    agreement, kappa = _agreement(x, y, weight)
    return Calibration(
        judge=judge,
        method=method,
        prompt_sha256=prompt_sha256,
        n=len(judged),
        failed=len(sample) - len(judged),
        models=tuple(sorted(set(models))),
        agreement=agreement,
        kappa=kappa,
        replacement_bias=_bias(judged, x, weight),
        original_bias=_bias(judged, y, weight),
        intercept=intercept,
        slope=slope,
        slope_se=float(np.sqrt((weight**2 * (x - center) ** 2 * residual**2).sum())) / spread,
        center=center,
        residual_se=100.0 * float(np.sqrt((weight**2 * residual**2).sum() * len(judged) / (len(judged) - 2))),
        between_se=_between(models, residual, weight),
    )


def _covariance(a: Array, b: Array, weight: Array) -> float:
    return float(weight @ ((a - weight @ a) * (b - weight @ b)))


def _agreement(x: Array, y: Array, weight: Array) -> tuple[float, float]:
    """Returns the weighted share of equal winners (a tie is its own class) and Cohen's kappa."""
    import numpy as np

    left, right = np.sign(x - 0.5), np.sign(y - 0.5)
    observed = float(weight @ (left == right))
    expected = sum(float(weight @ (left == one)) * float(weight @ (right == one)) for one in (-1.0, 0.0, 1.0))
    return observed, (observed - expected) / (1.0 - expected) if expected < 1.0 else float("nan")


def _bias(judged: Sequence[tuple[Sampled, float]], values: Array, weight: Array) -> Bias:
    import numpy as np

    model_first = np.array([swapped(one.annotation.instruction) for one, _ in judged])
    first = np.where(model_first, values, 1.0 - values)
    longer = np.array([len(one.annotation.output) - len(one.annotation.baseline) for one, _ in judged], dtype=float)
    spread = math.sqrt(_covariance(values, values, weight) * _covariance(longer, longer, weight))
    return Bias(float(weight @ first), _covariance(values, longer, weight) / spread if spread > 0 else float("nan"))


def _between(models: Sequence[str], residual: Array, weight: Array) -> float | None:
    """Returns the standard deviation of the models' weighted mean residuals in percentage points; ``None`` with one model."""
    import numpy as np

    names = sorted(set(models))
    if len(names) < 2:
        return None
    of = np.array(models)
    means = [float(np.average(residual[of == name], weights=weight[of == name])) for name in names]
    return 100.0 * float(np.std(means, ddof=1))


def describe(found: Calibration) -> str:
    """Returns a report for people in a few lines."""
    between = (
        "one model only, so the spread between models is unknown"
        if found.between_se is None
        else f"{found.between_se:.2f} between models"
    )
    return "\n".join(
        (
            f"{found.judge} ({found.method}) against the original judge: {found.n} pairs, {found.failed} failed; "
            f"models: {', '.join(found.models)}",
            f"agreement {100 * found.agreement:.1f} %, kappa {found.kappa:.3f}",
            f"position: first shown gets {found.replacement_bias.position:.3f} (original {found.original_bias.position:.3f})",
            f"length: correlation {found.replacement_bias.length:+.3f} (original {found.original_bias.length:+.3f})",
            f"win rate of the original ~ {100 * found.intercept:.2f} + {found.slope:.3f} x its own",
            f"added standard error, points: {found.residual_se:.2f} from {found.n} pairs; {between}",
        )
    )
