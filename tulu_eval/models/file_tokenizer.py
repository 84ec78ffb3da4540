"""A tokenizer read by the package tokenizers alone, where transformers would read it in the same way.

``AutoTokenizer`` of transformers 5.19 imports torch, scikit-learn and pandas to choose a class: 5 s of CPU time. For Llama-like
models whose class is the general one it then calls ``tokenizers.Tokenizer.from_file`` and changes nothing
(``tokenization_utils_tokenizers.py``, ``tokenization_utils_base.py``), as long as every special token that
``tokenizer_config.json`` names is in ``tokenizer.json`` already. :func:`read` checks just that and leaves every other folder
to transformers; ``tests/models/test_file_tokenizer.py`` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tulu_eval.errors import DataError
from tulu_eval.models import config as configs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CLASSES = frozenset({"TokenizersBackend", "PreTrainedTokenizerFast"})
"""The general class, by its name since transformers 5 and by the one before; others build a tokenizer of their own."""

FAMILIES = frozenset({"llama"})
"""``model_type`` of configs for which transformers keeps the class that ``tokenizer_config.json`` names."""

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""Special tokens with a name, in transformers' order (``SPECIAL_TOKENS_ATTRIBUTES``)."""

MORE = ("extra_special_tokens", "additional_special_tokens")
"""Lists of special tokens without a name; the second is the older word."""

WITHOUT_EFFECT = frozenset(
    {"add_bos_token", "add_eos_token", "backend", "chat_template", "clean_up_tokenization_spaces", "fix_mistral_regex"}
    | {"is_local", "legacy", "local_files_only", "model_input_names", "model_max_length", "name_or_path", "padding_side"}
    | {"special_tokens_map_file", "tokenizer_class", "tokenizer_file", "truncation_side", "use_default_system_prompt"}
)
"""Keys of ``tokenizer_config.json`` that change no token of a BPE tokenizer that has a ``tokenizer.json``."""

SIDES = ("padding_side", "truncation_side")
"""Keys with ``left`` or ``right``; transformers refuses anything else."""

OTHER_FILES = ("added_tokens.json", "special_tokens_map.json")
"""Older files with special tokens, which transformers reads where ``tokenizer_config.json`` has no ``added_tokens_decoder``."""


class FileTokenizer:
    """The part of a transformers tokenizer that prompts and rows of training need: same names, same ids.

    Attributes:
        backend_tokenizer: The tokenizer of the package tokenizers.
        special_tokens_map: Text of each special token with a name, in transformers' order.
        chat_template: Source of the chat template; ``None`` if there is none.
    """

    is_fast = True
    """As transformers says of a tokenizer that knows its tokens' characters."""

    def __init__(self, raw: Tokenizer, named: Mapping[str, str], more: Sequence[str], chat_template: str | None) -> None:
        self.backend_tokenizer = raw
        self._special = list(dict.fromkeys([*named.values(), *more]))
        self.special_tokens_map = dict(named)
        self.chat_template = chat_template
        self.added_tokens_decoder = raw.get_added_tokens_decoder()
        self.bos_token, self.eos_token = named.get("bos_token"), named.get("eos_token")
        self.bos_token_id, self.eos_token_id = self._id(self.bos_token), self._id(self.eos_token)
        self.all_special_ids = [raw.token_to_id(text) for text in self._special]

    def __call__(
        self, text: str | Sequence[str], add_special_tokens: bool = True, return_offsets_mapping: bool = False, **_: bool
    ) -> dict[str, Any]:
        """Returns the token ids of a text, or of each of several, as ``input_ids``.

        If asked, ``offset_mapping`` has the first and the last place, exclusive, of each token's characters.
        """
        texts = [text] if isinstance(text, str) else list(text)
        encode = self.backend_tokenizer.encode_batch if return_offsets_mapping else self.backend_tokenizer.encode_batch_fast
        rows = encode(texts, add_special_tokens=add_special_tokens)
        found: dict[str, list[Any]] = {"input_ids": [row.ids for row in rows]}
        if return_offsets_mapping:
            found["offset_mapping"] = [row.offsets for row in rows]
        return {name: one[0] for name, one in found.items()} if isinstance(text, str) else found

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def get_vocab(self) -> dict[str, int]:
        """Returns the id of each token, added ones too."""
        found: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return found

    def encode(self, text: str) -> list[int]:
        """Returns a text's token ids, with the special tokens that the tokenizer adds."""
        return list(self.backend_tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: bool) -> str:
        """Returns the text of token ids, as it is; special tokens are written out unless they are to be skipped."""
        return str(self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """Returns a token's text in the vocabulary; ``None`` outside it."""
        found: str | None = self.backend_tokenizer.id_to_token(token)
        return found

    def _id(self, text: str | None) -> int | None:
        return None if text is None else self.backend_tokenizer.token_to_id(text)


def read(folder: Path) -> FileTokenizer | None:
    """Returns the tokenizer in a model's folder; ``None`` if only transformers says how it is read, or whether it can be."""
    there = {path.name for path in folder.iterdir() if path.is_file() or path.name == "additional_chat_templates"}
    if not {"config.json", "tokenizer.json", "tokenizer_config.json"} <= there or "additional_chat_templates" in there:
        return None
    try:
        model = configs.read_object(folder / "config.json", configs.MAX_CONFIG)
        config = configs.read_object(folder / "tokenizer_config.json", configs.MAX_CONFIG)
    except DataError:
        return None
    if model.get("model_type") not in FAMILIES or {"auto_map", "tokenizer_class"} & set(model):
        return None
    if config.get("tokenizer_class") not in CLASSES or config.get("fix_mistral_regex"):
        return None
    if any(config.get(key, "left") not in ("left", "right") for key in SIDES):
        return None
    named = {key: _text(config[key]) for key in NAMED if config.get(key) is not None}
    more: Any = next((config[key] for key in MORE if config.get(key)), [])
    listed = config.get("added_tokens_decoder")
    other = {*config} - WITHOUT_EFFECT - {*NAMED, *MORE, "added_tokens_decoder"}
    older = [] if isinstance(listed, dict) else [name for name in OTHER_FILES if name in there]
    if other or older or not isinstance(more, list):
        return None
    return _checked(folder, named, [_text(one) for one in more], listed or {}, config.get("chat_template"))


def _checked(
    folder: Path, named: Mapping[str, str], more: Sequence[str], listed: Mapping[str, Any], template: Any
) -> FileTokenizer | None:
    """Returns the tokenizer if it has all tokens that the config names, with the same properties, and needs no other change."""
    from tokenizers import Tokenizer, models

    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own = raw.get_added_tokens_decoder()
    special = {token.content for token in own.values() if token.special}
    if raw.padding or raw.truncation or not isinstance(raw.model, models.BPE) or not {*named.values(), *more} <= special:
        return None
    if any(_properties(own.get(int(at) if at.isdecimal() else -1)) != one for at, one in listed.items()):
        return None
    beside = folder / "chat_template.jinja"
    if beside.is_file():  # as transformers asks; a pipe would never end
        template = beside.read_text(encoding="utf-8")
    return FileTokenizer(raw, named, more, template) if template is None or isinstance(template, str) else None


def _text(token: Any) -> str:
    """Returns a special token's text from a config; empty for what transformers takes for no token, which no tokenizer has."""
    content = token.get("content") if isinstance(token, dict) and token.get("__type") == "AddedToken" else token
    return content if isinstance(content, str) else ""


def _properties(token: Any) -> dict[str, Any] | None:
    """Returns an added token as ``tokenizer_config.json`` writes it."""
    if token is None:
        return None
    return {name: getattr(token, name) for name in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")}
