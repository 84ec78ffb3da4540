"""Writes and reads the labels that judges gave a run's answers, and the rows that follow from them.

A folder beside the run's own files, without any text::

    judged/gpt-4-0613-labels/   labels.jsonl  judging.json  result.json

A line has an item, what became of it, what each judge said, and the hash of the answer::

    {"id":"v2-1","kind":"judged","output_sha256":"<sha256>","values":{"following":1.0,"refusal":0.0}}
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, to_builtins

from tulu_eval import files
from tulu_eval.benchmarks.labelled import LabelledBenchmark
from tulu_eval.errors import DataError
from tulu_eval.judging.label_answers import FAILURES, Label
from tulu_eval.records import Result, content_hash, to_json
from tulu_eval.runs.judged_check import AGAIN, JUDGING, LARGEST_JUDGMENTS, JudgedResult
from tulu_eval.runs.scoring import make_rows
from tulu_eval.store import schema
from tulu_eval.store.ledger import Asked, Ledger
from tulu_eval.store.manifest import LEDGER, RESULT, Recorded, now, read_results, write_json, write_results
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.packed import there
from tulu_eval.store.sample_line import Marks
from tulu_eval.store.schema import Count, Hash, Name

LABELS = "labels.jsonl"
OTHER = "_by_other_judge"


class StoredLabel(files.Record, frozen=True):
    """One line of ``labels.jsonl``; see :class:`tulu_eval.judging.label_answers.Label`."""

    id: Name
    kind: Name
    output_sha256: Hash
    values: dict[Name, Annotated[float, Meta(ge=0, le=1)]]


class StoredJudge(files.Record, frozen=True):
    """One judge.

    Attributes:
        revision: Revision of a judge that runs in this process; empty for a judge behind a server.
    """

    name: Name
    revision: Name = ""

    @property
    def shown(self) -> str:
        """The name with the beginning of the revision."""
        short = self.revision.removeprefix("sha256:")[:8]
        return f"{self.name}@{short}" if short else self.name


class StoredLabelling(files.Record, frozen=True):
    """``judging.json`` of a folder with labels.

    Attributes:
        judges: By role.
        where: The endpoint's address, or the engine's name.
    """

    recipe: Name
    prompt_sha256: Hash
    judges: dict[Name, StoredJudge]
    counts: dict[Name, Count]
    where: Name
    finished: Name


@dataclasses.dataclass(frozen=True, slots=True)
class HeldAnswer:
    """What a run has of one answer; ``failed`` tells whether the engine failed."""

    target: str
    group: str
    sha256: str
    failed: bool


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedBy:
    """The judges of a folder, and where they were asked."""

    judges: Mapping[str, StoredJudge]
    prompt_sha256: str
    where: str


def answers_of(folder: Path, asked: Asked | None) -> dict[str, HeldAnswer]:
    """Returns a run's answers by item; empty if it was published without its samples."""
    if not there(folder / LEDGER):
        return {}
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        return {
            one.item: HeldAnswer(
                one.target, one.group, content_hash(one.completion.text), one.completion.finish_reason == "error"
            )
            for one in ledger.samples(asked)
        }


def write_labelled(
    folder: Path,
    manifest: Manifest,
    benchmark: LabelledBenchmark,
    answers: Mapping[str, HeldAnswer],
    labels: Sequence[Label],
    by: JudgedBy,
) -> tuple[Result, ...]:
    """Writes a folder of labels, and returns its rows; the caller holds the folder's lock."""
    lines = [StoredLabel(one.id, one.kind, answers[one.id].sha256, dict(sorted(one.values.items()))) for one in labels]
    text = "".join(f"{to_json(to_builtins(line))}\n" for line in lines)
    files.write_text(folder / LABELS, text)
    counts = dict(Counter(one.kind for one in labels))
    about = StoredLabelling(benchmark.recipe, by.prompt_sha256, dict(by.judges), counts, by.where, now())
    write_json(folder / JUDGING, to_builtins(about))
    found = _rows(manifest, benchmark, about, lines, answers)
    write_results(folder, Recorded(found, content_hash(text)))
    return found


def read_labelled(
    folder: Path, manifest: Manifest, benchmark: LabelledBenchmark, answers: Mapping[str, HeldAnswer]
) -> JudgedResult:
    """Returns the rows of a folder of labels, computed again.

    Raises:
        DataError: If a file is missing, has another form, or was changed after ``result.json`` was written.
    """
    recorded = read_results(folder)
    text = files.read_text(folder / LABELS, LARGEST_JUDGMENTS)
    if content_hash(text) != recorded.samples_sha256:
        raise DataError(folder / LABELS, f"is not what {RESULT} was computed from; {AGAIN}")
    place = files.Place(folder / LABELS)
    lines = [files.decode(line.encode("utf-8", "surrogatepass"), StoredLabel, place) for line in text.splitlines()]
    about = schema.read_record(folder / JUDGING, StoredLabelling, "a manifest of labels")
    if not answers:
        return JudgedResult(recorded.rows, (), ("not computed again, for the run was published without its samples",), None)
    doubts = list(_doubts(benchmark, about, lines, answers))
    found = _rows(manifest, benchmark, about, lines, answers) if not doubts else recorded.rows
    if found != recorded.rows:
        doubts.append(f"{RESULT}: its rows are not what {LABELS} gives")
    return JudgedResult(found, tuple(doubts), (), None)


def _doubts(
    benchmark: LabelledBenchmark, about: StoredLabelling, lines: Sequence[StoredLabel], answers: Mapping[str, HeldAnswer]
) -> list[str]:
    found = []
    if dict(Counter(one.kind for one in lines)) != about.counts:
        found.append(f"{JUDGING}: its counts are not those of {LABELS}")
    if about.recipe != benchmark.recipe or about.judges.keys() != benchmark.judges.keys():
        found.append(f"{JUDGING}: names another recipe or other judges' roles than {benchmark.name} has")
    if len({one.id for one in lines}) != len(lines):
        found.append(f"{LABELS}: has an item twice")
    asked = {item: one.sha256 for item, one in answers.items() if not one.failed}
    if {one.id: one.output_sha256 for one in lines} != asked:
        found.append(f"{LABELS}: is of other answers than the run has")
    if any(one.kind not in ("judged", "no_verdict", *FAILURES) or (one.kind == "judged") != bool(one.values) for one in lines):
        found.append(f"{LABELS}: has a label of an unknown kind, or one without its values")
    return found


def _rows(
    manifest: Manifest,
    benchmark: LabelledBenchmark,
    about: StoredLabelling,
    lines: Sequence[StoredLabel],
    answers: Mapping[str, HeldAnswer],
) -> tuple[Result, ...]:
    labels = {one.id: one for one in lines}
    found = {item: _marks(benchmark, answer, labels.get(item)) for item, answer in answers.items()}
    published = all(
        about.judges[role].name == name and not about.judges[role].revision.startswith("sha256:")
        for role, name in benchmark.judges.items()
    )
    names = ", ".join(judge.shown for judge in about.judges.values()).replace("|", "_")
    signed = f"|judge:{names}|by:{about.recipe}|prompt:{about.prompt_sha256[:8]}"
    return tuple(
        dataclasses.replace(
            row, scorer=names, metric=row.metric + (benchmark.by if published else OTHER), signature=row.signature + signed
        )
        for row in make_rows(manifest, benchmark, found)
    )


def _marks(benchmark: LabelledBenchmark, answer: HeldAnswer, label: StoredLabel | None) -> Marks:
    judged = label is not None and label.kind not in FAILURES
    grades = benchmark.grade_labels(answer.target, label.values if label is not None and judged else None)
    status = "ok" if label is not None and label.values else "no_answer" if judged else "judge_error"
    weights = tuple(grade.weight for grade in grades)
    scores = tuple(grade.score for grade in grades)
    return Marks("engine_error" if answer.failed else status, scores, weights, answer.group)
