"""Packs the samples of many runs into compressed blocks, which the browser opens on demand, so that the page opens at once.

A block has some items of one benchmark, each with its question and every run's texts: one per sample, with the likelihoods of
given texts where the model was asked for them. Texts about one question resemble each other, so they compress well together,
and one block shows an item across all runs. Each run also has an index with statuses, answers and scores, which is enough for a
list of its samples. To the browser the packed parts are data, never markup: JSON, deflated, in base64.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tulu_eval.errors import UserError
from tulu_eval.records import STATUSES, Completion, Likelihood
from tulu_eval.reports.page import squeeze
from tulu_eval.runs.judge import preferences
from tulu_eval.runs.prompts import Prompts, PromptSource
from tulu_eval.runs.reading import StoredRun
from tulu_eval.runs.requests import item_of, number_of
from tulu_eval.store.digests import DIGESTS, read_digests
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.sample_line import Sample

BLOCK = 1 << 16
"""Characters of text after which a block ends: twice deflate's window, because a larger block compresses no better."""

ASKED = 90
"""Characters of a question that the list of samples shows."""

DECIMALS = 6
"""Decimals of a log-probability; the page shows four, and the others tell which of two is higher."""


@dataclasses.dataclass(slots=True)
class _Group:
    """Items that several runs have, with the same right answers.

    Attributes:
        data: Hash of the data; empty if the protocol fixes the items.
        targets: Right answers by item, in the order of the first run.
        questions: Known questions by item.
        members: Positions of its runs.
    """

    name: str
    data: str
    targets: dict[str, str]
    questions: dict[str, str]
    members: list[int]

    def takes(self, run: StoredRun, samples: Sequence[Sample], prompts: Prompts | None) -> bool:
        """Whether a run has the same benchmark and data, and the same targets and questions for the common items."""
        targets = _by_item(run, {sample.item: sample.target for sample in samples})
        questions = _by_item(run, prompts.questions if prompts else {})
        agree = all(
            ours.get(item, value) == value
            for ours, theirs in ((self.targets, targets), (self.questions, questions))
            for item, value in theirs.items()
        )
        return agree and (self.name, self.data) == (run.benchmark, _data(run))


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """The page's data about samples.

    Attributes:
        runs: For each run: its group, number of samples in all and per item, scorers and prompt, or the reason why there is no
            prompt.
        groups: For each group: its benchmark, number of items, and the first item of each block.
        blobs: Compressed parts by name.
    """

    runs: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    blobs: dict[str, str]


def pack(runs: Sequence[tuple[StoredRun, Sequence[Sample]]], source: PromptSource) -> Packed:
    """Returns the packed samples of runs."""
    groups: list[_Group] = []
    own: dict[int, dict[str, str]] = {}
    about: list[dict[str, Any]] = []
    listed = [samples or _without_text(run) for run, samples in runs]
    for place, (run, written) in enumerate(runs):
        samples = listed[place]
        prompts, why = _prompts(run, written, source)
        own[place] = prompts.own if prompts else {}
        group = next((one for one in groups if one.takes(run, samples, prompts)), None)
        if group is None:
            groups.append(group := _Group(run.benchmark, _data(run), {}, {}, []))
        group.members.append(place)
        for item, target in _by_item(run, {sample.item: sample.target for sample in _in_order(run, samples)}).items():
            group.targets.setdefault(item, target)
        group.questions |= _by_item(run, prompts.questions if prompts else {})
        about.append(
            {
                "group": groups.index(group),
                "samples": len(samples),
                "per_item": _per_item(run),
                "scorers": [grade.scorer for grade in samples[0].grades] if samples else [],
                **_frame(prompts),
                "promptless": why,
            }
        )
    blobs: dict[str, str] = {}
    described = []
    for number, group in enumerate(groups):
        places = {item: place for place, item in enumerate(group.targets)}
        blobs[f"group-{number}"] = squeeze(_listed(group))
        for member in group.members:
            blobs[f"run-{member}"] = squeeze(_index(runs[member][0], listed[member], places))
        starts: list[int] = []
        for start, block in _blocks(group, [(member, *runs[member], own[member]) for member in group.members]):
            blobs[f"block-{number}-{len(starts)}"] = squeeze(block)
            starts.append(start)
        described.append({"benchmark": group.name, "items": len(group.targets), "starts": starts})
    return Packed(about, described, blobs)


def _listed(group: _Group) -> dict[str, Any]:
    """Returns what a list of the items shows: their names, their right answers, and how each known question begins."""
    asked = [group.questions.get(item) for item in group.targets]
    starts = [text if text is None or len(text) <= ASKED else f"{text[:ASKED].rstrip()}…" for text in asked]
    return {"items": list(group.targets), "targets": list(group.targets.values()), "asked": starts if group.questions else None}


def _prompts(run: StoredRun, samples: Sequence[Sample], source: PromptSource) -> tuple[Prompts | None, str]:
    if not samples:
        kept_back = not run.of_files and (run.folder / DIGESTS).exists()  # a run that was stopped at once has none yet
        return None, f"{run.benchmark}: a run was published without its samples" if kept_back else ""
    try:
        return source.prompts(run, samples), ""
    except UserError as error:
        return None, str(error)


def _without_text(run: StoredRun) -> list[Sample]:
    """Returns items and classes from the digests of a run that was published without its samples; empty without digests."""
    if not (run.folder / DIGESTS).exists():
        return []
    return [
        Sample(one.item, "", one.prompt_sha256, Completion("", "", (), "unknown", 0.0), one.status, ())
        for one in read_digests(run.folder)
    ]


def _data(run: StoredRun) -> str:
    fixed = isinstance(run.about, Manifest) and run.about.protocol.n
    return "" if fixed else run.about.benchmark.data_sha256 or ""


def _per_item(run: StoredRun) -> int:
    return run.about.protocol.samples or 1 if isinstance(run.about, Manifest) else 1


def _by_item(run: StoredRun, values: Mapping[str, str]) -> dict[str, str]:
    """Returns by item what is known by sample; it is the same for all samples of an item."""
    per_item = _per_item(run)
    return {item_of(sample, per_item): value for sample, value in values.items()}


def _in_order(run: StoredRun, samples: Sequence[Sample]) -> list[Sample]:
    order = {item: place for place, item in enumerate(run.about.planned if isinstance(run.about, Manifest) else ())}
    return sorted(samples, key=lambda sample: order.get(sample.item, len(order)))


def _frame(prompts: Prompts | None) -> dict[str, Any]:
    if prompts is None:
        return {"before": None, "after": None, "prefill": "", "proven": False}
    return {"before": prompts.before, "after": prompts.after, "prefill": prompts.prefill, "proven": prompts.proven}


def _index(run: StoredRun, samples: Sequence[Sample], places: dict[str, int]) -> dict[str, Any]:
    ordered, per_item = _in_order(run, samples), _per_item(run)
    return {
        "items": [places[item_of(sample.item, per_item)] for sample in ordered],
        "numbers": [number_of(sample.item, per_item) for sample in ordered] if per_item > 1 else None,
        "statuses": [STATUSES.index(sample.status) for sample in ordered],
        "answers": [[grade.answer if grade.answered else None for grade in sample.grades] for sample in ordered],
        "scores": [[grade.score for grade in sample.grades] for sample in ordered],
        "tokens": [len(sample.completion.token_ids) or None for sample in ordered],
        "ends": [sample.completion.finish_reason for sample in ordered],
        "judges": {judge: [found.get(sample.item) for sample in ordered] for judge, found in preferences(run.folder).items()},
    }


def _blocks(
    group: _Group, members: Sequence[tuple[int, StoredRun, Sequence[Sample], Mapping[str, str]]]
) -> Iterator[tuple[int, list[Any]]]:
    """Yields each block: the position of its first item, and for each item its question and what each run has of it.

    ``members`` has each run's position, the run, its samples, and what stood before each question where that differs between
    items.
    """
    texts: dict[str, list[list[Any]]] = {item: [] for item in group.targets}
    sizes = dict.fromkeys(group.targets, 0)
    for member, run, samples, own in members:
        per_item = _per_item(run)
        for sample in _in_order(run, samples):
            done, item = sample.completion, item_of(sample.item, per_item)
            before = own.get(sample.item, "")
            texts[item].append([member, number_of(sample.item, per_item), *_written(done, before)])
            sizes[item] += len(done.text) + len(done.error) + len(before) + sum(len(one.text) for one in done.likelihoods)
    start, size, block = 0, 0, []
    for place, (item, written) in enumerate(texts.items()):
        block.append([group.questions.get(item), written])
        size += sizes[item]
        if size >= BLOCK:
            yield start, block
            start, size, block = place + 1, 0, []
    if block:
        yield start, block


def _written(done: Completion, before: str) -> list[Any]:
    """Returns text, error, what stood before the question, and likelihoods, without those at the end that are empty."""
    parts = [done.text, done.error, before, [_likelihood(one) for one in done.likelihoods]]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


def _likelihood(one: Likelihood) -> list[str | int | float | None]:
    """Returns a given text, its number of tokens, and its log-probability: of all of it, per token and per byte.

    What is not finite, as per byte of an empty text, is ``None``.
    """
    numbers = (one.total, one.per_token, one.per_byte)
    return [one.text, len(one.logprobs), *(round(number, DECIMALS) if math.isfinite(number) else None for number in numbers)]
