"""A model behind a server, as a plan needs it: its name there, its files here if there are any, and the form of prompts."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

from tulu_eval.endpoint.url import parse_base_url
from tulu_eval.errors import PreflightError, UnknownName, UserError
from tulu_eval.models import resolve
from tulu_eval.models.base import SERVED, ModelFiles, Prompts, Served
from tulu_eval.models.server import Server, look, takes
from tulu_eval.models.server_request import RequestForm
from tulu_eval.models.text_writer import TextWriter
from tulu_eval.models.tokenizer import PromptWriter, load_for_prompts
from tulu_eval.records import Decoding, Request
from tulu_eval.registry import Model, Suite

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """A served model before any prompt is sent to it.

    Attributes:
        served: The server, with the model's name there and the form of prompts.
        model: The model's files; only its name if it is not here.
    """

    served: Served
    model: ModelFiles
    writer: PromptWriter | TextWriter


def settle(name: str, served: Served, suite: Suite, *, called: str = "", trust_remote_code: bool = False) -> Settled:
    """Looks at a server and returns its model, its name there and the form of prompts.

    Prompts go as token ids if the tokenizer is here and the server takes them. If ``prompts`` is ``auto`` and they cannot, a
    warning says so, because chat turns give another number. ``called`` is the name under which results of a model outside the
    registry are filed; empty for a name made here.

    Raises:
        UserError: If the server is down, has no such model, or does not take prompts in the form asked for.
    """
    server = look(served)
    files, known, missing = _files(name, suite, called)
    asked = name.partition("@")[0]
    path = Path(os.path.expanduser(asked)).resolve()  # unlike Path.expanduser, it leaves an unknown user's home as it is
    aliases = [asked, str(path), files.name if files else "", path.name if _is_here(name) else ""]
    aliases += [known.name, known.hub_id] if known else []
    given = served.name or parse_base_url(served.url).deployment
    there = server.find([given] if given else filter(None, aliases), served.url, bool(given))
    served = dataclasses.replace(served, name=there)
    writer: PromptWriter | TextWriter | None = None
    if served.prompts in ("auto", "tokens"):
        if files:
            tokenizer = load_for_prompts(files.path, files.name, trust_remote_code)
            tulu = known is not None and known.template == "tulu"
            writer = PromptWriter(tokenizer, files.name, tulu=tulu, folder=files.path)
            missing = _refusal(writer, served, server)
        served = dataclasses.replace(served, prompts=_choose(served, missing))
    if served.prompts != "tokens" or writer is None:
        writer = TextWriter(turns=served.prompts == "chat")
    if files is None:
        only = called or (known.hub_id if known else asked)
        files = ModelFiles(only, Path(), SERVED, "", "", "unknown", 0, SERVED, server.contexts.get(there, 0), 0)
    return Settled(served, files, writer)


def _files(name: str, suite: Suite, called: str) -> tuple[ModelFiles | None, Model | None, str]:
    """Returns a model's files and its entry in the registry, or why its files are not here."""
    try:
        return (*resolve.resolve(name, suite, called=called), "")
    except UserError as error:
        if _is_here(name):
            raise
        try:
            known = suite.find(name.partition("@")[0])
        except UnknownName:
            if called:
                resolve.check_name(called, suite)
            return None, None, f"no tokenizer of {name!r} is here"
        if called:
            raise
        return None, known, str(error)


def _is_here(name: str) -> bool:
    try:
        return resolve.find_path(name) is not None
    except PreflightError:  # a path of the server's machine
        return False


def _refusal(writer: PromptWriter, served: Served, server: Server) -> str:
    """Returns why a server does not take token ids; empty if it does."""
    asked = RequestForm(dataclasses.replace(served, prompts="tokens"), server, writer.end_tokens.ids, 0)
    (ids,) = writer.encode(["The answer is"], ["probe"])
    body = asked.body(Request("", ids, ""), Decoding(1)) | {"max_tokens": 1}
    reason = takes(served, asked.path, body, len(ids))
    return f"the server {served.url} does not take token ids as a prompt ({reason})" if reason else ""


def _choose(served: Served, missing: str) -> Prompts:
    if not missing:
        return "tokens"
    if served.prompts == "tokens":
        raise PreflightError(f"--prompts tokens: {missing}; --prompts chat sends turns to the server's own template")
    _LOG.warning("prompts go as chat turns, to the server's own template: %s", missing)
    return "chat"
