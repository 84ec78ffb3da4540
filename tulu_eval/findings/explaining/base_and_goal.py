"""The two sides of ``explain``: the base, whose settings are known and which can be generated, and the goal.

What the manifest of an imported run says of its settings is used nowhere here: of a goal only the items and texts count. An
imported run is a base for free changes alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from tulu_eval.benchmarks.base import Benchmark, Protocol
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.findings.audit import allowance, order_of, same_plan
from tulu_eval.findings.claims import Claim, counts
from tulu_eval.findings.explaining.scoring_rule import Decode, Rule, RuleOutcome
from tulu_eval.findings.verify import Verification, verify
from tulu_eval.models.tokenizer import load_tokenizer
from tulu_eval.records import Decoding
from tulu_eval.registry import Suite
from tulu_eval.runs import catalog
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.order import Order
from tulu_eval.runs.reading import StoredRun, finished
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.stats import FLIP_RATE
from tulu_eval.store.sample_line import Sample


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """What is changed.

    Attributes:
        words: What it is, for people.
        benchmark: Benchmark under the protocol.
        plan: Plan of the recipe; ``None`` if nothing can be generated.
        unpaid: Why nothing can be generated; empty if it can be.
        samples: Samples that are there, by item.
        rule: How its samples become scores.
        flip_rate: Share of items (0 to 1) that may flip between two runs of the same recipe.
        run: The run; ``None`` for a recipe.
    """

    words: str
    benchmark: Benchmark
    protocol: Protocol
    plan: Plan | None
    unpaid: str
    samples: Mapping[str, Sample]
    rule: Rule
    flip_rate: float = FLIP_RATE
    run: StoredRun | None = None

    @property
    def items(self) -> tuple[str, ...]:
        """Ids of all items that it has or can have, in the protocol's order."""
        return tuple(one.item.id for one in self.plan.planned) if self.plan else tuple(self.samples)


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """What the number should have been.

    Attributes:
        words: What it is, for people.
        items: Ids of its items that the base has, in the base's order.
        outcomes: Its scores and texts by item; ``None`` for a bare number.
        claim: The number; of a run the one that was told of its texts, ``None`` if none was.
        same_items: Whether a bare number is of exactly these items.
        part: Whether it is of fewer, and these are all that the benchmark has, so that it is of a part of these.
        samples: A run's samples by item.
    """

    words: str
    items: tuple[str, ...]
    outcomes: Mapping[str, RuleOutcome] | None
    claim: Claim | None = None
    same_items: bool = True
    part: bool = False
    samples: Mapping[str, Sample] = dataclasses.field(default_factory=dict)


def usable(benchmark: Benchmark, protocol: Protocol, scorer: str | None) -> str:
    """Returns the name of the scorer whose number is explained: the published one unless given.

    Raises:
        UserError: If the number is no mean of one generated text's score per item.
    """
    if benchmark.kind != "generate" or protocol.samples != 1 or benchmark.executes or not benchmark.scorers:
        raise UserError(
            f"{benchmark.name}, {protocol.name}: explain takes one generated text per item, graded here without running it"
        )
    name = scorer or benchmark.scorers[0]
    if name not in benchmark.scorers:
        raise UnknownName(f"scorer of {benchmark.name}", name, benchmark.scorers)
    if name in benchmark.aggregates:
        plain = [one for one in benchmark.scorers if one not in benchmark.aggregates]
        raise UserError(f"--scorer {name} is no mean over items; of {benchmark.name} {', '.join(plain) or 'none'} is")
    return name


def base_of_run(run: StoredRun, suite: Suite, model: str | None, data: Path | None, scorer: str | None) -> Base:
    """Returns a finished run as a base; without the paid part, and with the reason, if its plan cannot be made again here."""
    finished(run)
    benchmark = catalog.benchmark(run.benchmark, run.manifest.protocol.name)
    protocol = benchmark.protocol(run.manifest.protocol.name)
    name = usable(benchmark, protocol, scorer)
    samples = {sample.item: sample for sample in run.samples()}
    plan, unpaid = None, f"it was imported from {run.imported}, and what it asked is not known"
    if not run.imported:
        try:
            order = dataclasses.replace(order_of(run.manifest, model, data), output=run.folder.absolute().parents[2])
            plan, unpaid = same_plan(order, run.manifest, suite), ""
        except UserError as error:
            unpaid = error.command_line
    grader = Grader.of(benchmark, run.manifest)
    rule = Rule(grader, name, plan.decoding if plan else _decoding(run), _decode(plan, samples.values()))
    return Base(
        f"{run.model}, {protocol.name} ({run.folder.name})", benchmark, protocol, plan, unpaid, samples, rule,
        allowance(run, len(samples)).rate, run,
    )  # fmt: skip


def base_of_recipe(order: Order, suite: Suite, scorer: str | None) -> Base:
    """Returns a recipe and a model as a base, of which nothing is generated yet."""
    plan = make_plan(order, suite)
    name = usable(plan.benchmark, plan.protocol, scorer)
    rule = Rule(Grader.of(plan.benchmark, plan.setup), name, plan.decoding, _decode(plan, ()))
    return Base(f"{plan.model.name}, recipe {plan.protocol.name}", plan.benchmark, plan.protocol, plan, "", {}, rule)


def _decoding(run: StoredRun) -> Decoding | None:
    """Returns the decoding of a run of our own; ``None`` for an imported one, whose manifest is not believed."""
    kept = run.manifest.decoding
    if run.imported or kept.max_new_tokens is None or kept.temperature is None:
        return None
    return Decoding(kept.max_new_tokens, kept.temperature, kept.top_p or 1.0, kept.top_k or 0, kept.stop or ())


def _decode(plan: Plan | None, samples: Sequence[Sample] | object) -> Decode | None:
    """Returns what makes a text of token ids; ``None`` without a tokenizer here, or if a sample's ids are not known."""
    listed = list(samples) if samples else []  # type: ignore[call-overload]
    if plan is None or not plan.backend.local or any(one.completion.text and not one.completion.token_ids for one in listed):
        return None
    found = load_tokenizer(plan.model.path, plan.model.name, plan.order.settings.trust_remote_code)
    ends = frozenset(plan.eos_ids)

    def decode(ids: Sequence[int]) -> str:
        kept = [token for token in ids if token not in ends]
        return str(found.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    return decode


def goal_of_run(run: StoredRun, base: Base, claim: Claim | None = None) -> Goal:
    """Returns another run as the goal, graded by the base's scorer; ``claim`` is the number that was told of its texts.

    Raises:
        UserError: If the run is of another benchmark or other data, or shares no item with the base; or if the number is of
            items that are not there.
    """
    if run.benchmark != base.benchmark.name:
        raise UserError(f"{run.folder} is of {run.benchmark}, and the other side of {base.benchmark.name}: no items are shared")
    finished(run)
    outcomes: dict[str, RuleOutcome] = {}
    samples: dict[str, Sample] = {}
    targets = _targets(base)
    plain = dataclasses.replace(base.rule, ends=None)
    for sample in run.samples():
        if sample.item not in targets:
            continue
        if targets[sample.item] != sample.target:
            raise UserError(
                f"the right answer of {sample.item} is {targets[sample.item]!r} here and {sample.target!r} there: other data"
            )
        outcomes[sample.item] = plain.outcome(sample)
        samples[sample.item] = sample
    shared = tuple(item for item in base.items if item in outcomes and outcomes[item].score is not None)
    if not shared:
        raise UserError(f"{run.folder} and {base.words} share no item")
    kind = f"imported from {run.imported}" if run.imported else run.manifest.protocol.name
    words = f"{run.model}, {kind} ({run.folder.name})"
    if claim is None:
        return Goal(words, shared, outcomes, samples=samples)
    if len(samples) < len(run.manifest.planned) or claim.n > len(samples):
        raise UserError(
            f"--n {claim.n}: a number beside a run is of its texts, and {base.words} shares {len(samples)} of the "
            f"{len(run.manifest.planned)} of {run.folder}"
        )
    return Goal(f"{words}, told as {claim.printed} % of {claim.n:,}", shared, outcomes, claim, samples=samples)


def _targets(base: Base) -> dict[str, str]:
    if base.plan is not None:
        return {one.item.id: one.item.target for one in base.plan.planned}
    return {item: sample.target for item, sample in base.samples.items()}


def goal_of_claim(claim: Claim, base: Base) -> Goal:
    """Returns a bare number as the goal: of the base's items, or of a protocol's that it covers if n is theirs."""
    items = base.items
    covered = base.run.about.items if base.run is not None and not base.run.of_files else {}  # type: ignore[union-attr]
    for ids in covered.values():
        inside = [item for item in items if item in set(ids)]
        if len(inside) == claim.n != len(items):
            items = tuple(inside)
            break
    whole = max((one.n for one in base.benchmark.protocols.values()), default=0)
    part = claim.n < len(items) == whole
    words = f"{claim.printed} % of {claim.n:,} items"
    return Goal(words, items, None, claim, same_items=len(items) == claim.n, part=part)


def goal_of_cell(base: Base, suite: Suite, stand_in: str | None) -> Goal:
    """Returns the published number of a run as the goal: the first with which it is inconsistent, else the first.

    Raises:
        UserError: If none was published, or it is no share of a known number of items.
    """
    if base.run is None:
        raise UserError("there is nothing to compare: give another run, or --number and --n")
    found: Verification = verify(base.run, suite, stand_in=stand_in)
    mains = [one for one in found.comparisons if one.main]
    if not mains:
        raise UserError(f"{base.run.folder}: nothing that was published can be tested, so there is no gap to explain")
    chosen = next((one for one in mains if one.agreement.verdict == "inconsistent"), mains[0])
    cell, row = chosen.cell, chosen.row
    if cell.n is None or not row.is_share or row.scorer != base.rule.scorer:
        raise UserError(f"{cell.printed} ({cell.source.key}) is no share of a known number of items by {base.rule.scorer}")
    printed = f"{cell.value:.1f}"
    near = round(cell.value * cell.n / 100)
    claim = Claim(printed, cell.n, *(counts(printed, cell.n) or (near, near)))
    members = base.run.members(row.protocol)
    items = tuple(item for item in base.items if item in members)
    same = chosen.items == "same" or (len(items) == cell.n and members == base.run.members(cell.protocol))
    return Goal(f"{printed} % of {cell.n:,} items, published by {cell.source.key}", items, None, claim, same_items=same)
