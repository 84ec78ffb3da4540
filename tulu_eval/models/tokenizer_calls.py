"""The one place that calls a tokenizer: in bounded time, and with one line for whatever it raises."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from tulu_eval.errors import PreflightError, UserError

T = TypeVar("T")

SECONDS = 60.0
"""Wall seconds that the tokenizer gets for a call, and one more for each :data:`PER_SECOND` characters."""

PER_SECOND = 20_000
"""Characters; the slowest tokenizers, those in Python, read ten times as many in a second."""


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turns whatever a tokenizer raises into one line that begins with ``what``.

    The classes are many: those of Python, bare ``Exception`` from tokenizers' Rust code, and its panics, which are no
    ``Exception`` at all.
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
    """Returns the token ids of texts, nothing put in front or behind.

    Args:
        tokenizer: Of transformers.
        model: Name of the model, for messages.
        texts: What to encode.
        names: What a message calls each, such as ``item test-7``.

    Raises:
        PreflightError: If the tokenizer does not take a text, or takes too long.
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


def check_text(name: str, *texts: str) -> None:
    """Refuses texts that no tokenizer takes.

    Raises:
        PreflightError: If one has a lone surrogate, half of a character that UTF-16 writes in two.
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
    """Returns what a call returns, if it does so in time; one that does not goes on in a thread that ends with the program.

    Raises:
        PreflightError: If it takes longer.
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
