"""Which tokens end a completion, and which file names them.

Three sources are asked, and each adds what it names:

* ``tokenizer``: its end-of-sequence token.
* ``template``: the token that closes the assistant's turn, white space before it or not.
* ``generation_config``: ``eos_token_id``, a number or a list, as far as it names special or added tokens. Where there is no
  ``generation_config.json``, ``config.json`` is read, as transformers and vLLM do (``GenerationConfig.from_model_config``).

A number there that is an ordinary token is passed over and told: the released Llama-3 Tulu checkpoints say 2, which is ``#`` in
that vocabulary, and the published answers run over it. vLLM adds every number of the list to the tokenizer's token
(``SamplingParams.update_from_generation_config``) and transformers' ``generate`` takes the list alone, so neither ends a model
such as GLM-4, whose list alone says where a turn ends, by another rule than this one.

The beginning-of-sequence token ends nothing unless it is the tokenizer's end token too or the configuration says so: a template
without an assistant's turn would begin the next conversation with it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tulu_eval.errors import DataError, PreflightError
from tulu_eval.models import config as configs

Origin = Literal["tokenizer", "template", "generation_config", "config"]

FILES: tuple[tuple[str, Origin], ...] = (("generation_config.json", "generation_config"), ("config.json", "config"))


@dataclasses.dataclass(frozen=True, slots=True)
class EndToken:
    """A token that a model's files name as an end.

    Attributes:
        text: Its text in the vocabulary; empty if the id is outside.
        origins: The sources that name it.
    """

    id: int
    text: str
    origins: tuple[Origin, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class EndTokens:
    """The tokens that end a completion.

    Attributes:
        chosen: Tokens that end it, in the order of the sources.
        passed_over: Ordinary tokens that a configuration names as ends.
    """

    chosen: tuple[EndToken, ...] = ()
    passed_over: tuple[EndToken, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the chosen tokens."""
        return tuple(token.id for token in self.chosen)


@dataclasses.dataclass(frozen=True, slots=True)
class Configured:
    """The end tokens that a model's files name, as they have them; ``origin`` is the file."""

    ids: tuple[int, ...] = ()
    origin: Origin = "generation_config"


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """Returns the special and the added tokens, which a tokenizer finds in a text before it splits it."""
    added = {int(at): str(token.content) for at, token in tokenizer.added_tokens_decoder.items()}
    return added | {int(at): str(tokenizer.convert_ids_to_tokens(int(at))) for at in tokenizer.all_special_ids}


def reserved(tokenizer: Any, ends: Sequence[EndToken] = ()) -> re.Pattern[str]:
    """Returns a pattern for the texts of special tokens and of ``ends``; other added tokens are ordinary words."""
    strings = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    strings |= {str(tokenizer.convert_ids_to_tokens(int(at))) for at in tokenizer.all_special_ids} | {end.text for end in ends}
    longest_first = sorted((text for text in strings if text.strip()), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def choose(tokenizer: Any, behind: str | None, configured: Configured) -> EndTokens:
    """Returns the tokens that end a completion by the rule of this module.

    ``behind`` is what the chat template writes behind the assistant's content; ``None`` if no template is used, or it writes
    none.

    Raises:
        PreflightError: If there is none.
    """
    special = special_tokens(tokenizer)
    own = None if tokenizer.eos_token_id is None else int(tokenizer.eos_token_id)
    named: list[tuple[int | None, Origin]] = [(own, "tokenizer")]
    closing = None if behind is None else _closing(behind, special)
    if closing == own or closing != tokenizer.bos_token_id:
        named.append((closing, "template"))
    named += [(one, configured.origin) for one in configured.ids]
    origins: dict[int, list[Origin]] = {}
    for one, origin in named:
        if one is not None and origin not in origins.setdefault(one, []):
            origins[one].append(origin)
    tokens = [EndToken(one, _written(tokenizer, one, special), tuple(who)) for one, who in origins.items()]
    chosen = tuple(token for token in tokens if token.id in special or token.id == own)
    if not chosen:
        raise PreflightError("the tokenizer has no end-of-sequence token, so no completion could end")
    return EndTokens(chosen, tuple(token for token in tokens if token not in chosen))


def read_configured(folder: Path) -> Configured:
    """Returns the end tokens that a model folder's configuration names."""
    for name, origin in FILES:
        path = folder / name
        if path.is_file():
            return Configured(_ids(path, origin), origin)
    return Configured()


def _ids(path: Path, origin: Origin) -> tuple[int, ...]:
    data = configs.read_object(path, configs.MAX_CONFIG)
    value = data.get("eos_token_id")
    if value is None and origin == "config" and isinstance(data.get("text_config"), dict):
        value = data["text_config"].get("eos_token_id")
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 1 << 31 for one in values):
        raise DataError(path, f"eos_token_id must be a token id or a list of token ids, not {str(value)[:60]}")
    return tuple(values)


def _closing(behind: str, special: dict[int, str]) -> int | None:
    """Returns the longest special or added token with which a text begins after any white space."""
    text = behind.lstrip()
    fitting = [(len(content), one) for one, content in special.items() if content.strip() and text.startswith(content)]
    return max(fitting)[1] if fitting else None


def _written(tokenizer: Any, one: int, special: dict[int, str]) -> str:
    if one in special:
        return special[one]
    return str(tokenizer.convert_ids_to_tokens(one) or "") if one < len(tokenizer) else ""


def describe(tokens: Sequence[EndToken]) -> str:
    """Returns tokens for people: ``2 (<|im_end|>: tokenizer, template), 0 (<|endoftext|>: generation_config)``."""
    return ", ".join(f"{token.id} ({token.text}: {', '.join(token.origins)})" for token in tokens)
