"""Is a finished run what its files say? Everything in it that can be computed again is computed again and compared.

:func:`tulu_eval.runs.finished.read` refuses files that do not belong together. What it lets through is a folder somebody made
consistent by hand, hashes and all: other grades in the ledger, other rows in the result, another recipe in the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulu_eval.benchmarks.base import Benchmark
from tulu_eval.records import content_hash, to_json
from tulu_eval.runs import catalog
from tulu_eval.runs.finished import Finished
from tulu_eval.runs.ledger import Sample
from tulu_eval.runs.manifest import LEDGER, MANIFEST, RESULT, read_results
from tulu_eval.runs.packed import there
from tulu_eval.runs.scoring import Marks, grade_sample, make_rows


def doubts(run: Finished, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Returns what in a run does not follow from the rest of it, one line each; empty if all of it does.

    Grades and rows are not looked at where the benchmark is not installed here or is of another version.

    Args:
        run: The run.
        samples: Its samples, as :meth:`Finished.samples` yields them; none of a run that was published without them.
    """
    found = [*_of_manifest(run.manifest), *_of_items(run.manifest, samples)]
    benchmark = gradable(run)
    if benchmark is not None and there(run.folder / LEDGER):
        found += [*_of_grades(benchmark, samples), *_of_rows(run, benchmark, samples)]
    return tuple(found)


def gradable(run: Finished) -> Benchmark | None:
    """Returns the benchmark whose grades a run has, or None where it is not installed or is of another version."""
    if run.benchmark not in catalog.names(catalog.BENCHMARKS):
        return None
    benchmark = catalog.benchmark(run.benchmark)
    return benchmark if run.regraded or benchmark.version == run.manifest["benchmark"]["version"] else None


def _of_manifest(manifest: dict[str, Any]) -> list[str]:
    protocol = dict(manifest["protocol"])
    own = protocol.pop("sha256", None)
    found = []
    if own != content_hash(protocol):
        found.append(f"{MANIFEST}: the protocol was changed after it was written (its hash differs)")
    served = manifest["backend"] == "openai"  # the address of a server is part of the hash, and not always in the manifest
    if not served and not manifest["settings"].get("adapter") and manifest.get("settings_sha256") != _settings_hash(manifest):
        found.append(
            f"{MANIFEST}: model, prompt, template or decoding was changed after it was written (settings_sha256 differs)"
        )
    return found


def _settings_hash(manifest: dict[str, Any]) -> str:
    """Returns what :attr:`tulu_eval.runs.plan.Plan.settings_sha256` was, from the manifest alone; not with an adapter."""
    model, benchmark, protocol = manifest["model"], manifest["benchmark"], manifest["protocol"]
    return content_hash(
        {
            "benchmark": benchmark["name"],
            "benchmark_version": benchmark["version"],
            "prompt": protocol["prompt_id"],
            "template": manifest["template"].get("sha256"),
            "data": "" if protocol.get("n") else benchmark.get("data_sha256"),
            "adapter": "",
            "quantization": manifest["settings"].get("quantization", ""),
            "model": [model["name"], model["revision"], model.get("weights_sha256"), model["tokenizer_sha256"]],
            "decoding": manifest["decoding"],
            "eos_ids": manifest.get("eos_ids"),
            "dtype": manifest["dtype"],
            "backend": manifest["backend"],
        }
    )


def _of_items(manifest: dict[str, Any], samples: Sequence[Sample]) -> list[str]:
    planned = set(manifest["planned"])
    strange = [sample.item for sample in samples if sample.item not in planned]
    return [f"{LEDGER}: {len(strange)} samples are of items that were not planned (first: {strange[0]})"] if strange else []


def _of_grades(benchmark: Benchmark, samples: Sequence[Sample]) -> list[str]:
    wrong = [sample.item for sample in samples if grade_sample(benchmark, sample) != sample]
    if not wrong:
        return []
    return [f"{LEDGER}: {len(wrong)} of {len(samples)} grades are not what {benchmark.name} gives (first: {wrong[0]})"]


def _of_rows(run: Finished, benchmark: Benchmark, samples: Sequence[Sample]) -> list[str]:
    marks = {sample.item: Marks(sample.status, tuple(grade.score for grade in sample.grades)) for sample in samples}
    planned = set(run.manifest["planned"])
    expected = make_rows(run.manifest, benchmark, {item: mark for item, mark in marks.items() if item in planned})
    same = list(map(to_json, read_results(run.folder))) == list(map(to_json, expected))
    return [] if same else [f"{RESULT}: its rows are not what {LEDGER} gives"]
