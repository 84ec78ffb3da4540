"""Log-probabilities of given tokens from a completions server: what is asked, and what an answer must have to be a number.

vLLM's own server (0.32, ``entrypoints/openai/completion``) says them by token id: ``logprob_token_ids`` with
``return_tokens_as_token_ids`` those of next tokens, at most 128, behind a prompt that its prefix cache may hold;
``prompt_logprobs`` those of a prompt with the text behind it, which it computes anew for each. A release that does not know the
first field leaves it out of its answer; the tokens are then asked for as texts. Minus infinity it writes as -9999.

Other servers are asked to ``echo`` prompt and text with ``logprobs``, and one new token, which lm-eval has them make, too. Of a
prompt of token ids the text's places are known. Of a text, the server's tokens have to part where the continuation begins.
Strings of tokens choose nothing: two tokens may have one.

The temperature is 1, since some servers divide by it before they take the logarithm.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tulu_eval.backends.branches import BranchScores
from tulu_eval.backends.impossible import impossible
from tulu_eval.backends.openai.answers import AnswerError, check_prompt, read_choice
from tulu_eval.backends.openai.sending import Sender
from tulu_eval.endpoint.client import Attempt
from tulu_eval.endpoint.replies import Failure
from tulu_eval.endpoint.said import one_line
from tulu_eval.endpoint.wire import Connection
from tulu_eval.logprobs import ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.models.server_request import RequestForm
from tulu_eval.records import Decoding, Request

NEXT_IDS = 128
"""Most tokens in one request's ``logprob_token_ids`` (vllm 0.32, ``sampling_params.py``)."""

ABOVE_ZERO = 1e-4
"""How far rounding may put a log-probability above 0, or a sum of probabilities above 1."""

MINUS_INFINITY = -9999.0
"""What vLLM's server writes for minus infinity (0.32, ``clamp_prompt_logprobs``)."""

ONE_TOKEN = Decoding(1, temperature=1.0)


@dataclass(slots=True)
class OpenTexts:
    """A prompt whose texts are not all scored.

    Attributes:
        found: Log-probabilities by a text's place.
        left: Calls that have not been answered.
        error: Why a text has none; empty if all have.
    """

    prompt: Request
    texts: tuple[Continuation, ...]
    found: dict[int, list[float]] = field(default_factory=dict)
    left: int = 0
    error: str = ""

    @classmethod
    def of(cls, request: ChoiceRequest | ScoreRequest) -> OpenTexts:
        """Returns a request's prompt with its continuations; a candidate is one of one token."""
        prompt = Request(request.key, request.token_ids, request.text)
        if isinstance(request, ScoreRequest):
            return cls(prompt, request.continuations)
        return cls(prompt, tuple(Continuation((token,), "") for token in request.candidates))

    def answer(self, seconds: float) -> BranchScores:
        """Returns the answer once all calls are."""
        if self.error:
            return BranchScores(self.prompt.key, [], seconds, self.error)
        return BranchScores.of(self.prompt.key, [self.found[at] for at in range(len(self.texts))], seconds)


@dataclass(frozen=True, slots=True)
class LogprobCall:
    """One request to the server.

    Attributes:
        places: Places of the texts that it asks for.
        together: Whether it asks for several tokens that may come next; else for one text behind the prompt.
    """

    owner: OpenTexts
    places: tuple[int, ...]
    together: bool

    @property
    def row(self) -> Request:
        """What the server reads: the prompt, with the text behind it unless tokens are asked for together."""
        prompt = self.owner.prompt
        if self.together:
            return prompt
        text = self.owner.texts[self.places[0]]
        return Request(prompt.key, prompt.token_ids + text.token_ids, prompt.text + text.text)


class LogprobForm:
    """How one server is asked."""

    path = "/completions"

    def __init__(self, asked: RequestForm) -> None:
        self._asked = asked
        self._ids = asked.served.prompts == "tokens"
        self._by_id = self._ids and asked.server.is_vllm

    def refuse(self, owner: OpenTexts) -> str:
        """Returns why a prompt cannot be asked, as one line; empty if it can."""
        if not self._ids:
            empty = not owner.prompt.text or not owner.texts or not all(text.text for text in owner.texts)
            return "the prompt or a continuation has no text" if empty else ""
        texts = [text.token_ids for text in owner.texts]
        new = max(map(len, texts), default=1) > 1 or not self._by_id
        return impossible(owner.prompt.token_ids, texts, self._asked.max_length - new)

    def calls(self, owner: OpenTexts) -> Iterator[LogprobCall]:
        """Yields the requests for a prompt."""
        single: list[int] = []
        longer: list[int] = []
        for at, text in enumerate(owner.texts):
            (single if self._by_id and len(text.token_ids) == 1 else longer).append(at)
        for at in range(0, len(single), NEXT_IDS):
            yield LogprobCall(owner, tuple(single[at : at + NEXT_IDS]), together=True)
        yield from self.apart(longer, owner)

    def apart(self, places: Sequence[int], owner: OpenTexts) -> Iterator[LogprobCall]:
        """Yields one request per text."""
        for at in places:
            yield LogprobCall(owner, (at,), together=False)

    def body(self, call: LogprobCall) -> dict[str, Any]:
        """Returns the body of a request."""
        body = self._asked.body(call.row, ONE_TOKEN)
        del body["seed"]  # nothing that is drawn is kept
        if call.together:
            ids = [call.owner.texts[at].token_ids[0] for at in call.places]
            return body | {"logprobs": 1, "logprob_token_ids": ids, "return_tokens_as_token_ids": True}
        return body | ({"prompt_logprobs": 0} if self._by_id else {"echo": True, "logprobs": 1})

    def read(self, call: LogprobCall, data: dict[str, Any]) -> list[list[float]] | None:
        """Returns the log-probabilities of each text of a call; ``None`` if its tokens have to be asked for one by one.

        Raises:
            AnswerError: If the answer is not what was asked for, or has what is no log-probability.
        """
        choice, seen, _ = read_choice(data, self._asked.served.prompts)
        row = call.row
        check_prompt(row, self._asked.served.prompts, seen)
        if call.together:
            return next_tokens(choice, [call.owner.texts[at].token_ids[0] for at in call.places])
        text = call.owner.texts[call.places[0]]
        if self._by_id:
            return [prompt_tokens(choice, len(row.token_ids), text.token_ids)]
        if self._ids:
            return [echoed_ids(choice, len(row.token_ids), len(text.token_ids))]
        counted = len(seen) if isinstance(seen, list) else seen
        return [echoed_text(choice, counted if isinstance(counted, int) else 0, text.text)]


Told = tuple[LogprobCall, list[list[float]] | None, str]
"""A call, the log-probabilities of each of its texts, and an error; with neither, its texts have to be asked for one by one."""


def gather(form: LogprobForm, sender: Sender, requests: Sequence[ChoiceRequest | ScoreRequest]) -> Iterator[BranchScores]:
    """Yields each request's answer once all its calls are answered; what the server cannot tell is an error."""
    began: dict[str, float] = {}
    calls: list[LogprobCall] = []
    for owner in map(OpenTexts.of, requests):
        if cause := form.refuse(owner):
            yield BranchScores(owner.prompt.key, [], 0.0, cause)
            continue
        own = list(form.calls(owner))
        owner.left = len(own)
        calls += own

    def send(connection: Connection, call: LogprobCall) -> Attempt[Told]:
        began.setdefault(call.owner.prompt.key, time.perf_counter())
        data = sender.exchange(connection, form.path, form.body(call))
        if isinstance(data, Failure):
            return Attempt((call, None, data.detail), "failed", data.detail, data.retry, data.wait)
        try:
            return Attempt((call, form.read(call, data), ""), "answered")
        except AnswerError as error:
            detail = sender.client.reader.clean(str(error))
            return Attempt((call, None, detail), "failed", detail, error.retry)

    while calls:
        apart: list[LogprobCall] = []
        with contextlib.closing(sender.stream(calls, send)) as stream:
            for call, found, error in stream:
                owner = call.owner
                own = [] if found is not None or error else list(form.apart(call.places, owner))
                apart += own
                owner.left += len(own) - 1
                owner.error = owner.error or error
                owner.found.update(zip(call.places, found or (), strict=found is not None))
                if not owner.left:
                    yield owner.answer(time.perf_counter() - began[owner.prompt.key])
        calls = apart


def next_tokens(choice: dict[str, Any], ids: Sequence[int]) -> list[list[float]] | None:
    """Returns the log-probability of each token behind the prompt; ``None`` if the answer has not all of them.

    Raises:
        AnswerError: If one is no log-probability, or their probabilities add up to more than 1.
    """
    told = choice.get("logprobs")
    top = told.get("top_logprobs") if isinstance(told, dict) else None
    first = top[0] if isinstance(top, list) and top else None
    if not isinstance(first, dict) or not {f"token_id:{token}" for token in ids} <= set(first):
        return None
    found = {token: checked(first[f"token_id:{token}"]) for token in ids}
    if math.fsum(map(math.exp, found.values())) > 1 + ABOVE_ZERO:
        raise AnswerError("the server's probabilities of next tokens add up to more than 1", retry=False)
    return [[found[token]] for token in ids]


def prompt_tokens(choice: dict[str, Any], length: int, text: Sequence[int]) -> list[float]:
    """Returns the log-probability of each token of the text that a prompt of so many tokens ends with.

    Raises:
        AnswerError: If the answer has not one entry per token, each with its token, or one is no log-probability.
    """
    told = choice.get("prompt_logprobs")
    if not isinstance(told, list) or len(told) != length:
        raise AnswerError("the server gives no log-probability per token of the prompt (prompt_logprobs)", retry=False)
    found = [
        entry.get(str(token)) if isinstance(entry, dict) else None
        for entry, token in zip(told[-len(text) :], text, strict=True)
    ]
    if not all(isinstance(one, dict) for one in found):
        raise AnswerError("the server gives log-probabilities of other tokens than it was sent", retry=False)
    return [checked(one.get("logprob")) for one in found if one is not None]


def _echoed(choice: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Returns an echo's tokens and log-probabilities; raises AnswerError if there are none, or not one per token."""
    told = choice.get("logprobs")
    told = told if isinstance(told, dict) else {}
    tokens, logprobs = told.get("tokens"), told.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(logprobs, list) or len(tokens) != len(logprobs):
        raise AnswerError("the server does not echo a prompt with its log-probabilities; use another backend", retry=False)
    return tokens, logprobs


def echoed_ids(choice: dict[str, Any], length: int, size: int) -> list[float]:
    """Returns the log-probabilities of the last ``size`` tokens of an echoed prompt of ``length`` tokens.

    Raises:
        AnswerError: If the echo has not that many tokens, with a new one or none, or one is no log-probability.
    """
    _, logprobs = _echoed(choice)
    if len(logprobs) not in (length, length + 1):
        raise AnswerError(f"the server echoes {len(logprobs)} tokens where {length} were sent, and one may be new", retry=False)
    return [checked(one) for one in logprobs[length - size : length]]


def echoed_text(choice: dict[str, Any], counted: int, text: str) -> list[float]:
    """Returns the log-probabilities of the tokens of the text that an echoed prompt ends with.

    ``counted`` are the prompt's tokens as the server counts them; 0 if it does not, and the last token is new.

    Raises:
        AnswerError: If no token begins where the text does, or one is no log-probability.
    """
    tokens, logprobs = _echoed(choice)
    end = counted or len(tokens) - 1
    if not end <= len(tokens) <= end + 1 or not all(isinstance(token, str) for token in tokens):
        raise AnswerError(f"the server echoes {len(tokens)} tokens where it counts {end}, and one may be new", retry=False)
    start, size = end, 0
    while start > 0 and size < len(text):
        start -= 1
        size += len(tokens[start])
    if "".join(tokens[start:end]) != text:
        raise AnswerError("none of the server's tokens begins where the continuation does; use --prompts tokens", retry=False)
    return [checked(one) for one in logprobs[start:end]]


def checked(value: Any) -> float:
    """Returns a log-probability; raises AnswerError if it is none: not a number, not finite, or above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not MINUS_INFINITY < value <= ABOVE_ZERO:
        raise AnswerError(f"the server gives {one_line(str(value), 40)} as a log-probability", retry=False)
    return min(float(value), 0.0)
