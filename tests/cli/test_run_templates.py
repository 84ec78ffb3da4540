"""``tulu-eval run`` with templates and end tokens as other people's models have them: refused in one line, or said.

The inputs are cases from public reports.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from transformers import AutoTokenizer

Invoke = Callable[..., Result]
OPENED = "{% if add_generation_prompt %}[assistant]{% endif %}"


@pytest.fixture
def model(llama3_like: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a model with a template and end tokens of its own; ``<|eot_id|>`` is token 2."""

    def make(template: str, ends: Any = 1, name: str = "m") -> Path:
        folder = tmp_path / name
        shutil.copytree(llama3_like, folder)
        (folder / "chat_template.jinja").write_text(template)
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        return folder

    return make


@pytest.fixture
def dry_run(invoke: Invoke, rows: Path, tmp_path: Path) -> Invoke:
    def call(model: Path, *words: str, data: Path = rows) -> Result:
        ask = ("run", "gsm8k", "-m", model, "--protocol", "custom", "--data", data, "--device", "cpu", "--limit", "1")
        return invoke(*ask, "--dry-run", "-o", tmp_path / "out", *words)

    return call


def refusal(done: Result) -> str:
    """The one line of a command that was refused."""
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("01-template-drops-question/chat_template.jinja", "/m does not write the user's text"),
        ("05-template-error-traceback/raises.jinja", "TemplateError: a system message is required"),
        ("05-template-error-traceback/syntax.jinja", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(
    shared: Path, model: Callable[..., Path], dry_run: Invoke, case: str, message: str
) -> None:
    line = refusal(dry_run(model((shared / "cases" / case).read_text())))
    assert re.match(r"tulu-eval: the chat template of [^ ]*/m ", line)
    assert message in line


@pytest.mark.parametrize(
    ("closing", "ends", "said"),
    [
        ("", [1, 2], "1 (<|end_of_text|>: tokenizer, generation_config), 2 (<|eot_id|>: generation_config)"),
        ("\n<|eot_id|>\n", 1, "1 (<|end_of_text|>: tokenizer, generation_config), 2 (<|eot_id|>: template)"),
        (
            "<|eot_id|>",
            [2, 1],
            "1 (<|end_of_text|>: tokenizer, generation_config), 2 (<|eot_id|>: template, generation_config)",
        ),
        ("", None, "1 (<|end_of_text|>: tokenizer)"),
    ],
)
def test_the_ends_are_said_with_their_origin(
    model: Callable[..., Path], dry_run: Invoke, closing: str, ends: Any, said: str
) -> None:
    folder = model("{% for m in messages %}[{{ m.role }}]{{ m.content }}" + closing + "{% endfor %}" + OPENED, ends)
    done = dry_run(folder)
    assert done.exit_code == 0, done.output
    assert f"end tokens: {said}\n" in done.stdout
    (data,) = json.loads(dry_run(folder, "--json").stdout)
    assert [token["id"] for token in data["end_tokens"]] == data["eos_ids"]


def test_an_ordinary_token_is_no_end_and_that_is_said(model: Callable[..., Path], dry_run: Invoke) -> None:
    done = dry_run(model("[{{ messages[0].content }}]", [40, 1]))
    assert "end tokens: 1 (<|end_of_text|>: tokenizer, generation_config)\n" in done.stdout
    assert "note: named as an end, but ordinary, and so not one: token 40 (" in done.stdout


def test_the_day_of_a_template_is_said_and_can_be_given(model: Callable[..., Path], dry_run: Invoke) -> None:
    folder = model("{{ strftime_now('%d %b %Y') }} [{{ messages[0].content }}]")
    done = dry_run(folder, "--date", "2026-11-29")
    assert "prompts: template chat with the date 2026-11-29, " in done.stdout
    assert "\n29 Nov 2026 [" in done.stdout
    assert "'2026-11-31' is no day of the form YYYY-MM-DD" in refusal(dry_run(folder, "--date", "2026-11-31"))


def test_a_day_for_a_template_without_one_is_refused(model: Callable[..., Path], dry_run: Invoke) -> None:
    line = refusal(dry_run(model("[{{ messages[0].content }}]"), "--date", "2026-11-29"))
    assert "/m writes no date" in line


def test_a_prefill_in_a_reasoning_block_is_refused(model: Callable[..., Path], dry_run: Invoke) -> None:
    line = refusal(dry_run(model("{{ messages[0].content }}<think>\n")))
    assert "/m opens a reasoning block (<think>), and the answer is to start with 'Answer:'" in line


def test_half_a_character_in_the_data_is_refused(
    shared: Path, model: Callable[..., Path], dry_run: Invoke, invoke: Invoke, tmp_path: Path
) -> None:
    case = shared / "cases/13-lone-surrogate-traceback"
    folder = model("[{{ messages[0].content }}]")
    assert "the lone surrogate" in refusal(dry_run(folder, data=case / "surr.jsonl"))
    train = ("train", "sft", "-r", "tiny", "-m", folder, "--data", case / "surr_sft.jsonl", "-o", tmp_path / "t", "--dry-run")
    assert "the lone surrogate" in refusal(invoke(*train))


def test_an_end_token_that_is_not_special_is_not_in_the_text(
    model: Callable[..., Path], invoke: Invoke, rows: Path, tmp_path: Path
) -> None:
    folder = model("[{{ messages[0].content }}]")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    data = json.loads((folder / "tokenizer.json").read_text())
    words = [text for text, at in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]) if at > 2]
    first = max(token["id"] for token in data["added_tokens"]) + 1
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"] += [{"id": first + at, "content": text, **plain} for at, text in enumerate(words)]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    ends = list(range(first, first + len(words), 2))  # every other token ends, so that the random model soon does
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    ask = ("run", "gsm8k", "-m", folder, "--protocol", "custom", "--data", rows, "--device", "cpu", "--limit", "4")
    done = invoke(*ask, "-q", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    (ledger,) = (tmp_path / "out").rglob("samples.jsonl")
    samples = [json.loads(line) for line in ledger.read_text().splitlines()]
    stopped = [one for one in samples if one["finish_reason"] == "stop"]
    assert stopped
    read = AutoTokenizer.from_pretrained(folder)
    for one in stopped:
        assert one["token_ids"][-1] in ends
        assert one["text"] == read.decode(one["token_ids"][:-1], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    manifest = json.loads(ledger.with_name("manifest.json").read_text())
    assert [token["id"] for token in manifest["end_tokens"]["chosen"]] == manifest["eos_ids"]
