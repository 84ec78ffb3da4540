"""Decoding for models without a shared prefix: one padded batch after the other through transformers' ``generate``.

``generate`` only runs the model and its cache. This module chooses the tokens and ends the rows, with the same functions as the
shared-prefix path. All settings of ``generate`` are explicit, so it uses nothing of the model's ``generation_config``.
"""

from __future__ import annotations

import gc
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from tulu_eval.backends.growing import Finisher, GrowingRow, one_line
from tulu_eval.backends.hf.batching import choose_tokens, is_out_of_memory
from tulu_eval.errors import EngineError
from tulu_eval.records import Completion, Decoding, Request

_LOG = logging.getLogger(__name__)

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
        model: A causal language model of transformers.
        finisher: Ends rows.
        decoding: Settings of generation.
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
            done = self._guarded(group)
            if done is None:
                self._halve(len(group))
                continue
            del waiting[: len(group)]
            yield from done

    def _guarded(self, group: Sequence[Request]) -> list[Completion] | None:
        """Returns the group's completions, ``None`` if memory ran out; raises EngineError if the engine fails otherwise."""
        try:
            return self._generate(group)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise EngineError(f"the engine failed: {one_line(error)}; run the command again to resume") from error
        return None

    def _halve(self, rows: int) -> None:
        if rows == 1:
            raise EngineError("out of memory with a single row; use a device with more memory or a smaller dtype")
        self._batch = max(1, rows // 2)
        _LOG.warning("out of memory: continuing with %d rows at a time", self._batch)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

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
