"""GSM8K against the published prompts, items and extraction goldens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tulu_eval.benchmarks import gsm8k
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError, PreflightError

TULU = "<|user|>\n{}\n<|assistant|>\nAnswer:"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def subset(shared: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((shared / "data/gsm8k/gsm8k_subset_200.json").read_text())
    return loaded


def test_published_items_are_the_200_in_their_order(shared: Path, subset: dict[str, list[object]]) -> None:
    benchmark = GSM8K()
    items = benchmark.load(benchmark.protocol("card-200"), shared / "data/gsm8k/test.jsonl")
    assert [int(item.id.removeprefix("test-")) for item in items] == subset["indices"]
    assert [item.target for item in items] == subset["targets"]
    assert sha256(json.dumps(gsm8k.published_indices())) == subset["sha256_of_json_dumps_indices"]
    assert sha256("\n".join(item.question for item in items)) == subset["sha256_of_questions_joined_by_newline"]


def test_published_prompts_byte_for_byte(shared: Path, subset: dict[str, list[object]]) -> None:
    benchmark = GSM8K()
    items = benchmark.load(benchmark.protocol(None), shared / "data/gsm8k/test.jsonl")
    prompts = [TULU.format(benchmark.render(item).user) for item in items]
    assert [sha256(prompt) for prompt in prompts] == subset["prompt_sha256"]
    assert sha256("\0".join(prompts)) == subset["sha256_of_chat_prompts_joined_by_NUL"]
    assert sha256(gsm8k.few_shot_prefix()) == subset["prefix_sha256"]


def test_full_has_the_published_items_first_and_all_once(shared: Path) -> None:
    benchmark = GSM8K()
    full = benchmark.load(benchmark.protocol("full"), shared / "data/gsm8k/test.jsonl")
    first = benchmark.load(benchmark.protocol("card-200"), shared / "data/gsm8k/test.jsonl")
    assert full[:200] == first
    assert sorted(int(item.id.removeprefix("test-")) for item in full) == list(range(1319))
    members = benchmark.members(benchmark.protocol("full"), full)
    assert {name: len(ids) for name, ids in members.items()} == {"card-200": 200, "full": 1319}


def test_plain_form_ends_in_answer() -> None:
    prompt = GSM8K().render(gsm8k.Item("x", "  How many? ", "1"))
    assert prompt.plain == gsm8k.few_shot_prefix() + "Question: How many?\nAnswer:"
    assert prompt.user + "\nAnswer:" == prompt.plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected one JSON object per line, or a list of objects"),
        (b'{"question": "q", "answer": "#### 1"}\nnot json\n', ":2: is not JSON (Expecting value at column 1)"),
        (b'{"question": "q"}\n', ":1: field 'answer' is missing or not a string"),
        (b'["q"]\n', "row 1: is str, not an object"),
        (b'{"question": "\xff", "answer": "#### 1"}\n', ":1: is not UTF-8 (byte 15 of the line)"),
        (b'{"question": "q", "answer": "no number"}\n', ":1: field 'answer' does not end in '#### NUMBER'"),
        (b'{"question": "q", "answer": "#### 1"}\n', "1 rows, not the 1319 of the GSM8K test set, so no published protocol "
         "applies; --protocol custom runs the recipe on it"),
    ],
)  # fmt: skip
def test_bad_data_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        GSM8K().load(GSM8K().protocol("card-200"), path)
    assert str(caught.value).removeprefix(str(path)).removeprefix(": ").strip() == message.strip()


@pytest.mark.parametrize("change", ["order", "answer"])
def test_other_order_or_answers_are_refused(shared: Path, tmp_path: Path, change: str) -> None:
    lines = (shared / "data/gsm8k/test.jsonl").read_text().splitlines(keepends=True)
    changed = [lines[1], lines[0], *lines[2:]] if change == "order" else [lines[0].replace("#### 18", "#### 19"), *lines[1:]]
    path = tmp_path / "changed.jsonl"
    path.write_text("".join(changed))
    with pytest.raises(DataError, match="other questions, answers or order than those"):
        GSM8K().load(GSM8K().protocol("full"), path)


def test_exemplars_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gsm8k.few_shot_prefix.cache_clear()
    monkeypatch.setattr(gsm8k, "PREFIX_SHA256", "0" * 64)
    with pytest.raises(PreflightError, match="do not give the published prompt"):
        gsm8k.few_shot_prefix()
    gsm8k.few_shot_prefix.cache_clear()
