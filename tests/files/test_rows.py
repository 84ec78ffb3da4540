"""Rows read the same from JSON lines, a list, gzip and parquet; what is wrong is named with its line or row."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.files import LINE, json_rows, read_json
from tulu_eval.files import rows as module

ROWS = [{"question": "What is 1+1? ☃ \u2028 \x85", "answer": "#### 2"}, {"question": "", "answer": "a\r\nb"}]


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "lines": lines,
    "no last end": lambda rows: lines(rows).rstrip(b"\n"),
    "crlf and blank": lambda rows: b"\r\n" + lines(rows).replace(b"\n", b"\r\n\r\n \t\r\n"),
    "byte order mark": lambda rows: b"\xef\xbb\xbf" + lines(rows),
    "gzip": lambda rows: gzip.compress(lines(rows)),
    "list": lambda rows: json.dumps(rows).encode(),
    "pretty list": lambda rows: b"\xef\xbb\xbf \r\n" + json.dumps(rows, indent=2, ensure_ascii=False).encode() + b"\n",
    "gzip of a list": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "parquet": parquet,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_the_same(tmp_path: Path, form: str) -> None:
    path = tmp_path / "rows.anything"
    path.write_bytes(FORMS[form](ROWS))
    assert [row.data for row in json_rows(path, ("question", "answer"))] == ROWS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers() | st.none(), max_size=3), min_size=1
    ),
    form=st.sampled_from([form for form in FORMS if form != "parquet"]),
)
def test_any_rows_come_back(tmp_path: Path, rows: list[dict[str, Any]], form: str) -> None:
    path = tmp_path / "rows"
    try:
        path.write_bytes(FORMS[form](rows))
    except UnicodeEncodeError:  # a lone surrogate has no bytes
        return
    try:
        assert [row.data for row in json_rows(path)] == rows
    except DataError as error:
        assert "lone surrogate" in str(error)  # noqa: PT017
        assert any("\ud800" <= letter < "\ue000" for letter in "".join(map(str, rows)))


def test_a_place_is_a_line_or_a_row(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'\n{"a": "x"}\n\n{"a": 1}\n')
    with pytest.raises(DataError, match=r"f:4: field 'a' is missing or not a string"):
        list(json_rows(path, ("a",)))
    for data in (b'[{"a": "x"},\n\n {"a": 1}]', parquet([{"a": None, "b": 1}, {"a": None, "b": 2}])):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"f: row \d: field 'a' is missing or not a string"):
            list(json_rows(path, ("a",)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": is empty; expected one JSON object per line, or a list of objects"),
        (b"\n\r\n ", ": is empty"),
        (b"[]", ": is empty"),
        (gzip.compress(b"", mtime=0), ": is empty"),
        (b'{"a": 1}\n[1]\n', ":2: is list, not an object"),
        (b'[{"a": 1}, 3]', ": row 2: is int, not an object"),
        (b'{"a": 1}\n{"a": \n', ":2: is not JSON (Expecting value"),
        (b'[{"a": 1},\n{"a": ]', ":2: is not JSON (Expecting value at column 7)"),
        (b'[{"a": 1}]\n[]', ":2: is not JSON (Extra data"),
        (b'{"a": 1}\n{"a": "\xe4"}\n', ":2: is not UTF-8 (byte 8 of the line)"),
        (b'[{"a": 1},\n{"a": "\xe4"}]', ": row 2: is not UTF-8 (byte 8 of the row)"),
        (b'{"a": 1}\n{"a": "\\ud83d"}\n', r":2: has the lone surrogate \ud83d"),
        (b'[{"a": 1}, {"a": "\\ud83d"}]', r": row 2: has the lone surrogate \ud83d"),
        (b'{"a": 1}\n{"a": 1, "a": 2}\n', ":2: has 'a' twice in one object"),
        (b'[{"a": 1}, {"a": 1, "a": 2}]', ": row 2: has 'a' twice in one object"),
        (b'{"a": NaN}\n', ":1: is not JSON (it has NaN"),
        (b'[{"a": 1}, {"a": NaN}]', ": row 2: is not JSON (it has NaN"),
        (b'[{"a": "\\ud83d"}, ', ": row 1: has the lone surrogate"),
        (b'[{"a": NaN}, ', ": row 1: is not JSON"),
        (b'[{"a": 1}, ', ":1: is not JSON (Expecting value"),
        (b'[{"a": 1},]', ":1: is not JSON (Expecting value"),
        (b'[{"a": 1}} ', ":1: is not JSON (Expecting ',' delimiter"),
        (b'[{"a": 1}] x', ":1: is not JSON (Extra data"),
        (b"[" * 100_000, "is n"),
        (b'{"a": ' + b"1" * 4301 + b"}\n", ":1: has an integer of more than 4,300 digits"),
        (b"PAR1" + b"x" * 50, ": cannot be read as parquet after row 0"),
        (parquet(ROWS)[:-20], ": cannot be read as parquet"),
        (b"words\n", ":1: is not JSON (Expecting value at column 1)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(json_rows(path))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500


def test_nan_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for data in (b'{"a": NaN}\n{"a": 1}', b'[{"a": NaN}, {"a": 1}]'):
        path.write_bytes(data)
        assert [repr(row.data["a"]) for row in json_rows(path, nan=True)] == ["nan", "1"]


def test_a_long_line_and_many_blank_ones_are_refused_soon(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.write(b'{"a": 1}\n{"a": "')
        file.seek(50 << 20, os.SEEK_CUR)
        file.write(b'"}\n')
    with pytest.raises(DataError, match=r"f:2: is longer than 16 MiB, the limit for a line"):
        list(json_rows(path))
    path.write_bytes(b'[{"a": 1}, {"a": "' + b"x" * LINE + b'"}]')
    with pytest.raises(DataError, match=r"f: row 2: is longer than 16 MiB"):
        list(json_rows(path))
    path.write_bytes(gzip.compress(b"\n" * (1 << 26)))
    with pytest.raises(DataError, match="is one of more than 1,000,000 blank lines"):
        list(json_rows(path))


def test_a_large_list_is_refused_with_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 1 << 20)
    (tmp_path / "f").write_bytes(b"[" + b" " * (1 << 20))
    with pytest.raises(DataError, match="is one JSON list of more than 1 MiB; write one object per line"):
        list(json_rows(tmp_path / "f"))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([pyarrow.array(["x"]), pyarrow.array(["y"])], names=["a", "a"])
    pyarrow.parquet.write_table(table, tmp_path / "f")
    with pytest.raises(DataError, match="has two columns of the same name"):
        list(json_rows(tmp_path / "f"))


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(gzip.compress(b'\xef\xbb\xbf{"a":\r\n [1]}'))
    assert read_json(tmp_path / "f") == {"a": [1]}


def test_a_hundred_thousand_lines_take_about_a_second(tmp_path: Path) -> None:
    row = {
        "key": "0" * 64,
        "text": 'So the answer is "18": yes. ' * 10,
        "token_ids": list(range(50)),
        "grades": [{"score": 1.0}],
    }
    (tmp_path / "f").write_bytes((json.dumps(row) + "\n").encode() * 100_000)
    start = time.process_time()
    assert sum(1 for _ in json_rows(tmp_path / "f")) == 100_000
    assert time.process_time() - start < 15  # about 3 s on one idle core; the bound is for growth, not for speed
