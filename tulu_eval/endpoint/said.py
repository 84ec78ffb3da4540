"""What a server says, made safe to keep and to show: one line, no control characters, and never the key.

Whatever a server answers is untrusted: it may repeat the key in any field, steer a terminal, or send half of a surrogate
pair, which no file takes. So everything goes through here before it is kept.
"""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from typing import Any

from tulu_eval.errors import printable

HIDDEN = "[key]"
"""Stands where a server repeated the key."""

SHORTEST_SECRET = 8
"""Characters. A shorter key, such as the customary ``EMPTY``, is no secret; to take it out of texts would change answers."""

LONGEST_LINE = 160
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DEPTH = 6
"""Levels at which an error's cause is looked for; FastAPI's stands at the third."""


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Returns at most ``limit`` characters of a text in one line, each of them printable."""
    flat = " ".join(text.split())
    return printable(flat if len(flat) <= limit else flat[: limit - 1] + "…")


class Redactor:
    """Takes a key out of what a server says, as it is and as it stands in JSON and in a URL.

    Args:
        key: The key; empty for none.

    Attributes:
        found: Whether it stood in an answer's data or text.
    """

    def __init__(self, key: str) -> None:
        escaped, quoted = json.dumps(key)[1:-1], urllib.parse.quote(key, safe="")
        forms = {key, escaped, escaped.replace("/", "\\/"), quoted, re.sub("%..", lambda code: code[0].lower(), quoted)} - {""}
        self._forms = sorted(forms, key=len, reverse=True)
        self._secret = len(key) >= SHORTEST_SECRET
        self.found = False

    def line(self, text: str, limit: int = LONGEST_LINE) -> str:
        """Returns one line about a request: a short key goes, too, since no answer is changed by that."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return one_line(text, limit)

    def text(self, text: str) -> str:
        """Returns a text of any length without the key and without halves of surrogate pairs."""
        for form in self._forms if self._secret else ():
            if form in text:
                text = text.replace(form, HIDDEN)
                self.found = True
        return text if text.isascii() else _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)

    def data(self, data: Any) -> Any:
        """Returns JSON data with every text in it as :meth:`text` returns it, the names of fields included."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, list):
            return [one if isinstance(one, int) else self.data(one) for one in data]
        if isinstance(data, dict):
            return {self.text(name): self.data(one) for name, one in data.items()}
        return data


def words_of(body: bytes) -> str:
    """Returns what a body that is not JSON says: of a page its title, else its words; of anything else its text."""
    text = body.decode("utf-8", "replace")
    if not text.lstrip().startswith("<"):
        return text
    page = text.lstrip()[:20_000]
    title = re.search(r"<(?:title|h1)[^<>]{0,200}>([^<>]{1,300})", page, re.IGNORECASE)
    return html.unescape(title[1] if title else re.sub(r"<[^<>]{0,500}>", " ", page))


def error_in(data: Any, depth: int = _DEPTH) -> tuple[str, str]:
    """Returns the message and the code of an error, in any of the forms in use.

    OpenAI's ``{"error": {"message", "code", "type"}}``; FastAPI's ``{"detail": ...}``, a text or a list of ``{"loc", "msg"}``
    (fastapi ``exception_handlers.py``); ``{"message"}`` alone; RFC 9457's ``{"title", "detail"}``; a text in place of any.
    """
    if isinstance(data, str) or depth == 0:
        return data if isinstance(data, str) else "", ""
    if isinstance(data, list) and data:
        message, code = error_in(data[0], depth - 1)
        return message + (f" (and {len(data) - 1} more)" if len(data) > 1 else ""), code
    if not isinstance(data, dict):
        return "", ""
    code = next((str(data[name]) for name in ("code", "type") if isinstance(data.get(name), str | int) and data[name]), "")
    for name in ("error", "message", "msg", "detail", "details", "errors", "error_message", "title", "reason"):
        message, inner = error_in(data.get(name), depth - 1)
        if message:
            place = data.get("loc")
            at = ".".join(map(str, place)) + ": " if isinstance(place, list) and place else ""
            return at + message, inner or code
    return "", code


def status_in(data: dict[str, Any]) -> int:
    """Returns the HTTP status that an answer's ``error`` names; 0 where it names none."""
    for holder in (data.get("error"), data):
        if isinstance(holder, dict):
            for text in (str(holder.get(name)) for name in ("code", "status", "status_code")):
                if re.fullmatch(r"[45][0-9][0-9]", text):
                    return int(text)
    return 0
