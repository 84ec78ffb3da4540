"""Tests whether a run gives the same answers again."""

from __future__ import annotations

from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, folder_of
from tulu_eval.api.silence import silence
from tulu_eval.api.words import spoken
from tulu_eval.findings.audit import Audit
from tulu_eval.findings.audit import audit as audit_run
from tulu_eval.runs.progress import Progress
from tulu_eval.sandbox import Execution


@spoken
def audit(
    run: Run | AnyPath,
    limit: int = 32,
    *,
    model: AnyPath | None = None,
    data: AnyPath | None = None,
    unsafe_execution: bool = False,
    sandbox_image: str = "",
    progress: bool | Progress = True,
) -> Audit:
    """Repeats items of a run in other batches, counts what changes, and writes ``audit.json`` into the run's folder.

    >>> found = tulu_eval.audit("results/my-checkpoint/gsm8k/card-200-1a2b3c4d", limit=16, model="./my-checkpoint")
    >>> found.flips, found.trials, found.widened

    Args:
        run: The run, or its folder.
        limit: How many items to repeat, 1 or more, drawn with a fixed seed.
        model: Folder or file of the model, for a run of a local one.
        data: Data file of the run; that which the run read, if it is still there, unless given.
        unsafe_execution: Run programs that the model wrote without a sandbox, with your rights.
        sandbox_image: Run them in containers of this image, by podman or docker, in place of bubblewrap's sandbox.
        progress: Draw a bar; or a :class:`Progress` that shows it.

    Raises:
        UserError: If the run is unfinished, or model, data or settings here differ from the run's.
    """
    shown = progress if isinstance(progress, Progress) else Progress(quiet=not progress, terminal=True)
    where = None if model is None else str(model)
    file = None if data is None else Path(data)
    with silence(progress is False):
        execution = Execution(unsafe=unsafe_execution, image=sandbox_image)
        return audit_run(folder_of(run), load_suite(), shown, items=limit, model=where, data=file, execution=execution)
