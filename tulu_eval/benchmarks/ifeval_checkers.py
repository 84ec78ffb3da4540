r"""Checks which of IFEval's instructions a response follows, with lm-eval's checkers, in bounded time and without chance.

The checkers are those of the package ``lm-eval`` (``lm_eval/tasks/ifeval``, 0.4.13), which are Google's and, but for comments,
open-instruct's (``eval/ifeval`` @ 3c335be7). This module has its own checkers for five kinds, with equal results on every text:

* the regular expressions of bullets, placeholders, postscripts and titles take quadratic time on a long run of spaces or
  brackets, and models write such runs;
* ``keywords:letter_frequency`` replaces a character that is no letter by a random letter.

The originals draw at random in two places: that letter, and ``langdetect`` unless it has a seed. nltk gives up a match after 5
seconds, which its tokenizers need for some 400,000 characters. The caller handles the error of a checker that raises.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import random
import re
import string
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tulu_eval.errors import PreflightError
from tulu_eval.files import Record

LANGDETECT_SEED = 0

PACKAGES = ("langdetect", "nltk", "immutabledict", "lm_eval")
INSTALL = "pip install 'tulu-eval[ifeval]'"
PUNKT = "tokenizers/punkt_tab/english"
"""Folder in nltk's data."""


class Instruction(Record, frozen=True):
    """One instruction of an item.

    Attributes:
        id: Its kind, such as ``keywords:letter_frequency``.
        kwargs: Parameters of the kind.
        letters: Letters that open-instruct's grader draws in place of a character that is not a letter, first in its strict
            pass, then in its loose pass; empty if it draws none.
    """

    id: str
    kwargs: dict[str, str | int | list[str]]
    letters: tuple[str, ...] = ()


def replaced_letter(instruction: Instruction) -> bool:
    """Whether open-instruct's grader replaces the instruction's letter (``instructions.py`` l.1343 @ 3c335be7)."""
    letter = instruction.kwargs.get("letter")
    return isinstance(letter, str) and not (len(letter) == 1 and "a" <= letter.lower() <= "z")


def draw_letter(draws: random.Random) -> str:
    """Returns the next letter that open-instruct's grader draws."""
    return draws.choice(string.ascii_letters).lower()


def checker(instruction: Instruction) -> Callable[[str], bool]:
    """Returns a function that tells whether a response follows an instruction; the response must not be blank.

    Raises:
        ValueError: If the kind is unknown, or its parameters are not all given and in range.
    """
    kind = load().get(instruction.id)
    if kind is None:
        raise ValueError(f"no instruction {instruction.id!r} is known")
    built, kwargs = kind(instruction.id), dict(instruction.kwargs)
    if replaced_letter(instruction):
        kwargs["letter"] = "a"
    before = random.getstate()
    try:
        built.build_description(**kwargs)
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{instruction.id} does not take the parameters {instruction.kwargs}: {error}") from error
    if random.getstate() != before:
        random.setstate(before)
        raise ValueError(f"{instruction.id} lacks a parameter, or one is out of range, in {instruction.kwargs}")
    if instruction.id in _OWN:
        return functools.partial(_OWN[instruction.id], **instruction.kwargs)
    check: Callable[[str], bool] = built.check_following
    return check


def check() -> None:
    """Raises PreflightError if a package or nltk's data is missing, and imports none of it where the data lie in a package.

    The import takes 3.5 s of processor time: lm-eval's has datasets in it, nltk's scikit-learn and scipy.
    """
    for package in PACKAGES:
        if sys.modules.get(package, package) is None or importlib.util.find_spec(package) is None:
            raise PreflightError(f"IFEval's checkers need {package}: {INSTALL}")
    if not any((folder / PUNKT).is_dir() for folder in _carried()):
        load()


@functools.cache
def load() -> Mapping[str, Any]:
    """Returns lm-eval's checkers by kind, langdetect seeded; raises PreflightError if a package or nltk's data is missing."""
    try:
        import langdetect
        import nltk
    except ImportError as error:
        raise PreflightError(f"IFEval's checkers need {error.name}: {INSTALL}") from error
    _find_punkt(nltk.data)
    try:
        from lm_eval.tasks.ifeval import instructions_registry
    except ImportError as error:
        raise PreflightError(f"IFEval's checkers need {error.name}: {INSTALL}") from error
    langdetect.DetectorFactory.seed = LANGDETECT_SEED
    # Each text in which no language is found would be logged as an error; it counts as followed.
    logging.getLogger("lm_eval.tasks.ifeval.instructions").setLevel(logging.CRITICAL)
    kinds: Mapping[str, Any] = instructions_registry.INSTRUCTION_DICT
    return kinds


def _find_punkt(data: Any) -> None:
    """Raises PreflightError if nltk finds punkt_tab neither in its own folders nor in the package llama-index-core.

    Without it, lm-eval would try to download it on import.
    """
    data.path += [str(folder) for folder in _carried() if str(folder) not in data.path]
    try:
        data.find(f"{PUNKT}/")
    except LookupError as error:
        raise PreflightError(
            "IFEval's checkers need nltk's punkt_tab: 'python -m nltk.downloader punkt_tab', or, without its server, "
            "pip install --no-deps llama-index-core, which carries it; NLTK_DATA names another folder"
        ) from error


def _carried() -> list[Path]:
    """Returns the folders of nltk's data in the package llama-index-core."""
    carrier = importlib.util.find_spec("llama_index")
    folders = (carrier.submodule_search_locations or ()) if carrier else ()
    return [Path(folder) / "core" / "_static" / "nltk_cache" for folder in folders]


def _letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    found = text.lower().count(letter.lower())
    return found < let_frequency if let_relation == "less than" else found >= let_frequency


def _placeholders(text: str, *, num_placeholders: int) -> bool:
    r"""Whether a text has at least ``num_placeholders`` matches of ``\[.*?\]``."""
    return sum(map(_brackets, text.split("\n"))) >= num_placeholders


def _brackets(line: str) -> int:
    count = place = 0
    while (start := line.find("[", place)) >= 0 and (end := line.find("]", start)) >= 0:
        count, place = count + 1, end + 1
    return count


def _bullets(text: str, *, num_bullets: int) -> bool:
    r"""Whether a text has ``num_bullets`` matches of ``^\s*\*[^\*].*$`` and ``^\s*-.*$`` in all; each is searched by itself."""
    lines = [line.lstrip() for line in text.split("\n")]
    dashes = sum(line.startswith("-") for line in lines)
    stars = place = 0
    while place < len(lines):
        line = lines[place]
        # A line with only an asterisk matches together with the next line, since [^\*] matches the newline.
        alone = line == "*" and place + 1 < len(lines)
        stars += alone or (line.startswith("*") and line[1:2] not in ("", "*"))
        place += 2 if alone else 1
    return dashes + stars == num_bullets


def _postscript(text: str, *, postscript_marker: str) -> bool:
    r"""Whether a text has a match of ``\s*p\.\s?s\..*$``, or of the same expression for another marker."""
    marker = postscript_marker.strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, marker.lower()), text.lower()) is not None


def _title(text: str) -> bool:
    r"""Whether a text has a match of ``<<[^\n]+>>`` with something between the brackets."""
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start <= end - 3 and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


_OWN: Mapping[str, Callable[..., bool]] = {
    "keywords:letter_frequency": _letter_frequency,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:title": _title,
}
