"""Recipes: every value with a source, the published settings, and one line for each mistake."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.errors import DataError, UnknownName
from tulu_eval.training import recipes
from tulu_eval.training.stages import STAGES, DPORecipe, PPORecipe, RewardModelRecipe, SFTRecipe, Stage


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_of_every_recipe_has_a_source(stage: Stage) -> None:
    assert {"easylm", "tiny"} <= set(recipes.names(stage))
    for name in recipes.names(stage):
        loaded = recipes.load(stage, name)
        assert set(loaded.sources) == {field.name for field in dataclasses.fields(loaded.recipe)}
        assert all(loaded.sources.values())
        short = {word for source in loaded.sources.values() for word in re.findall(r"\b[A-Z]{2,}\b", source)} - {
            "BOS",
            "SFT",
            "FLAGS",
        }
        assert short <= set(loaded.legend)
        assert loaded.about.endswith(".")
        assert {"order", "special_tokens", "empty_messages"} <= set(loaded.otherwise)


def test_the_warm_up_is_of_the_run_where_easylm_s_is() -> None:
    """EasyLM @ dbf2212c: llama_train, llama_train_rm and llama_train_dpo by all updates, llama_train_ppo by an epoch's."""
    found = {stage: recipes.load(stage, "easylm").recipe.warmup_of for stage in STAGES}
    assert found == {"sft": "run", "rm": "run", "dpo": "run", "ppo": "epoch"}


def values(shared: Path, part: str, stage: str = "") -> dict[str, Any]:
    data = json.loads((shared / "data/training/recipes.json").read_text())[part]
    return {key: entry["value"] for key, entry in (data[stage] if stage else data).items() if key != "_legend"}


def test_ppo_is_as_recorded(shared: Path) -> None:
    known = values(shared, "ppo")
    recipe = recipes.load("ppo", "easylm").recipe
    assert isinstance(recipe, PPORecipe)
    same = {
        "seed": "seed", "epochs": "epochs", "max_length": "prompt_max_len", "batch": "mini_batch_size",
        "rollout_batch": "prompt_batch_size", "rollouts_per_prompt": "rollouts_per_prompt", "inner_epochs": "ppo_inner_epochs",
        "max_new_tokens": "response_max_len", "temperature": "sampling_temperature", "top_k": "sampling_top_k",
        "top_p": "sampling_top_p", "logprob_temperature": "logprob_temperature", "gamma": "gamma", "gae_lambda": "gae_lambda",
        "clip": "cliprange", "value_clip": "cliprange_value", "value_coef": "value_loss_coef", "kl_coef": "kl_coef",
        "no_eos_reward": "no_eos_reward", "learning_rate": "learning_rate", "adam_b1": "adam_b1", "adam_b2": "adam_b2",
        "adam_eps": "adam_eps", "weight_decay": "weight_decay", "clip_norm": "grad_clip_global_norm",
        "prompt_bos": "prompt_has_bos", "whiten_rewards": "reward_whitening",
        "model": "policy_init", "reward_model": "reward_model", "dataset": "prompt_dataset", "split": "prompt_split",
    }  # fmt: skip
    assert {field: getattr(recipe, field) for field in same} == {field: known[key] for field, key in same.items()}
    assert recipe.final_learning_rate == recipe.learning_rate
    assert [recipe.reward_gain, recipe.reward_bias] == known["reward_gain_bias"]
    large = recipes.load("ppo", "easylm-large-rm").recipe
    assert large == dataclasses.replace(recipe, kl_coef=known["kl_coef_alternative"])


def test_card_is_the_card() -> None:
    recipe = recipes.load("ppo", "card").recipe
    assert isinstance(recipe, PPORecipe)
    assert (recipe.learning_rate, recipe.final_learning_rate, recipe.warmup, recipe.epochs) == (1e-6, 0.0, 0.1, 1)
    assert (recipe.batch, recipe.rollout_batch, recipe.kl_coef) == (64, 64, 0.05)
    assert (recipe.adam_b1, recipe.adam_b2, recipe.adam_eps) == (0.9, 0.999, 1e-8)


def test_other_stages_are_as_recorded(shared: Path) -> None:
    rm, dpo, sft = (recipes.load(stage, "easylm").recipe for stage in ("rm", "dpo", "sft"))  # type: ignore[arg-type]
    assert isinstance(rm, RewardModelRecipe)
    assert isinstance(dpo, DPORecipe)
    assert isinstance(sft, SFTRecipe)
    known = values(shared, "other_stages", "reward_model")
    assert (rm.warmup, rm.epochs, rm.max_length, rm.split) == tuple(
        known[k] for k in ("warmup_ratio", "epochs", "seq_len", "split")
    )
    assert (rm.learning_rate, rm.final_learning_rate, rm.batch, rm.head_std) == (1e-5, 1e-6, 512, 0.02)
    assert [rm.adam_b1, rm.adam_b2, rm.adam_eps] == known["adam"]
    known = values(shared, "other_stages", "dpo")
    assert (dpo.beta, dpo.warmup, dpo.epochs, dpo.max_length) == tuple(
        known[k] for k in ("beta", "warmup_ratio", "epochs", "seq_len")
    )
    assert (dpo.learning_rate, dpo.final_learning_rate, dpo.batch) == (5e-7, 0.0, 32)
    known = values(shared, "other_stages", "sft")
    assert (sft.warmup, sft.epochs, sft.max_length, sft.dataset) == tuple(
        known[k] for k in ("warmup_ratio", "epochs", "seq_len", "data")
    )
    assert (sft.learning_rate, sft.final_learning_rate, sft.batch) == (2e-5, 0.0, 128)


def test_changes_of_the_command_line_are_their_own_source() -> None:
    loaded = recipes.load("ppo", "easylm", ["kl_coef=0.1", "no_eos_reward=off", "model=./here", "epochs=2"])
    assert isinstance(loaded.recipe, PPORecipe)
    assert (loaded.recipe.kl_coef, loaded.recipe.no_eos_reward, loaded.recipe.model, loaded.recipe.epochs) == (
        0.1,
        None,
        "./here",
        2,
    )
    assert loaded.sources["kl_coef"] == "command line"


def test_hash_changes_with_what_has_an_effect_only() -> None:
    by_model = [recipes.load("ppo", "tiny", [f"reward_model={name}"]).sha256 for name in ("a", "b")]
    assert by_model[0] == by_model[1]
    plain = recipes.load("rm", "tiny").sha256
    assert recipes.load("rm", "tiny", ["micro_tokens=1", "activation_checkpointing=true", "model=x"]).sha256 == plain
    assert recipes.load("rm", "tiny", ["learning_rate=1e-5"]).sha256 != plain
    past = recipes.load("ppo", "tiny").past_sha256
    later = ("learning_rate=1", "final_learning_rate=1", "max_skipped=1", "kl_ceiling=1", "eos_floor=1", "patience=1")
    assert all(recipes.load("ppo", "tiny", [one]).past_sha256 == past for one in later)
    assert all(recipes.load("ppo", "tiny", [one]).past_sha256 != past for one in ("kl_coef=1", "warmup=0", "seed=1"))


def test_own_file_can_build_on_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[mine]\nbase = "tiny"\nabout = "Mine."\nkl_coef = { value = 0, source = "a sweep" }\n')
    loaded = recipes.load("ppo", str(file))
    assert isinstance(loaded.recipe, PPORecipe)
    assert (loaded.recipe.kl_coef, loaded.sources["kl_coef"]) == (0.0, "a sweep")
    assert recipes.load("ppo", f"{file}:mine") == loaded


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["kl_coeff=0.1"], "unknown key 'kl_coeff'. Did you mean 'kl_coef'"),
        (["batch=48"], "the 512 rollouts of a step cannot be cut into mini-batches of batch = 48"),
        (["batch=0"], "batch = 0: must be at least 1"),
        (["epochs=1.5"], "epochs = 1.5: must be a whole number"),
        (["prompt_bos=1"], "prompt_bos = 1: must be true or false"),
        (["learning_rate=true"], "learning_rate = True: must be a finite number"),
        (["compute_dtype=fp8"], "compute_dtype = 'fp8': must be 'float32' or 'bfloat16'"),
        (["temperature=0"], "temperature, logprob_temperature must be positive"),
        (["adam_b2=1.0"], "adam_b2 = 1.0"),
        (["kl_coef"], "write KEY=VALUE"),
        (["gamma=nan"], "gamma = nan"),
        (["learning_rate=nan"], "learning_rate = nan: must be a finite number"),
        (["clip_norm=0"], "clip_norm and adam_eps must be positive"),
        (["kl_ceiling=-1"], "kl_ceiling = -1.0: must be at least 0"),
    ],
)  # fmt: skip
def test_impossible_recipes_are_refused_in_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(recipes.RecipeError) as caught:
        recipes.load("ppo", "easylm", changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_impossible_beta_is_refused() -> None:
    with pytest.raises(recipes.RecipeError, match=r"beta = 0\.0: must be positive"):
        recipes.load("dpo", "tiny", ["beta=0"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[a]\nbase = "b"\n', "no base 'b'"),
        ('[a]\nbase = "a"\n', "'a' is its own base"),
        ("[a]\nkl_coef = 0.1\n", "write kl_coef = { value = ..., source"),
        ("kl_coef = 0.1\n", "stands outside of a recipe"),
        ("[a\n", "is not TOML"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        recipes.load("ppo", str(file))
    assert message in str(caught.value)


def test_a_recipe_without_base_needs_every_field(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[a]\nkl_coef = { value = 0.1, source = "me" }\n')
    with pytest.raises(recipes.RecipeError, match="recipe a lacks model, dataset"):
        recipes.load("ppo", str(file))


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'easylm'"):
        recipes.load("ppo", "easylmm")
    with pytest.raises(DataError, match="no such file"):
        recipes.load("ppo", "absent.toml")
