"""Fixtures of training's tests: the toys, and one thread."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

Train = Callable[..., Result]


@pytest.fixture(scope="session")
def toys() -> ModuleType:
    return _beside("toys")


@pytest.fixture(scope="session")
def live_bytes(toys: ModuleType) -> ModuleType:
    assert toys
    return _beside("live_bytes")


def _beside(name: str) -> ModuleType:
    """Returns a module beside this one: tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_warnings_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``pairs``, ``sft`` and ``prompts``: 24 sums, right and evaded, and two rows that cannot be trained on."""
    folder, draw = tmp_path_factory.mktemp("rows"), random.Random(0)
    rows: dict[str, list[Any]] = {"pairs": [], "sft": [], "prompts": []}
    for _ in range(24):
        a, b = draw.randrange(20), draw.randrange(20)
        prompt = {"role": "user", "content": f"{a} + {b}?"}
        right, evaded = ({"role": "assistant", "content": text} for text in (f"{a + b}.", "Hm."))
        rows["pairs"].append({"chosen": [prompt, right], "rejected": [prompt, evaded]})
        rows["sft"].append({"messages": [prompt, right]})
        rows["prompts"].append({"messages": [prompt]})
    rows["pairs"].append({"chosen": [prompt, right], "rejected": [prompt, right]})
    rows["pairs"].append({"chosen": [prompt, right], "rejected": [prompt, {"role": "assistant", "content": "so " * 600}]})
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {name: folder / f"{name}.jsonl" for name in rows}


@pytest.fixture
def train() -> Train:
    from tulu_eval.cli import cli

    def call(stage: str, *words: object) -> Result:
        return CliRunner().invoke(cli, ["train", stage, "-r", "tiny", "--device", "cpu", *map(str, words)])

    return call


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two hosts made of network namespaces, 10.77.0.1 and .2, with a link between them."""
    names = (f"a{os.getpid()}", f"b{os.getpid()}")
    ip = shutil.which("ip")
    if ip is None or os.geteuid():
        pytest.skip("network namespaces need the program ip and root")

    def call(*words: str) -> None:
        subprocess.run([ip, *words], check=True, capture_output=True)

    try:
        call("netns", "add", names[0])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        call("netns", "add", names[1])
        call(
            "link", "add", f"v{names[0]}", "netns", names[0], "type", "veth", "peer", "name", f"v{names[1]}", "netns", names[1]
        )
        for at, name in enumerate(names, start=1):
            call("-n", name, "address", "add", f"10.77.0.{at}/24", "dev", f"v{name}")
            call("-n", name, "link", "set", f"v{name}", "up")
            call("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run([ip, "netns", "delete", name], check=False, capture_output=True)
