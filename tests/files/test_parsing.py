"""JSON in the strict sense: what is taken is what Python's json takes, less what two readers could read differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.files import DEPTH, Place, Record, decode, parse_json
from tulu_eval.files.parsing import exactly

PLACE = Place("file.json", 3)

NAMES = st.sampled_from(["a", "b", '"', '":', "\\", "ä", ""]) | st.text(max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)
SPACE = st.sampled_from(["", "", " ", "\t", "\r\n", "\n"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, bool]:
    """A JSON text with spaces anywhere, and whether some object has a name twice."""
    twice = False

    def write(value: Any) -> str:
        nonlocal twice
        before, after = draw(SPACE), draw(SPACE)
        if isinstance(value, list):
            return f"{before}[{','.join(map(write, value))}]{after}" if value else f"{before}[]{after}"
        if isinstance(value, dict):
            pairs = list(value.items())
            if pairs and draw(st.booleans()):
                pairs.append((draw(st.sampled_from(pairs))[0], draw(SCALARS)))
                twice = True
            names = [f"{draw(SPACE)}{json.dumps(name, ensure_ascii=draw(st.booleans()))}{draw(SPACE)}" for name, _ in pairs]
            inner = ",".join(f"{name}:{write(inner)}" for name, (_, inner) in zip(names, pairs, strict=True))
            return f"{before}{{{inner}}}{after}"
        return before + json.dumps(value, ensure_ascii=draw(st.booleans())) + after

    text = write(draw(VALUES))
    return text, twice


def encodable(text: str) -> bool:
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in json.dumps(json.loads(text), ensure_ascii=False))


@given(texts())
def test_the_value_is_that_of_json_and_a_name_that_stands_twice_is_always_seen(found: tuple[str, bool]) -> None:
    text, twice = found
    if twice:
        with pytest.raises(DataError, match=r"^file\.json:3: has .* twice in one object$"):
            parse_json(text, PLACE)
        return
    if not encodable(text):
        with pytest.raises(DataError, match=r"lone surrogate|not UTF-8"):
            parse_json(text, PLACE)
        return
    value = parse_json(text, PLACE)
    assert value == json.loads(text)
    assert repr(value) == repr(exactly(text.encode(), PLACE)) == repr(parse_json(text.encode(), PLACE))


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\ud8cef0123 tnN-.E+\n', max_size=30).map(str.encode))
def test_any_bytes_give_a_value_or_one_line(data: bytes) -> None:
    try:
        value = parse_json(data, PLACE)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert value == json.loads(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON (Expecting value at column 1)"),
        ('{"a": }', "is not JSON (Expecting value at column 7)"),
        ("1 2", "is not JSON (Extra data at column 3)"),
        ("NaN", "is not JSON (it has NaN, which is not a JSON number)"),
        ("[-Infinity]", "is not JSON (it has -Infinity"),
        ("1e999", "has the number 1e999, which is too large"),
        ("[" + "1" * 4301 + "]", "has an integer of more than 4,300 digits"),
        ("[" * 100_000 + "]" * 100_000, "is nested too deeply: more than 100 objects and lists in each other"),
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "is nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "is nested too deeply"),
        (r'"\ud83d"', r"has the lone surrogate \ud83d, which is half a character"),
        (r'"\ude00\ud83d"', r"has the lone surrogate \ude00"),
        (r'"\ud83d\ud83d\ude00"', r"has the lone surrogate \ud83d"),
        (r'{"\udFFF": 1}', r"has the lone surrogate \udFFF"),
        (b'"\xed\xa0\xbd"', "is not UTF-8 (byte 2 of the line)"),
        ('{"a": {"b": 1, "b": 1}}', "has 'b' twice in one object"),
        (r'{"a":1,"\u0061":2}', "has 'a' twice in one object"),
        ('{"a" :1,"a":2,"b":"\\":"}', "has 'a' twice in one object"),
    ],
)
def test_refusals(text: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_json(text, PLACE)
    assert str(caught.value).startswith("file.json:3: ")
    assert message in str(caught.value)


def test_what_looks_like_a_refusal_and_is_none() -> None:
    assert parse_json("[" * DEPTH + "]" * DEPTH, PLACE) is not None
    assert parse_json(r'"\ud83d\ude00 \\ud83d"', PLACE) == "😀 \\ud83d"
    assert parse_json('["' + "1" * 9999 + '"]', PLACE) == ["1" * 9999]
    assert parse_json('"' + "[" * 9999 + '"', PLACE) == "[" * 9999
    assert parse_json("[" + "1" * 4300 + "]", PLACE) == [int("1" * 4300)]


def test_nan_where_it_is_asked_for() -> None:
    found = parse_json('{"a": NaN, "b": [-Infinity, 1e999]}', PLACE, nan=True)
    assert str(found) == "{'a': nan, 'b': [-inf, inf]}"
    with pytest.raises(DataError, match="twice"):
        parse_json('{"a": NaN, "a": 1}', PLACE, nan=True)
    with pytest.raises(DataError, match="lone surrogate"):
        parse_json(r'{"a": NaN, "b": "\udddd"}', PLACE, nan=True)


def test_half_a_character_where_it_is_asked_for() -> None:
    assert parse_json(r'"\ud83d"', PLACE, halves=True) == "\ud83d"
    with pytest.raises(DataError, match="twice"):
        parse_json(r'{"\ud83d": 1, "\ud83d": 2}', PLACE, halves=True)


def test_the_line_is_that_of_the_mistake_where_the_whole_file_is_parsed() -> None:
    for text, place in {'{"a": 1,\n "b": }': "f:2: ", '{"a": "ä",\n"b": "\xe4"}': "f:2: "}.items():
        with pytest.raises(DataError) as caught:
            parse_json(text.encode("latin-1") if "\xe4" in text[9:] else text, Place("f"))
        assert str(caught.value).startswith(place) or "is not UTF-8" in str(caught.value)
    with pytest.raises(DataError, match=r"^f: row 2: is not JSON"):
        parse_json("x", Place("f", 2, "row"))


class Inner(Record, frozen=True):
    name: str
    size: int = 0


class Outer(Record, frozen=True):
    one: Inner
    several: tuple[Inner, ...]
    ratio: float


GOOD = '{"one": {"name": "x"}, "several": [{"name": "y", "size": 2}], "ratio": 1}'


def test_a_record_is_decoded() -> None:
    assert decode(GOOD, Outer, PLACE) == Outer(Inner("x"), (Inner("y", 2),), 1.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ratio": 1', '"ratio": "1"', "ratio: Expected 'float', got 'str'"),
        ('"ratio": 1', '"ratio": true', "ratio: Expected 'float', got 'bool'"),
        ('"size": 2', '"size": 2.5', "several[0].size: Expected 'int', got 'float'"),
        ('"size": 2', '"size": null', "several[0].size: Expected 'int', got 'null'"),
        (', "ratio": 1', "", "Object missing required field 'ratio'"),
        ('"ratio": 1', '"ratio": 1, "more": 1', "Object contains unknown field 'more'"),
        ('"size": 2', '"size": 2, "a\\u001bb": 1', "several[0]: Object contains unknown field 'a?b'"),
        ('"name": "x"', '"name": "x", "name": "z"', "has 'name' twice in one object"),
        ('"size": 2', '"size": 0, "size": 2', "has 'size' twice in one object"),
        ('"name": "x"', '"name": "z", "name": "x"', "has 'name' twice in one object"),
        ('"ratio": 1', '"ratio": 1e999', "has the number 1e999"),
        ('"ratio": 1', '"ratio": NaN', "is not JSON (it has NaN"),
        ('"x"', r'"\ud800"', "has the lone surrogate"),
        ('"ratio"', '"ratio', "is not JSON ("),
    ],
)
def test_what_is_not_of_the_type_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(DataError) as caught:
        decode(GOOD.replace(old, new, 1), Outer, PLACE)
    assert message in str(caught.value)


@given(
    st.lists(st.sampled_from(['"name":"a"', '"name":"b"', '"size":0', '"size":1', '"size" :0', '"name":"\\":"']), max_size=4)
)
def test_a_record_never_hides_a_name_that_stands_twice(members: list[str]) -> None:
    names = [json.loads("{" + member + "}").popitem()[0] for member in members]
    text = "{" + ",".join(members) + "}"
    if names.count("name") == 1 and names.count("size") <= 1:
        assert decode(text, Inner, PLACE).name == json.loads(text)["name"]
    else:
        with pytest.raises(DataError):
            decode(text, Inner, PLACE)
