"""Hidden settings for `explain` to find: what every setting gives on all items, and how a case is given.

A case's number was made under one hidden setting or two. It is given as a bare claim, as texts without settings, or as a run
whose manifest says that it was made under the recipe itself; where texts do not show all of it, the number is told with them.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import explain_answers
import explain_model

import tulu_eval
from tulu_eval.benchmarks.hypothesis import (
    Hypothesis,
    OtherCount,
    OtherDecoding,
    OtherPrompt,
    OtherScorer,
    OtherWriting,
    Shortest,
)
from tulu_eval.findings.explaining.explanation import Explanation
from tulu_eval.runs.scoring import write_rows
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import Sample, asked_of

EFFECT = 5.0
"""Smallest effect in points, over all items, of a setting that is planted; in a double, of each beside the other."""

SHORTEST = 350
"""Items of a planted run that was stopped."""

Given = Literal["a number", "texts", "a run that lies", "texts and a number", "a run that lies, and a number"]
Outcome = Literal["named", "in part", "cannot tell, it is among them", "cannot tell", "wrong"]


@dataclasses.dataclass(frozen=True, slots=True)
class Truth:
    """What all items give under some settings.

    Attributes:
        names: Names of the hypotheses; none for the recipe itself.
        scores: Score by item, of the items that count.
        samples: The samples before a free change of how they count.
        effect: The number minus the recipe's, in points.
    """

    names: tuple[str, ...]
    scores: Mapping[str, float]
    samples: Mapping[str, Sample]
    effect: float

    @property
    def printed(self) -> str:
        """The number in percent, with one digit."""
        return f"{100 * statistics.fmean(self.scores.values()):.1f}"


class Bench:
    """The model, and what it answers under any settings; every answer is generated once.

    Args:
        work: Folder of the model, its answers and the cases' runs.
    """

    def __init__(self, work: Path, seed: int) -> None:
        explain_model.declare(work)
        self.work, self.model = work, explain_model.make_model(work, seed)
        explain_answers.remember(work / "answers.sqlite")
        self.sums = explain_model.Sums()
        self.hypotheses = {one.name: one for one in self.sums.hypotheses(self.sums.protocol(None))}
        self._truths: dict[tuple[str, ...], Truth] = {}
        self.base = self.run()

    def run(self, *names: str, **settings: object) -> tulu_eval.Run:
        """Returns the run of the recipe with settings changed that need other answers."""
        (found,) = tulu_eval.evaluate(
            self.sums.name, {"sums": self.model}, protocol="+".join(("full", *names)), backend="transformers",
            settings={"device": "cpu", **settings}, output=self.work / "truth", progress=False,
        )  # fmt: skip
        return found

    def truth(self, *names: str) -> Truth:
        """Returns what all items give under some settings."""
        if names not in self._truths:
            asked = [self.hypotheses[name] for name in names]
            run = self.run(*(one.name for one in asked if answers_differ(one)))
            samples = {sample.item: sample for sample in run.samples()}
            scores = {item: sample.grades[0].score for item, sample in samples.items()}
            for one in asked:
                scores = counted(one, samples, scores)
            own = statistics.fmean((self.truth().scores if names else scores).values())
            effect = 100 * (statistics.fmean(scores.values()) - own)
            self._truths[names] = Truth(names, scores, samples, effect)
        return self._truths[names]

    def known(self) -> list[Truth]:
        """Returns what :meth:`truth` has been asked for."""
        return list(self._truths.values())

    def effects(self) -> list[Truth]:
        """Returns the truth of every single setting that another answer or count can show."""
        kinds = (OtherPrompt, OtherWriting, OtherDecoding, OtherScorer, OtherCount, Shortest)
        return [self.truth(name) for name, one in self.hypotheses.items() if isinstance(one.change, kinds)]


def answers_differ(one: Hypothesis) -> bool:
    """Whether a change makes other texts, rather than other numbers of the same texts."""
    return isinstance(one.change, OtherPrompt | OtherWriting | OtherDecoding)


def counted(one: Hypothesis, samples: Mapping[str, Sample], scores: Mapping[str, float]) -> dict[str, float]:
    """Returns the scores after a change of how samples count; after any other, the scores themselves."""
    change = one.change
    if isinstance(change, OtherScorer):
        return {item: change.grade(samples[item].target, samples[item].completion.text).score for item in scores}
    if isinstance(change, OtherCount):
        hit = {item for item in scores if samples[item].status in change.statuses}
        kept = [item for item in scores if change.how == "wrong" or item not in hit]
        return {item: 0.0 if item in hit else scores[item] for item in kept}
    if isinstance(change, Shortest):
        ends = {item: samples[item].completion for item in scores}
        first = sorted(scores, key=lambda item: (len(ends[item].token_ids), len(ends[item].text)))
        return {item: scores[item] for item in first[:SHORTEST]}
    return dict(scores)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A hidden change, and how its number is given to `explain`."""

    truth: Truth
    given: Given


def plant(bench: Bench, draw: random.Random, singles: int, doubles: int) -> dict[str, list[Case]]:
    """Returns cases by kind: single settings, each another one, half with texts; two at once with texts, and as bare numbers.

    Two settings that give the same scores, such as two limits above the longest answer, count as one.
    """
    able = [one for one in bench.effects() if abs(one.effect) >= EFFECT]
    able = list({json.dumps([one.printed, sorted(one.scores.items())]): one for one in able}.values())
    draw.shuffle(able)
    if len(able) < singles:
        print(f"Only {len(able)} settings have an effect of {EFFECT} points or more.")
    twice = list(islice(pairs(bench, able, draw), doubles))
    return {
        "one setting": list(with_texts(bench, able[:singles], 0.5)),
        "two settings, texts": list(with_texts(bench, twice)),
        "two settings, a bare number": [Case(one, "a number") for one in twice],
    }


def pairs(bench: Bench, able: Sequence[Truth], draw: random.Random) -> Iterator[Truth]:
    """Yields two settings at once, each of which has its effect beside the other, too; every setting at most twice.

    A run that was stopped is none of them, since there is nothing that its texts could be compared by.
    """
    used: Counter[str] = Counter()
    names = [one.names[0] for one in able]
    both = [(a, b) for a in names for b in names if a < b and bench.hypotheses[a].setting != bench.hypotheses[b].setting]
    draw.shuffle(both)
    for a, b in both:
        unseen = any(isinstance(bench.hypotheses[one].change, Shortest) for one in (a, b))
        if (
            unseen
            or max(used[a], used[b]) > 1
            or not (answers_differ(bench.hypotheses[a]) or answers_differ(bench.hypotheses[b]))
        ):
            continue
        found = bench.truth(*sorted((a, b), key=list(bench.hypotheses).index))
        apart = min(abs(found.effect), *(abs(found.effect - bench.truth(one).effect) for one in (a, b)))
        if apart >= EFFECT:
            used.update((a, b))
            yield found


def with_texts(bench: Bench, truths: Sequence[Truth], share: float = 1.0) -> Iterator[Case]:
    """Yields cases, a share of them with texts, every other one of these as a run that lies, and the rest as numbers.

    Texts that do not show all that is hidden come with their number. A run that was stopped has no other texts on the items
    that it has, so that it is always a bare number.
    """
    texts = 0
    for one in truths:
        hidden = [bench.hypotheses[name] for name in one.names]
        if texts >= share * len(truths) or any(isinstance(each.change, Shortest) for each in hidden):
            yield Case(one, "a number")
            continue
        texts += 1
        if all(answers_differ(each) for each in hidden):
            yield Case(one, "a run that lies" if texts % 2 else "texts")
        else:
            yield Case(one, "a run that lies, and a number" if texts % 2 else "texts and a number")


def ask(bench: Bench, case: Case, place: Path) -> Explanation:
    """Returns what `explain` says of a case, in a folder of its own that has only the base's run."""
    shutil.rmtree(place, ignore_errors=True)
    base = place / bench.base.folder.relative_to(bench.work / "truth")
    shutil.copytree(bench.base.folder, base)
    number = {"number": case.truth.printed, "n": len(case.truth.scores)} if "number" in case.given else {}
    if case.given == "a number":
        return tulu_eval.explain(base, model=bench.model, progress=False, **number)
    make = forged if "lies" in case.given else imported
    return tulu_eval.explain(base, make(bench, case.truth, place), model=bench.model, progress=False, **number)


def imported(bench: Bench, truth: Truth, place: Path) -> Path:
    """Returns a run imported from questions and answers alone."""
    items = {one.id: one for one in bench.sums.load(bench.sums.protocol(None), None)}
    rows = [{"prompt": items[name].question, "response": sample.completion.text} for name, sample in truth.samples.items()]
    file = place / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tulu_eval.import_run(file, "somebody", benchmark=bench.sums.name, output=place).folder


def forged(bench: Bench, truth: Truth, place: Path) -> Path:
    """Returns a run with a case's answers whose manifest says that it was made under the recipe itself."""
    folder = place / "forged" / bench.sums.name / bench.base.folder.name
    folder.mkdir(parents=True)
    own = {sample.item: sample for sample in bench.base.samples()}
    lies = [
        dataclasses.replace(
            own[name], completion=dataclasses.replace(truth.samples[name].completion, key=own[name].completion.key),
            status=truth.samples[name].status, grades=truth.samples[name].grades,
        )
        for name in bench.base.manifest.planned
    ]  # fmt: skip
    manifest = files.with_asked(bench.base.manifest, map(asked_of, lies))
    with Ledger(folder / files.LEDGER) as ledger:
        for sample in lies:
            ledger.append(sample)
        rows = write_rows(folder, manifest, bench.sums, ledger.lines([(one.completion.key, one.item) for one in lies]))
    files.write_manifest(folder, rows.manifest)
    return folder


def judged(case: Case, found: Explanation) -> Outcome:
    """Returns whether the hidden change was named."""
    hidden, named = set(case.truth.names), set(found.named)
    if named == hidden:
        return "named"
    if not named:
        among = any(set(one) == hidden for one in found.rivals)
        return "cannot tell, it is among them" if among else "cannot tell"
    return "in part" if named & hidden else "wrong"
