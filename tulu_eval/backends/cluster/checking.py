"""Whether what a node answers can be the answer to what it was asked: the one place through which answers get to the ledger.

A wrong answer that can be told from a right one is found here: of another request, a second one, more tokens than were asked
for, ids outside of the vocabulary, a text that its ids do not make, log-probabilities that are none. What a node computes
wrongly, in the right form, nobody sees.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

from tulu_eval.backends.base import Backend
from tulu_eval.backends.cluster.node_messages import Answer, AnswerBatch, GarbageError, shown
from tulu_eval.backends.growing import Finisher, GrowingRow
from tulu_eval.errors import DataError
from tulu_eval.logprobs import LOGPROB_RANGE, AnyRequest, Choice, ChoiceRequest, Scores
from tulu_eval.models import config as configs
from tulu_eval.models import file_tokenizer
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Request

MOST_TEXT = 1 << 20
"""Largest number of characters of an answer's text: a line of a ledger takes at most 12 bytes for each, and 16 MiB in all."""

LARGEST_ID = 1 << 31
"""Limit of token ids where the model does not say how many there are."""

MOST_SECONDS = 1e9


@dataclasses.dataclass(frozen=True, slots=True)
class AnswerLimits:
    """What answers are checked with.

    Attributes:
        vocabulary: The model's number of token ids.
        eos_ids: Tokens that end a completion.
        tokenizer: Makes the text of token ids; ``None`` if only the engine does, or only transformers reads the tokenizer.
        max_length: Largest length of a row in tokens.
    """

    vocabulary: int
    eos_ids: tuple[int, ...]
    tokenizer: file_tokenizer.FileTokenizer | None
    max_length: int

    @classmethod
    def of(cls, inner: type[Backend], files: ModelFiles, eos_ids: tuple[int, ...], max_length: int) -> AnswerLimits:
        """Reads a model's folder; the text is checked of engines that make it of the ids alone."""
        try:
            vocabulary = configs.read(files.path).vocabulary
        except DataError:
            vocabulary = 0
        tokenizer = file_tokenizer.read(files.path) if inner.by_ids else None
        return cls(vocabulary or LARGEST_ID, eos_ids, tokenizer, max_length)


class Checker:
    """Checks the answers to one call; ``decoding`` is that of its requests."""

    def __init__(self, limits: AnswerLimits, decoding: Decoding) -> None:
        self._limits, self._decoding = limits, decoding
        self._finisher = Finisher(limits.tokenizer, limits.eos_ids, decoding, limits.max_length) if limits.tokenizer else None

    def fault(self, request: AnyRequest, answer: Answer) -> str:
        """Returns why an answer is none, as one line: what the engine says, or what is wrong with it; empty if it is one."""
        if not 0 <= answer.seconds <= MOST_SECONDS:
            return f"the engine says that it took {answer.seconds} s"
        if answer.error or (isinstance(answer, Completion) and answer.finish_reason == "error"):
            return shown(answer.error) or "the engine failed without a cause"
        if isinstance(request, Request):
            return self._text_fault(request, answer) if isinstance(answer, Completion) else _OTHER_KIND
        if isinstance(request, ChoiceRequest):
            same = isinstance(answer, Choice) and len(answer.logprobs) == len(request.candidates)
            return _number_fault(answer.logprobs) if same and isinstance(answer, Choice) else _OTHER_KIND
        if not isinstance(answer, Scores):
            return _OTHER_KIND
        asked = [(one.text, len(one.token_ids)) for one in request.continuations]
        if asked != [(one.text, len(one.logprobs)) for one in answer.continuations]:
            return _OTHER_KIND
        return next((fault for one in answer.continuations if (fault := _number_fault(one.logprobs))), "")

    def _text_fault(self, request: Request, answer: Completion) -> str:
        ids, most = answer.token_ids, self._decoding.max_new_tokens
        if len(ids) > most:
            return f"the engine gave {len(ids)} tokens, and was asked for at most {most}"
        if ids and not 0 <= min(ids) <= max(ids) < self._limits.vocabulary:
            return f"the engine gave a token id outside the model's vocabulary of {self._limits.vocabulary}"
        if len(answer.text) > MOST_TEXT:
            return f"the engine gave a text of {len(answer.text):,} characters"
        if answer.likelihoods or any(stop in answer.text for stop in self._decoding.stop):
            return _OTHER_KIND
        return self._made_fault(request, answer) if self._finisher else ""

    def _made_fault(self, request: Request, answer: Completion) -> str:
        """Returns why text and end are not those that the token ids make with the driver's own tokenizer."""
        assert self._finisher is not None  # noqa: S101 - of the one caller
        *before, last = answer.token_ids or (-1,)
        if last < 0 or set(before) & set(self._limits.eos_ids):
            return "the engine gave no token, or went on after an end token"
        made = self._finisher.advance(GrowingRow.begin(request, self._decoding, before), last)
        if made is None or (made.text, made.finish_reason) != (answer.text, answer.finish_reason):
            return "the engine gave a text or an end that its token ids do not make"
        return ""


_OTHER_KIND = "the engine gave the answer to another question"


def _number_fault(logprobs: Collection[float]) -> str:
    low, high = LOGPROB_RANGE
    good = all(math.isfinite(one) and low <= one <= high for one in logprobs)
    return "" if good else "the engine gave a log-probability that is none"


def check_keys(batch: AnswerBatch, waiting: Collection[str], taken: Collection[str]) -> None:
    """Checks that answers are to requests of the engine's own share, one each.

    ``taken`` has keys of the share that another engine answered meanwhile.

    Raises:
        GarbageError: If they are not, or the message says nothing.
    """
    keys = [answer.key for answer in batch.answers]
    if len(set(keys)) < len(keys) or not all(key in waiting or key in taken for key in keys):
        raise GarbageError("answered a request twice, or one that it was not asked")
    if not keys and not batch.last:
        raise GarbageError("sent an empty message")
    if sum(map(bool, (batch.completions, batch.choices, batch.scores))) > 1:
        raise GarbageError("answered with several kinds of answers")
