"""Intervals, paired and unpaired tests, agreement with a published cell, power: pure functions on numbers.

Functions take counts as counts and proportions as fractions (0 to 1). Only :mod:`~tulu_eval.stats.agreement` uses percent,
because published tables do.
"""

from tulu_eval.stats.agreement import (
    FLIP_RATE,
    MARGIN,
    Agreement,
    Count,
    Mean,
    agree,
    agree_independent,
    agree_of_means,
    agree_same_items,
    agree_superset,
)
from tulu_eval.stats.clustered import Clustered, clustered
from tulu_eval.stats.groups import count_groups, letter_groups
from tulu_eval.stats.intervals import Interval, mean_interval, wilson
from tulu_eval.stats.paired import (
    PairedMeans,
    Pairings,
    fisher,
    holm,
    hypergeometric,
    mcnemar,
    paired_difference,
    paired_means,
    pairings,
)
from tulu_eval.stats.paired_power import detectable_paired, paired_items
from tulu_eval.stats.pass_at_k import pass_at_k
from tulu_eval.stats.power import ALPHA, POWER
from tulu_eval.stats.unpaired_power import detectable_unpaired, unpaired_items, unpaired_power
from tulu_eval.stats.without_replacement import mean_without_replacement

__all__ = [
    "ALPHA",
    "FLIP_RATE",
    "MARGIN",
    "POWER",
    "Agreement",
    "Clustered",
    "Count",
    "Interval",
    "Mean",
    "PairedMeans",
    "Pairings",
    "agree",
    "agree_independent",
    "agree_of_means",
    "agree_same_items",
    "agree_superset",
    "clustered",
    "count_groups",
    "detectable_paired",
    "detectable_unpaired",
    "fisher",
    "holm",
    "hypergeometric",
    "letter_groups",
    "mcnemar",
    "mean_interval",
    "mean_without_replacement",
    "paired_difference",
    "paired_items",
    "paired_means",
    "pairings",
    "pass_at_k",
    "unpaired_items",
    "unpaired_power",
    "wilson",
]
