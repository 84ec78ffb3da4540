"""Writes files atomically: readers see the old file or the new one, and no temporary file stays."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Iterator
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, BinaryIO

from tulu_eval.errors import UserError

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def check_folder(path: Path) -> None:
    """Raises UserError if nothing can be written into a folder because it, or a folder around it, is a file."""
    there = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
    if os.path.lexists(there) and not there.is_dir():
        raise UserError(f"{there} is no folder; give another --output")


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file as :func:`json_text` has it; raises what :func:`write_text` raises."""
    write_text(path, json_text(data))


def json_text(data: Any, indent: int = 1) -> str:
    """Returns data as JSON, ending in a newline, in which nothing steers a terminal.

    Characters that are not printable are escaped: JSON itself escapes no C1 control and no mark that turns the direction of
    writing.
    """
    text = "".join(_indented(data, " " * indent, "\n"))
    if text.replace("\n", "").isprintable():
        return text + "\n"
    return "".join(_escaped(line) + "\n" for line in text.split("\n"))


def _indented(data: Any, indent: str, start: str) -> Iterator[str]:
    """Yields what ``json.dumps`` gives with an indent, in half the time for a run of 100,000 items.

    ``start`` is the end of the line before the data, and the white space with which its line begins.
    """
    if isinstance(data, dict) and data:
        marks = [f"{{{start}{indent}", *[f",{start}{indent}"] * (len(data) - 1)]
        for mark, (name, value) in zip(marks, data.items(), strict=True):
            yield f"{mark}{_JSON.encode(name)}: "
            yield from _indented(value, indent, start + indent)
        yield start + "}"
    elif isinstance(data, list | tuple) and data:
        plain = set(map(type, data)) == {str}
        texts = map(encode_basestring, data) if plain else ("".join(_indented(one, indent, start + indent)) for one in data)
        yield f"[{start}{indent}{f',{start}{indent}'.join(texts)}{start}]"
    else:
        yield _JSON.encode(data)


def _escaped(line: str) -> str:
    """Returns a line of JSON whose strings are printable; JSON has nothing else outside of strings."""
    return line if line.isprintable() else "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file as :func:`write_bytes` does.

    Raises:
        UserError: As there, or if the text has a lone surrogate.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(f"{path} cannot be written: it would have a lone surrogate ({error.reason})") from error
    write_bytes(path, data)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically; creates its folder if needed.

    It also removes temporary files that a killed process left of the same file (``.NAME.PID``).

    Raises:
        UserError: If the file cannot be written, or the path is not a regular file.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be written: it is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise UserError(f"{path} cannot be written: {error}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yields a file that replaces ``path`` once it is completely on the disk; an error leaves nothing of it behind.

    Raises:
        OSError: If the file cannot be written.
    """
    remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # a full disk or Ctrl-C
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty folder, ``NAME.tmp``, that replaces ``folder`` once it is complete; an error leaves nothing of it behind.

    Raises:
        UserError: If the folder cannot be written.
    """
    draft = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)  # what a killed process left
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.replace(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Removes the temporary files (``.NAME.PID`` beside the file) of processes that no longer run."""
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
