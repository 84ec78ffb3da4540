"""Which change is generated next, on how many items, and when to stop.

All changes start on the first few of the items' random order. After each look those stay that are not yet far behind: of all
trials, sorted by how well they fit, the first that hold all but a small part of the weight. So items go where they can still
decide something, and a look at twice as many is for few. This is successive halving with weights instead of halves (Karnin et
al. 2013, "Almost optimal exploration in multi-armed bandits"); the error rate is that of the intervals, whatever is stopped.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from tulu_eval.errors import UserError
from tulu_eval.findings.explain_evidence import Frame, Trial, weigh
from tulu_eval.runs.engine import Engine
from tulu_eval.runs.generation import InterruptedRunError
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan
from tulu_eval.runs.runner import execute_items
from tulu_eval.store.sample_line import Sample

LOOKS = (16, 32, 64, 128, 256, 512, 1024)
"""Numbers of items after which the trials are compared; the last look is at all."""

TAIL = 0.01
"""Part of the weight that is let go at a look."""

SURE = 0.95
"""Weight that one change must have among all to be named."""


@dataclasses.dataclass(slots=True)
class Spending:
    """What may be generated, and what was.

    Attributes:
        items: Samples that may be generated.
        seconds: Seconds that the search may take; ``None`` for any.
        spent: Samples that were generated.
        short: Whether something was left out because of the budget.
    """

    items: int
    seconds: float | None
    spent: int = 0
    short: bool = False
    began: float = dataclasses.field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    def allows(self, more: int) -> bool:
        """Whether that many samples more may be generated; notes it if not."""
        late = self.seconds is not None and self.elapsed >= self.seconds
        if more and (late or self.spent + more > self.items):
            self.short = True
            return False
        return True


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
        missing = [item for item in items if item not in there]
        if not missing:
            return True
        if not self.spending.allows(len(missing)):
            return False
        self._progress.say(f"{plan.protocol.name}: {len(missing)} items")
        found = execute_items(plan, set(items), self._progress, self._engine)
        there.update(found.samples)
        self.spending.spent += found.generated
        return True

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()


def looks(n: int) -> list[int]:
    """Returns the numbers of items after which trials of n items are compared."""
    return [*(size for size in LOOKS if size < n), n]


def search(
    frame: Frame,
    paid: Sequence[Trial],
    others: Sequence[Trial],
    more: Callable[[Trial], Sequence[Trial]],
    lab: Lab,
    decided: Callable[[Sequence[Trial]], bool],
) -> None:
    """Generates items of paid trials, look by look, until one change is found, all are looked at, or the budget is spent.

    Args:
        frame: What they are measured against.
        paid: Trials whose plans are generated.
        others: Trials of samples that are there.
        more: Returns the trials that cost nothing beside a paid one: free changes of its samples.
        lab: Generates.
        decided: Takes all trials, and says whether nothing more has to be generated.
    """
    alive = [one for one in paid if not one.failed]
    everything = [*others, *paid, *(each for one in paid for each in more(one))]
    for size in looks(frame.n):
        for trial in sorted(alive, key=lambda one: (_engine(one), -one.weight / max(one.cost, 1e-9))):
            if trial.plan is None:
                continue
            try:
                if not lab.get(trial.plan, frame.order[:size]):
                    return
            except InterruptedRunError:
                raise
            except UserError as error:
                trial.failed = error.command_line
        alive = [one for one in alive if not one.failed]
        if not alive or decided(everything):
            return
        alive = _still(frame, alive, others, more)


def _engine(trial: Trial) -> str:
    """Returns a text that is equal for trials that share an engine."""
    return "" if trial.plan is None else f"{trial.plan.backend.name} {trial.plan.order.settings}"


def _still(
    frame: Frame, alive: Sequence[Trial], others: Sequence[Trial], more: Callable[[Trial], Sequence[Trial]]
) -> list[Trial]:
    """Returns the paid trials that hold, with their free changes, all but a small part of the weight."""
    best = {id(one): max(fits(frame, [one, *more(one)]), default=-math.inf) for one in alive}
    weights = shares([*best.values(), *fits(frame, others), none_fits(frame)])[: len(alive)]
    ranked = sorted(zip(alive, weights, strict=True), key=lambda pair: -pair[1])
    kept: list[Trial] = []
    left = sum(weights)
    for trial, weight in ranked:
        if kept and left < TAIL:
            break
        kept.append(trial)
        left -= weight
    return kept


def fits(frame: Frame, trials: Iterable[Trial]) -> list[float]:
    """Returns how well each trial fits of which something is known."""
    found = (weigh(frame, one) for one in trials)
    return [one.fit for one in found if one is not None]


def none_fits(frame: Frame) -> float:
    """Returns the fit of "none of these": every count of a bare number is then equally likely."""
    return -math.log(frame.n + 1) if frame.goal.outcomes is None else 0.0


def shares(logs: Sequence[float]) -> list[float]:
    """Returns weights that sum to 1, from their logarithms."""
    top = max(logs)
    raw = [math.exp(one - top) for one in logs]
    return [one / math.fsum(raw) for one in raw]
