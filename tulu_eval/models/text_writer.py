"""Prompts for a server that tokenizes them itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tulu_eval.benchmarks.hypothesis import Writing
from tulu_eval.errors import PreflightError
from tulu_eval.models.end_tokens import EndTokens
from tulu_eval.models.prompt_form import Asked, Template, check_asked, probe_of, text_hash
from tulu_eval.models.template import ANY_DAY
from tulu_eval.records import to_json


class TextWriter:
    """Writes prompts for a server that tokenizes them: turns, or a base model's text.

    The server's protocol has no way to begin the assistant's answer, so a prefill is left out.

    Args:
        turns: Whether prompts are turns for the server's template, rather than texts for a base model.

    Attributes:
        template: ``served``, because the server's own is not known here, or ``plain``.
        end_tokens: Empty, because the server ends at its own.
        dated: False, because what the server's template writes is not known.
    """

    def __init__(self, *, turns: bool) -> None:
        self.template = (
            Template("served", text_hash("user's turn"), "server") if turns else Template("plain", text_hash(""), "none")
        )
        self.end_tokens = EndTokens()
        self.dated = False

    def without_template(self) -> TextWriter:
        """Returns a writer of the plain form, for a benchmark that sends it to every model.

        Raises:
            PreflightError: If the server is asked for turns, around which it puts its template.
        """
        if self.template.form != "plain":
            raise PreflightError(
                "this protocol sends texts without a chat template, and the server is sent turns: --prompts text"
            )
        return self

    def written(self, how: Writing) -> TextWriter:
        """Raises PreflightError: the server writes the prompts, and no other form can be asked of it."""
        raise PreflightError(f"the server writes its prompts itself, so none is written otherwise ({how}) with this server")

    def template_of(self, asked: Sequence[Asked]) -> Template:
        """Returns the template; its hash is another where prompts have several turns, because they are sent in another form."""
        if self.template.form == "plain" or len(probe_of(asked)) == 1:
            return self.template
        return dataclasses.replace(self.template, sha256=text_hash("turns"))

    def texts(self, asked: Sequence[Asked], names: Sequence[str], date: str = ANY_DAY) -> list[str]:
        """Returns the content of each prompt's one turn, several turns as JSON, or the text for a base model."""
        check_asked(asked, names)
        if self.template.form == "plain":
            return [one.plain for one in asked]
        return [
            one.turns[0].content if len(one.turns) == 1 else to_json([turn._asdict() for turn in one.turns]) for one in asked
        ]

    def encode(self, texts: Sequence[str], names: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns an empty row of token ids for each text."""
        return [() for _ in texts]

    def notices(self, asked: Sequence[Asked]) -> tuple[str, ...]:
        """Returns nothing: the server's template and tokenizer are not known here."""
        return ()
