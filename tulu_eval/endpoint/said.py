"""Makes a server's texts safe to keep and to show: one line, no control characters, and never the key.

A server's answers are untrusted: they may repeat the key in any field, control a terminal, or have a lone surrogate, which no
file can hold. So every answer passes through this module before it is kept.
"""

from __future__ import annotations

import html
import json
import re
import urllib.parse
from typing import Any

from tulu_eval.errors import printable

HIDDEN = "[key]"
"""Replaces the key where a server repeats it."""

SHORTEST_SECRET = 8
"""Shortest key that is a secret, in characters. Removing a shorter one, e.g. the usual ``EMPTY``, would change answers."""

LONGEST_LINE = 160
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_DEPTH = 6
"""Levels of nesting in which to search for an error's cause; FastAPI's is at the third."""


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Returns at most ``limit`` characters of a text as one line of printable characters."""
    flat = " ".join(text.split())
    return printable(flat if len(flat) <= limit else flat[: limit - 1] + "…")


class Redactor:
    """Removes a key from a server's texts, in its plain form and as JSON and URLs escape it.

    Args:
        key: The key; empty for none.

    Attributes:
        found: Whether an answer's data or text contained the key.
    """

    def __init__(self, key: str) -> None:
        escaped, quoted = json.dumps(key)[1:-1], urllib.parse.quote(key, safe="")
        forms = {key, escaped, escaped.replace("/", "\\/"), quoted, re.sub("%..", lambda code: code[0].lower(), quoted)} - {""}
        self._forms = sorted(forms, key=len, reverse=True)
        self._secret = len(key) >= SHORTEST_SECRET
        self.found = False

    def line(self, text: str, limit: int = LONGEST_LINE) -> str:
        """Returns one line about a request without the key; this removes a short key too, because no answer changes."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return one_line(text, limit)

    def text(self, text: str) -> str:
        """Returns a text of any length without the key and without lone surrogates."""
        for form in self._forms if self._secret else ():
            if form in text:
                text = text.replace(form, HIDDEN)
                self.found = True
        return text if text.isascii() else _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)

    def data(self, data: Any) -> Any:
        """Returns JSON data after applying :meth:`text` to every string in it, including field names."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, list):
            return [one if isinstance(one, int) else self.data(one) for one in data]
        if isinstance(data, dict):
            return {self.text(name): self.data(one) for name, one in data.items()}
        return data


def words_of(body: bytes) -> str:
    """Returns the text of a body that is not JSON: an HTML page's title, else the page's words; any other body as it is."""
    text = body.decode("utf-8", "replace")
    if not text.lstrip().startswith("<"):
        return text
    page = text.lstrip()[:20_000]
    title = re.search(r"<(?:title|h1)[^<>]{0,200}>([^<>]{1,300})", page, re.IGNORECASE)
    return html.unescape(title[1] if title else re.sub(r"<[^<>]{0,500}>", " ", page))


def error_in(data: Any, depth: int = _DEPTH) -> tuple[str, str]:
    """Returns the message and the code of an error; either is empty if not found.

    It reads these forms: OpenAI's ``{"error": {"message", "code", "type"}}``; FastAPI's ``{"detail": ...}``, a text or a list
    of ``{"loc", "msg"}`` (fastapi ``exception_handlers.py``); ``{"message"}`` alone; RFC 9457's ``{"title", "detail"}``; a text
    in place of any of these.
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
    """Returns the HTTP status that an answer's ``error`` names; 0 if it names none."""
    for holder in (data.get("error"), data):
        if isinstance(holder, dict):
            for text in (str(holder.get(name)) for name in ("code", "status", "status_code")):
                if re.fullmatch(r"[45][0-9][0-9]", text):
                    return int(text)
    return 0
