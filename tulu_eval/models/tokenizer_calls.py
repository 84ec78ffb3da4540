"""The one place that calls a tokenizer: in bounded time, with one line for every exception."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tulu_eval.errors import PreflightError, UserError

T = TypeVar("T")

SECONDS = 60.0
"""Wall seconds per call of a tokenizer, and one more per :data:`PER_SECOND` characters."""

PER_SECOND = 20_000
"""Characters per second; the slowest tokenizers, those in Python, read ten times as many."""


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turns every exception of a tokenizer into one line that begins with ``what``.

    A tokenizer raises Python's classes, bare ``Exception`` from the Rust code of tokenizers, and that code's panics, which are
    not subclasses of ``Exception``.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        cause = " ".join(str(error).split())[:300] or type(error).__name__
        raise PreflightError(f"{what}: {cause}") from error


def token_ids(tokenizer: Any, model: str, texts: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Returns the token ids of texts, without special tokens in front or behind.

    ``model`` and ``names``, one per text such as ``item test-7``, are for error messages.

    Raises:
        PreflightError: If the tokenizer refuses a text, or takes too long.
    """
    what = f"the tokenizer of {model} does not take"
    try:
        return _encode(tokenizer, list(texts), f"{what} the prompts")
    except PreflightError:
        for name, text in zip(names, texts, strict=True):
            _encode(tokenizer, [text], f"{name}: {what} the prompt")
        raise


def _encode(tokenizer: Any, texts: list[str], what: str) -> list[list[int]]:
    def call() -> list[list[int]]:
        with told(what):
            return list(tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"])

    return within(SECONDS + sum(map(len, texts)) / PER_SECOND, what, call)


def cut(tokenizer: Any, model: str, text: str, longest: int, name: str) -> str:
    """Returns a text of more than ``longest`` tokens cut to these and decoded again, any other text unchanged.

    The tokens count, and are decoded, with the special ones that the tokenizer itself adds, e.g. ``<s>`` in front.

    Raises:
        PreflightError: If the tokenizer refuses the text, or takes too long.
    """
    what = f"{name}: the tokenizer of {model} does not cut the passage"

    def call() -> str:
        with told(what):
            ids = tokenizer.encode(text)
            return text if len(ids) <= longest else str(tokenizer.decode(ids[:longest]))

    return within(SECONDS + len(text) / PER_SECOND, what, call)


def check_text(name: str, *texts: str) -> None:
    """Checks that texts can be encoded.

    Raises:
        PreflightError: If a text has a lone surrogate, which is half of a character in UTF-16.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(text[error.start]):04x}"
            raise PreflightError(
                f"{name}: its text has a lone surrogate ({half}, character {error.start + 1}), which no tokenizer takes; "
                "mend the data"
            ) from error


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Returns the result of a call; one that takes too long goes on in a thread that ends with the program.

    Raises:
        PreflightError: If it takes longer than ``seconds``.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="tokenizer", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise PreflightError(f"{what}: it takes more than {seconds:.0f} s")
    if failed:
        raise failed[0]
    return done[0]
