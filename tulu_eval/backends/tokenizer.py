r"""From a benchmark's prompt to a model's token ids: template, beginning-of-sequence token, end tokens.

Three forms, in this order:

* ``tulu``: the Tulu template, ``<|user|>\n{content}\n<|assistant|>\n``. The tokenizers of the Tulu 2 and 2.5 repositories carry
  it as Jinja, which renders one user turn to the same bytes as open-instruct's ``create_prompt_with_tulu_chat_format``
  (``eval/templates.py`` @ ea3467db); a tokenizer without it gets it where the registry says the model was trained with it.
* ``chat``: the tokenizer's own template.
* ``plain``: no template, the benchmark's completion form.

Exactly one beginning-of-sequence token stands first where the tokenizer adds one (Llama 2 and 3: the template has none, the
tokenizer adds it) or the template writes one; never two. A tokenizer that neither adds nor writes one gets none, as in vLLM.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tulu_eval.errors import PreflightError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Form = Literal["tulu", "chat", "plain", "served"]


@dataclasses.dataclass(frozen=True, slots=True)
class Template:
    """How a user turn becomes text.

    Attributes:
        form: Which of the three forms; ``served`` where a server applies a template of its own, which is not known here.
        sha256: Hash of one rendered probe turn, so that equal renderings have equal hashes whatever their source.
        source: ``tokenizer``, ``registry``, ``server`` or ``none``.
    """

    form: Form
    sha256: str
    source: str


def render_tulu(content: str) -> str:
    """Returns one user turn and the assistant's tag, as the Tulu suite was trained and evaluated."""
    return f"<|user|>\n{content}\n<|assistant|>\n"


def load_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Loads a model's tokenizer from disk.

    Raises:
        PreflightError: There is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PreflightError(f"the tokenizer of {name} cannot be loaded from {folder}: {cause}") from error


class PromptWriter:
    """Writes prompts for one tokenizer.

    Args:
        tokenizer: The model's.
        tulu: Whether the registry says that the model was trained with the Tulu template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, tulu: bool) -> None:
        self.tokenizer: Any = tokenizer
        probe = "probe"
        if self.tokenizer.chat_template:
            rendered = self._chat(probe)
            self.template = Template("tulu" if rendered == render_tulu(probe) else "chat", _sha256(rendered), "tokenizer")
        elif tulu:
            self.template = Template("tulu", _sha256(render_tulu(probe)), "registry")
        else:
            self.template = Template("plain", _sha256(""), "none")
        self._lead = self._added_in_front()

    def text(self, user: str, prefill: str, plain: str) -> str:
        """Returns the prompt; the prefill follows a space unless the template ends in a newline (open-instruct's rule)."""
        if self.template.form == "plain":
            return plain
        turn = render_tulu(user) if self.template.form == "tulu" else self._chat(user)
        if not prefill:
            return turn
        return turn + (prefill if turn.endswith("\n") else " " + prefill)

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns the token ids of prompts, with the beginning-of-sequence token exactly once where there is one."""
        rows = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
        lead = self._lead
        return [tuple(row) if tuple(row[: len(lead)]) == lead else (*lead, *row) for row in rows]

    def eos_ids(self) -> tuple[int, ...]:
        """Returns the tokens that end a completion: the tokenizer's own, and the one its template closes a turn with.

        A model's ``generation_config`` is not asked: those of the released Llama-3 Tulu checkpoints say 2, an ordinary token
        of that vocabulary.

        Raises:
            PreflightError: There is none.
        """
        ids = [] if self.tokenizer.eos_token_id is None else [int(self.tokenizer.eos_token_id)]
        closing = self._turn_end()
        if closing is not None and closing not in ids:
            ids.append(closing)
        if not ids:
            raise PreflightError("the tokenizer has no end-of-sequence token, so no completion could end")
        return tuple(ids)

    def _chat(self, content: str) -> str:
        turns = [{"role": "user", "content": content}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _added_in_front(self) -> tuple[int, ...]:
        """Returns the special tokens that the tokenizer itself puts before a text (what it puts behind is left out)."""
        bare = self.tokenizer("a", add_special_tokens=False)["input_ids"]
        full = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return tuple(full[:start])
        return ()

    def _turn_end(self) -> int | None:
        """Returns the special token right behind an assistant's turn in the tokenizer's template, if there is one."""
        if self.template.source != "tokenizer":
            return None
        mark = "tulu-eval probe"
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
        rendered = str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        behind = self.tokenizer(rendered.rpartition(mark)[2], add_special_tokens=False)["input_ids"]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        return int(behind[0]) if behind and behind[0] in special else None


class TextWriter:
    """Writes prompts for a server that tokenizes them: a user's turn, or a base model's text.

    A turn is sent alone: the protocol has no way to begin the assistant's, so a prefill is left out.

    Args:
        turns: Turns for the server's template, rather than texts for a base model.
    """

    def __init__(self, *, turns: bool) -> None:
        self.template = (
            Template("served", _sha256("user's turn"), "server") if turns else Template("plain", _sha256(""), "none")
        )

    def text(self, user: str, prefill: str, plain: str) -> str:
        """Returns the content of the turn, or the text."""
        return user if self.template.form == "served" else plain

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns no token ids, for each text."""
        return [() for _ in texts]

    def eos_ids(self) -> tuple[int, ...]:
        """Returns none: the server ends at its own."""
        return ()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
