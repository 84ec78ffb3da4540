"""Decoding and scoring for models without a shared prefix, in padded batches; decoding is transformers' ``generate``.

``generate`` only runs the model and its cache. This module chooses the tokens and ends the rows, with the same functions as the
shared-prefix path. All settings of ``generate`` are explicit, so it uses nothing of the model's ``generation_config``.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from tulu_eval.backends.growing import Finisher, GrowingRow
from tulu_eval.backends.hf.batching import NO_ROOM, choose_tokens, free_memory, guarded
from tulu_eval.backends.hf.branching import Tokens, logprobs_at
from tulu_eval.backends.hf.eligibility import rope_depends_on_length
from tulu_eval.errors import EngineError
from tulu_eval.records import Completion, Decoding, Request

_LOG = logging.getLogger(__name__)

_Row = tuple[int, tuple[int, ...]]
"""A prompt's number, and the tokens of a continuation but the last one."""

_PAD = 0
"""Padding token; it is masked on the left, and nothing reads it after a row's end."""


class _Rows(LogitsProcessor):
    """Chooses the tokens of a batch and collects its completions."""

    def __init__(self, rows: Sequence[GrowingRow], finisher: Finisher, decoding: Decoding) -> None:
        self._rows, self._finisher, self._decoding = rows, finisher, decoding
        self.done: dict[int, Completion] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        for index, token in enumerate(choose_tokens(scores, self._rows, self._decoding)):
            if index not in self.done:
                completion = self._finisher.advance(self._rows[index], token)
                if completion is not None:
                    self.done[index] = completion
            forced[index, max(token, 0)] = 0.0
        return forced


class _Finished(StoppingCriteria):
    """Ends the rows that have a completion."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    def __call__(self, input_ids: Tensor, scores: Tensor, **options: Any) -> Tensor:
        return torch.tensor([index in self._rows.done for index in range(len(input_ids))], device=input_ids.device)


@torch.inference_mode()
def padding_is_safe(model: Any, tolerance: float) -> bool:
    """Whether left padding leaves a row's logits unchanged; state-space models and others may not mask it."""
    device = model.get_input_embeddings().weight.device
    row, padding = list(range(3, 9)), 3
    plain = model(input_ids=torch.tensor([row], device=device)).logits[0, -1].float()
    options: dict[str, Tensor] = {
        "input_ids": torch.tensor([[_PAD] * padding + row], device=device),
        "attention_mask": torch.tensor([[0] * padding + [1] * len(row)], device=device),
    }
    prepared = model.prepare_inputs_for_generation(is_first_iteration=True, use_cache=True, **options)
    found = model(**{name: value for name, value in prepared.items() if value is not None}).logits[0, -1].float()
    return float((found - plain).norm() / (plain - plain.mean()).norm()) <= tolerance


class PlainDecoder:
    """Decodes requests in static batches.

    Args:
        batch_size: Largest number of rows decoded together.
        padding: Whether rows of different lengths may share a batch, padded on the left.
    """

    def __init__(self, model: Any, finisher: Finisher, decoding: Decoding, batch_size: int, padding: bool) -> None:
        self._model, self._finisher, self._decoding = model, finisher, decoding
        self._batch, self._padding = batch_size, padding

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Yields one completion per request, batch by batch, longest prompts first.

        Raises:
            EngineError: If memory does not suffice for one row, or the engine fails for all rows.
        """
        waiting = sorted(requests, key=lambda request: len(request.token_ids), reverse=True)
        while waiting:
            group = waiting[: self._batch]
            if not self._padding:
                first = len(group[0].token_ids)
                group = list(itertools.takewhile(lambda request: len(request.token_ids) == first, group))  # noqa: B023
            done = guarded(functools.partial(self._generate, group))
            if done is None:
                self._halve(len(group))
                continue
            del waiting[: len(group)]
            yield from done

    def _halve(self, rows: int) -> None:
        if rows == 1:
            raise EngineError(NO_ROOM)
        self._batch = max(1, rows // 2)
        _LOG.warning("out of memory: continuing with %d rows at a time", self._batch)
        free_memory()

    def _generate(self, group: Sequence[Request]) -> list[Completion]:
        rows = [GrowingRow.begin(request, self._decoding) for request in group]
        longest = max(len(request.token_ids) for request in group)
        device = self._model.get_input_embeddings().weight.device
        fills = [longest - len(request.token_ids) for request in group]
        tokens = [[_PAD] * fill + list(request.token_ids) for fill, request in zip(fills, group, strict=True)]
        mask = [[0] * fill + [1] * (longest - fill) for fill in fills]
        limit = max(self._finisher.limit(request) for request in group)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=limit, do_sample=False, num_beams=1, use_cache=True, pad_token_id=_PAD
        )
        # Otherwise transformers fills what an explicit config leaves out from the model's own.
        self._model.generation_config = config
        chosen = _Rows(rows, self._finisher, self._decoding)
        with torch.inference_mode():
            self._model.generate(
                input_ids=torch.tensor(tokens, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
                logits_processor=LogitsProcessorList([chosen]),
                stopping_criteria=StoppingCriteriaList([_Finished(chosen)]),
            )
        return [chosen.done[index] for index in range(len(rows))]


class PlainScorer:
    """Scores continuations without a shared prefix: prompt and continuation are one row of a batch, padded on the right.

    A causal model does not look at what stands behind a token, so padding needs no mask.

    Args:
        tokens: Largest number of tokens in one forward pass, padding included; a longer row has its own.
        positions: Largest number of positions whose logits are computed in one forward pass, likewise.
    """

    def __init__(self, model: Any, tokens: int, positions: int) -> None:
        self._model, self._tokens, self._positions = model, tokens, positions
        self._device = model.get_input_embeddings().weight.device
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._equal = rope_depends_on_length(model)

    def score(self, prompts: Sequence[Tokens], branches: Sequence[Sequence[Tokens]]) -> list[list[list[float]]]:
        """Returns the log-probability of each token of each continuation; see ``BranchScorer.score``."""
        rows: dict[_Row, list[int]] = {}
        for prompt, own in enumerate(branches):
            for at, branch in enumerate(own):
                rows.setdefault((prompt, tuple(branch[:-1])), []).append(at)
        scores: list[list[list[float]]] = [[[] for _ in own] for own in branches]
        waiting = deque(sorted(rows, key=lambda row: -len(prompts[row[0]]) - len(row[1])))
        while waiting:
            batch = self._batch(waiting, prompts)
            texts = [[branches[prompt][at] for at in rows[prompt, head]] for prompt, head in batch]
            found = self._forward([[*prompts[prompt], *head] for prompt, head in batch], texts)
            for (prompt, head), logprobs in zip(batch, found, strict=True):
                for at, one in zip(rows[prompt, head], logprobs, strict=True):
                    scores[prompt][at] = one
        return scores

    def _batch(self, waiting: deque[_Row], prompts: Sequence[Tokens]) -> list[_Row]:
        """Takes the longest rows that fit into one forward pass."""
        longest = len(prompts[waiting[0][0]]) + len(waiting[0][1])
        first = longest
        batch: list[_Row] = []
        while waiting:
            prompt, head = waiting[0]
            length, first = len(prompts[prompt]) + len(head), min(first, len(prompts[prompt]) - 1)
            rows = len(batch) + 1
            full = rows * longest > self._tokens or rows * (longest - first) > self._positions
            if batch and (full or (self._equal and length != longest)):
                break
            batch.append(waiting.popleft())
        return batch

    def _forward(self, rows: Sequence[Tokens], texts: Sequence[Sequence[Tokens]]) -> list[list[list[float]]]:
        """Returns the log-probabilities of each row's continuations, which differ in their last token only."""
        longest = max(map(len, rows))
        starts = [len(row) - len(own[0]) for row, own in zip(rows, texts, strict=True)]
        kept = longest - min(starts)
        padded = torch.tensor([[*row, *[_PAD] * (longest - len(row))] for row in rows], device=self._device)
        with torch.inference_mode():
            options = {"logits_to_keep": kept} if self._keeps else {}
            logits = self._model(input_ids=padded, use_cache=False, **options).logits[:, -kept:]
        places: list[int] = []
        tokens: list[int] = []
        for row, (start, own) in enumerate(zip(starts, texts, strict=True)):
            for text in own:
                places += [row * kept + start - min(starts) + at for at in range(len(text))]
                tokens += text
        found = iter(logprobs_at(logits.flatten(0, 1), places, tokens))
        return [[list(itertools.islice(found, len(text))) for text in own] for own in texts]
