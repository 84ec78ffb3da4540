r"""From a benchmark's prompt to a model's token ids: template, beginning-of-sequence token, end tokens.

Three forms, in this order:

* ``tulu``: the Tulu template, ``<|user|>\n{content}\n<|assistant|>\n``. The tokenizers of the Tulu 2 and 2.5 repositories carry
  it as Jinja, which renders one user turn to the same bytes as open-instruct's ``create_prompt_with_tulu_chat_format``
  (``eval/templates.py`` @ ea3467db); a tokenizer without it gets it if the registry says that the model was trained with it.
  Of several turns, the assistant's end in the end-of-sequence token, and their contents are not stripped, as in the Jinja.
* ``chat``: the tokenizer's own template.
* ``plain``: no template, the benchmark's completion form.

Exactly one beginning-of-sequence token comes first if the tokenizer adds one (Llama 2 and 3: the template has none, the
tokenizer adds it) or the template writes one; never two. If neither does, there is none, as in vLLM.

A text that holds the string of a special token (``</s>`` in HTML, ``<|im_end|>`` in a question about models) gets that token's
id, as in the published runs: open-instruct @ ea3467db hands vLLM the whole prompt as one string. :meth:`PromptWriter.notices`
counts such items.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tulu_eval.benchmarks.hypothesis import Writing
from tulu_eval.errors import PreflightError
from tulu_eval.models import file_tokenizer
from tulu_eval.models.end_tokens import Configured, EndTokens, choose, describe, read_configured, reserved
from tulu_eval.models.prompt_form import (
    PROBE,
    TULU_PROBE,
    Asked,
    Form,
    Template,
    check_asked,
    probe_of,
    render_tulu,
    text_hash,
)
from tulu_eval.models.template import ANY_DAY, ChatTemplate, Conversation, opened_reasoning
from tulu_eval.models.tokenizer_calls import cut, token_ids, told
from tulu_eval.records import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tulu_eval.models.file_tokenizer import FileTokenizer

TULU_SOURCES = frozenset(
    {
        "bf61473d7119388a9093c4e55e4d83651e68e1cfa985a82093a0d1a2ac114514",
        "adbc8c2f112c16df9a24e5993d6a094aebd04989f663f3af34c95bdfd3d47f3e",
    }
)
"""sha256 of Jinja sources that need no rendering: that of the Tulu 2 and 2.5 repositories (hamishivi/EasyLM @ 65824276,
``convert_easylm_to_hf.py``), and that of the models trained here (``training/text.py``)."""

WORDS = "  zq7user Is 2 < 3?\nzq8user \n"
"""A user's turn that is in no template, with white space around it, which the Tulu template keeps."""

ANSWER = "zq9assistant"
"""An assistant's turn that is in no template."""


def load_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer from disk; raises PreflightError if it is missing or cannot be loaded.

    Where ``AutoTokenizer`` would choose the general class, that class is taken without the imports of the choice.
    """
    with told(f"the tokenizer of {name} cannot be loaded from {folder}"):
        if not trust_remote_code and file_tokenizer.read(folder):
            from transformers import PreTrainedTokenizerFast

            found: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
            return found
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)


def load_for_prompts(folder: Path, name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase | FileTokenizer:
    """Loads what writes prompts, without transformers where that makes no difference.

    Raises:
        PreflightError: If it is missing or cannot be loaded.
    """
    with told(f"the tokenizer of {name} cannot be loaded from {folder}"):
        found = None if trust_remote_code else file_tokenizer.read(folder)
    return found or load_tokenizer(folder, name, trust_remote_code)


class PromptWriter:
    """Writes prompts for one tokenizer.

    Args:
        tulu: Whether the registry says that the model was trained with the Tulu template.
        folder: The model's folder, whose configuration may name end tokens; ``None`` if there is none.

    Attributes:
        template: The template of prompts of one turn, without a date.

    Raises:
        PreflightError: If the template cannot be rendered or does not write what it is given.
        DataError: If the model's configuration is damaged.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase | FileTokenizer, name: str, *, tulu: bool, folder: Path | None = None
    ) -> None:
        self.tokenizer: Any = tokenizer
        self._name = name
        self._chat = ChatTemplate.of(tokenizer, name)
        behind: str | None = None
        if self._chat is None:
            form: Form = "tulu" if tulu else "plain"
            self.template = Template(form, text_hash(TULU_PROBE if tulu else ""), "registry" if tulu else "none")
        elif text_hash(self._chat.source) in TULU_SOURCES:
            self.template, behind = Template("tulu", text_hash(TULU_PROBE), "tokenizer"), self.tokenizer.eos_token
        else:
            self.template, behind = self._probe(self._chat)
        configured = read_configured(folder) if folder else Configured()
        with told(f"the tokenizer of {name} cannot be asked for its special tokens"):
            self.end_tokens: EndTokens = choose(tokenizer, behind, configured)
            self._reserved = reserved(tokenizer, self.end_tokens.chosen)
            self._lead = self._added_in_front()
        self._front: Literal["", "no-bos", "more-bos"] = ""

    @property
    def dated(self) -> bool:
        """Whether the template may write the day on which it is rendered."""
        return self.template.form == "chat" and self._chat is not None and self._chat.dated

    def without_template(self) -> PromptWriter:
        """Returns a writer of the plain form, for a benchmark that sends it to every model; the end tokens are the same."""
        bare = copy.copy(self)
        bare.template = Template("plain", text_hash(""), "none")
        return bare

    def written(self, how: Writing) -> PromptWriter:
        """Returns a writer that writes the same prompts otherwise; the end tokens are the same.

        Raises:
            PreflightError: If the tokenizer names no beginning-of-sequence token, and one is to be put in front or taken away.
        """
        if how == "plain":
            return self.without_template()
        other = copy.copy(self)
        if how == "tulu":
            other._chat, other.template = None, Template("tulu", text_hash(TULU_PROBE), "asked for")
        elif self.tokenizer.bos_token_id is None:
            raise PreflightError(f"the tokenizer of {self._name} names no beginning-of-sequence token")
        else:
            other._front = how
        return other

    def template_of(self, asked: Sequence[Asked]) -> Template:
        """Returns the template with the hash of its probe turns: one, or several where the prompts have several."""
        probe = probe_of(asked)
        if self.template.form == "plain" or len(probe) == 1:
            return self.template
        (text,) = self._render([probe], ["the template's probe"], ANY_DAY)
        return dataclasses.replace(self.template, sha256=text_hash(text))

    def texts(self, asked: Sequence[Asked], names: Sequence[str], date: str = ANY_DAY) -> list[str]:
        """Returns the prompts; a prefill follows a space unless the template ends in a newline (open-instruct's rule).

        ``names`` are those of the prompts for error messages, such as ``item test-7``; a dated template writes ``date``,
        YYYY-MM-DD.

        Raises:
            PreflightError: If a text has half a character, the template does not write it, or a prefill would stand in a
                reasoning block.
        """
        check_asked(asked, names)
        if self.template.form == "plain":
            return [one.plain for one in asked]
        if self.template.reasoning and (prefilled := next((one.prefill for one in asked if one.prefill), "")):
            raise PreflightError(
                f"the chat template of {self._name} opens a reasoning block ({self.template.reasoning}), and the answer is to "
                f"start with {prefilled!r}, which would stand inside it; take a benchmark whose answers start with nothing"
            )
        rendered = self._render([one.turns for one in asked], names, date)
        return [
            text + one.prefill if text.endswith("\n") or not one.prefill else f"{text} {one.prefill}"
            for text, one in zip(rendered, asked, strict=True)
        ]

    def _render(self, conversations: Sequence[Sequence[Turn]], names: Sequence[str], date: str) -> list[str]:
        """Returns the text of each conversation; the Tulu template needs a process only for several turns."""
        tulu = self.template.form == "tulu" and all(len(turns) == 1 for turns in conversations)
        if tulu or self._chat is None:
            return [render_tulu(turns, self.tokenizer.eos_token or "") for turns in conversations]
        named = [Conversation(turns, name=name) for turns, name in zip(conversations, names, strict=True)]
        return self._chat.render(named, date)

    def encode(self, texts: Sequence[str], names: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns the token ids of prompts, with the beginning-of-sequence token exactly once where there is one.

        Raises:
            PreflightError: If the tokenizer refuses a prompt, makes no token of it, or takes too long.
        """
        rows = token_ids(self.tokenizer, self._name, texts, names)
        lead = self._lead
        found = []
        for row, name, text in zip(rows, names, texts, strict=True):
            if text and not row:
                raise PreflightError(f"{name}: the tokenizer of {self._name} makes no token of the prompt")
            found.append(self._fronted(tuple(row) if tuple(row[: len(lead)]) == lead else (*lead, *row)))
        return found

    def _fronted(self, row: tuple[int, ...]) -> tuple[int, ...]:
        """Returns a prompt's token ids with one beginning-of-sequence token more or without any, if that is asked for."""
        bos: int | None = self.tokenizer.bos_token_id
        if self._front == "more-bos" and bos is not None:
            return (bos, *row)
        if self._front == "no-bos":
            return tuple(itertools.dropwhile(lambda token: token == bos, row))
        return row

    def cut(self, text: str, longest: int, name: str) -> str:
        """Returns a text of at most ``longest`` tokens; see :func:`tulu_eval.models.tokenizer_calls.cut`."""
        return cut(self.tokenizer, self._name, text, longest, name)

    def lengths(self, texts: Sequence[str], names: Sequence[str]) -> list[int]:
        """Returns the number of tokens of each text, without those that the tokenizer itself puts in front."""
        return [len(row) for row in token_ids(self.tokenizer, self._name, texts, names)]

    def notices(self, asked: Sequence[Asked]) -> tuple[str, ...]:
        """Returns one line per fact about prompts and ends that a reader of the number should know."""
        found = []
        if self.template.reasoning:
            found.append(f"the template opens a reasoning block ({self.template.reasoning}): answers start inside it")
        if self.end_tokens.passed_over:
            found.append(f"named as an end, but ordinary, and so not one: token {describe(self.end_tokens.passed_over)}")
        plain = self.template.form == "plain"
        texts = [[one.plain] if plain else [turn.content for turn in one.turns] for one in asked]
        holding = sum(any(map(self._reserved.search, contents)) for contents in texts)
        if holding:
            found.append(f"{holding} items hold the string of a special token, which is read as that token")
        return tuple(found)

    def _probe(self, chat: ChatTemplate) -> tuple[Template, str | None]:
        """Returns the template's description, and the text that it writes behind an assistant's turn; ``None`` if none."""
        turn = [Turn("user", WORDS)]
        short, full, answered = chat.attempt(
            [
                Conversation([Turn("user", PROBE)]),
                Conversation(turn),
                Conversation([*turn, Turn("assistant", ANSWER)], opened=False),
            ]
        )
        if error := short.error or full.error:
            raise PreflightError(error)
        tulu = short.text == TULU_PROBE and full.text == render_tulu(turn)
        reasoning = opened_reasoning(full.text.rpartition("zq8user")[2])
        template = Template("tulu" if tulu else "chat", text_hash(short.text), "tokenizer", reasoning=reasoning)
        return template, answered.text.rpartition(ANSWER)[2] if answered.text else None

    def _added_in_front(self) -> tuple[int, ...]:
        """Returns the special tokens that the tokenizer itself puts before a text, without those that it puts behind."""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return tuple(full[:start])
        return ()
