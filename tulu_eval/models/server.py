"""Asks a server, before any prompt, for its software, models and positions, and whether it takes token ids."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tulu_eval.endpoint.client import LONGEST_TIMEOUT, SHORT_TIMEOUT, Attempt, Client
from tulu_eval.endpoint.replies import EndpointError, Failure
from tulu_eval.endpoint.said import error_in, one_line
from tulu_eval.endpoint.url import key_for, parse_base_url
from tulu_eval.endpoint.wire import Connection, DroppedError, Reply
from tulu_eval.errors import DataError, PreflightError, UnknownName, UserError
from tulu_eval.models.base import Served

KEY_VARIABLE = "TULU_EVAL_SERVER_KEY"
"""Environment variable with the server's key; for OpenAI's own host ``OPENAI_API_KEY`` also serves."""

CONCURRENCY = 64
"""Requests in flight unless ``--batch-size`` says otherwise.

An engine that decodes hundreds of rows together is kept busy; a provider that wants fewer says so with 429 and ``Retry-After``.
"""

TRIES = 3
"""Attempts per question about the server itself; with the waits between them, a failing one takes about two seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """What answers at a base URL.

    Attributes:
        software: Such as ``vllm-0.32.0``; ``unknown`` if it does not say.
        contexts: Number of positions by name of each listed model; 0 if it does not say.
        lists: Whether its list has the names to ask for; Azure lists models but is asked for deployments.
    """

    software: str
    contexts: Mapping[str, int]
    lists: bool = True

    @property
    def is_vllm(self) -> bool:
        """Whether it takes vLLM's own fields."""
        return self.software.startswith("vllm")

    def find(self, names: Iterable[str], url: str, given: bool) -> str:
        """Returns the first of some names that the server lists; the first of all if its list has no names to ask for.

        ``given`` says whether the user gave the name with ``--served-name``.

        Raises:
            UserError: If it lists none of them; the message lists the names that it has.
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name in self.contexts or not self.lists:
                return name
        if len(self.contexts) == 1 and not given:
            (only,) = self.contexts
            raise PreflightError(
                f"the server {url} has {only!r}, not {wanted[0]!r}; if these are the same weights, say --served-name {only}"
            )
        raise UnknownName(f"model at {url}", wanted[0], self.contexts)


def client_of(served: Served, *, concurrency: int = 1, timeout: float | None = None, attempts: int = TRIES) -> Client:
    """Returns a client of a server with the key from the environment.

    Raises:
        UserError: If the URL, the key or the timeout cannot be used.
    """
    if not 0 < served.timeout <= LONGEST_TIMEOUT:
        raise UserError(f"--timeout must be more than 0 seconds, and at most a day's, not {served.timeout:g}")
    key = key_for(parse_base_url(served.url, "the server"), os.environ, KEY_VARIABLE)
    return Client(
        served.url,
        key,
        concurrency=concurrency,
        timeout=timeout or min(served.timeout, SHORT_TIMEOUT),
        attempts=attempts,
        role="server",
        variable=KEY_VARIABLE,
    )


def look(served: Served) -> Server:
    """Returns what answers at a base URL.

    Raises:
        EndpointError: If nothing answers, the server speaks another protocol, or it does not accept the key.
    """
    client = client_of(served)
    if client.url.azure:
        return _look_at_azure(client)
    listing = _get(client, "/models")
    entries = _entries(listing)
    if entries is None:
        cause = client.reader.clean(error_in(listing)[0]) if isinstance(listing, dict) else ""
        raise EndpointError(_foreign(client, f"GET /models: {cause}" if cause else "GET /models has no list of models"))
    software = "unknown"
    if any(entry.get("owned_by") == "vllm" for entry in entries):
        software = f"vllm-{_version(served)}"
    return Server(software, {one_line(str(entry.get("id", ""))): _positions(entry.get("max_model_len")) for entry in entries})


def _positions(said: Any) -> int:
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else 0


def _look_at_azure(client: Client) -> Server:
    """Returns Azure once it answers; it lists the models that could be deployed, not the deployments."""
    reply = _reach(client, "/models")
    if reply.status in (401, 403):
        client.reader.read_failure(reply)
    return Server(f"azure-{client.url.api_version or 'v1'}", {}, lists=False)


def takes(served: Served, path: str, body: dict[str, Any], prompt_tokens: int) -> str:
    """Sends one request and returns why the server does not take its kind; empty if it does.

    ``prompt_tokens`` is the number of tokens that the server has to count in the prompt, if it counts them.
    """
    client = client_of(served, timeout=served.timeout)
    found: list[str] = []

    def send(connection: Connection, _job: str) -> Attempt[str]:
        try:
            reply = connection.request("POST", path, body)
        except DroppedError as error:
            return Attempt(f"{error.kind}: {error}", "failed", retry=True)
        data = client.reader.read(reply)
        if isinstance(data, Failure):
            return Attempt(data.detail, "failed", retry=data.retry, wait=data.wait)
        choices, usage = data.get("choices"), data.get("usage")
        if not isinstance(choices, list) or not choices:
            return Attempt("its answer has no choices", "answered")
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        wrong = isinstance(counted, int) and counted != prompt_tokens
        return Attempt(f"it counts {counted} tokens where {prompt_tokens} were sent" if wrong else "", "answered")

    client.ask([path], send, found.append)
    return found[0]


def _reach(client: Client, path: str) -> Reply:
    """Returns the reply to one GET; raises :class:`EndpointError` if nothing answers."""
    try:
        return client.get(path)
    except DroppedError as error:
        raise EndpointError(f"nothing answers at {client.url} ({error}); is the server up?") from error


def _get(client: Client, path: str) -> Any:
    """Returns the JSON data of a GET, ``None`` if the body is not JSON; raises :class:`EndpointError` for a bad status."""
    found: list[Reply | str] = []

    def send(connection: Connection, job: str) -> Attempt[Reply | str]:
        try:
            reply = connection.request("GET", job)
        except DroppedError as error:
            if not error.sent:
                raise EndpointError(f"nothing answers at {client.url} ({error}); is the server up?") from error
            return Attempt(f"{client.url} does not answer as a server should ({error.kind}: {error})", "failed", retry=True)
        if reply.status == 200:
            return Attempt(reply, "answered")
        failure = client.reader.read_failure(reply)
        words = f"the server {client.url} fails ({failure.detail})"
        detail = words if failure.retry else _foreign(client, f"GET {job}: {failure.detail}")
        return Attempt(detail, "failed", retry=failure.retry, wait=failure.wait)

    client.ask([path], send, found.append)
    if isinstance(found[0], str):
        raise EndpointError(found[0])
    return _parsed(client, found[0])


def _foreign(client: Client, cause: str) -> str:
    return f"{client.url} does not speak the OpenAI protocol ({cause}){client.url.hint}"


def _entries(data: Any) -> list[dict[str, Any]] | None:
    entries = data.get("data") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    return entries


def _parsed(client: Client, reply: Reply) -> Any:
    try:
        return client.reader.parse(reply.body)
    except DataError:
        return None


def _version(served: Served) -> str:
    """Returns vLLM's version, which is outside the OpenAI protocol; ``unknown`` if a proxy hides it.

    It becomes a part of the signature, so only the characters of a version are accepted.
    """
    url = parse_base_url(served.url)
    client = client_of(dataclasses.replace(served, url=str(url._replace(path=url.path.removesuffix("/v1")))))
    try:
        reply = client.get("/version")
    except DroppedError:
        return "unknown"
    data = _parsed(client, reply) if reply.status == 200 else None
    version = data.get("version") if isinstance(data, dict) else None
    return version if isinstance(version, str) and re.fullmatch(r"[\w.+-]{1,40}", version, re.ASCII) else "unknown"
