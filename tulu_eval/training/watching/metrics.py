"""Writes the files about a run in progress; after a kill they continue without a gap or a duplicate line.

``metrics.jsonl`` has one JSON object per step. All stages write:

* ``step`` from 0, ``time`` (Unix), ``seconds`` since the step began, ``seconds_*`` of each part of it on the first rank,
  ``tokens`` and ``tokens_per_second`` (PPO: response tokens; else all tokens that went through the trained model), ``mfu``,
* ``loss``, ``learning_rate``, ``skipped`` (updates so far that were not finite), and a gradient norm before clipping for each
  trained model: ``policy_gradient_norm``, ``value_model_gradient_norm``, ``reward_model_gradient_norm``.

``rm`` and ``dpo`` add ``accuracy`` and ``margin``. ``ppo`` adds, as means over the step's responses or their tokens:
``score`` (the weighted rewards, after the rule for missing end tokens), ``score_deviation``, ``reward_NAME`` (each reward's own
score, without weight and rule), ``kl`` (nats per response), ``kl_per_token``, ``eos_rate``, ``length``, ``entropy`` (nats per
token), ``policy_loss``, ``value_loss``, ``clip_fraction``, ``approximate_kl``, ``explained_variance``. With rollouts on vLLM
``weight_bytes`` of the policy's weights moved to the first rank's engine, in ``seconds_weights``, with the check that they
arrived. A number that is not finite is ``null``.

``samples.jsonl`` (ppo): ``step`` and ``samples``, a list of ``prompt``, ``answer``, ``score``, ``kl``, ``ended``, ``tokens``.

``probe.jsonl`` (a run with ``--probe``): ``step`` (number of finished steps), ``benchmark``, ``n``, ``right`` (0 or 1 per
item), ``value`` with ``low`` and ``high`` (percent, 95 %), ``gain`` over the first line with ``gain_low``, ``gain_high``,
``p_value``, and ``items_needed`` to show a gain of this size (``null`` if there is no gain or loss).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError, PreflightError

METRICS, SAMPLES, PROBE = "metrics.jsonl", "samples.jsonl", "probe.jsonl"


def append(path: Path, step: int, data: Mapping[str, Any]) -> None:
    """Appends a step's line to a file; removes lines that a killed run wrote about this step or later ones."""
    if step == 0 or not path.exists():
        path.write_text("")
    elif _last(path) >= step:
        lines = [line for line in files.read_text(path).splitlines() if _step_of(line) < step]
        files.write_text(path, "".join(line + "\n" for line in lines))
    with path.open("a") as file:
        file.write(json.dumps({"step": step, **data}) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Returns a file's lines without a last one that is cut off; none if there is no file."""
    if not path.exists():
        return []
    return [line for line in map(_parsed, files.read_text(path).splitlines()) if line is not None]


CUT = 1 << 62
"""Step number of a line that is cut off: larger than any other."""

TAIL = 1 << 16
"""Bytes at the end of a file to read first for its last line, which may be longer."""


def _last(path: Path) -> int:
    """Returns the step of a file's last line, -1 for an empty file; reads only the end, because each step of a run calls it."""
    with files.open_regular(path) as file:
        size, tail = file.seek(0, os.SEEK_END), TAIL
        while True:
            file.seek(max(0, size - tail))
            lines = file.read(tail).splitlines()
            if tail >= size or len(lines) > 1:
                return _step_of(lines[-1].decode("utf-8", "replace")) if lines else -1
            tail *= 4


def _step_of(line: str) -> int:
    found = _parsed(line)
    return CUT if found is None else int(found["step"])


def _parsed(line: str) -> dict[str, Any] | None:
    """Returns a line about a step; ``None`` if it is cut off."""
    try:
        found = files.parse_json(line, files.Place("a line"), nan=True, halves=True)
    except DataError:
        return None
    return found if isinstance(found, dict) and type(found.get("step")) is int else None


class Metrics:
    """Writes each step's numbers, as curves for TensorBoard too if asked.

    Raises:
        PreflightError: If the package tensorboard is missing.
    """

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        self._folder = folder
        self._curves: Any = None
        self._tensorboard = tensorboard
        if tensorboard:
            try:
                import torch.utils.tensorboard  # noqa: F401 - whether it is there
            except ImportError as error:
                raise PreflightError("curves need the package tensorboard: pip install 'tulu-eval[tensorboard]'") from error

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes a step's numbers."""
        cleaned = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
        append(self._folder / METRICS, step, {"time": round(time.time(), 3), **cleaned})
        if not self._tensorboard:
            return
        if self._curves is None:
            from torch.utils.tensorboard import SummaryWriter

            self._curves = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)
        for key, value in numbers.items():
            self._curves.add_scalar(key, value, step)
        self._curves.flush()
