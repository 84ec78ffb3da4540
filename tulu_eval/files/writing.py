"""Writing a file in one step: the old file or the new one is there, never half of one, and nothing is left beside it."""

from __future__ import annotations

import contextlib
import glob
import json
import os
from pathlib import Path
from typing import Any

from tulu_eval.errors import UserError


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file; raises as :func:`write_text` does."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file in one step; makes its folder if need be.

    What a killed process left of the same file (``.NAME.PID``) is removed.

    Raises:
        UserError: It cannot be written, or is something else than a file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be written: it is not a regular file")
        data = text.encode("utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # a full disk or Ctrl-C: nothing is left
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise UserError(f"{path} cannot be written: it would have half a character ({error.reason})") from error
    except ValueError as error:  # a zero byte in the name
        raise UserError(f"{path} cannot be written: {error}") from error


def remove_leftovers(path: Path) -> None:
    """Removes what processes that are gone left of their writing of a file: ``.NAME.PID`` beside it."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number = old.name.rpartition(".")[2]
        if number.isascii() and number.isdecimal() and not _alive(int(number)):
            with contextlib.suppress(OSError):
                old.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
