"""A chat template writes what it is given, as transformers renders it, or is refused in one line; it holds nobody up."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tulu_eval.errors import PreflightError
from tulu_eval.models import template as module
from tulu_eval.models.template import ChatTemplate, Conversation, end_of, opened_reasoning
from tulu_eval.records import Turn

TURN = [Turn("user", "What is 3 <b> & 4?\nSay 'yes'.")]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
)


def render(source: str, turns: list[Turn] = TURN, **variables: str) -> str:
    (text,) = ChatTemplate(source, variables, "some/model").render([Conversation(turns)])
    return text


@pytest.mark.parametrize(
    "source",
    [
        CHATML,
        "{%- for m in messages -%}\n    {%- if m['role'] == 'user' %}\n  [INST] {{ m['content'] | trim }} [/INST]\n"
        "{%- else %}{{ m['content'] }}{%- endif %}\n{%- endfor %}",
        "{{ bos_token }}{% for m in messages %}{% if loop.index > 3 %}{% break %}{% endif %}{{ m.content }}{% endfor %}"
        "{{ eos_token }}",
        "{% for m in messages %}{{ m | tojson }}{{ m.content | tojson(indent=2) }}{% endfor %}",
        "{% for m in messages %}{% if m.role != 'user' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }} {{ m.content }}{% endfor %}"
        "{% if tools is not none %}tools{% endif %}{% if documents is not none %}documents{% endif %}",
        "{% macro turn(m) %}<{{ m.role }}>{{ m.content }}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}",
        "{% for m in messages %}{{ m.content | e }}{{ nothing }}{% endfor %}",
    ],
)
def test_the_text_is_the_one_of_transformers(source: str) -> None:
    turns = [*TURN, Turn("assistant", "Yés"), Turn("user", "Thanks, 数 \U0001f600")]
    ours = render(source, turns, bos_token="<s>", eos_token="</s>")
    messages: list[Any] = [[message._asdict() for message in turns]]
    theirs, _ = render_jinja_template(
        conversations=messages, chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert [ours] == theirs


def test_the_date_is_the_one_that_is_given() -> None:
    chat = ChatTemplate("{{ strftime_now('%d %b %Y, %H:%M') }} {{ messages[0].content }}", {}, "m")
    assert chat.dated
    assert not ChatTemplate(CHATML, {}, "m").dated
    (text,) = chat.render([Conversation([Turn("user", "Hi")])], "2026-11-29")
    assert text == "29 Nov 2026, 00:00 Hi"


@pytest.mark.parametrize(
    ("source", "role"),
    [
        ("{{ 'Hello.' }}", "user"),
        ("", "user"),
        ("{{ messages[0].content | upper }}", "user"),
        ("{{ messages[0].content[:9] }}", "user"),
        ("{{ messages[0].content | replace('3', '4') }}", "user"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "system"),
        ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}", "assistant"),
    ],
)
def test_a_template_that_drops_a_text_is_refused(source: str, role: str) -> None:
    turns = [Turn("system", "Be brief."), *TURN, Turn("assistant", "Seven.")] if role != "user" else TURN
    with pytest.raises(PreflightError, match=f"^the chat template of some/model does not write the {role}'s text$"):
        render(source, turns)


SHOTS = [Turn("user", "1+1?"), Turn("assistant", "2"), Turn("user", "What is 2+2?")]


@pytest.mark.parametrize(
    ("source", "role"),
    [
        ("{{ messages[-1].content }}", "user"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}\n{% endfor %}", "user"),
        ("{% for m in messages | reverse %}{{ m.content }}\n{% endfor %}", "assistant"),
        ("{{ messages[0].content }}{{ messages[1].content }}", "user"),
    ],
)
def test_a_template_that_drops_or_moves_a_turn_is_refused(source: str, role: str) -> None:
    with pytest.raises(PreflightError, match=f"does not write the {role}'s text"):
        render(source, SHOTS)


def test_a_system_prompt_may_stand_in_the_last_turn() -> None:
    turns = [Turn("system", "Be brief."), *SHOTS]
    source = "{% for m in messages[1:] %}{% if loop.last %}{{ messages[0].content }}\n{% endif %}[{{ m.content }}]{% endfor %}"
    assert render(source, turns) == "[1+1?][2]Be brief.\n[What is 2+2?]"


def test_a_template_that_wants_parts_is_refused_and_named() -> None:
    with pytest.raises(PreflightError, match=r"does not write the user's text \(it wants it as a list of parts"):
        render(PARTS)


@pytest.mark.parametrize("change", ["trim", "e", "tojson", "urlize", "replace('Say', 'Say')"])
def test_a_template_that_strips_or_escapes_is_taken(change: str) -> None:
    assert "What is 3" in render("{{ messages[0].content | " + change + " }}")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("{{ raise_exception('a system\nmessage is required') }}", "TemplateError: a system message is required"),
        ("{% for m in messages %}{{ m['content'] }", "TemplateSyntaxError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content.nothing.at.all }}", "UndefinedError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ " + "(" * 100_000, "RecursionError"),
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError"),
        ("{{ 'a' * 10**10 }}", "MemoryError"),
        ("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", "OverflowError: it writes over 1,0"),
        ("{% include 'x' %}", "TypeError|TemplateNotFound"),
    ],
)
def test_whatever_a_template_raises_is_one_line(source: str, cause: str) -> None:
    with pytest.raises(PreflightError, match=f"^the chat template of some/model cannot be rendered: .*({cause})") as raised:
        render(source)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "source",
    ["{{ 9**(9**9) }}", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"],
)
def test_a_template_that_computes_for_ever_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(PreflightError, match=r"the chat template of some/model cannot be rendered in 1 s and 2 GiB of memory"):
        render(source)
    assert time.monotonic() - began < 20


def test_a_template_of_megabytes_is_not_rendered() -> None:
    with pytest.raises(PreflightError, match="has 1,048,577 characters"):
        ChatTemplate("x" * (module.LONGEST_SOURCE + 1), {}, "m")


def test_many_conversations_go_in_several_processes_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHARACTERS", 40)
    turns = [Conversation([Turn("user", f"question {at} " + "x" * 9)]) for at in range(9)]
    assert ChatTemplate("<{{ messages[0].content }}>", {}, "m").render(turns) == [
        f"<question {at} xxxxxxxxx>" for at in range(9)
    ]


def test_an_item_that_a_template_does_not_take_is_named() -> None:
    chat = ChatTemplate("{% if 'bad' in messages[0].content %}{{ 1 // 0 }}{% endif %}{{ messages[0].content }}", {}, "m")
    turns = [Conversation([Turn("user", text)], name=f"item {text}") for text in ("good", "bad")]
    with pytest.raises(PreflightError, match=r"^item bad: the chat template of m cannot be rendered: ZeroDivisionError"):
        chat.render(turns)


@given(st.text(), st.text(), st.text())
def test_a_text_holds_what_is_in_it(before: str, content: str, behind: str) -> None:
    assert end_of(before + content.strip() + behind, content) is not None


@pytest.mark.parametrize(
    ("tail", "tag"),
    [
        ("<|im_end|>\n<|im_start|>assistant\n<think>\n", "<think>"),
        ("<｜Assistant｜><think>\n", "<think>"),
        ("[/INST][THINK]", "[THINK]"),
        ("<seed:bos>assistant\n<seed:think>", "<seed:think>"),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", "<|START_THINKING|>"),
        ("<|begin_of_thought|>\n\n", "<|begin_of_thought|>"),
        ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        ("<reasoning>\n", "<reasoning>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<|START_THINKING|><|END_THINKING|>", ""),
        ("[THINK][/THINK]", ""),
        ("<|im_start|>assistant\n", ""),
        ("<|assistant|>\n", ""),
        ("<think>\nLet me see.", ""),
        ("", ""),
    ],
)
def test_an_open_reasoning_block_is_found(tail: str, tag: str) -> None:
    assert opened_reasoning(tail) == tag
