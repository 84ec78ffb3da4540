"""Tries changes of a base until the gap is explained: free ones, then paid ones, then two at once.

Of a bare number two changes at once are tried only where no single one suffices. Texts say more: while some of the goal's are
other than those under the change that explains its score, a second change may be hidden behind it, and two are tried.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tulu_eval.findings.explaining.base_and_goal import Base
from tulu_eval.findings.explaining.evidence import ALPHA, Evidence, nearer, weigh
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.findings.explaining.search import FIRST, SURE, Lab, none_fits, search, shares
from tulu_eval.findings.explaining.trials import Trials, free_on, pairs_of, scores_only
from tulu_eval.findings.explaining.verdicts import Gap, explains
from tulu_eval.registry import Suite

PAIRED = 5
"""Paid changes of which all pairs are tried where no single one suffices: those that fit best."""

SINGLE = 0.6
"""Share of the budget for single changes, the rest being for two at once; of a bare number, which too many pairs fit, all."""

BEHIND = 0.25
"""Share of what is left of the budget for a second change where a single one explains the gap and not all texts."""

WHOLE = 0.98
"""Share of equal texts from which nothing else is looked for behind a change; two runs of one engine have 98 % and more."""


class Inquiry:
    """Tries changes of a base until the gap is explained.

    Args:
        base: The base.
        frame: What all trials are measured against.
        trials: The single trials.
        suite: The registry.

    Attributes:
        pairs: Trials of two changes at once that were tried.
        gap: The gap; ``None`` until it is known.
    """

    def __init__(self, base: Base, frame: Frame, trials: Trials, suite: Suite) -> None:
        self.base, self.frame, self.trials, self._suite = base, frame, trials, suite
        self.pairs: list[Trial] = []
        self.gap: Gap | None = None
        self._derived: dict[int, list[Trial]] = {}

    @property
    def able(self) -> list[Trial]:
        """The free trials that can be the cause: of texts, which are scored as the base's are, only other ends of answers."""
        texts = self.frame.goal.outcomes is not None
        return [one for one in self.trials.free if not (texts and scores_only(one.hypotheses[0]))]

    def conduct(self, gap: Gap, lab: Lab | None) -> None:
        """Tries free changes, then paid ones, then two at once where no single one suffices; ``lab`` generates, if it may."""
        self.gap = gap
        free, paid = self.able, self.trials.paid
        enough = self.frame.goal.outcomes is not None and self._found(free) and self._whole(free)
        if lab is not None and paid and not enough:
            search(self.frame, paid, free, self._more, lab, self._found, self._for_singles(lab))
        if self._found([*free, *paid]) and self._whole([*free, *paid]):
            return
        pairs = [pair for one in free if one.rule is not self.frame.base.rule for pair in self._more(one)]
        pairs = list({frozenset(pair.name): pair for pair in pairs}.values())
        self.pairs = [*pairs, *(pair for one in paid for pair in self._more(one))]
        if lab is not None and not (self._found([*free, *paid, *self.pairs]) and self._whole(self.pairs)):
            self._try_pairs(lab)
        if lab is not None:
            self._compare(lab)

    def _try_pairs(self, lab: Lab) -> None:
        """Generates two changes at once, of those that look best alone; the second may also end the answers earlier."""
        promising = self._promising()
        two = pairs_of(self.base, self._partners(promising), self._suite, lab.samples_of)
        lab.serve([pair.plan for pair in two if pair.plan is not None])
        single = [*self.able, *self.trials.paid]
        beside = [*single, *self.pairs]
        ended = [] if self.frame.goal.outcomes is None else [pair for one in promising for pair in self._more(one)]
        self.pairs += two
        spending = lab.spending
        share = BEHIND if self._found(single) else 1.0
        most = spending.spent + round(share * spending.rest)
        search(self.frame, [*two, *ended], beside, lambda _: (), lab, self._settled, most)

    def alpha(self, trial: Trial) -> float:
        """Returns the error rate of a trial's interval: all together have :data:`ALPHA`, single ones half of it."""
        singles = len(self.trials.free) + len(self.trials.paid)
        if len(trial.hypotheses) == 1:
            return ALPHA / 2 / max(singles, 1)
        return ALPHA / 2 / max((len(self.trials.free) + 1) * singles + PAIRED * PAIRED, 1)

    def weighed(self, trial: Trial) -> Evidence | None:
        """Returns what is known of a trial, with intervals that hold together with all others."""
        return weigh(self.frame, trial, self.alpha(trial))

    def includes(self, pair: Trial, single: Trial) -> bool:
        """Whether a pair is a single change and one that changes nothing beside it, on all items seen."""
        if len(pair.hypotheses) <= len(single.hypotheses) or not set(single.name) <= set(pair.name):
            return False
        both = [(pair.outcome(item), single.outcome(item)) for item in self.frame.order]
        return all(one == other for one, other in both if one is not None and other is not None)

    def both_needed(self, pair: Trial) -> bool:
        """Whether each of two changes is shown to bring the texts nearer beside the other; true of bare numbers."""
        if self.frame.goal.outcomes is None:
            return True
        parts = self._parts(pair)
        return len(parts) == len(pair.name) and all(self.beats(pair, one) for one in parts)

    def _parts(self, pair: Trial) -> list[Trial]:
        return [one for one in (*self.trials.free, *self.trials.paid) if set(one.name) < set(pair.name)]

    def beats(self, pair: Trial, single: Trial) -> bool:
        """Whether a pair's texts are nearer to the goal's than those of a single change of the two."""
        found = nearer(self.frame, pair, single, self.alpha(pair) / 2)
        return found is not None and found.low > 0

    def _for_singles(self, lab: Lab) -> int:
        """Returns the samples that may have been spent before two changes are tried at once."""
        spending = lab.spending
        alone = SINGLE if self.frame.goal.outcomes is not None else 1.0
        return spending.spent + round(alone * spending.rest)

    def _more(self, trial: Trial) -> list[Trial]:
        """Returns the free changes of a trial's samples; the same objects each time."""
        if id(trial) not in self._derived:
            self._derived[id(trial)] = free_on(trial, self.able, self.frame.goal)
        return self._derived[id(trial)]

    def _promising(self) -> list[Trial]:
        """Returns the paid changes whose texts are most like the goal's, and more than the base's; of a number, the best."""
        known = [(one, found) for one in self.trials.paid if (found := weigh(self.frame, one)) is not None]
        if self.frame.goal.outcomes is None:
            ranked = [(found.fit, one) for one, found in known]
        else:
            ranked = [(found.lead, one) for one, found in known if found.lead > 0]
        return [one for _, one in sorted(ranked, key=lambda pair: -pair[0])[:PAIRED]]

    def _partners(self, promising: Sequence[Trial]) -> list[tuple[Trial, Trial]]:
        """Returns the paid changes that are tried two by two: the promising ones, and of texts the best with every other.

        A second change may show nothing alone, or its opposite: a system prompt that matters only beside examples. So the best
        one is kept, and what brings the texts nearest on top of it is looked for (greedy forward selection).
        """
        pairs = list(itertools.combinations(promising, 2))
        if self.frame.goal.outcomes is not None and promising:
            others = [one for one in self.trials.paid if one not in promising and not one.drawn]
            pairs += [(promising[0], one) for one in others]
        return pairs

    def _best(self, trials: Sequence[Trial]) -> tuple[Trial, bool] | None:
        """Returns the trial that fits best, and whether no other one and nothing unlisted fits about as well."""
        known = {index: found for index, one in enumerate(trials) if (found := weigh(self.frame, one)) is not None}
        if not known:
            return None
        weights = shares([*(one.fit for one in known.values()), none_fits(self.frame)])
        best, weight = max(zip(known, weights, strict=False), key=lambda pair: pair[1])
        rivals = math.fsum(
            other for index, other in zip(known, weights, strict=False)
            if index != best and not self.includes(trials[index], trials[best])
        )  # fmt: skip
        return trials[best], weight >= SURE * (weight + rivals + weights[-1])

    def _found(self, trials: Sequence[Trial]) -> bool:
        """Whether one of the trials explains the gap, and fits so well that nothing more has to be generated."""
        best = self._best(trials)
        if best is None or self.gap is None or not best[1]:
            return False
        found = self.weighed(best[0])
        return found is not None and explains(self.frame, best[0], found, self.gap)

    def _whole(self, trials: Sequence[Trial]) -> bool:
        """Whether the trial that fits best gives the goal's texts; true of bare numbers."""
        best = self._best(trials)
        found = None if best is None else weigh(self.frame, best[0])
        return found is None or found.same_text is None or found.same_text >= WHOLE * found.seen

    def _settled(self, trials: Sequence[Trial]) -> bool:
        """Whether two changes explain the gap and fit best; a single one is what they are tried against."""
        best = self._best(trials)
        texts = self.frame.goal.outcomes is not None
        return self._found(trials) and best is not None and (not texts or len(best[0].hypotheses) > 1)

    def _compare(self, lab: Lab) -> None:
        """Generates the best pair and its single changes until it is shown to be nearer than each, or all items are seen."""
        best = self._best(self.pairs)
        if best is None or self.gap is None or self.frame.goal.outcomes is None:
            return
        pair, found = best[0], self.weighed(best[0])
        if found is None or not explains(self.frame, pair, found, self.gap):
            return
        for single in self._parts(pair):
            plans = [one.plan for one in (pair, single) if one.plan is not None]
            size = FIRST
            while not self.beats(pair, single) and size < 2 * self.frame.n:
                if not all(lab.get(plan, self.frame.order[:size]) for plan in plans):
                    return
                size *= 2
