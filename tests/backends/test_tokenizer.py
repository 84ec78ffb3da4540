"""Templates, the beginning-of-sequence token exactly once, and end tokens, on tokenizers built like Llama 2's and 3's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.tokenizer import PromptWriter, load_tokenizer, render_tulu
from tulu_eval.benchmarks.gsm8k import GSM8K, Item
from tulu_eval.errors import PreflightError

PROMPT = GSM8K().render(Item("x", "How many?", "1"))


def open_writer(folder: Path, *, tulu: bool = False, template: str | None = "keep") -> PromptWriter:
    tokenizer = load_tokenizer(folder, "tiny", trust_remote_code=False)
    if template != "keep":
        tokenizer.chat_template = template
    return PromptWriter(tokenizer, tulu=tulu)


@pytest.fixture(params=["llama2_like", "llama3_like"])
def folder(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def test_tulu_template_of_the_tokenizer_gives_the_published_bytes(folder: Path) -> None:
    writer = open_writer(folder)
    assert (writer.template.form, writer.template.source) == ("tulu", "tokenizer")
    text = writer.text(PROMPT.user, PROMPT.prefill, PROMPT.plain)
    assert text == f"<|user|>\n{PROMPT.user}\n<|assistant|>\nAnswer:"


def test_one_bos_never_two_never_none(folder: Path) -> None:
    writer = open_writer(folder)
    bos = writer.tokenizer.bos_token_id
    text = writer.text(PROMPT.user, PROMPT.prefill, PROMPT.plain)
    for given in (text, writer.tokenizer.bos_token + text):
        (ids,) = writer.encode([given])
        assert ids[0] == bos
        assert ids.count(bos) == 1
    assert writer.tokenizer.decode(writer.encode([text])[0], skip_special_tokens=True).strip() == text.strip()


def test_ids_equal_what_the_tokenizer_gives_for_the_whole_string(folder: Path) -> None:
    writer = open_writer(folder)
    text = writer.text(PROMPT.user, PROMPT.prefill, PROMPT.plain)
    assert list(writer.encode([text])[0]) == writer.tokenizer(text)["input_ids"]


def test_a_template_that_writes_bos_itself(llama3_like: Path) -> None:
    writer = open_writer(llama3_like, template="{{ bos_token }}{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    assert writer.template.form == "chat"
    (ids,) = writer.encode([writer.text("Hi", "Answer:", "")])
    assert ids.count(writer.tokenizer.bos_token_id) == 1
    assert writer.tokenizer.decode(ids, skip_special_tokens=True) == "[Hi] Answer:"


def test_no_template_is_the_plain_form_unless_the_registry_knows_better(folder: Path) -> None:
    plain = open_writer(folder, template=None)
    assert plain.template.form == "plain"
    assert plain.text(PROMPT.user, PROMPT.prefill, PROMPT.plain) == PROMPT.plain
    tulu = open_writer(folder, template=None, tulu=True)
    assert (tulu.template.form, tulu.template.source) == ("tulu", "registry")
    assert tulu.template.sha256 == open_writer(folder).template.sha256


def test_eos_is_the_tokenizers_not_the_generation_configs(folder: Path) -> None:
    writer = open_writer(folder)
    assert writer.eos_ids() == (writer.tokenizer.eos_token_id,)


def test_eos_includes_the_token_that_closes_a_turn(llama3_like: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|eot_id|>' }}{% endfor %}"
    writer = open_writer(llama3_like, template=template)
    assert writer.eos_ids() == (writer.tokenizer.eos_token_id, writer.tokenizer.convert_tokens_to_ids("<|eot_id|>"))


def test_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PreflightError, match="the tokenizer of tiny cannot be loaded"):
        load_tokenizer(tmp_path, "tiny", trust_remote_code=False)


def test_jinja_and_function_agree_on_the_goldens(shared: Path, llama2_like: Path) -> None:
    tokenizer: Any = load_tokenizer(llama2_like, "tiny", trust_remote_code=False)
    tokenizer.chat_template = (shared / "data/training/tulu_chat_template.jinja").read_text()
    cases = json.loads((shared / "data/training/tulu_template_golden.json").read_text())
    checked = 0
    for case in cases:
        if case["eos_token"] != tokenizer.eos_token:
            continue
        rendered = tokenizer.apply_chat_template(
            case["messages"], tokenize=False, add_generation_prompt=case["add_generation_prompt"]
        )
        assert rendered == case["jinja"]
        if len(case["messages"]) == 1 and case["messages"][0]["role"] == "user" and case["add_generation_prompt"]:
            assert render_tulu(case["messages"][0]["content"]) == case["jinja"]
        checked += 1
    assert checked >= 5
