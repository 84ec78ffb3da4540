"""An engine that keeps its answers between runs, so that a bench of many cases generates each answer once.

Every case of ``explain.py`` starts from an empty results folder, as a user does, and asks for its items anew. The engine counts
what it is asked, and computes only what no case has asked before. A batch, and with it an answer, may thus be that of an
earlier case; the same holds for any ledger.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

from tulu_eval.backends.base import EngineSettings, ReloadError
from tulu_eval.backends.hf import backend
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.benchmarks.hypothesis import Hypothesis
from tulu_eval.findings.explaining import base_and_goal, trials
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Request, content_hash
from tulu_eval.registry import Suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import Plan
from tulu_eval.store.manifest_schema import Manifest


class RememberingBackend(TransformersBackend):
    """The transformers backend over a file of answers; it loads the model for the first answer that is not there.

    Attributes:
        file: The answers.
        asked: Number of requests since the last reset.
    """

    file: ClassVar[Path]
    asked: ClassVar[int] = 0

    def __init__(self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> None:
        self._order = (model, settings, eos_ids, max_length)
        self._engine: TransformersBackend | None = None
        self._answers = sqlite3.connect(self.file)
        self._answers.execute("PRAGMA synchronous = OFF")  # what a crash loses is generated again
        self._answers.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)")
        # What the engine itself is built from and may change an answer; rows that are longer end earlier.
        self._about = [model.weights_sha256, model.tokenizer_sha256, settings.dtype, settings.batch_size]
        self._about += [settings.prefix_caching, eos_ids]

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Returns the engine, which has loaded nothing yet."""
        return cls(model, settings, eos_ids, max_length)

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Takes nothing, since the engine below may not be loaded: raises ReloadError, and the caller makes a new one."""
        raise ReloadError

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields the answers that the file has, then those that it lacks, and keeps these."""
        type(self).asked += len(requests)
        lacking: dict[str, tuple[Request, str]] = {}
        for request in requests:
            drawn = "" if decoding.greedy else request.key  # which decides what is drawn
            place = content_hash([self._about, request.token_ids, dataclasses.asdict(decoding), drawn])
            row = self._answers.execute("SELECT answer FROM answers WHERE key = ?", (place,)).fetchone()
            if row is None:
                lacking[request.key] = (request, place)
            else:
                text, ids, reason, seconds = json.loads(row[0])
                yield Completion(request.key, text, tuple(ids), reason, seconds)
        if lacking:
            self._engine = self._engine or TransformersBackend.load(*self._order)
            for made in self._engine.generate([request for request, _ in lacking.values()], decoding):
                answer = json.dumps([made.text, made.token_ids, made.finish_reason, made.seconds])
                with self._answers:
                    self._answers.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (lacking[made.key][1], answer))
                yield made

    def describe(self) -> dict[str, str]:
        """Returns the record of the engine below, which is loaded for it if need be."""
        self._engine = self._engine or TransformersBackend.load(*self._order)
        return self._engine.describe()

    def usage(self) -> None:
        """Returns nothing: not every answer was computed."""

    def close(self) -> None:
        """Closes the file and the engine."""
        self._answers.close()
        if self._engine is not None:
            self._engine.close()


def remember(file: Path) -> None:
    """Lets ``--backend transformers`` in this process answer from a file where it can, and `explain` make each plan once."""
    RememberingBackend.file = file
    backend.TransformersBackend = RememberingBackend
    trials.vary = functools.partial(_vary, {}, trials.vary)
    base_and_goal.same_plan = functools.partial(_same_plan, {}, base_and_goal.same_plan)


def _same_plan(
    made: dict[str, Plan], make: Callable[[Order, Manifest, Suite], Plan], order: Order, manifest: Manifest, suite: Suite
) -> Plan:
    """Returns the plan of a run that was made again, in the given folder of results."""
    place = manifest.settings_sha256
    if place not in made:
        made[place] = make(order, manifest, suite)
    return dataclasses.replace(made[place], order=dataclasses.replace(made[place].order, output=order.output))


def _vary(
    made: dict[str, Plan],
    make: Callable[[Plan, Sequence[Hypothesis], Suite], Plan],
    plan: Plan,
    hypotheses: Sequence[Hypothesis],
    suite: Suite,
) -> Plan:
    """Returns a plan with the same requests and the folder of results of the given one."""
    place = content_hash([plan.settings_sha256, [one.name for one in hypotheses]])
    if place not in made:
        made[place] = make(plan, hypotheses, suite)
    found = made[place]
    return dataclasses.replace(found, order=dataclasses.replace(found.order, output=plan.order.output))
