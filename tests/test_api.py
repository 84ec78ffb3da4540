"""``import tulu_eval``: what it offers, and that the lines of the README run."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import shutil
from pathlib import Path

import pytest

import tulu_eval

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = [name for name in tulu_eval.__all__ if name[0].islower()]


def readme_lines() -> str:
    """Returns the block of Python in the README."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


def test_the_lines_of_the_readme_run(
    llama3_like: Path,
    llama2_like: Path,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = readme_lines()
    assert len(lines.splitlines()) == 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    shutil.copytree(llama2_like, "sft")
    shutil.copytree(llama3_like, "ppo")
    shutil.copy(shared / "data/gsm8k/test.jsonl", "test.jsonl")
    names: dict[str, object] = {}
    exec(compile(lines, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert re.search(r"<Run .*sft on gsm8k: card-200 last-number [0-9.]+ \[[0-9., ]+\], n = 16 of 200", shown)
    assert re.search(r"\['(consistent|inconsistent|cannot tell)'", shown)
    assert "| Tulu V2.5 PPO 13B " in shown
    sft, ppo, again, answers = (names[name] for name in ("sft", "ppo", "again", "answers"))
    assert isinstance(sft, tulu_eval.Run)
    assert isinstance(ppo, tulu_eval.Run)
    assert isinstance(again, tulu_eval.Run)
    assert len(answers) == 16  # type: ignore[arg-type]
    assert again.results == ppo.results


def test_the_names_are_shown_and_there() -> None:
    assert sorted(tulu_eval.__all__) == sorted(set(tulu_eval.__all__))
    assert set(tulu_eval.__all__) <= set(dir(tulu_eval))
    for name in tulu_eval.__all__:
        assert getattr(tulu_eval, name).__module__.startswith("tulu_eval."), name
    with pytest.raises(AttributeError, match="has no attribute 'evaluat'"):
        _ = tulu_eval.evaluat  # type: ignore[attr-defined]


def test_type_checkers_read_the_same_names() -> None:
    tree = ast.parse(Path(tulu_eval.__file__).read_text(encoding="utf-8"))
    typed = {
        (str(node.module).removeprefix("tulu_eval."), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tulu_eval.")
        for alias in node.names
    }
    assert typed == {(file, name) for file, names in tulu_eval._FILES.items() for name in names}
    assert {name for _, name in typed} == {*tulu_eval.__all__, "__version__"}
    assert (Path(tulu_eval.__file__).parent / "py.typed").is_file()


def test_no_name_is_that_of_a_room() -> None:
    """A room that is imported becomes an attribute of the package, and would take the function's place."""
    rooms = {module.name for module in pkgutil.iter_modules(tulu_eval.__path__)}
    assert rooms & set(tulu_eval.__all__) == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_typed_and_shows_an_example(name: str) -> None:
    function = getattr(tulu_eval, name)
    text = inspect.getdoc(function) or ""
    assert f"tulu_eval.{name}(" in text
    for example in re.findall(r"^>>> (.*)$", text, re.MULTILINE):
        compile(example, name, "exec")
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    described = text.partition("Args:")[2].partition("Raises:")[0]
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert re.search(rf"^\s+{parameter.name}: ", described, re.MULTILINE), parameter.name


def test_each_name_is_where_the_package_looks_for_it() -> None:
    for place, names in tulu_eval._FILES.items():
        module = importlib.import_module(f"tulu_eval.{place}")
        assert all(hasattr(module, name) for name in names)
