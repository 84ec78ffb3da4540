"""Identifies the baseline of a comparison by its outputs, because a name in a file is a label and proves nothing.

``alpaca_baselines.txt`` has one line per instruction, 805 in the data set's order. A line gives, for each known baseline, the
first 16 hex digits of the hash of its output, and the output's length in characters. It has none of the text (CC-BY-NC-4.0).
One of 53 public files of AlpacaEval 1 shows why names are not enough: it names text_davinci_003 but holds a re-sample of that
model, with 20 of 805 outputs equal (tatsu-lab/alpaca_eval @ cd543a14, ``results/Mistral-7B+RAHF-DUAL+LoRA``).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

from tulu_eval.records import content_hash

BASELINE = "gpt4_1106_preview"
"""Generator of AlpacaEval 2's reference outputs."""

DAVINCI = "text_davinci_003"
"""Generator of AlpacaEval 1's reference outputs."""

NAMES = (BASELINE, DAVINCI)
"""Known baselines in the order of the file's columns: AlpacaEval 2's, from ``alpaca_eval_gpt4_baseline.json`` (its sha256 is
``alpaca_set.BASELINE_SHA256``), then AlpacaEval 1's, from ``alpaca_eval.json`` of the same data set."""

UNKNOWN = "unknown"

BASELINES_FILE = Path(__file__).with_name("alpaca_baselines.txt")


@dataclasses.dataclass(frozen=True, slots=True)
class Baseline:
    """The baseline of a comparison.

    Attributes:
        name: A known baseline's name, else ``unknown``.
        sha256: Hash of the places and hashes of all its available outputs.
    """

    name: str
    sha256: str

    @property
    def label(self) -> str:
        """Name and first 8 hex digits of the hash, as in a signature."""
        return f"{self.name}@{self.sha256[:8]}"

    @property
    def published(self) -> bool:
        """Whether this is AlpacaEval 2's baseline."""
        return self == known()[0].baseline


@dataclasses.dataclass(frozen=True, slots=True)
class KnownBaseline:
    """Hashes and lengths of a known baseline's outputs.

    Attributes:
        outputs: :func:`output_hash` of each of the 805 outputs, in the data set's order.
        characters: Lengths of these outputs in characters.
    """

    baseline: Baseline
    outputs: tuple[str, ...]
    characters: tuple[int, ...]


def output_hash(text: str) -> str:
    """Returns the first 16 hex digits of the hash of an output."""
    return content_hash(text)[:16]


@functools.cache
def known() -> tuple[KnownBaseline, ...]:
    """Returns the known baselines, AlpacaEval 2's first."""
    lines = [line.split() for line in BASELINES_FILE.read_text(encoding="ascii").splitlines()]
    found = []
    for column, name in enumerate(NAMES):
        outputs = tuple(line[2 * column] for line in lines)
        lengths = tuple(int(line[2 * column + 1]) for line in lines)
        found.append(KnownBaseline(Baseline(name, _set_hash(dict(enumerate(outputs)))), outputs, lengths))
    return tuple(found)


def find_known(name: str) -> KnownBaseline:
    """Returns the known baseline of a name, one of :data:`NAMES`."""
    return known()[NAMES.index(name)]


def matches(one: KnownBaseline, outputs: Mapping[int, str]) -> list[int]:
    """Returns, in ascending order, the places whose :func:`output_hash` equals the baseline's."""
    return [place for place in sorted(outputs) if one.outputs[place] == outputs[place]]


def identify(outputs: Mapping[int, str]) -> Baseline:
    """Returns the baseline to which outputs belong: a known one if every output equals its own; a subset of the 805 is enough.

    ``outputs`` has :func:`output_hash` of each output, by place.
    """
    for one in known():
        if len(matches(one, outputs)) == len(outputs):
            return one.baseline
    return Baseline(UNKNOWN, _set_hash(outputs))


def _set_hash(outputs: Mapping[int, str]) -> str:
    return hashlib.sha256("\n".join(f"{place} {outputs[place]}" for place in sorted(outputs)).encode("ascii")).hexdigest()
