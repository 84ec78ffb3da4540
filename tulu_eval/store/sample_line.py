"""A sample and its line in the ledger.

A line is JSON. Key, item and status come first; grades, time and a CRC-32 of all before it come last::

    {"key":"<sha256>","item":"test-1309","status":"ok",...,"grades":[...],"seconds":0.25,"crc":"1f2e3d4c"}
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import zlib
from collections.abc import Sequence

import msgspec

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.records import Completion, Grade, Likelihood, Status
from tulu_eval.store import schema

_HEAD = re.compile(
    rb'\{"key":"([0-9a-f]{64})","item":"((?:[^"\\]|\\.)*)","status":"([a-z_]+)",(?:"group":"((?:[^"\\]|\\.)*)",)?'
)
_GRADES, _SECONDS = b',"grades":', b',"seconds":'  # inside a string their quotes would be escaped
_SCORE = re.compile(rb',"score":([^,}]+)(?:,"weight":([^}]+))?\}')
_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_TAIL = len(b',"crc":"00000000"}\n')


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One graded completion of one item.

    Attributes:
        status: Class of the sample, e.g. ``ok`` or ``engine_error``.
        grades: One grade per scorer.
        group: Group of the item; empty for none.
    """

    item: str
    target: str
    prompt_sha256: str
    completion: Completion
    status: Status
    grades: tuple[Grade, ...]
    group: str = ""

    @property
    def marks(self) -> Marks:
        """The part of the sample that aggregation needs."""
        return _marks(self.status, [(grade.score, grade.weight) for grade in self.grades], self.group)


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """The part of a sample that aggregation needs; a million of them fit in memory.

    Attributes:
        scores: One score per scorer, 0 to 1.
        weights: One weight per scorer; empty if all weights are 1.
        group: Group of the item; empty for none.
    """

    status: str
    scores: tuple[float, ...]
    weights: tuple[float, ...] = ()
    group: str = ""


def _marks(status: str, scored: Sequence[tuple[float, float]], group: str) -> Marks:
    weights = tuple(weight for _, weight in scored)
    return Marks(status, tuple(score for score, _ in scored), () if all(one == 1 for one in weights) else weights, group)


def encode(sample: Sample) -> bytes:
    """Returns the ledger's line of a sample, with its checksum."""
    completion = sample.completion
    asked = {  # field by field, since ``asdict`` copies each token id
        "key": completion.key,
        "item": sample.item,
        "status": sample.status,
        **({"group": sample.group} if sample.group else {}),
        "target": sample.target,
        "prompt_sha256": sample.prompt_sha256,
        "text": completion.text,
    }
    found = {
        "finish_reason": completion.finish_reason,
        "error": completion.error,
        **({"likelihoods": [dataclasses.asdict(one) for one in completion.likelihoods]} if completion.likelihoods else {}),
        "grades": [_grade(grade) for grade in sample.grades],
        "seconds": completion.seconds,
    }
    ids = msgspec.json.encode(completion.token_ids)  # 0.5 µs for 91 ids, where json takes 8
    body = b'%b,"token_ids":%b,%b' % (_JSON.encode(asked)[:-1].encode(), ids, _JSON.encode(found)[1:-1].encode())
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def _grade(grade: Grade) -> dict[str, str | bool | float]:
    """Returns a grade in the form of a line, without its weight if that is 1."""
    data: dict[str, str | bool | float] = {
        "scorer": grade.scorer,
        "answer": grade.answer,
        "answered": grade.answered,
        "score": grade.score,
    }
    return data if grade.weight == 1 else {**data, "weight": float(grade.weight)}


def decode(line: bytes) -> Sample:
    """Returns the sample of an intact line; raises ValueError if :func:`encode` did not make the line."""
    if not intact(line):
        raise ValueError("checksum or form is wrong")
    place = files.Place("the line")
    try:
        try:
            data = files.decode(line, schema.SampleLine, place)
        except DataError:
            if b"\\u" not in line:
                raise
            data = files.checked(files.parse_json(line, place, halves=True), schema.SampleLine, place)
    except DataError as error:
        raise ValueError(f"a field is missing or of another type: {error}") from error
    completion = Completion(
        key=data.key,
        text=data.text,
        token_ids=tuple(data.token_ids),
        finish_reason=data.finish_reason,
        seconds=data.seconds,
        error=data.error,
        likelihoods=tuple(Likelihood(one.text, tuple(one.logprobs)) for one in data.likelihoods),
    )
    grades = tuple(Grade(one.scorer, one.answer, one.answered, one.score, one.weight) for one in data.grades)
    sample = Sample(data.item, data.target, data.prompt_sha256, completion, data.status, grades, data.group)
    if marks(line) != (sample.item, sample.marks):
        raise ValueError("its fields are not in their order")
    return sample


def asked_of(sample: Sample) -> tuple[str, str, str, str]:
    """Returns the question that a sample answers: item, key, right answer and hash of the prompt."""
    return sample.item, sample.completion.key, sample.target, sample.prompt_sha256


def head(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Returns an intact line's key (32 bytes), item (JSON without quotes), status; raises ValueError if it begins otherwise."""
    found = _head(line)
    return bytes.fromhex(found[1].decode()), found[2], found[3]


def _head(line: bytes) -> re.Match[bytes]:
    found = _HEAD.match(line)
    if found is None:
        raise ValueError("not a line of a ledger")
    return found


def marks(line: bytes) -> tuple[str, Marks]:
    """Returns item and marks of an intact line, the rest unparsed; raises ValueError if it does not begin as a ledger's."""
    item, found, _ = parts(line)
    return item, found


def parts(line: bytes) -> tuple[str, Marks, bytes]:
    """Returns item and marks of an intact line, as :func:`marks`, and the line as :func:`ungraded`, read once for both."""
    found = _head(line)
    grades = line.rindex(_GRADES)
    scored = _read_marks(found[3], tuple(_SCORE.findall(line, grades)), found[4] or b"")
    return _text(found[2]), scored, _without_grades(line, found, grades)


@functools.lru_cache(maxsize=4096)  # a run has few different marks, and equal ones share an object
def _read_marks(status: bytes, scored: tuple[tuple[bytes, bytes], ...], group: bytes) -> Marks:
    """Returns the marks from a line's status, its grades' scores and weights (empty for 1), and its group."""
    return _marks(status.decode(), [(float(score), float(weight or 1)) for score, weight in scored], _text(group))


def _text(inner: bytes) -> str:
    """Returns the text of a JSON string whose quotes were removed."""
    text: str = files.parse_json(b'"%b"' % inner, files.Place("text"), halves=True) if b"\\" in inner else inner.decode()
    return text


def timeless(line: bytes) -> bytes:
    """Returns an intact line without its time and checksum; equal samples give equal bytes."""
    return line[: line.rindex(_SECONDS)]


def ungraded(line: bytes) -> bytes:
    """Returns an intact line without status, grades, time and checksum; the question and the answer are left.

    Raises:
        ValueError: If the line does not begin as a ledger's line does.
    """
    return _without_grades(line, _head(line), line.rindex(_GRADES))


def _without_grades(line: bytes, found: re.Match[bytes], grades: int) -> bytes:
    return line[: found.end(2)] + line[found.end(3) + len('",') : grades]


def intact(line: bytes) -> bool:
    """Whether a line is whole and its checksum right."""
    if not line.endswith(b'"}\n') or len(line) < _TAIL or line[-_TAIL : -_TAIL + 8] != b',"crc":"' or not _HEAD.match(line):
        return False
    return b"%08x" % zlib.crc32(line[:-_TAIL]) == line[-11:-3]
