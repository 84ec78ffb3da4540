"""Divides prompts into groups that each share a prefix, so that the fewest tokens are computed.

The prompts of a subject of MMLU start with its five examples; those of GSM8K all start alike. Prompts are leaves of the tree of
their common prefixes. Each inner node may become one group, which computes its prefix once, or leave that to its children.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

GROUP_TOKENS = 64
"""What a group costs besides its tokens, in tokens: its prefix is a forward pass of its own."""


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Prompts that share a prefix.

    Attributes:
        prefix: Number of shared tokens, less than those of the shortest prompt.
        members: Indexes of the prompts.
    """

    prefix: int
    members: tuple[int, ...]


@dataclass(slots=True)
class _Node:
    """A node of the tree: consecutive sorted prompts with ``depth`` common tokens."""

    depth: int
    members: list[int] = field(default_factory=list)
    tokens: int = 0
    cost: int = 0
    groups: list[PrefixGroup] = field(default_factory=list)

    def add(self, child: _Node) -> None:
        """Takes a finished child in."""
        self.members += child.members
        self.tokens += child.tokens
        self.cost += child.cost
        self.groups += child.groups

    def finish(self) -> _Node:
        """Makes the node one group if that costs no more than its children's groups; returns the node."""
        cost = GROUP_TOKENS + self.depth + self.tokens - self.depth * len(self.members)
        if not self.groups or cost <= self.cost:
            self.cost, self.groups = cost, [PrefixGroup(self.depth, tuple(self.members))]
        return self


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns the number of tokens with which both start, less than the length of either."""
    low, high = 0, min(len(one), len(other)) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def prefix_groups(prompts: Sequence[tuple[int, ...]]) -> list[PrefixGroup]:
    """Returns groups that cover every prompt (one token or more) once; the one with the longest prompt is first."""
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    leaves = [_Node(len(prompts[at]) - 1, [at], len(prompts[at])).finish() for at in order]
    depths = [common_length(prompts[one], prompts[other]) for one, other in itertools.pairwise(order)]
    open_nodes = [_Node(-1)]
    for leaf, depth in zip(leaves, [*depths, -1], strict=False):
        node = leaf
        while open_nodes[-1].depth > depth:
            parent = open_nodes.pop()
            parent.add(node)
            node = parent.finish()
        if open_nodes[-1].depth < depth:
            open_nodes.append(_Node(depth))
        open_nodes[-1].add(node)
    return sorted(open_nodes[0].groups, key=lambda group: -max(len(prompts[at]) for at in group.members))
