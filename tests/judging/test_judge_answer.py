"""Reading a judge's answer, good and bad."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.judging.judge_answer import read_verdict


def choice(*top, content="m", **more):
    alternatives = [{"token": token, "logprob": logprob} for token, logprob in top]
    return {"message": {"content": content}, "logprobs": {"content": [{"top_logprobs": alternatives}]}, **more}


def say(content):
    return {"message": {"content": content}, "finish_reason": "stop"}


@settings(deadline=None)
@given(st.floats(-30, 0), st.floats(-30, 0), st.booleans())
def test_weights_are_the_ratio_of_the_two(m, big, swapped):
    verdict = read_verdict(choice(("m", m), ("The", -1.0), ("M", big)), "logprobs", swapped)
    ratio = math.exp(m) / (math.exp(m) + math.exp(big))
    assert verdict.kind == "judged"
    assert verdict.preference == pytest.approx(1 + ratio if swapped else 2 - ratio, abs=1e-12)
    assert 1 <= verdict.preference <= 2


@pytest.mark.parametrize(("token", "expected"), [("m", 1.0), ("M", 2.0)])
def test_one_of_the_two_is_absent(token, expected):
    assert read_verdict(choice((token, -3.0), ("The", -0.1)), "logprobs", False).preference == expected
    assert read_verdict(choice((token, -3.0), ("The", -0.1)), "logprobs", True).preference == 3 - expected


def test_neither_is_no_verdict_and_says_what_came():
    verdict = read_verdict(choice(("The", -0.1), (" m", -1.0), content="The first\noutput"), "logprobs", False)
    assert verdict == ("no_verdict", None, "neither m nor M among the likeliest tokens; it began 'The first output'")


def test_a_tokenizers_marks_count_only_for_judges_of_ones_own():
    raw = choice(("▁m", math.log(0.2)), (" m", math.log(0.2)), ("M", math.log(0.4)), ("ĠMaybe", -5.0))
    assert read_verdict(raw, "logprobs", False).preference == 2.0
    assert read_verdict(raw, "logprobs", False, loose=True).preference == pytest.approx(1.5)


@pytest.mark.parametrize(
    "logprobs",
    [
        None, {}, {"content": None}, {"content": []}, {"content": [{}]}, {"content": [{"top_logprobs": []}]}, {"content": "m"},
        {"content": [{"top_logprobs": [{"token": "m"}]}]}, {"content": [{"top_logprobs": [{"token": "m", "logprob": None}]}]},
        {"content": [{"top_logprobs": [{"token": "m", "logprob": float("nan")}]}]}, {"content": [{"top_logprobs": ["m"]}]},
        {"content": [{"top_logprobs": [{"token": "m", "logprob": 3.0}]}]}, {"content": [None]}, 5, "m",
    ],
)  # fmt: skip
def test_missing_logprobs_are_a_class_of_their_own(logprobs):
    verdict = read_verdict({"message": {"content": "m"}, "logprobs": logprobs}, "logprobs", False)
    assert verdict.kind == "no_logprobs"
    assert verdict.preference is None


@pytest.mark.parametrize("method", ["logprobs", "text"])
def test_refusals_are_a_class_of_their_own(method):
    assert read_verdict({"message": {"content": None, "refusal": "No."}}, method, False) == ("refusal", None, "No.")
    assert read_verdict({"message": {"content": ""}, "finish_reason": "content_filter"}, method, False).kind == "refusal"


@pytest.mark.parametrize("text", ["m", " m\n", '"m"', "**m**", "`m`", "m.", "<think>M is longer, but</think>\n\nm"])
def test_text_verdicts(text):
    assert read_verdict(say(text), "text", False).preference == 1.0
    assert read_verdict(say(text), "text", True).preference == 2.0
    upper = text.replace("M", "X").replace("m", "M")
    assert read_verdict(say(upper), "text", False).preference == 2.0


@pytest.mark.parametrize("text", ["", None, "mM", "m or M", "The best is m", "model", "m M", "1", "<think>m", 7])
def test_prose_is_no_verdict(text):
    assert read_verdict(say(text), "text", False).kind == "no_verdict"


NAMES = ["message", "logprobs", "content", "top_logprobs", "token", "logprob", "refusal", "finish_reason"]
choices = st.sampled_from(["message", "logprobs", "finish_reason"])
json_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["m", "M", "content", "top_logprobs"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["message", "logprobs", "content", "top_logprobs", "token", "logprob", "refusal", "finish_reason"]),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["message", "logprobs", "finish_reason"]), json_like), st.sampled_from(["logprobs", "text"])
)
def test_no_answer_breaks_the_reader(made, method):
    verdict = read_verdict(made, method, False)
    assert (verdict.kind == "judged") == (verdict.preference is not None)
    assert "\n" not in verdict.detail


RANKED = "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RANKED, 1.0),
        (RANKED.replace("1}", "2}"), 2.0),
        ("[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]", 2.0),
        (RANKED.replace("'rank': 1", "'rank': 3"), None),
        (f"Here it is: {RANKED}", None),
        ("[{'model': 'model_2', 'rank': 1}]", None),
        ("{'model': 'model_1', 'rank': 1}", None),
        ("[{'model': 'model_1', 'rank': [1]}]", None),
        ("", None),
        ("[" * 4000, None),
        ("-" * 4000 + "1", None),
        ("__import__('os').abort()", None),
        (RANKED + " " * 5000, None),
    ],
)
def test_a_ranking_is_read_as_the_package_reads_it(text, expected):
    verdict = read_verdict(say(text), "ranking", False)
    assert verdict.preference == expected
    assert verdict.kind == ("judged" if expected else "no_verdict")
    assert read_verdict(say(text), "ranking", True).preference == (expected and 3 - expected)
