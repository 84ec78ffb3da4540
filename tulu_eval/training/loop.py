"""The trainer of all stages: yields steps, resumes, updates, skips updates that are not finite, and saves checkpoints."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from tulu_eval import files
from tulu_eval.errors import UserError
from tulu_eval.models.exported import ExportedChange
from tulu_eval.training.formulas import learning_rate, warmup_updates
from tulu_eval.training.micro_batches import MicroBatches
from tulu_eval.training.parallel import Ranks, begin_again, clip_gradient, finite, gradient_norm
from tulu_eval.training.randomness import permutation
from tulu_eval.training.saving import checkpoint
from tulu_eval.training.saving.checkpoint import Trained
from tulu_eval.training.saving.saved import Saved, folder_of
from tulu_eval.training.stages import RATES, Recipe
from tulu_eval.training.text import Tokens
from tulu_eval.training.watching.metrics import Metrics
from tulu_eval.training.watching.speed import Speed

_LOG = logging.getLogger(__name__)


class Stopped(UserError):
    """A guard stopped the training; the last checkpoint is whole."""

    exit_code = 3


@dataclasses.dataclass(frozen=True, slots=True)
class LoopSettings:
    """Settings of a run that have no effect on what it computes.

    Attributes:
        identity: Values that a checkpoint and the run must share.
        save_every: Steps between checkpoints; the last step always has one.
        adjustable: Values that may differ from a checkpoint's; the next checkpoints record each change with its step.
        fresh: Whether to ignore existing checkpoints.
        report: Called on the first rank with each step, the number of steps and the step's numbers.
        begin: Called on each rank with a step, counted from 0, that begins.
    """

    folder: Path
    identity: Mapping[str, str]
    save_every: int
    adjustable: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fresh: bool = False
    tensorboard: bool = False
    report: Callable[[int, int, dict[str, float]], None] = lambda step, steps, numbers: None
    begin: Callable[[int], None] = lambda step: None


class Trainer:
    """The state of a run: models with their optimizers, the step, and the counters of its guards.

    Args:
        models: The models to train by name, already sharded.
        rows: Number of rows, pairs or prompts.

    Attributes:
        steps_total: Number of steps of the whole run.
        interrupted: Whether :meth:`ask_to_end` ended the run, after a checkpoint.
        changes: Settings that changed where the run went on.
        micro: Cuts this rank's rows into micro-batches that fit into memory.
        speed: Seconds by part and operations of the current step.

    Raises:
        UserError: If there are too few rows for one step.
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
        self.micro = MicroBatches(ranks, settings.folder, recipe.micro_tokens, self._undo)
        self.speed = Speed(ranks, recipe.compute_dtype)
        self.steps_total = recipe.epochs * per_epoch
        self.interrupted = False
        self.changes: tuple[ExportedChange, ...] = ()
        self._rows, self._rows_per_step, self._per_epoch = rows, rows_per_step, per_epoch
        self._updates_per_step = updates_per_step
        self._trained = {name: Trained(model, _optimizer(model, recipe)) for name, model in models.items()}
        self._counters = {"skipped": 0, "skipped_in_a_row": 0, "beyond_in_a_row": 0}
        self._step, self._update, self._asked_to_end = 0, 0, False
        self._checkpoints = settings.folder / "checkpoints"
        self._metrics = Metrics(settings.folder, tensorboard=settings.tensorboard)
        self._resume()

    def ask_to_end(self) -> None:
        """Makes the run end with a checkpoint after the current step; a signal handler may call it."""
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
        self.changes = saved.changed(self.settings.adjustable)
        _LOG.info("going on from %s", saved.folder)
        for change in self.changes[len(saved.changes) :]:
            _LOG.info("from step %d on, %s = %g, not %g", change.step + 1, change.setting, change.after, change.before)

    def _doubt(self, saved: Saved) -> str:
        """Returns why the loaded optimizers are not those of the manifest's step; empty if they are."""
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
        """Yields the number of each remaining step, from 0; saves when a checkpoint is due and when the run must end."""
        while self._step < self.steps_total and not self.interrupted:
            self._update = self._step * self._updates_per_step
            self.speed.begin()
            self.settings.begin(self._step)
            yield self._step
            self._step += 1
            self.interrupted = self.ranks.any(self._asked_to_end) and self._step < self.steps_total
            if self.interrupted or self._step % self.settings.save_every == 0 or self._step == self.steps_total:
                self.save()

    def save(self) -> None:
        """Writes a checkpoint of the finished steps."""
        settings, folder = self.settings, folder_of(self._checkpoints, self._step)
        state = Saved(
            folder, self._step, dict(settings.identity), dict(self._counters), dict(settings.adjustable), self.changes, {}
        )
        checkpoint.save(state, self._trained, self.ranks)

    def batch(self, step: int) -> list[int]:
        """Returns the numbers of a step's rows: the next of its epoch's order, for any number of ranks."""
        epoch, place = divmod(step, self._per_epoch)
        start = place * self._rows_per_step
        return permutation(self._rows, self.recipe.seed, epoch)[start : start + self._rows_per_step]

    def update(self, loss: Tensor, rows: Iterable[Tokens]) -> dict[str, float]:
        """Takes one optimizer step with the current gradients; skips it if the loss or a gradient is not finite.

        ``loss`` and ``rows`` are this rank's: the losses of all ranks add up, and the rows go into a file if this stops the
        run.

        Returns:
            The loss, the learning rate, and each model's gradient norm before clipping.

        Raises:
            Stopped: If ``max_skipped`` updates in a row were not finite.
        """
        with self.speed.part("optimiser"):
            return self._update_once(loss, rows)

    def _update_once(self, loss: Tensor, rows: Iterable[Tokens]) -> dict[str, float]:
        recipe = self.recipe
        updates = self.steps_total * self._updates_per_step
        warmup = warmup_updates(recipe.warmup, updates // recipe.epochs if recipe.warmup_of == "epoch" else updates)
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
            f"loss or gradient was not finite {self.recipe.max_skipped} times in a row; the last rows are in {path}; "
            f"the last checkpoint is whole: give the same command again with {slower(self.recipe)}"
        )

    def guard(self, reason: str, patience: int, instead: str = "") -> None:
        """Stops the run with a checkpoint after ``patience`` steps in a row with a reason; an empty reason is none.

        ``instead`` is the option that lets the run go on as before.

        Raises:
            Stopped: If this is the last of these steps.
        """
        self._counters["beyond_in_a_row"] = self._counters["beyond_in_a_row"] + 1 if reason else 0
        if self._counters["beyond_in_a_row"] >= patience:
            self._step += 1
            self._counters["beyond_in_a_row"] = 0
            self.save()
            raise Stopped(
                f"{reason} in {patience} steps in a row; stopped after step {self._step} with a checkpoint: give the same "
                f"command again with {slower(self.recipe)}, or with {instead} to go on as before"
            )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes a step's numbers, with its seconds by part, tokens per second and MFU."""
        numbers = {**numbers, **self.speed.summary(), "skipped": self._counters["skipped"]}
        if not self.ranks.first:
            return
        self._metrics.write(step, numbers)
        self.settings.report(step, self.steps_total, dict(numbers))

    def _undo(self) -> None:
        for one in self._trained.values():
            begin_again(one.model)
        self._zero()

    def _zero(self) -> None:
        for one in self._trained.values():
            one.optimizer.zero_grad(set_to_none=True)


def slower(recipe: Recipe) -> str:
    """Returns the options that halve a recipe's rates."""
    return " ".join(f"--set {name}={getattr(recipe, name) / 2:.3g}" for name in RATES if getattr(recipe, name))


def _optimizer(model: nn.Module, recipe: Recipe) -> AdamW:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(
        trained,
        lr=recipe.learning_rate,
        betas=(recipe.adam_b1, recipe.adam_b2),
        eps=recipe.adam_eps,
        weight_decay=recipe.weight_decay,
    )
    # A checkpoint before the first step needs the state; without it torch would take a real step to create it.
    for parameter in trained:
        zeros = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(0.0), **zeros}
    return optimizer
