"""Generates the samples of a plan that its ledger lacks, in one session of the engine."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from tulu_eval.backends.base import Traffic, Usage
from tulu_eval.errors import EngineError
from tulu_eval.records import Completion
from tulu_eval.runs.completions import completions
from tulu_eval.runs.engine import Engine
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.requests import Planned
from tulu_eval.runs.run_plan import Plan
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest_schema import Manifest, Plain, Session, StoredTraffic, StoredUsage
from tulu_eval.store.sample_line import Sample

T = TypeVar("T", Usage, Traffic)
R = TypeVar("R", StoredUsage, StoredTraffic)


class InterruptedRunError(EngineError):
    """Somebody pressed Ctrl-C; the ledger keeps the finished samples."""

    exit_code = 130


def generate(
    plan: Plan,
    pending: list[Planned],
    ledger: Ledger,
    manifest: Manifest,
    folder: Path,
    progress: Progress,
    engine: Engine,
) -> Manifest:
    """Starts the engine, generates the pending samples, and returns the manifest with the new session.

    It writes this manifest, with the session's times and counts, even if it fails or somebody interrupts it.

    Raises:
        InterruptedRunError: If somebody presses Ctrl-C.
        EngineError: If the engine fails.
    """
    session = Session(started=files.now())
    made = _Made()
    said: Mapping[str, Plain] = manifest.engine
    try:
        backend = engine.start(plan)
        said = backend.describe()
        session = replace(session, load_seconds=round(engine.load_seconds, 3))
        before = dataclasses.replace(backend.usage() or Usage())
        sent = dataclasses.replace(backend.traffic() or Traffic())
        began = time.perf_counter()
        progress.generating()
        requests = {one.request.key: one.request for one in pending}  # two items with the same prompt share a completion
        _keep(plan, pending, ledger, made, completions(backend, list(requests.values()), plan.decoding), progress)
        session = replace(
            session,
            generate_seconds=round(time.perf_counter() - began, 3),
            usage=_spent(before, backend.usage(), StoredUsage),
            traffic=_spent(sent, backend.traffic(), StoredTraffic) or UNSET,
            ended="complete",
        )
        said = backend.describe()
    except KeyboardInterrupt as error:
        session = replace(session, ended="interrupted")
        kept = sum(ledger.has(one.request.key, one.item.id) for one in plan.planned)
        raise InterruptedRunError(
            f"interrupted: {kept} of {len(plan.planned)} samples are kept in {folder}; the same command goes on from there"
        ) from error
    finally:
        progress.end()
        session = replace(session, ended=session.ended or "failed", finished=files.now(), **dataclasses.asdict(made))
        manifest = replace(manifest, sessions=(*manifest.sessions, session), engine=said, status="incomplete")
        files.write_manifest(folder, manifest)
    return manifest


@dataclasses.dataclass(slots=True)
class _Made:
    """Number of samples that a session has added, and of their tokens; items with the same prompt count its tokens once."""

    samples: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0


def _spent(before: T, after: T | None, kind: type[R]) -> R | None:
    """Returns the difference of an engine's counters between two times; ``None`` if the engine has no counters."""
    if after is None:
        return None
    names = [field.name for field in dataclasses.fields(after)]
    return kind(**{name: round(getattr(after, name) - getattr(before, name), 3) for name in names})


def _keep(
    plan: Plan,
    pending: list[Planned],
    ledger: Ledger,
    made: _Made,
    found: Iterable[Completion],
    progress: Progress,
) -> None:
    grader = Grader.of(plan.benchmark, plan.setup)
    waiting: dict[str, list[Planned]] = defaultdict(list)
    for one in pending:
        waiting[one.request.key].append(one)
    for completion in found:
        if completion.key not in waiting:
            raise EngineError(f"the backend {plan.backend.name} answered a request twice, or one that it was not asked")
        owners = waiting.pop(completion.key)
        made.prompt_tokens += len(owners[0].request.token_ids)
        made.new_tokens += 0 if completion.likelihoods else len(completion.token_ids)
        for one in owners:
            item = one.item
            answered = Sample(item.id, item.target, one.prompt_sha256, completion, "ok", (), item.group)
            sample = grader.grade(answered)
            ledger.append(sample)
            made.samples += 1
            progress.sample(sample)
    if waiting:
        raise EngineError(
            f"the backend {plan.backend.name} ended without answering {len(waiting)} requests; the same command goes on"
        )
