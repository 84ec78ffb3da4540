"""The one safe way to read and write files: an irregular file, a too large one, or invalid JSON gives a one-line error.

Every file that a user names is opened by :func:`open_file`, every JSON text is parsed by :func:`parse_json` or :func:`decode`,
every file of rows is read by :func:`json_rows`, every file is written by :func:`write_text` or :func:`write_bytes`, and
:func:`find` looks for files.
"""

from tulu_eval.files.finding import find
from tulu_eval.files.opening import GZIP, LARGEST, UNPACKED, open_file, open_regular, read_bytes, read_text
from tulu_eval.files.parsing import DEPTH, Place, Record, checked, decode, parse_json
from tulu_eval.files.rows import LINE, Row, json_rows, read_as, read_json
from tulu_eval.files.toml import parse_toml
from tulu_eval.files.writing import (
    check_folder,
    json_text,
    remove_leftovers,
    replacing,
    replacing_folder,
    write_bytes,
    write_json,
    write_text,
)

__all__ = [
    "DEPTH",
    "GZIP",
    "LARGEST",
    "LINE",
    "UNPACKED",
    "Place",
    "Record",
    "Row",
    "check_folder",
    "checked",
    "decode",
    "find",
    "json_rows",
    "json_text",
    "open_file",
    "open_regular",
    "parse_json",
    "parse_toml",
    "read_as",
    "read_bytes",
    "read_json",
    "read_text",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "write_bytes",
    "write_json",
    "write_text",
]
