"""How far a replacement judge's win rate can stand in for the original judge's.

The replacement judges pairs that the original has judged, drawn in strata of length difference and of the original's
preference. From them, weighted back to all annotated pairs:

* agreement and Cohen's kappa on who wins; the bias by position and by length, of each judge;
* the mapping ``original ~ intercept + slope * replacement`` on preferences minus 1, by weighted least squares;
* the variance that it adds: a win rate mapped so has the variance of its own pairs, plus that of the mean residual
  (prediction-powered inference: Angelopoulos et al. 2023, arXiv:2301.09633) and of the slope, plus the spread of mean residuals
  between the annotated models, where there are several: what a judge thinks of a new model is known no better than that.

A mapped number is an estimate in a column of its own. It never is the original judge's number.
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
"""Characters (baseline minus model) between length strata."""

PREFERENCE_EDGES = (1.05, 1.5, 1.95)
"""Between preference strata: sure of the baseline, leaning to it, leaning to the model, sure of it."""

FEWEST = 30
"""Pairs below which no calibration is reported."""

Z95 = 1.959963984540054
"""0.975 quantile of the normal distribution."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """One annotated pair drawn for calibration.

    Attributes:
        model: Whose output it is.
        annotation: The pair and the original's preference.
        weight: How many annotated pairs it stands for.
    """

    model: str
    annotation: Annotation
    weight: float


class Bias(NamedTuple):
    """What a judge's preferences (minus 1) lean on, on the same weighted pairs.

    Attributes:
        position: Mean probability given to the output shown first; 0.5 is no bias if quality is balanced by the random order.
        length: Correlation of the preference for the model with how much longer its output is.
    """

    position: float
    length: float


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """A replacement judge measured against the original.

    Attributes:
        judge: The replacement.
        method: How it was asked.
        prompt_sha256: Of its prompt.
        n: Pairs that both have judged.
        failed: Pairs that the replacement failed on.
        models: Models whose pairs they are.
        agreement: Weighted share of pairs on which both see the same winner.
        kappa: Cohen's kappa of the same.
        replacement_bias: The replacement's.
        original_bias: The original's.
        intercept: Of the mapping, in preference minus 1.
        slope: Of the mapping.
        slope_se: Standard error of the slope.
        center: The replacement's weighted mean preference minus 1 on the pairs, where the slope's error counts nothing.
        residual_se: Standard error of the mean residual, percent points.
        between_se: Standard deviation of mean residuals between models; None with one model.
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
        """Returns the mapped win rate and its standard error, in percent, the added variance included.

        Args:
            win_rate: By the replacement, in percent.
            standard_error: Of it.
        """
        between = self.between_se or 0.0
        lever = (win_rate - 100.0 * self.center) * self.slope_se
        variance = (self.slope * standard_error) ** 2 + self.residual_se**2 + lever**2 + between**2
        return 100.0 * self.intercept + self.slope * win_rate, math.sqrt(variance)


def stratum(annotation: Annotation) -> tuple[int, int]:
    """Returns the stratum of a judged pair: by length difference, by the original's preference."""
    difference = len(annotation.baseline) - len(annotation.output)
    preference = _score(annotation) + 1.0
    return sum(difference > edge for edge in LENGTH_EDGES), sum(preference > edge for edge in PREFERENCE_EDGES)


def _score(annotation: Annotation) -> float:
    """Returns the original's preference minus 1, an old tie (0) read as 1.5."""
    return (annotation.preference or 1.5) - 1.0


def draw(annotations: Mapping[str, Sequence[Annotation]], size: int, seed: int = 0) -> list[Sampled]:
    """Returns about ``size`` judged pairs, as many from each stratum of each model as its share, at least one.

    The choice within a stratum goes by a hash of model, instruction and seed, so a larger sample contains the smaller and what
    was paid for is used again.

    Args:
        annotations: By model.
        size: Pairs wanted; all if there are fewer.
        seed: Of the choice.

    Raises:
        UserError: Fewer than 30 pairs were asked for, or are there.
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

    Args:
        sample: Drawn pairs.
        preferences: The replacement's for each, in [1, 2], 2 if the model wins; None where it failed.
        judge: The replacement's name.
        method: How it was asked.
        prompt_sha256: Of its prompt.

    Raises:
        UserError: It judged too few pairs, or gives every pair the same preference.
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
    """Returns the weighted share of equal winners (a tie is a class of its own) and Cohen's kappa."""
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
    """Returns the standard deviation, in percent points, of the models' weighted mean residuals; None with one model."""
    import numpy as np

    names = sorted(set(models))
    if len(names) < 2:
        return None
    of = np.array(models)
    means = [float(np.average(residual[of == name], weights=weight[of == name])) for name in names]
    return 100.0 * float(np.std(means, ddof=1))


def describe(found: Calibration) -> str:
    """Returns the report for people, a few lines."""
    between = (
        "one model only: how far it shifts from model to model is not known"
        if found.between_se is None
        else f"model to model {found.between_se:.2f}"
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
