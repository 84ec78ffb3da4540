"""A run for Python callers, and the runs of a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import in_python, spoken
from tulu_eval.reports import run as run_report
from tulu_eval.runs import reading
from tulu_eval.runs.requests import item_of, number_of
from tulu_eval.store.sample_line import Sample

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Run(reading.StoredRun):
    """A run: its model, benchmark, results and samples, as :func:`evaluate` made or :func:`load_run` read them.

    >>> run = tulu_eval.load_run("results/my-checkpoint/gsm8k/card-200-1a2b3c4d")
    >>> run
    <Run my-checkpoint on gsm8k: published last-number 48.5 [41.7, 55.4], n = 200 of 200>
    >>> run.to_dataframe().status.value_counts()

    Attributes:
        speed: Where the time went, one line; empty unless :func:`evaluate` returned the run and generated samples.
        notices: What a reader of the numbers should know of prompts and end tokens, one line each; empty unless
            :func:`evaluate` returned the run.
    """

    speed: str = ""
    notices: tuple[str, ...] = ()

    def to_dataframe(self) -> pd.DataFrame:
        """Returns the samples as a table: a row per sample, and two columns per scorer.

        >>> frame.groupby("item")["pass@1"].sum()  # right samples of each item
        >>> frame.explode(["texts", "totals", "per_token", "per_byte"])  # a row per given text

        Columns: ``item``, ``sample`` (its number among the item's, from 1 on), ``group`` (the item's; empty for none),
        ``target``, ``status``, ``text``, ``finish_reason``, ``new_tokens``, ``seconds``, and for a scorer S ``S`` (its score, 0
        to 1) and ``S answer`` (what it read out of the text).

        Where the model said how likely given texts are, ``text`` is the likeliest, and four columns have a list per sample, in
        the order of the request and empty where the engine failed: ``texts`` and their natural log-probabilities ``totals``,
        ``per_token`` and ``per_byte``.

        Raises:
            DataError: If the run was published without its samples.
        """
        import pandas as pd

        samples = list(self.samples())
        given = any(sample.completion.likelihoods for sample in samples)
        per_item = self.manifest.protocol.samples or 1
        return pd.DataFrame([_columns(sample, per_item) | (_given(sample) if given else {}) for sample in samples])

    def __repr__(self) -> str:
        return f"<Run {run_report.one_line(self)}>"

    def _repr_html_(self) -> str:
        return run_report.as_html(self)


def _columns(sample: Sample, per_item: int) -> dict[str, str | int | float]:
    done = sample.completion
    columns: dict[str, str | int | float] = {
        "item": item_of(sample.item, per_item),
        "sample": number_of(sample.item, per_item),
        "group": sample.group,
        "target": sample.target,
        "status": sample.status,
        "text": done.text,
        "finish_reason": done.finish_reason,
        "new_tokens": len(done.token_ids),
        "seconds": done.seconds,
    }
    for grade in sample.grades:
        columns |= {grade.scorer: grade.score, f"{grade.scorer} answer": grade.answer}
    return columns


def _given(sample: Sample) -> dict[str, list[str] | list[float]]:
    found = sample.completion.likelihoods
    return {
        "texts": [one.text for one in found],
        "totals": [one.total for one in found],
        "per_token": [one.per_token for one in found],
        "per_byte": [one.per_byte for one in found],
    }


class Runs(list[Run]):
    """The sound runs of a folder.

    Attributes:
        problems: Folders of other runs, and what is wrong with them, one line each.
    """

    def __init__(self, runs: Iterable[Run], problems: Sequence[str]) -> None:
        super().__init__(runs)
        self.problems = tuple(map(in_python, problems))


@spoken
def load_run(folder: AnyPath, *, doubtful: bool = False) -> Run:
    """Reads a run from its folder, and computes again what can be computed.

    >>> run = tulu_eval.load_run("results/my-checkpoint/gsm8k/card-200-1a2b3c4d")
    >>> [(row.scorer, row.value, row.low, row.high, row.n) for row in run.results]

    Args:
        folder: The run's folder.
        doubtful: Also return a run in which something does not follow from the rest; ``run.doubts`` says what. If false, and
            in every other function that takes a run, such a run is an error.

    Raises:
        DataError: If the folder is not a run's, or the run was forged, mixed, swapped or cut.
    """
    found = reading.read_run(Path(folder))
    return _public(found if doubtful else reading.sound(found))


@spoken
def find_runs(results: AnyPath = "results", *, progress: bool = False) -> Runs:
    """Returns the sound runs under a folder, with the win rates of files; empty if there is no such folder.

    >>> runs = tulu_eval.find_runs("results")
    >>> runs.problems  # folders that cannot be used, one line each

    Args:
        results: The folder.
        progress: Draw a bar if reading takes more than a second.
    """
    runs, problems = reading.find_runs(Path(results), bar(progress))
    return Runs(map(_public, runs), problems)


def _public(run: reading.StoredRun) -> Run:
    return Run(**{field.name: getattr(run, field.name) for field in dataclasses.fields(reading.StoredRun)})


def read(run: Run | AnyPath) -> reading.StoredRun:
    """Reads the run of a folder; a :class:`Run` is read again, since its folder may have changed."""
    return reading.read_run(folder_of(run))


def folder_of(run: Run | AnyPath) -> Path:
    """Returns the folder of a run."""
    return run.folder if isinstance(run, reading.StoredRun) else Path(run)


def bar(progress: bool) -> Callable[[Sequence[Path]], Iterable[Path]]:
    """Returns a function that goes through run folders, with a bar if that takes more than a second."""

    def shown(folders: Sequence[Path]) -> Iterable[Path]:
        from tqdm.auto import tqdm

        return tqdm(folders, "reading runs", unit="run", delay=1, disable=not progress)

    return shown
