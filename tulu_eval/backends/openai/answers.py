"""What an answer of an OpenAI-compatible server comes to: its one choice, its token ids or text, and its end."""

from __future__ import annotations

from typing import Any

from tulu_eval.backends.growing import Finisher, GrowingRow
from tulu_eval.endpoint.answer import end_of, text_of
from tulu_eval.endpoint.said import one_line
from tulu_eval.models.base import Prompts
from tulu_eval.records import Completion, Decoding, Request


class AnswerError(Exception):
    """An answer with status 200 that is no completion."""

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


def read_choice(data: dict[str, Any], prompts: Prompts) -> tuple[dict[str, Any], int | list[int] | None, str]:
    """Returns an answer's only choice, the prompt as the server saw it (ids or their number), and the model's name.

    Raises:
        AnswerError: Not exactly one choice with index 0.
    """
    choices = data.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise AnswerError("HTTP 200 without choices")
    indexes = [choice.get("index") or 0 for choice in choices]
    if indexes != [0]:
        raise AnswerError(f"HTTP 200 with choices {one_line(str(indexes), 40)} for one request")
    usage = data.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    seen = choices[0].get("prompt_token_ids") if prompts != "chat" else None
    return choices[0], seen if isinstance(seen, list) else counted, str(data.get("model", ""))


def check_prompt(request: Request, prompts: Prompts, seen: int | list[int] | None) -> None:
    """Raises AnswerError if a server answered another prompt than the token ids that it was sent."""
    if prompts != "tokens" or seen is None:
        return
    if isinstance(seen, list) and seen != list(request.token_ids):
        raise AnswerError("the server answered other prompt token ids than it was sent")
    if isinstance(seen, int) and seen != len(request.token_ids):
        raise AnswerError(f"the server counts {seen} prompt tokens where {len(request.token_ids)} were sent")


def token_ids_of(choice: dict[str, Any]) -> tuple[int, ...] | None:
    """Returns new tokens' ids where a server has them (vLLM: ``return_token_ids``); raises AnswerError if they are no ids."""
    ids = choice.get("token_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in ids):
        raise AnswerError("the server returned token ids that are not whole numbers")
    return tuple(ids)


def from_tokens(
    ids: tuple[int, ...], request: Request, decoding: Decoding, finisher: Finisher, eos_ids: tuple[int, ...]
) -> Completion:
    """Returns the completion of a server's token ids, as our engines make it; raises AnswerError if it passes an end token."""
    *before, last = ids
    if set(before) & set(eos_ids):
        raise AnswerError("the server went on after an end token", retry=False)
    row = GrowingRow.begin(request, decoding)
    row.tokens.extend(before)
    return finisher.advance(row, last) or row.fail(f"the server ended it early, after {len(ids)} tokens")


def from_text(choice: dict[str, Any], ids: tuple[int, ...], request: Request, decoding: Decoding) -> tuple[Completion, bool]:
    """Returns the completion of a server's text, cut at the first stop string should the server have left it in.

    Also returns whether the server broke it off, so that it is worth another try. A text is kept whatever word came with it.

    Raises:
        AnswerError: There is no text.
    """
    message = choice.get("message")
    if isinstance(message, dict):
        text = text_of(message)
        text = message.get("refusal") or "" if text == "" else text
    else:
        text = choice["text"] or "" if "text" in choice else None
    if not isinstance(text, str):
        raise AnswerError("HTTP 200 without a text")
    reason, detail, retry = end_of(choice.get("finish_reason"))
    cuts = [at for stop in decoding.stop if (at := text.find(stop)) >= 0]
    return Completion(request.key, text[: min(cuts)] if cuts else text, ids, reason, 0.0, detail), retry
