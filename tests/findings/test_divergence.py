"""Where two texts part; in runs: test_compare.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.findings.divergence import EXCERPT, divergence
from tulu_eval.records import Completion


def completion(text: str) -> Completion:
    return Completion("key", text, tuple(map(ord, text)), "stop", 0.0)


@given(st.text(), st.text())
@settings(deadline=None)
def test_the_first_difference_splits_two_texts(a: str, b: str) -> None:
    found = divergence(completion(a), completion(b), same_tokenizer=True)
    if found is None:
        assert a == b
        return
    place = found.character
    assert found.token == place
    assert a[:place] == b[:place]
    assert a[place : place + 1] != b[place : place + 1]
    assert (found.a, found.b) == (a[place : place + EXCERPT], b[place : place + EXCERPT])
