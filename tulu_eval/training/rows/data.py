"""Reads rows for training from JSON lines or a split of the hub: checks, renders and tokenises them, and counts dropped ones.

A row has one of the forms of :mod:`~tulu_eval.training.rows.forms`, among them those of ``allenai/tulu-2.5-preference-data``,
``allenai/tulu-2.5-prompts`` and ``allenai/tulu-v2-sft-mixture``; a row of another form is an error with its line number. The
reader drops and counts rows with an empty message, pairs with equal sides or different prompts, and rows over the length; it
never cuts a text. The text of a special token in a message is text: EasyLM reads ``</s>`` there as the end token, so a model
trained on it learns to stop in the middle of an answer.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tulu_eval import hub
from tulu_eval.errors import DataError, PreflightError, UnknownName
from tulu_eval.files import Row, json_rows
from tulu_eval.training.rows import forms
from tulu_eval.training.text import Encoder, Message, Tokens

CHUNK = 1000
"""Rows per call of the tokenizer."""


class PreferencePair(NamedTuple):
    """Two answers to one prompt; ``mask`` marks the answers."""

    chosen: Tokens
    rejected: Tokens

    def tokens(self) -> int:
        """Returns the number of tokens of both sides."""
        return len(self.chosen) + len(self.rejected)


T = TypeVar("T", Tokens, PreferencePair)


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingRows(Generic[T]):
    """Rows for training.

    Attributes:
        rows: Kept rows in the order of the file.
        dropped: Number of dropped rows by reason.
        sha256: Hash of the kept rows' tokens.
    """

    rows: list[T]
    dropped: dict[str, int]
    sha256: str


_Take = Callable[[Row], tuple[str, tuple[Any, ...]]]
"""Returns the reason to drop a row, empty to keep it, and the row's conversations."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowReader:
    """Reads rows for the models of one run.

    Attributes:
        max_length: Largest number of tokens of a kept row, side or prompt.
        vocabulary: Number of the token ids that all models know, the smallest ones.
        skip_bad: Whether to leave out and count rows that are of no known form, instead of refusing the first.
    """

    encoder: Encoder
    max_length: int
    vocabulary: int
    skip_bad: bool = False

    def conversations(self, paths: Sequence[Path]) -> TrainingRows[Tokens]:
        """Returns the rows for SFT, with every assistant's message marked.

        Raises:
            DataError: If a line is not such a row, or no row remains.
        """

        def take(row: Row) -> tuple[str, tuple[Any, ...]]:
            messages = forms.conversation(row)
            if not any(message["role"] == "assistant" for message in messages):
                raise row.error("messages has no assistant's message, so there is nothing to train on")
            return self._reason(messages), (messages,)

        def encode(rows: list[tuple[Any, ...]]) -> list[Tokens]:
            return self.encoder.conversations([row[0] for row in rows], last_only=False)

        return self._read(paths, take, encode, lambda row: (row,))

    def pairs(self, paths: Sequence[Path]) -> TrainingRows[PreferencePair]:
        """Returns the rows for a reward model or DPO, with the last message marked.

        Raises:
            DataError: If a line is not such a row, or no row remains.
        """

        def take(row: Row) -> tuple[str, tuple[Any, ...]]:
            chosen, rejected = forms.side(row, "chosen"), forms.side(row, "rejected")
            for side, messages in (("chosen", chosen), ("rejected", rejected)):
                if messages[-1]["role"] != "assistant" or len(messages) < 2:
                    raise row.error(f"{side} must be a prompt and then an assistant's message")
            bare_chosen, bare_rejected = _bare(chosen), _bare(rejected)
            reason = self._reason(chosen) or self._reason(rejected)
            if not reason and bare_chosen == bare_rejected:
                reason = "equal sides"
            if not reason and bare_chosen[:-1] != bare_rejected[:-1]:
                reason = "different prompts"
            return reason, (chosen, rejected)

        def encode(rows: list[tuple[Any, ...]]) -> list[PreferencePair]:
            sides = [self.encoder.conversations([row[i] for row in rows], last_only=True) for i in (0, 1)]
            return [PreferencePair(*pair) for pair in zip(*sides, strict=True)]

        return self._read(paths, take, encode, lambda row: row)

    def prompts(self, paths: Sequence[Path], *, bos: bool) -> TrainingRows[Tokens]:
        """Returns the prompts for PPO: conversations up to the last user's message, without a recorded answer (EasyLM).

        Raises:
            DataError: If a line is not such a row, or no row remains.
        """

        def take(row: Row) -> tuple[str, tuple[Any, ...]]:
            prompt = forms.prompt_of(row)
            return self._reason(prompt), (prompt,)

        def encode(rows: list[tuple[Any, ...]]) -> list[Tokens]:
            return self.encoder.prompts([row[0] for row in rows], bos=bos)

        return self._read(paths, take, encode, lambda row: (row,))

    def _read(
        self,
        paths: Sequence[Path],
        take: _Take,
        encode: Callable[[list[tuple[Any, ...]]], list[T]],
        parts: Callable[[T], Iterable[Tokens]],
    ) -> TrainingRows[T]:
        kept: list[T] = []
        dropped: Counter[str] = Counter()
        digest = hashlib.sha256()

        def bad(error: DataError) -> None:
            dropped[_reason_of(error)] += 1

        read = functools.partial(json_rows, skip=bad if self.skip_bad else None)
        for chunk in _chunks(itertools.chain.from_iterable(map(read, paths))):
            lines, taken = [], []
            for line in chunk:
                try:
                    reason, row = take(line)
                except DataError as error:
                    if not self.skip_bad:
                        raise
                    reason = _reason_of(error)
                if reason:
                    dropped[reason] += 1
                else:
                    lines.append(line)
                    taken.append(row)
            for line, encoded in zip(lines, encode(taken) if taken else [], strict=True):
                reason = self._reason_of_tokens(list(parts(encoded)), line)
                if reason:
                    dropped[reason] += 1
                    continue
                for part in parts(encoded):
                    digest.update(len(part).to_bytes(4, "little") + part.ids.tobytes() + part.mask.tobytes())
                kept.append(encoded)
        if not kept:
            raise DataError(paths[0], f"no row is left to train on; dropped: {dict(dropped) or 'none, the file is empty'}")
        return TrainingRows(kept, dict(dropped), digest.hexdigest())

    def _reason(self, messages: Sequence[Message]) -> str:
        """Returns the reason to drop a conversation, empty to keep it."""
        if not all(message["content"].strip() for message in messages):
            return "empty message"
        return "" if self.encoder.can_write(messages) else "special token in a text"

    def _reason_of_tokens(self, parts: Sequence[Tokens], line: Row) -> str:
        """Returns the reason to drop an encoded row, empty to keep it; raises DataError if no model can read it."""
        if any(len(part) > self.max_length for part in parts):
            return f"over {self.max_length} tokens"
        try:
            for part in parts:
                self._check_ids(part, line)
        except DataError as error:
            if not self.skip_bad:
                raise
            return _reason_of(error)
        return ""

    def _check_ids(self, row: Tokens, line: Row) -> None:
        if not len(row):
            raise line.error("the tokenizer returns no token for one of its texts")
        largest = int(row.ids.max())
        if largest >= self.vocabulary:
            raise line.error(f"token {largest} is outside a model's vocabulary of {self.vocabulary}")


def files_of_split(dataset: str, split: str) -> list[Path]:
    """Returns the files of a split of a data set of the hub; downloads those that are not cached.

    Raises:
        UnknownName: If there is no such split.
        PreflightError: If the data set is not cached and the hub is unreachable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    info = hub.ask(dataset, None, "dataset")
    if info is None:
        try:
            folder = Path(snapshot_download(dataset, repo_type="dataset", local_files_only=True))
        except LocalEntryNotFoundError as error:
            raise PreflightError(
                f"the hub is unreachable and the data set {dataset} is not in the local cache; give a file with --data"
            ) from error
        names = [str(path.relative_to(folder)) for path in (*folder.glob("*"), *folder.glob("data/*"))]
    else:
        names = [file.rfilename for file in info.siblings or []]
    by_split: dict[str, list[str]] = {}
    for name in sorted(names):
        match = re.fullmatch(r"(?:data/)?([\w.-]+?)(?:-\d{5}-of-\d{5}[-\w]*)?\.(?:jsonl|parquet)", name)
        if match:
            by_split.setdefault(match.group(1), []).append(name)
    if split not in by_split:
        raise UnknownName(f"split of {dataset}", split, by_split)
    return [hub.dataset_file(dataset, name) for name in by_split[split]]


def _chunks(lines: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    yield chunk


def _reason_of(error: DataError) -> str:
    """Returns a bad row's reason without what differs from row to row, so that rows of one reason are counted together."""
    general = re.sub(r"\brow \d+: ", "", error.message.partition("; ")[0])
    return "bad row: " + re.sub(r"\d+", "N", general)[:100]


def _bare(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"].strip()) for message in messages]
