"""Reads a reply of an endpoint: the data of a good answer, a failure with its cause, or an error that stops the client.

The reader replaces the key by ``[key]`` wherever a server repeats it, before anything of a reply is kept or shown.
"""

from __future__ import annotations

import codecs
import dataclasses
import email.utils
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from tulu_eval import files
from tulu_eval.endpoint.said import HIDDEN, Redactor, error_in, status_in, words_of
from tulu_eval.endpoint.url import BaseUrl
from tulu_eval.endpoint.wire import Reply
from tulu_eval.errors import DataError, UserError

_LOG = logging.getLogger(__name__)

LONGEST_RETRY_AFTER = 300.0
"""Longest ``Retry-After`` that the client obeys, in seconds; a longer one means a quota that will not return in time."""

RETRIED = frozenset({408, 409, 425, 429})


class EndpointError(UserError):
    """The endpoint will not answer. Its earlier answers are kept, so the command can resume."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is not an answer.

    Attributes:
        status: HTTP status; for an error with status 200, the status that the error names.
        detail: One line for the user.
        code: The error's code or type, as the endpoint gave it; empty for none.
        wait: Seconds to wait before it, as the endpoint asked; ``None`` if it did not ask.
    """

    status: int
    detail: str
    code: str
    retry: bool = False
    wait: float | None = None


class ReplyReader:
    """Reads the replies of one endpoint.

    Args:
        key: The key to remove from replies; empty for none.
        role: Name of the endpoint in messages, e.g. ``judge``.
        variable: Environment variable of the key, for messages.
    """

    def __init__(self, url: BaseUrl, key: str, role: str, variable: str) -> None:
        self._url, self._role, self._variable = url, role, variable
        self._hidden = Redactor(key)

    @property
    def key_repeated(self) -> bool:
        """Whether a reply so far contained the key."""
        return self._hidden.found

    def read(self, reply: Reply) -> dict[str, Any] | Failure:
        """Returns the JSON object of a good answer, without the key, or the failure of any other reply.

        Raises:
            EndpointError: If the reply means that the endpoint will answer no request.
        """
        if reply.status != 200:
            return self.read_failure(reply)
        try:
            data = self.parse(reply.body)
        except DataError as error:
            said = self.clean(words_of(reply.body))
            wrong = "has a name twice" if "twice in one object" in str(error) else "is not JSON"
            return Failure(200, f"HTTP 200 with a body that {wrong}{': ' + said if said else ''}", "", retry=True)
        if not isinstance(data, dict):
            return Failure(200, "HTTP 200 with a body that is not a JSON object", "", retry=True)
        if data.get("error") or data.get("object") == "error":
            status = status_in(data)
            if not status:
                message, code = error_in(data)
                return Failure(200, f"HTTP 200 with an error: {self.clean(message) or 'unnamed'}", self.clean(code), retry=True)
            return self._failure(status, data, reply.headers, f"HTTP 200 with error {status}")
        return data

    def parse(self, body: bytes) -> Any:
        """Returns JSON data without the key; servers write a probability of 0 as ``-Infinity``, and cut characters in halves.

        Raises:
            DataError: If the body is not JSON, is nested too deeply, or has a name twice in one object.
        """
        text = body.removeprefix(codecs.BOM_UTF8)
        return self._told(self._hidden.data, files.parse_json(text, files.Place("the answer"), nan=True, halves=True))

    def hide(self, text: str) -> str:
        """Returns, without the key, a text that the caller decoded from an answer's tokens."""
        return str(self._told(self._hidden.text, text))

    def _told(self, hide: Callable[[Any], Any], said: Any) -> Any:
        """Returns ``said`` without the key; logs one warning the first time that it contained the key."""
        before = self._hidden.found
        kept = hide(said)
        if self._hidden.found and not before:
            _LOG.warning("the %s repeats the key in its answers; %s replaces it", self._role, HIDDEN)
        return kept

    def read_failure(self, reply: Reply) -> Failure:
        """Returns the failure of a reply whose status is not 200."""
        try:
            data = self.parse(reply.body)
        except DataError:
            data = words_of(reply.body)
        return self._failure(reply.status, data, reply.headers, f"HTTP {reply.status}")

    def _failure(self, status: int, data: Any, headers: Mapping[str, str], name: str) -> Failure:
        """Returns the failure of a status with its cause; raises what :meth:`read_failure` raises."""
        message, code = error_in(data)
        said, code = self.clean(message), self.clean(code)
        detail = f"{name}{': ' + said if said else ''}"
        if status in (401, 403):
            raise EndpointError(
                f"the {self._role} {self._url} does not accept the key ({detail}), which is read from {self._variable}; "
                "nothing was retried"
            )
        if 300 <= status < 400:
            raise EndpointError(f"the {self._role} {self._url} redirects ({name}); give the address to which it redirects")
        if code == "insufficient_quota":
            raise EndpointError(f"the account at the {self._role} {self._url} has no quota left ({detail})")
        if status in RETRIED or status >= 500:
            pause = retry_after(headers)
            if pause is not None and pause > LONGEST_RETRY_AFTER:
                raise EndpointError(
                    f"the {self._role} {self._url} asks to wait {pause:.0f} s ({detail}); run the command again then"
                )
            return Failure(status, detail, code, retry=True, wait=pause)
        return Failure(status, detail, code)

    def clean(self, text: str) -> str:
        """Returns a server's text as one printable line without the key."""
        return self._hidden.line(text)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds of ``Retry-After``, which is a number of seconds or a date; ``None`` if there is none."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
