"""Templates, the beginning-of-sequence token exactly once, and end tokens, on tokenizers built like Llama 2's and 3's."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from tulu_eval.benchmarks.base import Item, Prompt
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import PreflightError
from tulu_eval.models import tokenizer_calls
from tulu_eval.models.prompt_form import render_tulu
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer
from tulu_eval.models.tokenizer_calls import token_ids
from tulu_eval.records import Turn
from tulu_eval.training.text import TEMPLATE

TULU_TEMPLATE = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
"""As in the tokenizers of the Tulu 2 and 2.5 repositories."""

PROMPT = GSM8K().render(Item("x", "How many?", "1"))


def open_writer(folder: Path, *, tulu: bool = False, template: Any = "keep") -> PromptWriter:
    tokenizer = load_tokenizer(folder, "tiny", trust_remote_code=False)
    if template != "keep":
        tokenizer.chat_template = template
    return PromptWriter(tokenizer, "tiny", tulu=tulu, folder=folder)


def write(writer: PromptWriter, asked: Prompt = PROMPT) -> str:
    (text,) = writer.texts([asked], ["item x"])
    return text


def ids_of(writer: PromptWriter, text: str) -> tuple[int, ...]:
    (ids,) = writer.encode([text], ["item x"])
    return ids


@pytest.fixture(params=["llama2_like", "llama3_like"])
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_without_its_template_a_chat_model_gets_the_plain_form(folder: Path) -> None:
    writer = open_writer(folder)
    bare = writer.without_template()
    assert (bare.template.form, bare.template.source) == ("plain", "none")
    assert bare.template == open_writer(folder, template=None).template
    assert write(bare) == PROMPT.plain
    assert ids_of(bare, PROMPT.plain)[0] == ids_of(writer, "x")[0]
    assert bare.end_tokens == writer.end_tokens
    assert writer.template.form == "tulu"
    assert write(writer) == f"<|user|>\n{PROMPT.user}\n<|assistant|>\nAnswer:"


def test_tulu_template_of_the_tokenizer_gives_the_published_bytes(folder: Path) -> None:
    writer = open_writer(folder)
    assert (writer.template.form, writer.template.source) == ("tulu", "tokenizer")
    text = write(writer)
    assert text == f"<|user|>\n{PROMPT.user}\n<|assistant|>\nAnswer:"


def test_one_bos_never_two_never_none(folder: Path) -> None:
    writer = open_writer(folder)
    bos = writer.tokenizer.bos_token_id
    text = write(writer)
    for given in (text, writer.tokenizer.bos_token + text):
        ids = ids_of(writer, given)
        assert ids[0] == bos
        assert ids.count(bos) == 1
    assert writer.tokenizer.decode(ids_of(writer, text), skip_special_tokens=True).strip() == text.strip()


def test_ids_equal_what_the_tokenizer_gives_for_the_whole_string(folder: Path) -> None:
    writer = open_writer(folder)
    text = write(writer)
    assert list(ids_of(writer, text)) == writer.tokenizer(text)["input_ids"]


def test_a_template_that_writes_bos_itself(llama3_like: Path) -> None:
    writer = open_writer(llama3_like, template="{{ bos_token }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    assert writer.template.form == "chat"
    ids = ids_of(writer, write(writer, Prompt("Hi", "Answer:", "")))
    assert ids.count(writer.tokenizer.bos_token_id) == 1
    assert writer.tokenizer.decode(ids, skip_special_tokens=True) == "[Hi] Answer:"


def test_no_template_is_the_plain_form_unless_the_registry_knows_better(folder: Path) -> None:
    plain = open_writer(folder, template=None)
    assert plain.template.form == "plain"
    assert write(plain) == PROMPT.plain
    tulu = open_writer(folder, template=None, tulu=True)
    assert (tulu.template.form, tulu.template.source) == ("tulu", "registry")
    assert tulu.template.sha256 == open_writer(folder).template.sha256


def test_eos_is_the_tokenizers_not_the_generation_configs(folder: Path) -> None:
    writer = open_writer(folder)
    assert writer.end_tokens.ids == (writer.tokenizer.eos_token_id,)


def test_eos_includes_the_token_that_closes_a_turn(llama3_like: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    writer = open_writer(llama3_like, template=template)
    assert writer.end_tokens.ids == (writer.tokenizer.eos_token_id, writer.tokenizer.convert_tokens_to_ids("<|eot_id|>"))


def test_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PreflightError, match="the tokenizer of tiny cannot be loaded"):
        load_tokenizer(tmp_path, "tiny", trust_remote_code=False)


def test_jinja_and_function_agree_on_the_goldens(shared: Path, llama2_like: Path) -> None:
    tokenizer: Any = load_tokenizer(llama2_like, "tiny", trust_remote_code=False)
    tokenizer.chat_template = (shared / "data/training/tulu_chat_template.jinja").read_text()
    cases = json.loads((shared / "data/training/tulu_template_golden.json").read_text())
    checked = several = 0
    for case in cases:
        if case["eos_token"] != tokenizer.eos_token:
            continue
        rendered = tokenizer.apply_chat_template(
            case["messages"], tokenize=False, add_generation_prompt=case["add_generation_prompt"]
        )
        assert rendered == case["jinja"]
        turns = [Turn(message["role"], message["content"]) for message in case["messages"]]
        if case["add_generation_prompt"] and all(turn.role != "system" for turn in turns):
            assert render_tulu(turns, case["eos_token"]) == case["jinja"]
            several += len(turns) > 1
        checked += 1
    assert checked >= 5
    assert several >= 1


CHATML = (
    "{% for m in messages %}<|begin_of_text|>{{ m.role }}\n{{ m.content }}<|eot_id|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|begin_of_text|>assistant\n{% endif %}"
)


def test_a_template_that_strips_is_not_the_tulu_template(llama3_like: Path) -> None:
    stripping = "{% for m in messages %}{{ '<|user|>\n' + m.content | trim + '\n<|assistant|>\n' }}{% endfor %}"
    writer = open_writer(llama3_like, template=stripping)
    assert writer.template.form == "chat"
    assert write(writer, Prompt(" Hi \n", "", "")) == "<|user|>\nHi\n<|assistant|>\n"


def test_the_known_sources_of_the_tulu_template_need_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = open_writer(folder, template=TULU_TEMPLATE + "{# another comment #}")
    monkeypatch.setattr(subprocess, "run", lambda *words, **settings: pytest.fail("a process was started"))
    for source in (TULU_TEMPLATE, TEMPLATE):
        quick = open_writer(folder, template=source)
        assert (quick.template, quick.end_tokens) == (slow.template, slow.end_tokens)


SHOTS = Prompt(
    "How many ducks?",
    "",
    "",
    (Turn("user", "How many pens?"), Turn("assistant", " 4"), Turn("user", "How many hens?"), Turn("assistant", " 4")),
)


@pytest.mark.parametrize("template", ["keep", TEMPLATE, CHATML])
def test_several_turns_are_what_transformers_renders(folder: Path, template: str) -> None:
    writer = open_writer(folder, template=template.replace("<|begin_of_text|>", "[").replace("<|eot_id|>", "]"))
    messages = [turn._asdict() for turn in SHOTS.turns]
    expected = writer.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert write(writer, SHOTS) == expected
    assert expected.count(" 4" + (writer.tokenizer.eos_token if template != CHATML else "]")) == 2


def test_several_turns_in_the_tulu_template_of_the_registry(folder: Path) -> None:
    known, own = open_writer(folder, template=None, tulu=True), open_writer(folder)
    assert write(known, SHOTS) == write(own, SHOTS)
    assert known.template_of([SHOTS]).sha256 == own.template_of([SHOTS]).sha256 != own.template.sha256
    assert own.template_of([PROMPT]) == own.template


@pytest.mark.parametrize(
    ("tulu", "template", "message"),
    [
        (True, None, "the Tulu template has no form for a system prompt"),
        (False, TULU_TEMPLATE, "the chat template of tiny does not write the system's text"),
        (False, "{{ raise_exception('no system here') if messages[0].role == 'system' else messages[0].content }}",
         "the chat template of tiny cannot be rendered: TemplateError: no system here"),
    ],
)  # fmt: skip
def test_a_system_prompt_is_written_or_refused(folder: Path, tulu: bool, template: str | None, message: str) -> None:
    writer = open_writer(folder, template=template, tulu=tulu)
    asked = [Prompt("Hi", "", "", (Turn("system", "Be brief."),))]
    for refused in (lambda: writer.texts(asked, ["item 1"]), lambda: writer.template_of(asked)):
        with pytest.raises(PreflightError, match=message):
            refused()


def test_a_system_prompt_of_our_own_template_is_written(folder: Path) -> None:
    writer = open_writer(folder, template=TEMPLATE)
    text = write(writer, Prompt("Hi", "", "", (Turn("system", "Be brief."),)))
    assert text == "<|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\n"


def test_templates_that_differ_in_several_turns_only_have_other_hashes_there(folder: Path) -> None:
    one = open_writer(folder, template="{% for m in messages %}[{{ m.content }}]{% endfor %}")
    other = open_writer(folder, template="{% for m in messages %}[{{ m.content }}]{{ '' if loop.last else ';' }}{% endfor %}")
    assert one.template == other.template
    assert one.template_of([SHOTS]) != other.template_of([SHOTS])


def test_a_template_without_the_question_is_refused(folder: Path) -> None:
    with pytest.raises(PreflightError, match="the chat template of tiny does not write the user's text"):
        open_writer(folder, template="{{ 'Hello.' }}")


def test_a_template_that_drops_one_items_text_is_refused_with_its_name(folder: Path) -> None:
    writer = open_writer(folder, template="{% if messages[0].content|length < 40 %}{{ messages[0].content }}{% endif %}")
    asked = [Prompt("short", "", ""), Prompt("long " * 20, "", "")]
    with pytest.raises(PreflightError, match=r"^item 2: the chat template of tiny does not write the user's text"):
        writer.texts(asked, ["item 1", "item 2"])


@pytest.mark.parametrize("template", ["keep", CHATML, None])
def test_a_lone_surrogate_is_refused_with_the_items_name(llama3_like: Path, template: str | None) -> None:
    writer = open_writer(llama3_like, template=template)
    with pytest.raises(PreflightError, match=r"^item 7: its text has a lone surrogate \(.ud83d, character 6\)"):
        writer.texts([Prompt("What \ud83d?", "", "What \ud83d?")], ["item 7"])


def test_whatever_a_tokenizer_raises_names_the_item() -> None:
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0})))
    with pytest.raises(PreflightError, match=r"^item 2: the tokenizer of m does not take the prompt: WordLevel error"):
        token_ids(words, "m", ["a", "b"], ["item 1", "item 2"])


def test_a_tokenizer_that_takes_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Tokenizer(models.BPE({"a": 0, "?": 1}, [], unk_token="?"))
    raw.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa")] * 21)
    monkeypatch.setattr(tokenizer_calls, "SECONDS", 0.01)
    with pytest.raises(PreflightError, match="does not take the prompt: it takes more than 0 s"):
        token_ids(PreTrainedTokenizerFast(tokenizer_object=raw), "m", ["a"], ["item 1"])


def test_a_tokenizer_that_drops_the_prompt_is_refused() -> None:
    raw = Tokenizer(models.BPE({"a": 0, "</s>": 1}, []))
    writer = PromptWriter(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>"), "m", tulu=False)
    with pytest.raises(PreflightError, match=r"^item 1: the tokenizer of m makes no token of the prompt"):
        writer.encode(["zzz"], ["item 1"])


def test_a_broken_tokenizer_file_is_one_line(llama3_like: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(llama3_like, folder)
    for text in ("", "[]", "{}", '{"model": {"type": "BPE"}}', "[" * 100_000, '{"version": 1e999, "added_tokens": 3}'):
        (folder / "tokenizer.json").write_text(text)
        with pytest.raises(PreflightError, match=r"^the tokenizer of tiny cannot be loaded from") as raised:
            load_tokenizer(folder, "tiny", trust_remote_code=False)
        assert "\n" not in str(raised.value)


def test_a_prefill_is_not_put_into_a_reasoning_block(llama3_like: Path) -> None:
    writer = open_writer(llama3_like, template=CHATML.replace("assistant\n", "assistant\n<think>\n"))
    assert writer.template.reasoning == "<think>"
    assert write(writer, Prompt("Hi", "", "")).endswith("assistant\n<think>\n")
    assert "opens a reasoning block (<think>): answers start inside it" in writer.notices([])[0]
    with pytest.raises(PreflightError, match=r"opens a reasoning block .<think>., and the answer is to start with 'Answer:'"):
        write(writer)


def test_the_hash_of_a_dated_template_has_no_date_in_it_and_its_text_has(llama3_like: Path) -> None:
    writer = open_writer(llama3_like, template="{{ strftime_now('%d %b %Y') }}" + CHATML)
    assert writer.dated
    assert writer.template.date == ""
    asked = [Prompt("Hi", "", "")]
    assert writer.texts(asked, ["x"], "2026-11-29")[0].startswith("29 Nov 2026<|begin_of_text|>user\nHi")
    assert writer.template == open_writer(llama3_like, template="01 Jan 2000" + CHATML).template
    assert not open_writer(llama3_like).dated


def test_items_with_the_string_of_a_special_token_are_counted(llama3_like: Path) -> None:
    writer = open_writer(llama3_like, template=CHATML)
    asked = [Prompt(text, "", "") for text in ("What is <|eot_id|>?", "What is <b>?", "<|end_of_text|>")]
    assert "2 items hold the string of a special token, which is read as that token" in writer.notices(asked)
    shots = [Prompt("Hi", "", "", (Turn("user", "a"), Turn("assistant", "b<|eot_id|>"))), Prompt("Hi", "", "")]
    assert "1 items hold the string of a special token, which is read as that token" in writer.notices(shots)


@pytest.mark.parametrize("template", [{"rag": "x"}, {"rag": "x", "tool_use": "y"}])
def test_several_templates_without_a_default_are_refused(llama3_like: Path, template: dict[str, str]) -> None:
    with pytest.raises(PreflightError, match="tiny has several chat templates and no default: rag"):
        open_writer(llama3_like, template=template)


def test_of_several_templates_the_default_is_taken(llama3_like: Path) -> None:
    several = {"default": CHATML, "tool_use": "{{ 'Hello.' }}"}
    assert open_writer(llama3_like, template=several).template == open_writer(llama3_like, template=CHATML).template
