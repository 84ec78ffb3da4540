"""A finished run folder, read back: manifest, rows and samples are there and belong together.

What reports, ``verify`` and ``compare`` stand on. Nothing is written, no model is loaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tulu_eval.errors import DataError
from tulu_eval.records import Result
from tulu_eval.runs import catalog
from tulu_eval.runs.digests import DIGESTS, hash_of_all, read_digests
from tulu_eval.runs.judged import judged_rows
from tulu_eval.runs.ledger import Ledger, Sample, encode
from tulu_eval.runs.manifest import LEDGER, MANIFEST, RESULT, read_manifest, read_results, samples_hash
from tulu_eval.runs.packed import there
from tulu_eval.runs.scoring import grade_sample

_NEEDED: dict[str, type] = {
    "model.name": str,
    "model.revision": str,
    "model.parameters": int,
    "model.tokenizer_sha256": str,
    "benchmark.name": str,
    "benchmark.version": int,
    "protocol.name": str,
    "protocol.prompt_id": str,
    "template.form": str,
    "decoding": dict,
    "settings": dict,
    "backend": str,
    "dtype": str,
    "items": dict,
    "planned": list,
    "engine": dict,
    "packages": dict,
    "machine": dict,
    "sessions": list,
}
"""Fields of a manifest that are read here and by what stands on it, and their types."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """A run that has a result.

    Attributes:
        folder: The run's folder.
        manifest: Its manifest.
        results: Its rows, and after them those of judges.
        regraded: Whether ``tulu-eval score`` made the rows with a later version of the benchmark than the ledger's grades.
    """

    folder: Path
    manifest: dict[str, Any]
    results: tuple[Result, ...]
    regraded: bool = False

    @property
    def model(self) -> str:
        """Name that the run is filed under: hub id, name of the registry, or name of a folder."""
        return str(self.manifest["model"]["name"])

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return str(self.manifest["benchmark"]["name"])

    @property
    def imported(self) -> str:
        """Name of the harness whose file it was imported from; empty for a run of our own."""
        return str(self.manifest["backend"]) if "imported" in self.manifest else ""

    @property
    def of_files(self) -> bool:
        """Whether it is win rates of files of outputs, of which no run is known."""
        return "protocol" not in self.manifest

    @property
    def ended(self) -> str:
        """When its last session ended, ISO 8601; empty if none did."""
        sessions = self.manifest["sessions"]
        return str(sessions[-1].get("finished", "")) if sessions else ""

    def members(self, protocol: str | None) -> frozenset[str]:
        """Returns the ids of a protocol's items as the run had them; empty for a protocol that it does not cover."""
        return frozenset(self.manifest["items"].get(protocol, ()))

    def samples(self) -> Iterator[Sample]:
        """Yields every sample that counts, in the order of the ledger, with the grades that the rows were computed from.

        Raises:
            DataError: The run was published without its samples.
        """
        if not there(self.folder / LEDGER):
            raise DataError(self.folder, f"was published without its samples: it has {DIGESTS} in place of {LEDGER}")
        with Ledger(self.folder / LEDGER, read_only=True) as ledger:
            if not self.regraded:
                yield from ledger.samples()
                return
            benchmark = catalog.benchmark(self.benchmark)
            for sample in ledger.samples():
                yield grade_sample(benchmark, sample)


def failures(row: Result) -> int:
    """Returns the items of a row that an engine or a judge failed on; they count as wrong in its value."""
    return row.counts.get("engine_error", 0) + row.counts.get("judge_error", 0)


def whole(row: Result) -> bool:
    """Whether a row stands on all items of its protocol, each with an answer of the model."""
    return not row.partial and not failures(row)


def read(folder: Path) -> Finished:
    """Returns a finished run.

    Raises:
        DataError: Not a run folder, of another version, without a result, or one of whose files was changed by hand.
    """
    manifest = read_manifest(folder)
    _check_manifest(folder / MANIFEST, manifest)
    return _check_samples(Finished(folder, manifest, (*read_results(folder), *judged_rows(folder))))


def _check_manifest(path: Path, manifest: dict[str, Any]) -> None:
    for name, kind in _NEEDED.items():
        value: Any = manifest
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise DataError(path, f"is not a manifest of this version: {name!r} is missing or of another type")


def _check_samples(run: Finished) -> Finished:
    """Returns the run, having checked that its rows were computed from the samples that are there."""
    path = run.folder / LEDGER
    if not there(path) and (run.folder / DIGESTS).exists():
        noted = json.loads((run.folder / RESULT).read_text(encoding="utf-8")).get("samples_sha256")
        if hash_of_all(read_digests(run.folder)) != noted:
            raise DataError(run.folder / DIGESTS, f"is not what {RESULT} was computed from")
        return run
    if not there(path):
        raise DataError(run.folder, f"has no {LEDGER}, so its result cannot be checked")
    noted = json.loads((run.folder / RESULT).read_text(encoding="utf-8")).get("samples_sha256")
    with Ledger(path, read_only=True) as ledger:
        if ledger.corrupt:
            lines = ", ".join(map(str, ledger.corrupt[:5]))
            raise DataError(path, f"{len(ledger.corrupt)} lines are corrupt or changed by hand (first: {lines})")
        if samples_hash(ledger.lines()) == noted:
            return run
    later = dataclasses.replace(run, regraded=True)
    if run.benchmark in catalog.names(catalog.BENCHMARKS) and samples_hash(map(encode, later.samples())) == noted:
        return later
    raise DataError(path, f"is not what {RESULT} was computed from; 'tulu-eval score {run.folder}' computes it again")
