"""The forms of rows: each is read as the same conversation, and a mistake is reported with its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.files import Place, Row
from tulu_eval.training.rows import forms

ASKED, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}
OTHER = {"role": "assistant", "content": "No"}
SYSTEM = {"role": "system", "content": "Be brief."}


def row(data: dict[str, Any]) -> Row:
    return Row(Place("rows.jsonl", 7), data)


@pytest.mark.parametrize(
    "data",
    [
        {"chosen": [ASKED, ANSWER], "rejected": [ASKED, OTHER]},  # Tulu's; TRL's without a prompt
        {"prompt": "Hi", "chosen": "Yo", "rejected": "No"},  # TRL's
        {"prompt": [ASKED], "chosen": [ANSWER], "rejected": [OTHER]},  # TRL's of conversations
        {"prompt": "Hi", "chosen": [ANSWER], "rejected": [OTHER]},
        {"prompt": [ASKED], "chosen": "Yo", "rejected": "No"},
        {"prompt": "Hi", "chosen": [ASKED, ANSWER], "rejected": [ASKED, OTHER], "score_chosen": 8.5},  # ultrafeedback_binarized
        {"prompt": [ASKED], "chosen": [ASKED, ANSWER], "rejected": [ASKED, OTHER]},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Yo"},
            "rejected": {"from": "gpt", "value": "No"},
        },  # ShareGPT's
    ],
)
def test_pairs(data: dict[str, Any]) -> None:
    assert forms.side(row(data), "chosen") == [ASKED, ANSWER]
    assert forms.side(row(data), "rejected") == [ASKED, OTHER]
    assert forms.prompt_of(row(data)) == [ASKED]


@pytest.mark.parametrize(
    "data",
    [
        {"messages": [ASKED, ANSWER], "prompt": "Hi"},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}], "id": "x_0"},
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Yo"}], "system": ""},
        {"conversations": [ASKED, ANSWER]},
        {"prompt": "Hi", "completion": "Yo"},
        {"prompt": [ASKED], "completion": [ANSWER]},
    ],
)
def test_conversations(data: dict[str, Any]) -> None:
    assert forms.conversation(row(data)) == [ASKED, ANSWER]
    assert forms.prompt_of(row(data)) == [ASKED]


def test_a_system_message_beside_or_in_the_turns() -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]
    inside = [{"from": "system", "value": "Be brief."}, *turns]
    for data in ({"conversations": turns, "system": "Be brief."}, {"conversations": inside}):
        assert forms.conversation(row(data)) == [SYSTEM, ASKED, ANSWER]
    with pytest.raises(DataError, match=r"conversations\[1\] is a system message but not the first"):
        forms.conversation(row({"conversations": inside, "system": "Be long."}))


@pytest.mark.parametrize("data", [{"prompt": "Hi"}, {"prompt": [ASKED]}, {"instruction": "Hi"}, {"conversation": [ASKED]}])
def test_prompts_alone(data: dict[str, Any]) -> None:
    assert forms.prompt_of(row(data)) == [ASKED]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"conversations": [{"from": "tool", "value": "x"}]}, "conversations[0] is from 'tool'; known: human, user, gpt"),
        ({"conversations": [{"from": "human", "value": None}]}, 'conversations[0] is not {"from": ..., "value": text}'),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, "conversations[0] is from ['human']"),
        ({"conversations": ["x"]}, 'conversations[0] is not {"role": ..., "content": text}'),
        ({"conversations": []}, "no list of messages under 'conversations'"),
        (
            {"text": "x", "id": 3},
            "none of the columns messages, conversations, or prompt with completion; its columns: id, text",
        ),
        ({}, "none of the columns messages, conversations, or prompt with completion; its columns: none"),
        ({"prompt": 3, "completion": "x"}, "no list of messages under 'prompt'"),
        ({"prompt": "x", "completion": None}, "no list of messages under 'completion'"),
        ({"messages": "x"}, "no list of messages under 'messages'; its columns: messages"),
    ],
)
def test_mistakes(data: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        forms.conversation(row(data))
    assert str(caught.value).startswith(f"rows.jsonl:7: {message}")


@pytest.mark.parametrize("margin", [{}, {"margin": 1.25}])
def test_the_pairs_of_the_hub(margin: dict[str, float]) -> None:
    data = {"chosen": [ASKED, ANSWER], "rejected": [ASKED, OTHER], "source": "argilla-ultrafeedback", **margin}
    assert forms.side(row(data), "chosen") == [ASKED, ANSWER]
    assert forms.side(row(data), "rejected") == [ASKED, OTHER]


@pytest.mark.parametrize(
    "data",
    [
        {"instruction": "Hi"},
        {"history_messages": [ASKED]},
        {"messages": [ASKED]},
        {"messages": [ASKED, ANSWER]},
        {"conversation": [ASKED, ANSWER]},
        {"chosen": [ASKED, ANSWER], "rejected": [ASKED, OTHER]},
    ],
)
def test_the_prompts_of_the_hub_by_any_column_that_their_reader_takes(data: dict[str, Any]) -> None:
    """Beside it the hub's rows have a tag ("add na string if empty tag", history of allenai/tulu-2.5-prompts)."""
    assert forms.prompt_of(row({**data, "tag": "na"})) == [ASKED]


def test_unknown_columns_are_named_beside_the_expected_ones() -> None:
    unknown = row({"question": "Hi", "tag": "na"})
    for read, expected in (
        (forms.prompt_of, "instruction, history_messages, messages, conversation, chosen, conversations, prompt"),
        (lambda one: forms.side(one, "chosen"), "chosen and rejected, alone or with prompt"),
        (forms.conversation, "messages, conversations, or prompt with completion"),
    ):
        with pytest.raises(DataError) as caught:
            read(unknown)
        assert str(caught.value) == f"rows.jsonl:7: none of the columns {expected}; its columns: question, tag"


def test_a_side_that_contradicts_its_prompt() -> None:
    with pytest.raises(DataError, match="chosen neither begins with the prompt's messages nor with an assistant's"):
        forms.side(row({"prompt": [ASKED], "chosen": [{**ASKED, "content": "Ho"}, ANSWER]}), "chosen")


VALUES = st.recursive(
    st.none() | st.text(max_size=3) | st.sampled_from(["user", "human", "gpt"]) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*forms.PROMPT_KEYS, "rejected", "completion", "system"]), VALUES, max_size=4))
def test_any_row_is_a_conversation_or_one_line(data: dict[str, Any]) -> None:
    for read in (forms.conversation, forms.prompt_of, lambda one: forms.side(one, "chosen")):
        try:
            found = read(row(data))
        except DataError as error:
            assert str(error).startswith("rows.jsonl:7: ")  # noqa: PT017
        else:
            assert found
            assert all(set(message) >= {"role", "content"} for message in found)
