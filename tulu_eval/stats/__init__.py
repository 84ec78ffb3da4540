"""Intervals, paired and unpaired tests, agreement with a published cell, power: pure functions on numbers.

Functions take counts as counts and proportions as fractions (0 to 1). Only :mod:`~tulu_eval.stats.printed` and
:mod:`~tulu_eval.stats.agreement` use percent, because published tables do.
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
from tulu_eval.stats.intervals import Interval, exact, mean_interval, newcombe, wilson
from tulu_eval.stats.paired import Pairings, fisher, holm, hypergeometric, mcnemar, paired_difference, pairings
from tulu_eval.stats.paired_power import detectable_paired, paired_items, paired_power
from tulu_eval.stats.power import ALPHA, POWER
from tulu_eval.stats.printed import cell_count, compatible_sizes
from tulu_eval.stats.unpaired_power import detectable_unpaired, unpaired_items, unpaired_power

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
    "Pairings",
    "agree",
    "agree_independent",
    "agree_of_means",
    "agree_same_items",
    "agree_superset",
    "cell_count",
    "clustered",
    "compatible_sizes",
    "count_groups",
    "detectable_paired",
    "detectable_unpaired",
    "exact",
    "fisher",
    "holm",
    "hypergeometric",
    "letter_groups",
    "mcnemar",
    "mean_interval",
    "newcombe",
    "paired_difference",
    "paired_items",
    "paired_power",
    "pairings",
    "unpaired_items",
    "unpaired_power",
    "wilson",
]
