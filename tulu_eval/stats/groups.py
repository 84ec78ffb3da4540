"""Letters for groups of results that the tests separate (a compact letter display), shown instead of ranks.

Two results share a letter if and only if the test of their difference is not significant after Holm's correction over all
pairs. A group is a maximal set of results without a separated pair: adding any result adds one. A result may be in several
groups ("AB": separated from neither). The order of the groups' best results gives the letters.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tulu_eval.stats.paired import fisher, holm
from tulu_eval.stats.power import ALPHA


def count_groups(counts: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Returns the letters of independent results, each items right and items; Fisher's exact test compares every pair."""
    pairs = itertools.combinations(range(len(counts)), 2)
    p_values = {(i, j): fisher(*counts[i], *counts[j]) for i, j in pairs}
    return letter_groups([right / n for right, n in counts], p_values)


def letter_groups(values: Sequence[float], p_values: Mapping[tuple[int, int], float]) -> tuple[str, ...]:
    """Returns the letters of each result from the p-value of every pair.

    Args:
        values: The results; larger is better. They only decide the order of the letters.
        p_values: Uncorrected p-value for every pair of positions ``(i, j)`` with ``i < j``.

    Raises:
        ValueError: If a pair is missing, or a key is no such pair.
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
    """Returns every maximal set without a separated pair once: each separated pair splits the sets that contain it.

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
