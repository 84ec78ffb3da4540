"""The engine that third-party tests may use."""

from __future__ import annotations

import pytest

from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.testing import ScriptedBackend

REQUESTS = [Request("a", (1, 2), "one"), Request("b", (3,), "two")]


def test_a_text_is_a_completion_that_ended_by_itself() -> None:
    engine = ScriptedBackend.of(lambda request, decoding: request.text.upper())
    assert list(engine().generate(REQUESTS, Decoding(4))) == [
        Completion("a", "ONE", (79, 78, 69), "stop", 0.1),
        Completion("b", "TWO", (84, 87, 79), "stop", 0.1),
    ]
    assert (engine.name, engine().describe()) == ("scripted", {"dtype": "float32", "device": "cpu"})


def test_a_completion_is_taken_as_it_is() -> None:
    failed = Completion("a", "", (), "error", 0.0, "out of luck")
    engine = ScriptedBackend.of(lambda request, decoding: failed, name="transformers", described={"dtype": "bfloat16"})
    assert list(engine().generate(REQUESTS[:1], Decoding(4))) == [failed]
    assert (engine.name, engine().describe()) == ("transformers", {"dtype": "bfloat16"})


def test_a_subclass_says_its_answers() -> None:
    class Silent(ScriptedBackend):
        pass

    with pytest.raises(NotImplementedError):
        list(Silent().generate(REQUESTS, Decoding(4)))
