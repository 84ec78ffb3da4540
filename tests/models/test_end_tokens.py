"""Which tokens end a completion, from which source, and that a text ends before them whatever the tokenizer calls special."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tulu_eval.backends.growing import Finisher, GrowingRow
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models.end_tokens import Configured, choose, describe, read_configured
from tulu_eval.models.tokenizer import PromptWriter
from tulu_eval.records import Decoding, Request

END, START, CLOSE, ROLE, WORD = range(5)
VOCABULARY = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "word"]


@pytest.fixture
def tokenizer() -> Any:
    """One of words: ``<|im_end|>`` and ``<|user|>`` are added tokens and not special, ``word`` is an ordinary one."""
    raw = Tokenizer(models.WordLevel({text: at for at, text in enumerate([*VOCABULARY, "?"])}, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_tokens([AddedToken("<|im_end|>", special=False), AddedToken("<|user|>", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<|im_start|>", eos_token="<|endoftext|>")


TURN = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}CLOSE{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        ("<|im_end|>", (END, CLOSE)),
        ("\n<|im_end|>\n", (END, CLOSE)),
        (" \n\t<|im_end|>", (END, CLOSE)),
        ("<|endoftext|>", (END,)),
        ("", (END,)),
        (" word", (END,)),
        ("</s>", (END,)),
        ("<|im_start|>", (END,)),
    ],
)
def test_the_token_that_closes_a_turn_ends_a_completion(tokenizer: Any, close: str, expected: tuple[int, ...]) -> None:
    tokenizer.chat_template = TURN.replace("CLOSE", close)
    assert PromptWriter(tokenizer, "m", tulu=False).end_tokens.ids == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{{ messages[0].content }}",
        "{% for m in messages if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
        "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[0].content }}<|im_end|>",
    ],
)
def test_a_template_without_an_assistants_turn_names_none(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    assert PromptWriter(tokenizer, "m", tulu=False).end_tokens.ids == (END,)


def test_a_configurations_list_counts_as_far_as_it_names_special_or_added_tokens(tokenizer: Any) -> None:
    found = choose(tokenizer, None, Configured((WORD, ROLE, END, START, 999)))
    assert [(token.id, token.text, token.origins) for token in found.chosen] == [
        (END, "<|endoftext|>", ("tokenizer", "generation_config")),
        (ROLE, "<|user|>", ("generation_config",)),
        (START, "<|im_start|>", ("generation_config",)),
    ]
    assert [(token.id, token.text) for token in found.passed_over] == [(WORD, "word"), (999, "")]
    assert describe(found.chosen[:1]) == "0 (<|endoftext|>: tokenizer, generation_config)"


def test_all_sources_are_named(tokenizer: Any) -> None:
    (first, second) = choose(tokenizer, "\n<|im_end|>\n", Configured((CLOSE, END), "config")).chosen
    assert (first.id, first.origins) == (END, ("tokenizer", "config"))
    assert (second.id, second.origins) == (CLOSE, ("template", "config"))


def test_the_beginning_of_sequence_token_may_be_the_tokenizers_end_too(tokenizer: Any) -> None:
    tokenizer.bos_token = "<|endoftext|>"
    assert choose(tokenizer, "<|endoftext|>", Configured()).chosen[0].origins == ("tokenizer", "template")


def test_no_source_at_all_is_refused(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(PreflightError, match="no completion could end"):
        choose(tokenizer, None, Configured((WORD,)))
    assert choose(tokenizer, None, Configured((CLOSE,))).ids == (CLOSE,)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Configured()),
        ({"generation_config.json": {"eos_token_id": 2}}, Configured((2,))),
        ({"generation_config.json": {"eos_token_id": [0, 2]}, "config.json": {"eos_token_id": 7}}, Configured((0, 2))),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 7}}, Configured()),
        ({"generation_config.json": {"eos_token_id": None}}, Configured()),
        ({"config.json": {"eos_token_id": 7}}, Configured((7,), "config")),
        ({"config.json": {"text_config": {"eos_token_id": [7]}}}, Configured((7,), "config")),
    ],
)
def test_what_a_models_files_name(tmp_path: Path, files: dict[str, Any], expected: Configured) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert read_configured(tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"eos_token_id": "2"}', "eos_token_id must be a token id or a list"),
        ('{"eos_token_id": [2, true]}', "eos_token_id must be a token id or a list"),
        ('{"eos_token_id": -1}', "eos_token_id must be a token id or a list"),
        ('{"eos_token_id": [1e400]}', "eos_token_id must be a token id or a list"),
        ("[1]", "is not a JSON object"),
        ("{", "is not JSON"),
        ('{"eos_token_id": 2, "eos_token_id": 3}', "has 'eos_token_id' twice in one object"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_damaged_configuration_is_one_line(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(DataError, match=cause):
        read_configured(tmp_path)


@pytest.mark.parametrize("skipped", [True, False])
def test_a_text_ends_before_the_end_token_whether_it_is_special_or_not(tokenizer: Any, skipped: bool) -> None:
    assert tokenizer.decode([WORD, CLOSE], skip_special_tokens=True) == "word <|im_end|>", "the tokenizer does not skip it"
    finisher = Finisher(tokenizer, (CLOSE,) if not skipped else (END,), Decoding(8))
    row = GrowingRow.begin(Request("k", (WORD,), "word"), Decoding(8))
    assert finisher.advance(row, WORD) is None
    assert finisher.advance(row, ROLE) is None
    done = finisher.advance(row, END if skipped else CLOSE)
    assert done is not None
    assert (done.text, done.finish_reason) == ("word <|user|>", "stop")
    assert done.token_ids == (WORD, ROLE, END if skipped else CLOSE), "the ids keep it"


def test_a_text_that_is_the_end_token_alone_is_empty(tokenizer: Any) -> None:
    done = Finisher(tokenizer, (CLOSE,), Decoding(8)).advance(GrowingRow.begin(Request("k", (WORD,), ""), Decoding(8)), CLOSE)
    assert done is not None
    assert (done.text, done.finish_reason) == ("", "stop")
