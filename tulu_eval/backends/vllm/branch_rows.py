"""The rows of a vLLM engine that give continuations their log-probabilities, and what is read from them.

A prompt's first row is the prompt with one new token. It asks for the log-probability of each text's first token there, which
answers a choice whole, and it leaves the prompt in the prefix cache. Each longer text has a row of its own behind it: prompt
and text, of which the tokens after the first are asked for.

What vLLM 0.32 does with such rows, read in its source:

- ``logprob_token_ids`` takes 128 tokens (``sampling_params.py``). ``logprobs_mode="raw_logprobs"`` is the log-softmax of the
  model's logits, before temperature and penalties (``v1/sample/sampler.py``).
- A row with ``prompt_logprobs`` reads no prefix cache unless ``skip_reading_prefix_cache`` is False (``sampling_params.py``).
  Where it does, the V1 runner returns one row per prompt token all the same, and those of cached tokens are whatever lay in
  memory (``_get_prompt_logprobs_dict`` in ``v1/worker/gpu_model_runner.py``). So a row counts only if no more than the prompt
  was cached (``num_cached_tokens``) and it was not preempted: it may then read more of the cache, and the number stays what it
  was (``v1/core/sched/scheduler.py``). Otherwise it goes in again without the cache.
- ``detokenize=False`` is needed, else those rows' made-up token ids would be decoded (``v1/engine/logprobs.py``).
- Logits are computed for all tokens that are not cached; the first row, which asks for none of its prompt's, spares them.
- The first such row of a process waits for ``batched_count_greater_than`` to be compiled (``v1/sample/sampler.py``): 16 s on a
  busy machine of 2 cores, once.
- The V2 runner (GPUs) has ``prompt_logprob_token_ids``: logits for the asked positions only, and no answer where one of them
  was cached (``v1/worker/gpu/sample/prompt_logprob.py``). The V1 runner refuses it (``v1/engine/input_processor.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tulu_eval.backends.branches import Branches, BranchScores
from tulu_eval.backends.impossible import impossible

FIRST_IDS = 128
"""Most tokens in one row's ``logprob_token_ids`` (vllm 0.32, ``sampling_params.py``, ``MAX_LOGPROB_TOKEN_IDS``)."""


@dataclass(slots=True)
class OpenPrompt:
    """A prompt whose texts are not all scored.

    Attributes:
        first: Log-probability behind the prompt by token.
        rest: Log-probabilities of a text's tokens but the first, by text.
        left: Rows that have not come back.
        error: Why a row gave nothing; empty if none did.
    """

    asked: Branches
    first: dict[int, float] = field(default_factory=dict)
    rest: dict[tuple[int, ...], list[float]] = field(default_factory=dict)
    left: int = 0
    error: str = ""

    def answer(self, seconds: float) -> BranchScores:
        """Returns the answer once all rows are there."""
        if self.error:
            return BranchScores(self.asked.key, [], seconds, self.error)
        found = [[self.first[text[0]], *self.rest.get(text, ())] for text in self.asked.texts]
        return BranchScores.of(self.asked.key, found, seconds)


@dataclass(frozen=True, slots=True)
class ScoringRow:
    """One row of the engine.

    Attributes:
        ids: Tokens whose log-probability behind the prompt is asked for; empty for a row of a text.
        text: The text, of two tokens or more; empty for a row of first tokens.
        cached: Whether it may read the prefix cache.
    """

    owner: OpenPrompt
    ids: tuple[int, ...] = ()
    text: tuple[int, ...] = ()
    cached: bool = True

    @property
    def tokens(self) -> list[int]:
        """The row's tokens: the prompt, and the text if it has one."""
        return [*self.owner.asked.prompt, *self.text]


class ScoringJob:
    """All rows of a job.

    Args:
        positions: Positions of the engine; a row takes one more than it has tokens.
        vocabulary: Number of token ids of the model.
        by_ids: Whether the engine has ``prompt_logprob_token_ids``.

    Attributes:
        refused: Answers to impossible prompts.
    """

    def __init__(self, asked: Sequence[Branches], positions: int, vocabulary: int, *, by_ids: bool) -> None:
        self._began = time.perf_counter()
        self._by_ids = by_ids
        self._open: list[OpenPrompt] = []
        self.refused: list[BranchScores] = []
        for one in asked:
            new = max(map(len, one.texts), default=1) > 1  # the token that vLLM makes; a candidate takes its place
            cause = impossible(one.prompt, one.texts, positions - new, vocabulary)
            if cause:
                self.refused.append(BranchScores(one.key, [], 0.0, cause))
            else:
                self._open.append(OpenPrompt(one))

    def rows(self) -> Iterator[ScoringRow]:
        """Yields the rows in the order in which they have to go in: a prompt's first row before its others."""
        for owner in self._open:
            first = list(dict.fromkeys(text[0] for text in owner.asked.texts))
            parts = [tuple(first[at : at + FIRST_IDS]) for at in range(0, len(first), FIRST_IDS)]
            rows = [ScoringRow(owner, ids=part) for part in parts]
            rows += [ScoringRow(owner, text=text) for text in dict.fromkeys(owner.asked.texts) if len(text) > 1]
            owner.left = len(rows)
            yield from rows

    def asks(self, row: ScoringRow) -> dict[str, Any]:
        """Returns the fields of vLLM's ``SamplingParams`` in which rows differ."""
        if row.ids:
            return {"logprob_token_ids": list(row.ids)}
        asked: dict[str, Any] = {"prompt_logprobs": 0}
        if self._by_ids:
            ids = [[token] for token in row.text[1:]]
            asked = {"prompt_logprob_token_ids": ids, "prompt_logprob_start": len(row.owner.asked.prompt)}
        return asked | {"skip_reading_prefix_cache": not row.cached}

    def take(self, row: ScoringRow, output: Any) -> BranchScores | ScoringRow | None:
        """Reads a row that has come back, from vLLM's ``RequestOutput``.

        Returns the prompt's answer if this was its last row; a row to put in instead if the cache spoilt this one.
        """
        owner = row.owner
        read = first_tokens if row.ids else by_id if self._by_ids else by_position
        found = read(row, output)
        if found is None and row.text and row.cached:
            return ScoringRow(owner, text=row.text, cached=False)
        if found is None:
            owner.error = f"vLLM gave no log-probabilities: it ended with {output.outputs[0].finish_reason}"
        elif row.ids:
            owner.first.update(zip(row.ids, found, strict=True))
        else:
            owner.rest[row.text] = found
        owner.left -= 1
        return None if owner.left else owner.answer(time.perf_counter() - self._began)


def first_tokens(row: ScoringRow, output: Any) -> list[float] | None:
    """Returns the log-probability of each asked token behind the prompt, ``None`` if one is missing."""
    made = output.outputs[0].logprobs
    found = made[0] if made else {}
    return [found[token].logprob for token in row.ids] if set(row.ids) <= set(found) else None


def by_id(row: ScoringRow, output: Any) -> list[float] | None:
    """Returns what ``prompt_logprob_token_ids`` gave, one token per position; ``None`` if vLLM did not for all."""
    found = output.prompt_token_id_logprobs
    return None if found is None or len(found) != len(row.text) - 1 else [float(one) for (one,) in found]


def by_position(row: ScoringRow, output: Any) -> list[float] | None:
    """Returns what ``prompt_logprobs`` gave for the text's tokens but the first; ``None`` if they were not all computed."""
    after = row.text[1:]
    made = output.prompt_logprobs
    preempted = getattr(output.metrics, "num_preemptions", 1)
    if row.cached and (preempted or output.num_cached_tokens > len(row.owner.asked.prompt)):
        return None
    if made is None or len(made) < len(after):
        return None
    positions = [made[at] for at in range(len(made) - len(after), len(made))]
    pairs = list(zip(positions, after, strict=True))
    return [found[token].logprob for found, token in pairs] if all(found and token in found for found, token in pairs) else None
