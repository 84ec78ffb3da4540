"""Which change is generated next, on how many items, and when to stop.

All changes start on the first few of the items' random order. From then on the one that fits best, of those that have not been
seen on all items, is seen on twice as many, and all are weighed again. A change that fits only by luck of the few items falls
back as it is looked at, and the next one has its turn. This is best-first allocation; what is stopped, and when, changes no
error rate, because the intervals hold at any number of items.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from tulu_eval.errors import UserError
from tulu_eval.findings.explaining.evidence import weigh
from tulu_eval.findings.explaining.frame import Frame, Trial
from tulu_eval.findings.explaining.tariff import Tariff
from tulu_eval.findings.explaining.verdicts import too_far
from tulu_eval.runs.engine import Engine
from tulu_eval.runs.generation import InterruptedRunError
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan
from tulu_eval.runs.runner import execute_items
from tulu_eval.store.sample_line import Sample

FIRST = 16
"""Items on which every change starts where the goal has scores of its own: there a few items tell much."""

PART = 14
"""A bare number tells less of an item, so that every change starts on this part of all. With twice as many for half of the
changes each time, a quarter of everything suffices to see one of them on all items."""

LOOKS = 8
"""Number of looks at one change that the error rate of being ruled out by other scores allows for: from 16 items, doubling."""

SURE = 0.95
"""Weight that one change must have among all to be named."""


OUT = 1e-3
"""Probability below which a change's scores are too far from the goal's for more of it to be generated."""

UNLISTED = 10.0
"""Prior weight of a cause that is in no list, against 1 of a usual hypothesis: one in five or six causes. Our judgment.

A bare number of few items, or one that only two settings at once give, is then too weak to name a cause: by chance, too, one of
many tried changes often gives it."""


@dataclasses.dataclass(slots=True)
class Spending:
    """What may be generated, and what was.

    Attributes:
        items: Samples that may be generated.
        seconds: Seconds that the search may take; ``None`` for any.
        tariff: A server's price with the dollars that may be spent; ``None`` for any.
        spent: Samples that were generated.
        dollars: The most that these cost; 0 without a tariff.
        short: Whether something was left out because of the budget.
    """

    items: int
    seconds: float | None
    tariff: Tariff | None = None
    spent: int = 0
    dollars: float = 0.0
    short: bool = False
    began: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    @property
    def rest(self) -> int:
        """Samples that may still be generated."""
        return max(self.items - self.spent, 0)

    def allows(self, plan: Plan, items: Collection[str]) -> bool:
        """Whether the samples of some items more may be generated; notes it if not."""
        late = self.seconds is not None and self.elapsed >= self.seconds
        dear = self.tariff is not None and self.dollars + self.tariff.bound(plan, items) > self.tariff.most
        if items and (late or dear or self.spent + len(items) > self.items):
            self.short = True
            return False
        return True

    def count(self, plan: Plan, samples: Mapping[str, Sample], made: int) -> None:
        """Counts samples of which ``made`` were generated, and the others were in a ledger."""
        self.spent += made
        if self.tariff is not None:
            self.dollars += self.tariff.cost(plan, samples, made)


class Lab:
    """Generates samples of plans with one engine, and keeps them; a context manager.

    Args:
        progress: Shows what is generated.
        spending: Counts it.
    """

    def __init__(self, progress: Progress, spending: Spending) -> None:
        self._engine, self._progress, self.spending = Engine((), progress), progress, spending
        self._samples: dict[str, dict[str, Sample]] = {}

    def serve(self, plans: Sequence[Plan]) -> None:
        """Makes room for plans."""
        self._engine.add(plans)

    def samples_of(self, plan: Plan) -> dict[str, Sample]:
        """Returns the samples of a plan that are here; it grows."""
        return self._samples.setdefault(str(plan.folder), {})

    def get(self, plan: Plan, items: Collection[str]) -> bool:
        """Makes sure of the samples of some items; returns ``False`` if the budget does not allow it.

        Raises:
            InterruptedRunError: If somebody presses Ctrl-C.
            UserError: If the engine cannot start or dies.
        """
        there = self.samples_of(plan)
        missing = {item for item in items if item not in there}
        if not missing:
            return True
        if not self.spending.allows(plan, missing):
            return False
        self._progress.say(f"{plan.protocol.name}: {len(missing)} items")
        found = execute_items(plan, set(items), self._progress, self._engine)
        there.update(found.samples)
        self.spending.count(plan, {item: found.samples[item] for item in missing if item in found.samples}, found.generated)
        return True

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()


def first_look(frame: Frame) -> int:
    """Returns the number of items on which every change starts."""
    return min(frame.n, FIRST if frame.goal.outcomes is not None else max(FIRST, frame.n // PART))


def search(
    frame: Frame,
    paid: Sequence[Trial],
    others: Sequence[Trial],
    more: Callable[[Trial], Sequence[Trial]],
    lab: Lab,
    decided: Callable[[Sequence[Trial]], bool],
    most: int,
) -> None:
    """Generates items of paid trials until one change is found, none can be it, or the budget is spent.

    Args:
        frame: What they are measured against.
        paid: Trials whose plans are generated.
        others: Trials of samples that are there.
        more: Returns the trials that cost nothing beside a paid one: free changes of its samples.
        lab: Generates.
        decided: Takes all trials, and says whether nothing more has to be generated.
        most: Samples after which this ends, unless one change fits far better than all others and only lacks items.
    """
    start = first_look(frame)
    for trial in sorted(paid, key=lambda one: (_engine(one), -one.weight / max(one.cost, 1e-9))):
        _see(frame, trial, start, lab)
    everything = [*others, *paid, *(each for one in paid for each in more(one))]
    best = {id(one): _fit(frame, one, more) for one in paid}
    out = {id(one) for one in paid if _is_out(frame, [one, *more(one)])}
    outside = fits(frame, others)
    while not decided(everything):
        unseen = [one for one in paid if not one.failed and any(item not in one.samples for item in frame.order)]
        unseen = [one for one in unseen if id(one) not in out]
        logs = [*(best[id(one)] for one in paid), *outside, none_fits(frame)]
        weights = shares(logs)
        waiting = max((weight for one, weight in zip(paid, weights, strict=False) if one in unseen), default=0.0)
        if not unseen or weights[-1] >= SURE:
            return
        if lab.spending.spent >= most and waiting < SURE:
            lab.spending.short = True
            return
        chosen = max(unseen, key=lambda one: best[id(one)])
        seen = sum(item in chosen.samples for item in frame.order)
        size = min(frame.n, max(start, 2 * seen), seen + max(lab.spending.rest, 1))  # the last look takes what is left
        if not _see(frame, chosen, size, lab):
            if not chosen.failed:
                return
            best[id(chosen)] = -math.inf
        else:
            best[id(chosen)] = _fit(frame, chosen, more)
            if _is_out(frame, [chosen, *more(chosen)]):
                out.add(id(chosen))


def _is_out(frame: Frame, trials: Iterable[Trial]) -> bool:
    """Whether no trial can be the only cause: all have other scores than the goal's on more items than flips give."""
    found = [(one, weigh(frame, one)) for one in trials]
    return all(known is not None and too_far(known, frame.rate(one), OUT) for one, known in found)


def _see(frame: Frame, trial: Trial, size: int, lab: Lab) -> bool:
    """Makes sure of a trial's first items; returns ``False`` if the budget or the engine does not allow it."""
    try:
        return trial.plan is not None and lab.get(trial.plan, frame.order[:size])
    except InterruptedRunError:
        raise
    except UserError as error:
        trial.failed = error.command_line
        return False


def _engine(trial: Trial) -> str:
    """Returns a text that is equal for trials that share an engine."""
    return "" if trial.plan is None else f"{trial.plan.backend.name} {trial.plan.order.settings}"


def _fit(frame: Frame, trial: Trial, more: Callable[[Trial], Sequence[Trial]]) -> float:
    """Returns how well a trial fits, or one of its free changes if that fits better."""
    return max(fits(frame, [trial, *more(trial)]), default=-math.inf)


def fits(frame: Frame, trials: Iterable[Trial]) -> list[float]:
    """Returns how well each trial fits of which something is known."""
    found = (weigh(frame, one) for one in trials)
    return [one.fit for one in found if one is not None]


def none_fits(frame: Frame) -> float:
    """Returns the fit of "none of these": every count of a bare number is then equally likely."""
    return math.log(UNLISTED / (frame.n + 1)) if frame.goal.outcomes is None else 0.0


def shares(logs: Sequence[float]) -> list[float]:
    """Returns weights that sum to 1, from their logarithms."""
    top = max(logs)
    raw = [math.exp(one - top) for one in logs]
    return [one / math.fsum(raw) for one in raw]
