"""Executes a job: starts the ranks, loads the weights, runs the stage's loop, and exports the trained models."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from tulu_eval.models import model_files, pickled
from tulu_eval.models.exported import Exported, ExportedRecipe, ExportedSetting
from tulu_eval.models.tokenizer import load_tokenizer
from tulu_eval.runs import catalog
from tulu_eval.store import environment
from tulu_eval.store.manifest import MANIFEST, locked, write_json
from tulu_eval.training import dpo, heads, loading, networks, parallel, ppo, reward_model, sft
from tulu_eval.training.at_once import ROLLOUT_ROWS
from tulu_eval.training.job import Job, engine_settings
from tulu_eval.training.loop import LoopSettings, Trainer, slower
from tulu_eval.training.micro_batches import MICRO_TOKENS
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture, RewardSettings
from tulu_eval.training.rollout import PolicyEngine, RolloutEngine
from tulu_eval.training.saving import checkpoint, export
from tulu_eval.training.sizes import cost
from tulu_eval.training.stages import DPORecipe, PPORecipe, RewardModelRecipe
from tulu_eval.training.vllm_rollout import VllmEngine
from tulu_eval.training.watching.watch import Watch, make_probe
from tulu_eval.training.watching.watchdog import Watchdog, watching
from tulu_eval.version import __version__

_LOG = logging.getLogger(__name__)

Report = Callable[[int, int, dict[str, float]], None]


class TrainingOutcome(NamedTuple):
    """The end of a run.

    Attributes:
        finished: Whether all steps are done; otherwise a signal ended the run, and it can resume.
        models: Folders of the trained models; empty if the run is unfinished.
    """

    finished: bool
    folder: Path
    models: list[Path]


def execute(job: Job, device: str, report: Report, say: Callable[[str], None] = lambda text: None) -> TrainingOutcome:
    """Trains. The same call resumes an interrupted run, and does nothing for a finished one.

    ``report`` is called with each step, the number of steps and the step's numbers, ``say`` with texts for people: sample
    rollouts, the probe.

    Raises:
        UserError: If something is missing or does not fit, or a guard stopped the run.
    """
    with watching(job.order.rank_timeout) as watch, parallel.ranks(device, partial(_fetch, job)) as ranks:
        recipe, stage = job.sourced.recipe, job.sourced.stage
        ranks.refuse_uneven(batch=recipe.batch)
        if _finished(job):
            export.refuse_other_rates(job.folder, stage, recipe)
            return TrainingOutcome(True, job.folder, [job.folder / name for name in export.NAMES[stage]])
        cost.refuse_no_room(job, device, ranks.world)
        for notice in job.notices if ranks.first else ():
            _LOG.warning("%s", notice)
        with _alone(job, ranks):
            return _execute(job, ranks, watch, report, say)


def _execute(job: Job, ranks: Ranks, watch: Watchdog, report: Report, say: Callable[[str], None]) -> TrainingOutcome:
    trained_sizes = [job.model.parameters] + ([job.value_start.parameters] if job.rewards else [])
    manifest = _manifest(job, ranks)
    _prepare_folder(job, ranks, sum(trained_sizes), manifest)
    job = _loadable(job)
    order = job.order
    settings = LoopSettings(
        folder=job.folder,
        identity=job.identity,
        save_every=order.save_every,
        adjustable=job.adjustable,
        fresh=order.fresh,
        tensorboard=order.tensorboard,
        report=report,
        begin=watch.begin,
    )
    trainer, trained = _train(job, ranks, settings, say)
    if trainer.interrupted:
        return TrainingOutcome(False, job.folder, [])
    manifest = msgspec.structs.replace(manifest, changes=trainer.changes)
    made = [export.write(job.folder, name, model, job.tokenizer, manifest, ranks) for name, model in trained.items()]
    return TrainingOutcome(True, job.folder, made)


def _fetch(job: Job) -> None:
    """Downloads the weights that this machine lacks, unless the run is finished."""
    for files in filter(None, (job.model, job.reward_model)):
        if files.missing_bytes and not _finished(job):
            model_files.fetch(files)


def _finished(job: Job) -> bool:
    return not job.order.fresh and export.made(job.folder, job.sourced.stage, job.identity)


def _loadable(job: Job) -> Job:
    """Returns a job whose weights, which are here now, are safetensors, and whose tokenizer can be exported.

    It refuses a reward model with another head.
    """
    reward_model = job.reward_model and pickled.as_safetensors(job.reward_model)
    if reward_model is not None:
        heads.refuse_other(reward_model)
    tokenizer = load_tokenizer(job.model.path, job.model.name, trust_remote_code=False)
    return dataclasses.replace(job, model=pickled.as_safetensors(job.model), reward_model=reward_model, tokenizer=tokenizer)


def _alone(job: Job, ranks: Ranks) -> AbstractContextManager[None]:
    """Locks the run's folder, which it creates, so that models of two runs do not mix in it."""
    return locked(job.folder) if ranks.first else contextlib.nullcontext()


def _prepare_folder(job: Job, ranks: Ranks, parameters: int, manifest: Exported) -> None:
    if ranks.first:
        _clear(job)
        checkpoint.refuse_full_disk(job.folder, parameters)
        saved = None if job.order.fresh else checkpoint.newest(job.folder / "checkpoints")
        if saved is not None:
            checkpoint.refuse_other(saved, job.identity)
            if export.made(job.folder, job.sourced.stage, job.identity):  # by another process, since this one began
                export.refuse_other_rates(job.folder, job.sourced.stage, job.sourced.recipe)
            manifest = msgspec.structs.replace(manifest, changes=saved.changed(job.adjustable))
        if job.order.fresh:
            shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
            export.set_aside(job.folder, job.sourced.stage)
        export.refuse_others(job.folder, job.sourced.stage, job.identity)
        write_json(job.folder / MANIFEST, export.as_manifest(manifest))
    ranks.wait()


def _clear(job: Job) -> None:
    """Removes the half-written files of a killed run; the folder must be locked."""
    checkpoint.clear(job.folder / "checkpoints")
    for draft in filter(Path.is_dir, export.drafts(job.folder)):
        shutil.rmtree(draft, ignore_errors=True)
    for draft in (*job.folder.glob(f".{MANIFEST}.*"), *job.folder.glob(f".{MICRO_TOKENS}.*")):
        draft.unlink(missing_ok=True)


def _manifest(job: Job, ranks: Ranks) -> Exported:
    """Returns the manifest of a run, in which the name of a model and the hash of its weights are still empty."""
    sourced = job.sourced
    recipe = dataclasses.asdict(sourced.recipe)
    return Exported(
        version=__version__,
        stage=sourced.stage,
        recipe=ExportedRecipe(sourced.name, sourced.sha256, sourced.about),
        settings={key: ExportedSetting(value, sourced.sources[key]) for key, value in recipe.items()},
        identity=job.identity,
        model=job.model.name,
        reward_model=job.reward_model.name if job.reward_model else None,
        rows_kept=len(job.rows.rows),
        rows_dropped=job.rows.dropped,
        steps=job.steps,
        ranks=ranks.world,
        commit=environment.commit(),
        packages=environment.packages(),
        machine=environment.machine(),
        rewards={part.shown: part.weight for part in job.rewards},
    )


def _train(job: Job, ranks: Ranks, settings: LoopSettings, say: Callable[[str], None]) -> tuple[Trainer, dict[str, Any]]:
    """Loads the stage's models and runs its loop; returns the trained models by the name of their folder."""
    recipe, folder = job.sourced.recipe, job.model.path
    compute = recipe.compute_dtype
    rows: Any = job.rows.rows

    def policy(trained: bool) -> networks.Policy:
        saving = trained and recipe.activation_checkpointing
        return loading.load_policy(folder, compute=compute, trained=trained, ranks=ranks, checkpointing=saving)

    def scorer(path: Path, trained: bool, new_head: tuple[int, float] | None = None) -> networks.Scorer:
        saving = trained and recipe.activation_checkpointing
        return loading.load_scorer(path, compute=compute, trained=trained, new_head=new_head, ranks=ranks, checkpointing=saving)

    def trainer(trained: dict[str, Any]) -> Trainer:
        return Trainer(recipe, ranks, trained, len(rows), job.rows_per_step, job.updates_per_step, settings)

    if isinstance(recipe, RewardModelRecipe):
        trained: dict[str, Any] = {"reward_model": scorer(folder, True, (recipe.seed, recipe.head_std))}
        run = trainer(trained)
        with _signals(run):
            reward_model.train(run, trained["reward_model"], rows)
    elif isinstance(recipe, DPORecipe):
        trained = {"policy": policy(trained=True)}
        run = trainer(trained)
        with _signals(run):
            dpo.train(run, trained["policy"], policy(trained=False), rows, recipe.beta)
    elif isinstance(recipe, PPORecipe):
        start, head = job.value_start.path, None if job.reward_model else (recipe.seed, 0.0)
        trained = {"policy": policy(trained=True), "value_model": scorer(start, trained=True, new_head=head)}
        reward = _rewards(job, lambda: scorer(start, trained=False))
        four = ppo.Models(trained["policy"], policy(trained=False), trained["value_model"], reward)
        run = trainer(trained)
        with _signals(run), contextlib.closing(_engine(job, four.policy, ranks)) as engine:
            ppo.train(run, four, engine, rows, recipe, _watch(job, ranks, say))
    else:
        trained = {"policy": policy(trained=True)}
        run = trainer(trained)
        with _signals(run):
            sft.train(run, trained["policy"], rows)
    return run, trained


def _rewards(job: Job, load_model: Callable[[], networks.Scorer]) -> Mixture:
    """Returns the rewards of a job of PPO, ready to score."""
    order = job.order
    return Mixture(
        {
            part.shown: (
                part.weight,
                part.kind.make(RewardSettings(part.argument, job.tokenizer, order.reward_url, load_model)),
            )
            for part in job.rewards
        }
    )


def _engine(job: Job, policy: networks.Policy, ranks: Ranks) -> RolloutEngine:
    """Returns the engine of the rollouts."""
    recipe, eos = job.sourced.recipe, int(job.tokenizer.eos_token_id)
    assert isinstance(recipe, PPORecipe)  # noqa: S101 - only PPO has rollouts
    if job.order.rollouts == "policy":
        advice = f"the last checkpoint is whole: give the same command again with {slower(recipe)}"
        return PolicyEngine(policy, [eos], ROLLOUT_ROWS, job.drawn, advice)
    longest = recipe.max_length + recipe.max_new_tokens
    if job.order.probe:
        longest = job.model.context or longest
    settings = engine_settings(job.order, recipe)
    prompt: Any = job.rows.rows[0]
    return VllmEngine(job.model, settings, eos, longest, prompt, ranks)


def _watch(job: Job, ranks: Ranks, say: Callable[[str], None]) -> Watch:
    order = job.order
    probe = None
    if order.probe:
        probe = make_probe(
            catalog.benchmark(order.probe), order.probe_items, order.probe_data, job.tokenizer, job.model.context
        )
    return Watch(job.folder, ranks, job.tokenizer, order.watch_every, probe, say)


@contextlib.contextmanager
def _signals(run: Trainer) -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1, which schedulers send first, end the run with a checkpoint after the current step."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        run.ask_to_end()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
