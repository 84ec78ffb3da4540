"""``tulu-eval train``: train a checkpoint of the suite, or one like it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

import tulu_eval
from tulu_eval.cli.common import FOR_REAL, print_json, print_text, say, set_up_logging, then, then_same
from tulu_eval.cli.names import FILE, complete, complete_models, complete_recipes
from tulu_eval.cli.numeric import NumberRange, WholeRange
from tulu_eval.errors import UserError

if TYPE_CHECKING:
    from tulu_eval.api.train import TrainingPlan
    from tulu_eval.training.stages import Stage


class TrainingOptions(TypedDict):
    """Values of the options, by parameter."""

    model: str
    reward_model: str
    reward: tuple[str, ...]
    reward_url: str
    data: tuple[Path, ...]
    split: str
    skip_bad_rows: bool
    output: Path | None
    device: str
    save_every: int
    rollouts: str
    rollout_memory: float
    watch_every: int
    probe: str
    probe_limit: int
    probe_data: Path | None
    tensorboard: bool
    allow_pickle: bool
    rank_timeout: float
    registry: Path | None


SHOWN = {
    "loss": "loss", "accuracy": "accuracy", "score": "score", "kl": "KL", "eos_rate": "EOS", "length": "length",
    "entropy": "entropy", "clip_fraction": "clipped", "explained_variance": "explained", "policy_gradient_norm": "|g|",
    "value_model_gradient_norm": "|g value|", "reward_model_gradient_norm": "|g|", "learning_rate": "lr",
}  # fmt: skip
"""Short names of the numbers of a step that are shown."""


@click.command(no_args_is_help=True)
@click.argument("stage", type=click.Choice(["sft", "rm", "dpo", "ppo"]))
@click.option(
    "--recipe",
    "-r",
    required=True,
    shell_complete=complete_recipes,
    help="easylm, card, tiny, ... or a TOML file (file.toml:name where it has several).",
)
@click.option("--model", "-m", default="", shell_complete=complete_models,
              help="Model that training starts from; the recipe's unless given.")  # fmt: skip
@click.option("--reward-model", default="", shell_complete=complete_models,
              help="ppo: model that scores the answers, and that the value model starts from.")  # fmt: skip
@click.option("--reward", multiple=True, metavar="NAME[:ARGUMENT][=WEIGHT]", shell_complete=complete("tulu_eval.rewards"),
              help="ppo: what scores the answers: model, rule:BENCHMARK (its own scorer on its training split, or on --data), "
                   "server, or a plug-in's; several are summed.")  # fmt: skip
@click.option("--reward-url", default="", metavar="URL", help="ppo: address of the reward 'server'.")
@click.option("--data", type=click.Path(path_type=Path), multiple=True,
              help="Rows in Tulu's, TRL's or ShareGPT's form, in place of the recipe's data set; repeatable.")  # fmt: skip
@click.option("--split", default="", help="Split of the recipe's data set, e.g. preference_big_mixture.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out and count rows of no known form, instead of refusing the first.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe; may be repeated.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Folder of the run; training/<stage>-<model>-<recipe> unless given."
)
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="auto: cuda if it is there."
)
@click.option("--save-every", type=WholeRange(min=1), default=10, show_default=True, help="Steps between checkpoints.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on from the last checkpoint, or begin anew.")
@click.option("--rollouts", type=click.Choice(["policy", "vllm"]), default="policy", show_default=True,
              help="ppo: decode with the policy itself, or with vLLM on the same devices.")  # fmt: skip
@click.option("--rollout-memory", type=NumberRange(0.0, 1.0, min_open=True), default=0.3, show_default=True,
              help="ppo: fraction of each device's memory for vLLM.")  # fmt: skip
@click.option("--watch-every", type=WholeRange(min=1), default=10, show_default=True,
              help="ppo: steps between two looks at sample rollouts and the probe.")  # fmt: skip
@click.option("--probe", default="", shell_complete=complete("tulu_eval.benchmarks"),
              help="ppo: benchmark whose first items show, while training goes on, the gain over its start.")  # fmt: skip
@click.option("--probe-limit", type=WholeRange(min=1), default=64, show_default=True, help="ppo: items of the probe.")
@click.option("--probe-data", type=click.Path(path_type=Path), help="ppo: file with the probe's benchmark.")
@click.option("--tensorboard", is_flag=True, help="Write curves to the run's folder 'tensorboard' too.")
@click.option("--allow-pickle", is_flag=True, help="Take pickled weights; what would run code is refused.")
@click.option("--rank-timeout", type=NumberRange(10.0, None), default=120.0, show_default=True,
              help="Under torchrun: seconds of silence after which a rank counts as lost, and the others end.")  # fmt: skip
@click.option("--registry", type=FILE, help="TOML file with models of your own.")
@click.option("--dry-run", is_flag=True,
              help="Print the recipe with sources, rows kept and dropped, memory, time. Loads no weights.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--verbose", "-v", count=True, help="Say more; -vv for other packages' logs too.")
def train(
    stage: Stage,
    recipe: str,
    changes: tuple[str, ...],
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **options: Unpack[TrainingOptions],
) -> None:
    r"""Train STAGE: sft, rm (reward model), dpo or ppo.

    A run that was interrupted goes on where it stopped when the same command is given again; SIGTERM ends it with a checkpoint.
    On several devices the same command runs under torchrun.

    \b
    Examples:
      tulu-eval train rm --recipe tiny -m smollm2-135m-instruct --data pairs.jsonl
      tulu-eval train ppo --recipe easylm --dry-run
      tulu-eval train ppo --recipe tiny -m smollm2-135m-instruct --reward rule:gsm8k
      torchrun --nproc-per-node 8 -m tulu_eval train ppo --recipe easylm --set kl_coef=0.0325
    """
    set_up_logging(verbose, quiet)
    settings = _settings(changes)
    if dry_run:
        _show_plan(tulu_eval.plan_training(stage, recipe, settings=settings, fresh=not resume, **options), as_json)
        return
    outcome = tulu_eval.train(stage, recipe, settings=settings, fresh=not resume, progress=Steps(quiet=quiet), **options)
    if int(os.environ.get("RANK", "0")):
        return
    if as_json:
        print_json({"finished": outcome.finished, "folder": str(outcome.folder), "models": list(map(str, outcome.models))})
    elif outcome.finished:
        print_text("\n".join(map(str, outcome.models)))
        then("run", "BENCHMARK", "--model", outcome.models[0], quiet=quiet)
    else:
        say(f"stopped with a checkpoint in {outcome.folder}; give the same command again to go on")


def _settings(changes: tuple[str, ...]) -> dict[str, object]:
    """Returns the values of ``--set`` by key; raises UserError if a text is not KEY=VALUE."""
    found: dict[str, object] = {}
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write KEY=VALUE")
        found[key] = value
    return found


def _show_plan(plan: TrainingPlan, as_json: bool) -> None:
    from tulu_eval.reports import train as report
    from tulu_eval.training.sizes.cost import estimate

    if not as_json:
        print_text(report.recipe_as_text(plan.recipe))  # first, since models or data may be missing
    job, cost = plan.job, estimate(plan.job, plan.device, plan.world)
    if as_json:
        print_json(report.as_json(job, cost, plan.world))
    else:
        print_text(report.as_text(job, cost, plan.world))
        then_same(FOR_REAL)


class Steps:
    """Prints a line per step on stderr; nothing if ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def step(self, step: int, steps: int, numbers: dict[str, float]) -> None:
        """Prints a step's numbers and its speed."""
        from tulu_eval.training.watching import speed

        if not self._quiet:
            shown = "  ".join(f"{name} {numbers[key]:.4g}" for key, name in SHOWN.items() if key in numbers)
            click.echo(f"step {step + 1}/{steps}  {shown}  {speed.in_words(numbers)}", err=True)

    def say(self, text: str) -> None:
        """Prints sample rollouts, or the probe's gain."""
        if not self._quiet:
            click.echo(f"\n{text}\n", err=True)
