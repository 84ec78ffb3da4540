"""Parses TOML: recipes, prices and a user's registries."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tulu_eval.errors import DataError

_PLACE = re.compile(r" \(at line (\d+), column \d+\)")


def parse_toml(text: str, path: Path) -> dict[str, Any]:
    """Returns the tables of a TOML text.

    Raises:
        DataError: If the text is not TOML; the message names the line if the parser does.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer or a date that Python does not hold
        place = _PLACE.search(str(error))
        message = str(error).replace(place.group(), "") if place else str(error)
        raise DataError(path, f"is not TOML: {message}", int(place.group(1)) if place else None) from error
    except RecursionError as error:
        raise DataError(path, "is not readable TOML: nested too deeply") from error
