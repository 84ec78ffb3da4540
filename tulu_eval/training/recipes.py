"""Reads recipes from TOML: every setting of a stage with its source, checked before any model is loaded.

``presets/<stage>.toml`` has the named recipes of a stage; a user's file has the same form, with one recipe or several. A recipe
names its ``base`` or has every field of its stage::

    [mine]
    base = "easylm"
    kl_coef = { value = 0.03, source = "a sweep of mine" }
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from tulu_eval import files
from tulu_eval.errors import DataError, UnknownName, UserError, suggest
from tulu_eval.training.stages import CLASSES, DPORecipe, PPORecipe, Recipe, Sourced, Stage

LIMIT = 1_000_000
"""Largest size of a recipe file in bytes."""

PRESETS = Path(__file__).parent / "presets"
OFF = "off"
"""Value in TOML of a number whose rule does not apply."""


class RecipeError(UserError):
    """A recipe cannot be followed."""


def names(stage: Stage) -> tuple[str, ...]:
    """Returns the names of a stage's presets."""
    return tuple(_read(PRESETS / f"{stage}.toml")[0])


def check_name(stage: Stage, recipe: str) -> None:
    """Raises UnknownName if a recipe is neither a file nor one of :func:`names`; :func:`load` checks everything else."""
    if ".toml" not in recipe and recipe not in (known := names(stage)):
        raise UnknownName(f"recipe of {stage}", recipe, known)


def load(stage: Stage, recipe: str, changes: Sequence[str] = ()) -> Sourced:
    """Returns a recipe: one of :func:`names`, the only one of a TOML file, or ``file.toml:name``.

    ``changes`` are ``KEY=VALUE`` as on the command line, with values as in TOML.

    Raises:
        UnknownName: If there is no such recipe or key.
        RecipeError: If a field is missing, has another type, or cannot be followed.
        DataError: If a file is not such TOML.
    """
    tables, legend, otherwise = _read(PRESETS / f"{stage}.toml")
    where, name = str(PRESETS / f"{stage}.toml"), recipe
    path, _, chosen = recipe.partition(".toml")
    if path != recipe:
        where = f"{path}.toml"
        own, words, _ = _read(Path(where))
        name = chosen.removeprefix(":") or (next(iter(own)) if len(own) == 1 else "")
        if name not in own:
            raise UnknownName(f"recipe of {where}", name, own)
        tables |= own
        legend |= words
    if name not in tables:
        raise UnknownName(f"recipe of {stage}", name, tables)
    merged = _merge(tables, name, where)
    about = str(merged.pop("about", ""))
    given = {key: _entry(where, name, key, value) for key, value in merged.items()}
    given |= {key: (value, "command line") for key, value in map(_change, changes)}
    cls = CLASSES[stage]
    values = {key: value for key, (value, _) in given.items()}
    made = _build(cls, values, f"recipe {name}")
    _check(made, f"recipe {name}")
    sources = {field.name: given[field.name][1] for field in dataclasses.fields(cls)}
    return Sourced(stage, name, about, made, sources, legend, otherwise)


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[str, str]]:
    """Returns a file's recipes, and its tables ``[sources]`` (short names) and ``[otherwise]`` (see :class:`Sourced`)."""
    data = files.parse_toml(files.read_text(path, LIMIT), path)
    for name, table in data.items():
        if not isinstance(table, dict):
            raise DataError(path, f"{name!r} stands outside of a recipe; a recipe begins with [its-name]")
    legend = {name: str(text) for name, text in data.pop("sources", {}).items()}
    otherwise = {name: str(text) for name, text in data.pop("otherwise", {}).items()}
    return data, legend, otherwise


def _merge(tables: dict[str, dict[str, Any]], name: str, where: str) -> dict[str, Any]:
    """Returns the entries of a recipe and its bases; an entry of the recipe replaces that of a base."""
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    at: str | None = name
    while at is not None:
        if at in seen or at not in tables:
            raise DataError(where, f"[{name}]: {f'{at!r} is its own base' if at in seen else f'no base {at!r}'}")
        seen.add(at)
        chain.append(tables[at])
        at = tables[at].get("base")
    merged: dict[str, Any] = {}
    for table in reversed(chain):
        merged |= table
    merged.pop("base", None)
    return merged


def _entry(where: str, name: str, key: str, value: Any) -> tuple[Any, str]:
    if not isinstance(value, dict) or set(value) != {"value", "source"} or not isinstance(value["source"], str):
        raise DataError(where, f'[{name}] {key}: write {key} = {{ value = ..., source = "..." }}')
    return value["value"], value["source"]


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: write KEY=VALUE")
    try:
        return key.strip(), files.parse_toml(f"x = {value}", Path("--set"))["x"]
    except DataError:
        return key.strip(), value.strip()


def _build(cls: type[Recipe], values: dict[str, Any], where: str) -> Recipe:
    hints = get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise RecipeError(f"{where}: unknown key {key!r}.{suggest(key, hints)}")
    missing = [key for key in hints if key not in values]
    if missing:
        raise RecipeError(f"{where} lacks {', '.join(missing)}")
    return cls(**{key: _typed(hints[key], values[key], f"{where}: {key}") for key in hints})


def _typed(hint: Any, value: Any, where: str) -> Any:
    if value == OFF and type(None) in get_args(hint):
        return None
    kind = float if hint == float | None else hint
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if kind in (int, bool, str) and type(value) is kind:
        return value
    if value in get_args(kind):
        return value
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    raise RecipeError(f"{where} = {value!r}: must be {words.get(kind) or ' or '.join(map(repr, get_args(kind)))}")


def _check(recipe: Recipe, where: str) -> None:
    """Raises RecipeError if no run could follow the recipe."""

    def refuse(message: str) -> NoReturn:
        raise RecipeError(f"{where}: {message}")

    for key in ("epochs", "max_length", "batch", "micro_tokens", "max_skipped"):
        if getattr(recipe, key) < 1:
            refuse(f"{key} = {getattr(recipe, key)}: must be at least 1")
    for key in ("warmup", "adam_b1", "adam_b2"):
        if not 0 <= getattr(recipe, key) < 1:
            refuse(f"{key} = {getattr(recipe, key)}: must be at least 0 and less than 1")
    if not recipe.learning_rate > 0 or recipe.final_learning_rate < 0 or recipe.weight_decay < 0:
        refuse("learning_rate must be positive, final_learning_rate and weight_decay at least 0")
    if not recipe.clip_norm > 0 or not recipe.adam_eps > 0:
        refuse("clip_norm and adam_eps must be positive")
    if isinstance(recipe, DPORecipe) and not recipe.beta > 0:
        refuse(f"beta = {recipe.beta}: must be positive")
    if isinstance(recipe, PPORecipe):
        _check_ppo(recipe, refuse)


def _check_ppo(recipe: PPORecipe, refuse: Any) -> None:
    for key in ("rollout_batch", "rollouts_per_prompt", "inner_epochs", "max_new_tokens", "patience"):
        if getattr(recipe, key) < 1:
            refuse(f"{key} = {getattr(recipe, key)}: must be at least 1")
    rollouts = recipe.rollout_batch * recipe.rollouts_per_prompt
    if rollouts % recipe.batch:
        refuse(f"the {rollouts} rollouts of a step cannot be cut into mini-batches of batch = {recipe.batch}")
    if not recipe.temperature > 0 or not recipe.logprob_temperature > 0 or not 0 < recipe.top_p <= 1 or recipe.top_k < 0:
        refuse("temperature, logprob_temperature must be positive, top_p in (0, 1], top_k at least 0")
    for key in ("gamma", "gae_lambda", "eos_floor"):
        if not 0 <= getattr(recipe, key) <= 1:
            refuse(f"{key} = {getattr(recipe, key)}: must be between 0 and 1")
    for key in ("clip", "value_clip", "value_coef", "kl_coef", "kl_ceiling"):
        if getattr(recipe, key) < 0:
            refuse(f"{key} = {getattr(recipe, key)}: must be at least 0")
