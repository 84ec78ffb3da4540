"""Any OpenAI-compatible server as a backend: one request a prompt, many in flight, completions as they come.

Where the server takes token ids, it gets exactly those that another backend would, and where it returns the new ones (vLLM
does), text and end are made from them by the same code as elsewhere. Otherwise its text is all there is. What it says of the
prompt's length is held against what was sent, and an answer that is not one choice of the asked length is asked for again.
A request that fails after all tries is a counted row, which the same command tries again; none is lost or counted twice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

from tulu_eval.backends import branches
from tulu_eval.backends.base import Backend, EngineSettings, Traffic
from tulu_eval.backends.branches import BranchScores
from tulu_eval.backends.growing import Finisher
from tulu_eval.backends.openai.answers import AnswerError, check_prompt, from_text, from_tokens, read_choice, token_ids_of
from tulu_eval.backends.openai.logprob_calls import LogprobForm, gather
from tulu_eval.backends.openai.sending import Sender
from tulu_eval.endpoint.client import ATTEMPTS, Attempt, Client
from tulu_eval.endpoint.replies import Failure
from tulu_eval.endpoint.said import HIDDEN
from tulu_eval.endpoint.url import OPENAI_HOST
from tulu_eval.endpoint.wire import Connection
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.logprobs import Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models.base import ModelFiles, Prompts, Served
from tulu_eval.models.server import CONCURRENCY, client_of, look
from tulu_eval.models.server_request import RequestForm
from tulu_eval.records import Completion, Decoding, Kind, Request

_LOG = logging.getLogger(__name__)

KINDS_SHOWN = 8
"""Different words of a server's that are kept of one kind, so that one that makes them up fills no manifest."""

NEWER_LIMIT = "max_completion_tokens"


class OpenAIBackend(Backend):
    """A model behind an OpenAI-compatible server.

    Args:
        tokenizer: The model's, to read token ids; None where it is not here.
    """

    name: ClassVar[str] = "openai"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "choose", "score"})
    local: ClassVar[bool] = False
    own_settings: ClassVar[frozenset[str] | None] = frozenset({"served"})

    def __init__(self, asked: RequestForm, tokenizer: Any, client: Client) -> None:
        self._asked, self._tokenizer, self._client = asked, tokenizer, client
        self._sender = Sender(client, asked.served)
        self._ids_returned = False
        self._names: set[str] = set()
        self._ends: Counter[str] = Counter()
        self._closed = False

    @classmethod
    def check_kind(cls, kind: Kind, settings: EngineSettings) -> None:
        """Raises PreflightError if the prompts' form, should it be settled, has not what is asked; no request is sent."""
        super().check_kind(kind, settings)
        if settings.served is not None:
            cls._check_form(kind, settings.served.prompts)

    @staticmethod
    def _check_form(kind: Kind, prompts: Prompts) -> None:
        if kind != "generate" and prompts == "chat":
            raise PreflightError(
                "--prompts chat: chat servers give no log-probabilities of given tokens, which this benchmark needs; use "
                "--prompts tokens at a completions server, or another backend"
            )
        if kind == "choose" and prompts == "text":
            raise PreflightError("--prompts text: candidates for the next token are token ids; use --prompts tokens")

    @classmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Raises UserError, a line that says what to do, if the server, the key or the model there is missing."""
        served = _served(settings)
        look(served).find([served.name], served.url, given=True)

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Looks at the server; nothing is loaded here but the tokenizer.

        Raises:
            PreflightError: The server has fewer positions than the longest request takes.
        """
        from tulu_eval.models.tokenizer import load_tokenizer

        served = _served(settings)
        server = look(served)
        context = server.contexts.get(served.name, 0)
        if context and max_length > context:
            raise PreflightError(
                f"the longest request takes {max_length} tokens with its new ones, and {served.name!r} at {served.url} has "
                f"{context} positions; serve it with a longer context (vLLM: --max-model-len)"
            )
        tokenizer = None
        if served.prompts == "tokens":
            tokenizer = load_tokenizer(model.path, model.name, settings.trust_remote_code)
        rows = settings.batch_size or CONCURRENCY
        client = client_of(served, concurrency=rows, timeout=served.timeout, attempts=ATTEMPTS)
        own = served.prompts == "chat" and client.url.host == OPENAI_HOST
        field = NEWER_LIMIT if own else "max_tokens"
        return cls(RequestForm(served, server, eos_ids, max_length, field), tokenizer, client)

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request, as they come.

        Raises:
            EngineError: The server will not answer; what was yielded before is good.
        """
        if self._closed:
            raise EngineError("the connection to the server is closed")
        if decoding.top_k and not self._asked.server.is_vllm:
            raise EngineError(f"top_k {decoding.top_k} is no field of the OpenAI protocol, and the server is not vLLM")
        finisher = Finisher(self._tokenizer, self._asked.eos_ids, decoding, self._asked.max_length)
        began: dict[str, float] = {}

        def send(connection: Connection, request: Request) -> Attempt[Completion]:
            began.setdefault(request.key, time.perf_counter())
            return self._send(connection, request, decoding, finisher, began[request.key])

        with contextlib.closing(self._sender.stream(sorted(requests, key=lambda one: -len(one.token_ids)), send)) as stream:
            for one in stream:
                if one.finish_reason == "unknown":
                    self._note_end(one.error)
                yield one

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[Choice]:
        """Yields log-probabilities of each request's candidates, as they come; what the server cannot tell is an error."""
        self._check_form("choose", self._asked.served.prompts)
        yield from branches.choices(self._likelihoods(requests))

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scores]:
        """Yields log-probabilities of each request's continuations, as they come; what the server cannot tell is an error."""
        self._check_form("score", self._asked.served.prompts)
        yield from branches.scores(requests, self._likelihoods(requests))

    def _likelihoods(self, requests: Sequence[ChoiceRequest | ScoreRequest]) -> Iterator[BranchScores]:
        if self._closed:
            raise EngineError("the connection to the server is closed")
        yield from gather(LogprobForm(self._asked), self._sender, requests)

    def _send(
        self, connection: Connection, request: Request, decoding: Decoding, finisher: Finisher, began: float
    ) -> Attempt[Completion]:
        def failed(detail: str, *, retry: bool, wait: float | None = None) -> Attempt[Completion]:
            done = Completion(request.key, "", (), "error", time.perf_counter() - began, detail)
            return Attempt(done, "failed", detail, retry, wait)

        body = self._asked.body(request, decoding)
        data = self._sender.exchange(connection, self._asked.path, body)
        if isinstance(data, Failure):
            if data.status == 400 and NEWER_LIMIT in data.detail and NEWER_LIMIT not in body:
                self._asked = dataclasses.replace(self._asked, limit_field=NEWER_LIMIT)
                return failed(data.detail, retry=True, wait=0.0)
            return failed(data.detail, retry=data.retry, wait=data.wait)
        try:
            return self._read(data, request, decoding, finisher, began)
        except AnswerError as error:
            return failed(self._client.reader.clean(str(error)), retry=error.retry)

    def _read(
        self, data: dict[str, Any], request: Request, decoding: Decoding, finisher: Finisher, began: float
    ) -> Attempt[Completion]:
        """Returns the completion of a good answer; raises AnswerError if it is not one."""
        choice, sent, name = read_choice(data, self._asked.served.prompts)
        check_prompt(request, self._asked.served.prompts, sent)
        ids, limit = token_ids_of(choice), self._asked.limit(request, decoding)
        if ids is not None and len(ids) > limit:
            raise AnswerError(f"the server returned {len(ids)} tokens where at most {limit} were asked for")
        self._ids_returned |= ids is not None
        if len(self._names) < KINDS_SHOWN:
            self._names.add(self._client.reader.clean(name))
        retry = False
        if ids and self._tokenizer is not None:
            done = from_tokens(ids, request, decoding, finisher, self._asked.eos_ids)
            done = dataclasses.replace(done, text=self._client.reader.hide(done.text))
        else:
            done, retry = from_text(choice, ids or (), request, decoding)
        if self._client.reader.key_repeated and HIDDEN in done.text:  # the ids would give it away
            done = dataclasses.replace(done, token_ids=())
        error = self._client.reader.clean(done.error)
        done = dataclasses.replace(done, seconds=time.perf_counter() - began, error=error)
        return Attempt(done, "failed" if retry else "answered", error, retry)

    def _note_end(self, cause: str) -> None:
        """Counts an end whose word is not known, and says so the first time."""
        if not self._ends:
            _LOG.warning("%s: its text is graded as it is; whether it was cut at the limit of tokens is not known", cause)
        self._ends[cause if cause in self._ends or len(self._ends) < KINDS_SHOWN else "others"] += 1

    def describe(self) -> dict[str, str]:
        """Returns what the server is and how it was asked; after an answer also its names for the model, and if ids came."""
        served = self._asked.served
        answers = {
            "answered_as": ", ".join(sorted(self._names)),
            "token_ids": "returned" if self._ids_returned else "not returned",
        }
        if self._ends:
            answers["unknown_ends"] = "; ".join(f"{cause}: {count}" for cause, count in self._ends.most_common())
        if self._client.reader.key_repeated:
            answers["key_repeated"] = "yes"
        return {
            "dtype": "served",
            "device": "served",
            "software": self._asked.server.software,
            "url": str(self._client.url),
            "served_name": served.name,
            "prompts": served.prompts,
            "max_model_len": str(self._asked.server.contexts.get(served.name) or "not said"),
            **(answers if self._names else {}),
        }

    def traffic(self) -> Traffic | None:
        """Returns how many requests were sent."""
        return Traffic(self._client.sent, self._client.resent)

    def close(self) -> None:
        """Drops what is in flight."""
        self._closed = True
        self._client.abort()


def _served(settings: EngineSettings) -> Served:
    """Returns the settings' server; raises PreflightError if there is none, or a setting that only an engine of our own has."""
    OpenAIBackend.check_settings(settings)
    if settings.served is None:
        raise PreflightError("--backend openai needs --base-url URL, such as http://localhost:8000/v1")
    return settings.served
