"""The page's data about training runs: every number of every step, sample rollouts, the probe, and the settings.

A training run's folder has ``manifest.json`` and ``metrics.jsonl``, and if it was watched, ``samples.jsonl`` and
``probe.jsonl``; :mod:`tulu_eval.training.watching.metrics` documents them. A run that is still training is shown up to its last
step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.store.manifest import MANIFEST

METRICS, SAMPLES, PROBE = "metrics.jsonl", "samples.jsonl", "probe.jsonl"

MOST_STEPS = 2000
"""Largest number of steps that the page shows; of more, it shows every second, third and so on, and the last."""

MOST_LOOKS = 40
"""Largest number of rollout samples that the page shows; of more, it shows evenly spaced ones."""

MOST_BYTES = 1 << 28
"""Largest size of a file in bytes; 100,000 steps have 0.1 GB of numbers."""

_PROBED = ("value", "low", "high", "gain", "gain_low", "gain_high", "p_value")


def find(root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the training runs under a folder, and the problems of unusable ones, one line each."""
    found = []
    places, problems = files.find(root, (METRICS,))
    for folder in (path.parent for path in places[METRICS]):
        name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
        try:
            found.append({"name": name, **read(folder)})
        except DataError as error:
            problems.append(str(error).replace(f"{root}/", "").replace(str(folder), name))
    return found, problems


def read(folder: Path) -> dict[str, Any]:
    """Returns a training run as plain data.

    Raises:
        DataError: If one of its files does not have the form that a training run writes.
    """
    steps = _lines(folder / METRICS)
    keys = list(dict.fromkeys(key for line in steps for key in line if key not in ("step", "time")))
    shown = _some(steps, MOST_STEPS)
    looks = _lines(folder / SAMPLES)
    watched = _some(looks, MOST_LOOKS)
    try:
        return {
            **_about(folder),
            "done": int(steps[-1]["step"]) + 1 if steps else 0,
            "steps": [int(line["step"]) + 1 for line in shown],
            "curves": {key: [_number(line.get(key)) for line in shown] for key in keys},
            "looks": len(looks),
            "rollouts": [[int(line["step"]) + 1, [_rollout(one) for one in line["samples"]]] for line in watched],
            "probe": [_probed(line) for line in _lines(folder / PROBE)],
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(folder, f"is not a training run of this version ({type(error).__name__}: {error})") from error


def _about(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = files.read_json(path, MOST_BYTES)
        return {
            "stage": str(manifest["stage"]),
            "recipe": f"{manifest['recipe']['name']} ({manifest['recipe']['sha256'][:8]})",
            "about": str(manifest["recipe"].get("about", "")),
            "model": _private(manifest["model"]),
            "reward_model": _private(manifest.get("reward_model") or ""),
            "rows": int(manifest["rows_kept"]),
            "dropped": {str(reason): int(n) for reason, n in manifest["rows_dropped"].items()},
            "planned": int(manifest["steps"]),
            "ranks": int(manifest["ranks"]),
            "version": str(manifest["version"]),
            "commit": str(manifest.get("commit", "")),
            "machine": str(manifest.get("machine", {}).get("cpu", "")),
            "settings": [[key, _private(one["value"]), str(one["source"])] for key, one in manifest["settings"].items()],
        }
    except (DataError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(path, "is not the manifest of a training run of this version") from error


def _private(value: Any) -> str:
    """Returns a setting as text; of a path only the last part, because a page must not reveal the machine's folders."""
    text = str(value)
    return Path(text).name if text.startswith(("/", "~")) else text


def _lines(path: Path) -> list[dict[str, Any]]:
    """Returns the lines of a file without a last one that was cut off; empty if there is no file.

    Raises:
        DataError: If any other line is not an object with a step.
    """
    if not path.exists():
        return []
    try:
        lines = files.read_text(path, MOST_BYTES).splitlines(keepends=True)
    except DataError as error:
        raise DataError(path, "cannot be read as text") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            data = files.parse_json(line, files.Place(path, number), nan=True, halves=True)
            int(data["step"])
        except (DataError, KeyError, TypeError, ValueError, OverflowError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(path, "is not a line about a step", number) from error
        found.append(data)
    return found


def _some(lines: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Returns at most ``most`` evenly spaced lines, and the last one."""
    if len(lines) <= most:
        return lines
    every = math.ceil(len(lines) / most)
    return [*lines[:-1:every], lines[-1]]


def _number(value: Any) -> float | None:
    """Returns a number rounded to six digits; ``None`` if it is not finite, or missing."""
    if value is None:
        return None
    found = float(value)
    return float(f"{found:.6g}") if math.isfinite(found) else None


def _rollout(one: Mapping[str, Any]) -> list[Any]:
    numbers = _number(one["score"]), _number(one["kl"]), int(one["tokens"])
    return [str(one["prompt"]), str(one["answer"]), *numbers, bool(one["ended"])]


def _probed(line: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {key: _number(line[key]) for key in _PROBED}
    needed = line.get("items_needed")
    return {
        "step": int(line["step"]),
        "benchmark": str(line["benchmark"]),
        "n": int(line["n"]),
        **numbers,
        "needed": None if needed is None else int(needed),
    }
