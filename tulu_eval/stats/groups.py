"""Groups that the data can separate, shown instead of ranks.

The rule of display: two results share a letter if and only if the test of their difference is not significant after Holm's
correction over all pairs. A group is a largest such set: nothing can be added to it without adding a separated pair. A result
may stand in several groups ("AB": separated from neither). Groups are lettered in the order of their best result.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tulu_eval.stats.paired import fisher, holm
from tulu_eval.stats.power import ALPHA


def count_groups(counts: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Returns the letters of each of several independent results, compared pair by pair with Fisher's exact test.

    Args:
        counts: Items right and items, one pair a result.

    Raises:
        ValueError: Impossible count.
    """
    pairs = itertools.combinations(range(len(counts)), 2)
    p_values = {(i, j): fisher(*counts[i], *counts[j]) for i, j in pairs}
    return letter_groups([right / n for right, n in counts], p_values)


def letter_groups(values: Sequence[float], p_values: Mapping[tuple[int, int], float]) -> tuple[str, ...]:
    """Returns the letters of each result from the p-value of every pair.

    Args:
        values: The results; larger is better. They order the letters only.
        p_values: Uncorrected p-value for every pair of positions ``(i, j)`` with ``i < j``.

    Raises:
        ValueError: A pair is missing or too many.
    """
    if set(p_values) != set(itertools.combinations(range(len(values)), 2)):
        raise ValueError(f"p-values are needed for exactly the pairs (i, j), i < j, of {len(values)} results")
    adjusted = zip(p_values, holm(list(p_values.values())), strict=True)
    separated = {pair for pair, p in adjusted if p < ALPHA}
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    groups = _largest_groups(order, separated)
    ranks = {result: rank for rank, result in enumerate(order)}
    groups.sort(key=lambda group: sorted(ranks[i] for i in group))
    return tuple("".join(_letter(g) for g, group in enumerate(groups) if i in group) for i in range(len(values)))


def _largest_groups(results: Sequence[int], separated: set[tuple[int, int]]) -> list[frozenset[int]]:
    """Returns all largest sets without a separated pair, each once: every separated pair splits the sets that hold it.

    Source: Piepho (2004), Journal of Computational and Graphical Statistics 13, 456-466, insert and absorb.
    """
    groups = {frozenset(results)} if results else set()
    for pair in sorted(separated):
        split = {group - {i} for group in groups if group.issuperset(pair) for i in pair}
        groups = {group for group in groups if not group.issuperset(pair)} | split
        groups = {group for group in groups if not any(group < other for other in groups)}
    return list(groups)


def _letter(index: int) -> str:
    """Returns A to Z, then A1 to Z1 and so on."""
    return chr(ord("A") + index % 26) + (str(index // 26) if index >= 26 else "")
