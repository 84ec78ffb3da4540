"""Checks whether a judge's folder follows from its judgments: each read computes everything again that can be computed.

``result.json`` is a convenience: the numbers come from ``judgments.jsonl``. If the files of a folder do not belong together,
a read raises an error. If somebody forged them with matching hashes, the read returns doubts, one line each.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tulu_eval.benchmarks.alpaca_baselines import known
from tulu_eval.benchmarks.alpaca_set import SIZE
from tulu_eval.errors import DataError, UserError
from tulu_eval.files import read_text
from tulu_eval.judging import record
from tulu_eval.judging.gamed import find_gamed
from tulu_eval.judging.judge_recipe import Pair
from tulu_eval.judging.judged import Judge
from tulu_eval.judging.numbers import CALIBRATED, JudgeSettings, judge_parts, results, settings_of
from tulu_eval.judging.record import StoredJudgments
from tulu_eval.judging.win_rates import Score, score
from tulu_eval.records import Result, content_hash
from tulu_eval.runs import catalog
from tulu_eval.runs.judged_schema import StoredJudging
from tulu_eval.store import schema
from tulu_eval.store.digests import DIGESTS, read_digests
from tulu_eval.store.ledger import Asked, Ledger
from tulu_eval.store.manifest import LEDGER, RESULT, read_results
from tulu_eval.store.packed import there

JUDGED = "judged"
JUDGMENTS = "judgments.jsonl"
JUDGING = "judging.json"

LARGEST_JUDGMENTS = 1 << 26
"""Largest size in bytes of a ``judgments.jsonl`` that is read; one with 805 rows has 0.3 MB."""

AGAIN = "'tulu-eval judge' makes it again, and pays for nothing that it has"

LC = "lc_win_rate"

CLOSE = {"value": 1e-6, "low": 1e-3, "high": 1e-3}
"""Largest difference in percentage points of a value, and of its interval's ends, between two machines. liblinear's results
agree to 1e-9, but each of the 1000 bootstrap fits may stop an iteration sooner or later."""


class Output(NamedTuple):
    """Hash of a model's output, and its number of characters, as a run has them."""

    sha256: str
    characters: int


@dataclasses.dataclass(frozen=True, slots=True)
class JudgedResult:
    """The numbers of a judge's folder.

    Attributes:
        rows: Rows that follow from the judgments. A row that this machine cannot compute is the row of ``result.json``.
        doubts: Statements of the files that do not follow from the judgments, one line each; empty if all of them do.
        unchecked: Numbers that this machine cannot compute again, with the reason, one line each.
        lc_range: Smallest and largest LC over the constants C behind published rows; ``None`` without LC, or if unchecked.
    """

    rows: tuple[Result, ...]
    doubts: tuple[str, ...]
    unchecked: tuple[str, ...]
    lc_range: tuple[float, float] | None


def lc_ranges(found: JudgedResult) -> dict[str, tuple[float, float]]:
    """Returns the range of a judge's LC by the signature of the LC row; empty if there is no range."""
    return {row.signature: found.lc_range for row in found.rows if row.metric == LC and found.lc_range is not None}


def outputs_by_hash(folder: Path, asked: Asked | None) -> dict[str, Output]:
    """Returns the hash and length of each output by item. A run that was published without its samples has them in its digests.

    ``asked`` has key and item of each sample that the run asked for; ``None`` if an older manifest does not list them.
    """
    if there(folder / LEDGER):
        with Ledger(folder / LEDGER, read_only=True) as ledger:
            done = (sample for sample in ledger.samples(asked) if sample.completion.finish_reason != "error")
            texts = {sample.item: sample.completion.text for sample in done}
        return {item: Output(content_hash(text), len(text)) for item, text in texts.items()}
    found = read_digests(folder) if (folder / DIGESTS).exists() else []
    return {one.item: Output(one.text_sha256, one.characters) for one in found}


def read_judged(folder: Path, outputs: Mapping[str, Output] | None = None) -> JudgedResult:
    """Returns the numbers of a judge's folder, computed again from its judgments.

    For 805 judgments it takes 2.5 s of one core, nearly all of it for the 1000 fits of LC's interval, and 3 ms without LC
    (benchmarks/README.md). ``outputs`` are those of the run that the folder is in, by item; ``None`` if there is no run.

    Raises:
        DataError: If a file is missing, has another form, or was changed after ``result.json`` was written.
    """
    recorded = read_results(folder)
    stored = [dataclasses.replace(row, protocol=catalog.protocol_name(row.benchmark, row.protocol)) for row in recorded.rows]
    if judgments_hash(folder) != recorded.samples_sha256:
        raise DataError(folder / JUDGMENTS, f"is not what {RESULT} was computed from; {AGAIN}")
    judgments, manifest = record.read_judgments(folder / JUDGMENTS), read_judging(folder)
    try:
        settings = settings_of(stored)
    except (ValueError, KeyError) as error:
        raise DataError(folder / RESULT, f"does not say how its rows were made: {error}") from error
    found, lacking = _score_again(folder, judgments, manifest, settings)
    doubts = [*_of_judgments(judgments, outputs), *_of_counts(judgments, manifest)]
    expected = _rows(folder, found, manifest, as_before=judgments.baseline is None)
    shown, unchecked = _rows(folder, found, manifest), [lacking] if lacking else []
    if len(stored) != len({row.metric for row in stored}):
        doubts.append(f"{RESULT}: has a metric twice")
    for row in stored:
        if row.metric in expected:
            doubts += _differences(row, expected[row.metric], lc_known=not lacking)
            if lacking:
                shown[row.metric] = dataclasses.replace(shown[row.metric], signature=row.signature)
        elif row.metric == LC and lacking:
            shown = {LC: row, **shown}
        elif row.metric.endswith(CALIBRATED):
            shown[row.metric] = row
            unchecked.append(f"{row.metric}: not computed again, for {JUDGING} does not hold its calibration")
        else:
            doubts.append(f"{RESULT}: has a row {row.metric!r}, which {JUDGMENTS} does not give")
    absent = set(expected) - {row.metric for row in stored}
    doubts += [f"{RESULT}: lacks {metric}, which {JUDGMENTS} gives" for metric in sorted(absent)]
    return JudgedResult(tuple(shown.values()), tuple(doubts), tuple(unchecked), found.lc_range)


def _score_again(
    folder: Path, judgments: StoredJudgments, manifest: StoredJudging, settings: JudgeSettings
) -> tuple[Score, str]:
    """Returns the score of a folder's judgments, and the reason if it lacks an LC that the rows have; else an empty text."""
    rows = judgments.judged(settings.positional)
    judge = judge_of(manifest)
    wanted = judge.edition.lc and (settings.lc or sum(row.preference is not None for row in rows) == SIZE)
    gamed = find_gamed(settings.gamed) if wanted else None
    lacking = ""
    if wanted and gamed is None:
        of = f" ({settings.gamed})" if settings.gamed else ""
        lacking = (
            f"{LC}: not computed again, for df_gamed.csv{of} is not here; 'tulu-eval score {folder} --gamed FILE' brings it"
        )
    terms = judgments.terms(judge, settings.positional)
    try:
        found = score(rows, terms, gamed, settings.scoring)
    except UserError as error:
        raise DataError(folder / JUDGMENTS, str(error)) from error
    return found, lacking


def sound_judgments(folder: Path, manifest: StoredJudging) -> StoredJudgments:
    """Returns the judgments of a folder so that they can be scored again; ignores the rows of its ``result.json``.

    Raises:
        DataError: If the judgments cannot be read, have another hash than in ``result.json``, or do not fit the manifest.
    """
    try:
        recorded = read_results(folder)
    except DataError:
        recorded = None  # a missing or spoilt file proves nothing about the judgments
    if recorded and judgments_hash(folder) != recorded.samples_sha256:
        raise DataError(folder / JUDGMENTS, f"is not what {RESULT} was computed from; {AGAIN}")
    judgments = record.read_judgments(folder / JUDGMENTS)
    doubts = [*_of_judgments(judgments, None), *_of_counts(judgments, manifest)]
    signed = [set(row.signature.split("|")) for row in recorded.rows] if recorded else []
    if not all(parts.issuperset(judge_parts(judge_of(manifest))) for parts in signed):
        doubts.append(f"{JUDGING}: its judge is not the one of the rows in {RESULT}")
    if doubts:
        raise DataError(folder, f"{'; '.join(doubts)}; {AGAIN}")
    return judgments


def check_same_outputs(folder: Path, pairs: Sequence[Pair]) -> None:
    """Raises UserError if a folder, which has its name from a model, has verdicts on another model's outputs."""
    try:
        stored = {row.id: row.output_sha256 for row in record.read_judgments(folder / JUDGMENTS).rows}
    except DataError:
        return  # there are no judgments that could be lost
    other = [pair.id for pair in pairs if stored.get(pair.id, content_hash(pair.output)) != content_hash(pair.output)]
    if other:
        raise UserError(
            f"{folder} has verdicts on other outputs under the same name ({len(other)} differ, the first is {other[0]}): "
            "choose another --output, or take that folder away"
        )


def judge_of(manifest: StoredJudging) -> Judge:
    """Returns the judge of a judge's manifest."""
    return Judge(manifest.judge, manifest.method, manifest.prompt_sha256)


def _rows(folder: Path, found: Score, manifest: StoredJudging, as_before: bool = False) -> dict[str, Result]:
    """Returns the rows of a score by metric; a calibration in the manifest adds a calibrated row."""
    rows = results(found, as_before)
    if manifest.calibration:
        try:
            rows = (*rows, record.calibrated(found, record.calibration_of(manifest.calibration)))
        except (ValueError, KeyError, TypeError, OverflowError, UserError) as error:
            raise DataError(folder / JUDGING, f"its calibration cannot be used: {error}") from error
    return {row.metric: row for row in rows}


def _differences(stored: Result, expected: Result, lc_known: bool) -> list[str]:
    """Returns the differences between a stored row and the row that follows from the judgments, one line per field.

    Without LC it does not compare the end of the signature, which tells how LC was made.
    """
    found = []
    for field in dataclasses.fields(Result):
        one, other = getattr(stored, field.name), getattr(expected, field.name)
        if field.name in CLOSE:
            same = other - CLOSE[field.name] <= one <= other + CLOSE[field.name]
        elif field.name == "signature" and not lc_known:
            same = one.startswith(f"{other.split('|calibrated:')[0]}|lc:v1|")
        else:
            same = one == other
        if not same:
            shown, given = (f"{each:.6f}" if isinstance(each, float) else each for each in (one, other))
            found.append(f"{RESULT}: {field.name} of {stored.metric} is {shown!s:.200}, and {JUDGMENTS} gives {given}")
    return found


def _of_judgments(judgments: StoredJudgments, outputs: Mapping[str, Output] | None) -> list[str]:
    """Returns a line if judgments contradict themselves, the known baseline's lengths or the run's outputs."""
    lengths = next((one.characters for one in known() if one.baseline == judgments.baseline), None)
    found = []
    for row in judgments.rows:
        judged, same = row.judged, row.output_sha256 == row.baseline_sha256
        if row.baseline_sha256 and (same != (judged.kind == "identical") and judged.preference is not None):
            found.append(f"{row.id} is {judged.kind}, and its two outputs are {'the same' if same else 'not the same'}")
        elif judged.kind == "identical" and judged.preference != 1.5:
            found.append(f"{row.id} prefers one of two outputs that are the same")
        elif lengths is not None and judged.baseline_characters != lengths[judged.place]:
            found.append(
                f"{row.id} has {judged.baseline_characters} characters of the baseline, which wrote {lengths[judged.place]}"
            )
        elif outputs is not None and outputs.get(row.id) != (row.output_sha256, judged.output_characters):
            found.append(f"judges another output of {row.id} than the run has")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return [f"{JUDGMENTS}: {found[0]}{more}"] if found else []


def _of_counts(judgments: StoredJudgments, manifest: StoredJudging) -> list[str]:
    """Returns a line if the manifest's counts are not those of the judgments.

    It checks nothing if the judgments name no baseline, since the versions that wrote those counted other kinds.
    """
    if judgments.baseline is None:
        return []
    counts = dict(Counter(row.judged.kind for row in judgments.rows))
    told = {kind: n for kind, n in (manifest.counts or {}).items() if n and kind != "absent"}
    return [] if told == counts else [f"{JUDGING}: its counts are not those of {JUDGMENTS}"]


def read_judging(folder: Path) -> StoredJudging:
    """Returns a judge's manifest; raises DataError if the file is missing or has another form."""
    try:
        return schema.read_record(folder / JUDGING, StoredJudging, "a judge's manifest")
    except DataError as error:
        why = str(error).removeprefix(f"{folder / JUDGING}: ")
        raise DataError(folder, f"is no folder that 'tulu-eval judge' wrote: its {JUDGING} cannot be read ({why})") from error


def judgments_hash(folder: Path) -> str:
    """Returns the hash of a judge's judgments, which ``result.json`` contains; raises DataError if they cannot be read."""
    path = folder / JUDGMENTS
    try:
        return content_hash(read_text(path, LARGEST_JUDGMENTS))
    except DataError as error:
        raise DataError(path, f"cannot be read, so {RESULT} cannot be checked; {AGAIN}") from error
