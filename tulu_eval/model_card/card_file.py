"""Reads a model card: its metadata, links and tables, each with its place in the text.

The metadata (front matter) is the YAML between the first two lines ``---``. The hub reads it only at the start of the file.
This module finds it anywhere, so that a card saved with the page around it can be checked too.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.registry.card_tables import Link

LIMIT = 1_000_000
"""Largest size of a card in bytes; the largest card of the suite has 11 000."""

_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>[^\[\]\n]*)\]\((?P<target>[^()\[\]\s]*)\)")


@dataclasses.dataclass(frozen=True, slots=True)
class CardSpan:
    """A piece of the card's text: the offsets of its first character and of the one after its last, and the text."""

    start: int
    end: int
    text: str

    def meets(self, other: CardSpan) -> bool:
        """Whether both spans share a character."""
        return self.start < other.end and other.start < self.end


@dataclasses.dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a Markdown table: the titles above it and its stripped cells, at most one per title."""

    header: tuple[str, ...]
    cells: tuple[CardSpan, ...]


@dataclasses.dataclass(frozen=True)
class CardFile:
    """A model card.

    Attributes:
        text: The whole text, with one newline character per line end.
        metadata: The parsed front matter.
        front: Place of the front matter without its fences.
        body: Offset of the text after the front matter.
    """

    text: str
    metadata: dict[str, Any]
    front: CardSpan
    body: int

    def line(self, place: int) -> int:
        """Returns the one-based line of a character, given by its offset."""
        return bisect.bisect_left(self._ends, place) + 1

    @functools.cached_property
    def _ends(self) -> list[int]:
        return [found.start() for found in re.finditer("\n", self.text)]

    def key(self, name: str) -> CardSpan:
        """Returns the line of a key of the front matter; if there is no such key, the line before the front matter."""
        found = re.compile(rf"^{re.escape(name)}:.*$", re.MULTILINE).search(self.text, self.front.start, self.front.end)
        start = self.text.rfind("\n", 0, self.front.start - 1) + 1
        return CardSpan(*found.span(), found.group()) if found else CardSpan(start, self.front.start, "---")

    def links(self, within: CardSpan | None = None) -> Iterator[tuple[CardSpan, Link]]:
        """Yields the Markdown links in a span; ``None`` for all text after the front matter."""
        for found in _LINK.finditer(self.text, *((within.start, within.end) if within else (self.body,))):
            yield CardSpan(*found.span(), found.group()), Link(found["text"], found["target"], "")

    def lines(self) -> Iterator[CardSpan]:
        """Yields every non-empty line after the front matter, without its line end."""
        for found in re.compile(r"[^\n]+").finditer(self.text, self.body):
            yield CardSpan(*found.span(), found.group())

    def rows(self) -> Iterator[TableRow]:
        """Yields every row of every Markdown table."""
        header: tuple[str, ...] = ()
        before: CardSpan | None = None
        for line in self.lines():
            if before is not None and line.start != before.end + 1:
                header, before = (), None  # an empty line ends a table
            if before is not None and "|" in before.text and "-" in line.text and set(line.text.strip()) <= set("|:- "):
                header = tuple(cell.text for cell in _cells(before))
            elif header and "|" in line.text:
                yield TableRow(header, tuple(_cells(line)))
            elif "|" not in line.text:
                header = ()
            before = line


def read_card(path: Path) -> CardFile:
    """Returns a model card.

    Raises:
        DataError: If the file cannot be read, is not text, or has no front matter that is a YAML mapping.
    """
    text = files.read_text(path, LIMIT).replace("\r\n", "\n")
    fences = [found for _, found in zip(range(2), _FENCE.finditer(text), strict=False)]
    if len(fences) < 2:
        raise DataError(path, "has no front matter: a model card begins with YAML between two lines '---'")
    start = min(fences[0].end() + 1, fences[1].start())
    front = CardSpan(start, fences[1].start(), text[start : fences[1].start()])
    metadata = _yaml(path, front, text.count("\n", 0, start) + 1)
    return CardFile(text, metadata, front, min(fences[1].end() + 1, len(text)))


def _yaml(path: Path, front: CardSpan, first: int) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.safe_load(front.text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise DataError(
            path, f"its front matter is not YAML: {error.problem or error.context}", first + mark.line if mark else first
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(path, f"its front matter is not YAML that can be read: {error}", first) from error
    if not isinstance(data, dict):
        raise DataError(path, "its front matter is not a mapping of names to values", first)
    return data


def _cells(line: CardSpan) -> Iterator[CardSpan]:
    """Yields the cells of a table's line; the bars before the first and after the last cell are optional."""
    text = line.text.rstrip()
    inner = len(text) - len(text.lstrip())
    place = inner + 1 if text[inner : inner + 1] == "|" else inner
    for piece in text[place:].removesuffix("|").split("|"):
        stripped = piece.strip()
        start = line.start + place + (piece.index(stripped) if stripped else 0)
        yield CardSpan(start, start + len(stripped), stripped)
        place += len(piece) + 1
