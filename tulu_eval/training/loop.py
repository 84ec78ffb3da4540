"""What the loops of all stages share: steps that resume, updates that are finite or skipped, stops that lose nothing."""

from __future__ import annotations

import dataclasses
import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from tulu_eval import files
from tulu_eval.backends.hf.batching import is_out_of_memory
from tulu_eval.errors import DataError, EngineError, UserError
from tulu_eval.training import checkpoint
from tulu_eval.training.checkpoint import Trained
from tulu_eval.training.formulas import learning_rate, warmup_updates
from tulu_eval.training.metrics import Metrics
from tulu_eval.training.packing import cut, parts_needed
from tulu_eval.training.parallel import Ranks, clip_gradient, finite, gradient_norm
from tulu_eval.training.randomness import permutation
from tulu_eval.training.saved import Saved
from tulu_eval.training.speed import Speed
from tulu_eval.training.stages import Recipe
from tulu_eval.training.text import Tokens

_LOG = logging.getLogger(__name__)
MICRO_TOKENS = "micro-tokens"
"""File with the tokens that go through a model at once, where the recipe's were too many for one of several ranks."""

T = TypeVar("T")
R = TypeVar("R")


class Stopped(UserError):
    """Training ended itself: a guard was crossed. What was learned up to there is in the last checkpoint."""

    exit_code = 3


@dataclasses.dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a run goes, with no effect on what it computes.

    Attributes:
        folder: Where everything of the run is written.
        identity: What a checkpoint must have in common with the run to go on from it.
        save_every: Steps between checkpoints; the last step always has one.
        fresh: Begin anew though there are checkpoints.
        tensorboard: Whether to write curves for it.
        report: Is given each step's numbers, on the first rank.
    """

    folder: Path
    identity: Mapping[str, str]
    save_every: int
    fresh: bool = False
    tensorboard: bool = False
    report: Callable[[int, int, dict[str, float]], None] = lambda step, steps, numbers: None


class Trainer:
    """The state of a run: models with their optimizers, the step, and the counters of its guards.

    Args:
        recipe: What is done.
        ranks: By whom.
        models: The models that are trained, by name, sharded already.
        rows: Number of rows, pairs or prompts.
        rows_per_step: Of these, how many one step takes.
        updates_per_step: Updates that one step makes.
        settings: How the run goes.

    Attributes:
        steps_total: Steps of the whole run.
        interrupted: Whether the run was asked to end, and did after a checkpoint.
        micro_tokens: Tokens that go through a model at once; halved when memory runs out.
        speed: Seconds and operations of the step, by part.

    Raises:
        UserError: There are not enough rows for one step.
    """

    def __init__(
        self,
        recipe: Recipe,
        ranks: Ranks,
        models: Mapping[str, nn.Module],
        rows: int,
        rows_per_step: int,
        updates_per_step: int,
        settings: LoopSettings,
    ) -> None:
        per_epoch = rows // rows_per_step
        if not per_epoch:
            raise UserError(f"{rows} rows are too few for one step of {rows_per_step}; give more data or a smaller batch")
        self.recipe, self.ranks, self.settings = recipe, ranks, settings
        self.micro_tokens = min(recipe.micro_tokens, _read_number(settings.folder / MICRO_TOKENS, recipe.micro_tokens))
        self.speed = Speed(ranks, recipe.compute_dtype)
        self.steps_total = recipe.epochs * per_epoch
        self.interrupted = False
        self._rows, self._rows_per_step, self._per_epoch = rows, rows_per_step, per_epoch
        self._updates_per_step = updates_per_step
        self._trained = {name: Trained(model, _optimizer(model, recipe)) for name, model in models.items()}
        self._counters = {"skipped": 0, "skipped_in_a_row": 0, "beyond_in_a_row": 0}
        self._step, self._update, self._asked_to_end = 0, 0, False
        self._checkpoints = settings.folder / "checkpoints"
        self._metrics = Metrics(settings.folder, tensorboard=settings.tensorboard)
        self._resume()

    def ask_to_end(self) -> None:
        """Has the run end after the step it is in, with a checkpoint; a signal handler may call it."""
        self._asked_to_end = True

    def _resume(self) -> None:
        if self.settings.fresh:
            return
        saved = checkpoint.resume(
            self._checkpoints, self._trained, self.settings.identity, self.ranks, self._doubt, _LOG.warning
        )
        if saved is None:
            return
        self._step = saved.step
        self._counters |= saved.counters
        _LOG.info("going on from %s", saved.folder)

    def _doubt(self, saved: Saved) -> str:
        """Returns why the optimizers that were loaded are not those of the step that a checkpoint's manifest says."""
        if saved.step > self.steps_total:
            return f"it says step {saved.step:,}, and the run has {self.steps_total:,}"
        if set(saved.counters) != set(self._counters):
            return "its counters are not those of this version"
        expected = saved.step * self._updates_per_step - saved.counters["skipped"]
        for name, one in self._trained.items():
            taken = max(int(state["step"]) for state in one.optimizer.state.values())
            if taken != expected:
                return f"it says step {saved.step:,}, and the optimizer of {name} took {taken:,} updates, not {expected:,}"
        return ""

    def steps(self) -> Iterator[int]:
        """Yields the number of each step that is still to do; saves where it is due and where the run is asked to end."""
        while self._step < self.steps_total and not self.interrupted:
            self._update = self._step * self._updates_per_step
            self.speed.begin()
            yield self._step
            self._step += 1
            self.interrupted = self.ranks.any(self._asked_to_end) and self._step < self.steps_total
            if self.interrupted or self._step % self.settings.save_every == 0 or self._step == self.steps_total:
                self.save()

    def save(self) -> None:
        """Writes a checkpoint of the steps that are done."""
        checkpoint.save(self._checkpoints, self._step, self._trained, self.settings.identity, self._counters, self.ranks)

    def batch(self, step: int) -> list[int]:
        """Returns which rows a step takes: the next of its epoch's order, whatever the number of ranks."""
        epoch, place = divmod(step, self._per_epoch)
        start = place * self._rows_per_step
        return permutation(self._rows, self.recipe.seed, epoch)[start : start + self._rows_per_step]

    def micro_batches(self, rows: Sequence[T], tokens: Callable[[T], int], work: Callable[[list[T]], R]) -> list[R]:
        """Returns what ``work`` makes of each micro-batch of this rank's rows; see :meth:`fitting`.

        Args:
            rows: This rank's.
            tokens: Returns how many tokens of a row go through a model.
            work: Adds a micro-batch's gradients.
        """
        return self.fitting(
            [tokens(row) for row in rows], lambda parts: [work([rows[place] for place in part]) for part in parts]
        )

    def fitting(self, lengths: Sequence[int], work: Callable[[list[list[int]]], R]) -> R:
        """Returns what ``work`` makes of rows that are cut into micro-batches of at most ``micro_tokens``, given their places.

        All ranks have the same number of micro-batches, each with about as many tokens.

        Where memory runs out, everything of this call is undone, gradients included, and done again in halves. With several
        ranks the others wait in the middle of the models for this one, so there the run ends, and goes on from its last
        checkpoint with half the tokens: by itself under ``torchrun --max-restarts``.

        Raises:
            EngineError: Memory does not suffice for one row, or one of several ranks ran out of it.
        """
        while True:
            parts = cut(lengths, self.ranks.max(parts_needed(lengths, self.micro_tokens)))
            try:
                return work(parts)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(parts) == len(lengths):
                    raise EngineError(
                        f"out of memory with a row of {max(lengths)} tokens alone; use more devices, activation_checkpointing "
                        "or another compute_dtype, and give the same command again to go on"
                    ) from error
                # Below the longest row the budget has no effect; what is larger than all rows together has none either.
                self.micro_tokens = max(min(self.micro_tokens, sum(lengths)) // 2, 1)
                if self.ranks.world > 1:
                    self._remember()
                    raise EngineError(
                        f"rank {self.ranks.rank} ran out of memory; the same command, or torchrun --max-restarts, "
                        f"goes on from the last checkpoint with micro_tokens = {self.micro_tokens}"
                    ) from error
            self._zero()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _LOG.warning("out of memory: going on with micro_tokens = %d", self.micro_tokens)

    def _remember(self) -> None:
        """Leaves the smaller number of tokens for the run that goes on; of ranks that run out together one is heard."""
        files.write_text(self.settings.folder / MICRO_TOKENS, str(self.micro_tokens))

    def update(self, loss: Tensor, rows: Iterable[Tokens]) -> dict[str, float]:
        """Takes one optimizer step with the gradients that are there, unless something is not finite; then skips it.

        Args:
            loss: This rank's part of the loss; the parts of all ranks add up.
            rows: This rank's rows, for a look at them should training stop.

        Returns:
            The loss, the learning rate, and each model's gradient norm before clipping.

        Raises:
            Stopped: ``max_skipped`` updates in a row were not finite.
        """
        with self.speed.part("optimiser"):
            return self._update_once(loss, rows)

    def _update_once(self, loss: Tensor, rows: Iterable[Tokens]) -> dict[str, float]:
        recipe = self.recipe
        updates = self.steps_total * self._updates_per_step
        warmup = warmup_updates(recipe.warmup, updates)
        rate = learning_rate(self._update, updates, warmup, recipe.learning_rate, recipe.final_learning_rate)
        self._update += 1
        total = float(self.ranks.sum(loss.detach().double()))
        norms = {name: gradient_norm(one.model) for name, one in self._trained.items()}
        if finite([total, *norms.values()]):
            self._counters["skipped_in_a_row"] = 0
            for name, one in self._trained.items():
                clip_gradient(one.model, norms[name], recipe.clip_norm)
                for group in one.optimizer.param_groups:
                    group["lr"] = rate
                one.optimizer.step()
        else:
            self._counters["skipped"] += 1
            self._counters["skipped_in_a_row"] += 1
        self._zero()
        if self._counters["skipped_in_a_row"] >= recipe.max_skipped:
            self._stop_with_rows(rows)
        return {"loss": total, "learning_rate": rate, **{f"{name}_gradient_norm": norm for name, norm in norms.items()}}

    def _stop_with_rows(self, rows: Iterable[Tokens]) -> None:
        path = self.settings.folder / f"not-finite-step-{self._step:08d}-rank-{self.ranks.rank}.json"
        files.write_json(path, [row.ids.tolist() for row in rows])
        raise Stopped(
            f"loss or gradient was not finite {self.recipe.max_skipped} times in a row; the rows of the last are in {path}; "
            "the last checkpoint is whole"
        )

    def guard(self, reason: str, patience: int) -> None:
        """Stops the run after ``patience`` steps in a row with a reason to, with a checkpoint; an empty reason is none.

        Raises:
            Stopped: It is time.
        """
        self._counters["beyond_in_a_row"] = self._counters["beyond_in_a_row"] + 1 if reason else 0
        if self._counters["beyond_in_a_row"] >= patience:
            self._step += 1
            self._counters["beyond_in_a_row"] = 0
            self.save()
            raise Stopped(f"{reason} in {patience} steps in a row; stopped after step {self._step} with a checkpoint")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes a step's numbers, with its seconds by part, tokens a second and MFU."""
        numbers = {**numbers, **self.speed.summary(), "skipped": self._counters["skipped"]}
        if not self.ranks.first:
            return
        self._metrics.write(step, numbers)
        self.settings.report(step, self.steps_total, dict(numbers))

    def _zero(self) -> None:
        for one in self._trained.values():
            one.optimizer.zero_grad(set_to_none=True)


def _read_number(path: Path, default: int) -> int:
    """Returns the positive number that a file holds, or the default where there is none."""
    try:
        return max(1, int(files.read_text(path, 100)))
    except (DataError, ValueError):
        return default


def _optimizer(model: nn.Module, recipe: Recipe) -> AdamW:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(
        trained,
        lr=recipe.learning_rate,
        betas=(recipe.adam_b1, recipe.adam_b2),
        eps=recipe.adam_eps,
        weight_decay=recipe.weight_decay,
    )
    # Made here and not in the first step, since a checkpoint before it would have torch make it by a step that counts.
    for parameter in trained:
        zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(0.0), **zeros}
    return optimizer
