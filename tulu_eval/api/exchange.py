"""Runs in and out: another harness's file as a run, a run as one file that a reviewer can check alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, folder_of
from tulu_eval.api.words import spoken
from tulu_eval.exchange import bundle as bundles
from tulu_eval.exchange.import_file import Imported, import_file
from tulu_eval.sandbox import Execution


@spoken
def import_run(
    file: AnyPath,
    model: str,
    *,
    benchmark: str = "gsm8k",
    data: AnyPath | None = None,
    output: AnyPath = "results",
    registry: AnyPath | None = None,
    unsafe_execution: bool = False,
    sandbox_image: str = "",
) -> Imported:
    """Makes a run folder of the answers in a file that another harness wrote, and grades them.

    >>> done = tulu_eval.import_run("predictions.jsonl", "my-checkpoint", data="test.jsonl")
    >>> tulu_eval.load_run(done.folder)

    Args:
        file: lm-eval's samples_TASK_DATE.jsonl, open-instruct's predictions.jsonl, or rows with ``prompt`` and ``response``.
        model: Name of the model that wrote the answers; add ``@REVISION`` if the commit is known.
        benchmark: Name of the benchmark whose items were answered.
        data: The benchmark's data file instead of its own source.
        output: Folder under which runs are kept.
        registry: TOML file with models of your own.
        unsafe_execution: Run programs that the model wrote without a sandbox, with your rights.
        sandbox_image: Run them in containers of this image, by podman or docker, in place of bubblewrap's sandbox.

    Raises:
        UserError: If no known harness wrote the file, or nothing in it is of this benchmark.
    """
    source = None if data is None else Path(data)
    execution = Execution(unsafe=unsafe_execution, image=sandbox_image)
    return import_file(Path(file), model, benchmark, source, Path(output), load_suite(registry), execution)


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """A bundle that was written.

    Attributes:
        id: Hash over all its parts: publish it, and nobody can pass off another bundle as yours.
        size: Bytes.
        unhashed: Why a forgery of the run would not be seen, one line; empty for a run with all hashes.
    """

    file: Path
    id: str
    size: int
    unhashed: str


@spoken
def bundle(run: Run | AnyPath, *, output: AnyPath | None = None) -> Written:
    """Puts a run into one archive with all that is needed to compute its numbers again.

    >>> tulu_eval.bundle("results/my-checkpoint/gsm8k/card-200-1a2b3c4d", output="proof.zip").id

    Args:
        run: The run, or its folder.
        output: The file; MODEL-BENCHMARK-RUN.zip in the working folder unless given.

    Raises:
        UserError: If the run is unfinished or was changed by hand, its texts may not be published, or another file is there.
    """
    made = bundles.make(folder_of(run))
    path = Path(made.name) if output is None else Path(output)
    bundles.write(made, path)
    return Written(path, made.id, len(made.data), made.unhashed)


@spoken
def verify_bundle(file: AnyPath) -> bundles.Checked:
    """Checks every byte of a bundle, grades its completions again and compares the numbers; no network, GPU or model.

    >>> found = tulu_eval.verify_bundle("proof.zip")
    >>> found.problems  # what is wrong, one line each
    ()

    Args:
        file: The bundle.

    Raises:
        DataError: If it cannot be read as a bundle of this version.
    """
    return bundles.verify(Path(file))
