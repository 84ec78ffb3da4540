"""The check of a model card: on the suite's own card it finds what is known to be wrong, on others what rules can tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError
from tulu_eval.model_card import check
from tulu_eval.model_card.card_file import CardFile, read_card
from tulu_eval.registry import load_suite

SUITE = load_suite()
TARGET = "allenai/llama-3-tulu-v2.5-8b-uf-mean-70b-uf-rm"
PPO = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"


def checked(path: Path, model: str | None = None) -> list[tuple[int, str]]:
    card = read_card(path)
    found = check.check(card, SUITE, SUITE.find(model) if model else check.model_of(card, SUITE))
    return [(one.line, one.check) for one in found]


def write(tmp_path: Path, body: str, metadata: str = f"model-index:\n- name: {PPO}\n  results: []\n") -> Path:
    path = tmp_path / "README.md"
    path.write_text(f"---\n{metadata}---\n{body}\n")
    return path


def test_the_seed_card_has_every_contradiction_of_the_record_and_what_rules_add(shared: Path) -> None:
    found = checked(shared / "seed/model_card.md")
    recorded = {entry.id for entry in SUITE.contradictions() if entry.first_source == "card"}
    assert len(recorded) == 32
    assert {name for _, name in found} - recorded == {"metadata-place", "metadata-model-index"}
    assert recorded <= {name for _, name in found}
    assert [name for line, name in found if line == 34] == ["card-link-this-model", "card-best-overall"]
    assert [line for line, name in found if name == "card-reward-model-size"] == [30, 47, 53]
    assert [line for line, name in found if name == "card-hyperparameters"] == [101, 102, 103]


def test_rules_alone_find_what_the_record_says_of_the_seed_card(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_recorded", lambda *_: [])
    assert checked(shared / "seed/model_card.md") == [
        (1, "metadata-place"),
        (12, "metadata-model-index"),
        (26, "title-size"),
        (30, "reward-model"),
        (32, "link-former-name"),
        (33, "link-former-name"),
        (34, "link-elsewhere"),
        (42, "base-model"),
        (47, "reward-model"),
        (53, "target-gsm8k"),
        (54, "ppo-13b-gsm8k"),
        (55, "dpo-13b-label"),
        (81, "preference-split"),
    ]


def test_a_mended_line_is_found_no_more_and_a_new_mistake_is(shared: Path, tmp_path: Path) -> None:
    text = (shared / "seed/model_card.md").read_text()
    path = tmp_path / "card.md"
    path.write_text(text.replace("PPO 13B - UltraFeedback", "PPO 8B - UltraFeedback").replace("| **28.8** |", "| **82.8** |"))
    found = checked(path)
    assert "card-title-size" not in {name for _, name in found}
    assert (53, "published-number") in found


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (f"[{TARGET}](https://huggingface.co/{PPO})", "link-elsewhere"),
        ("[tulu-2-dpo-13b](https://huggingface.co/allenai/tulu-2-dpo-70b)", "link-elsewhere"),
        ("[allenai/tulu-9](https://huggingface.co/allenai/tulu-2-dpo-70b)", "link-unknown-name"),
        ("Finetuned from: [x](https://huggingface.co/meta-llama/Llama-2-7b-hf)", "base-model"),
        ("We used a 13B RM.", "reward-model"),
        ("Reward model: [here](https://huggingface.co/allenai/tulu-v2.5-13b-uf-rm)", "reward-model"),
        ("# Tulu V2.5 PPO 7B", "title-size"),
        ("| Model | GSM8K |\n|-|-|\n| Tulu V2 SFT 13B | 47.0 |", "published-number"),
        ("Model | GSM8K\n-|-\n[x](https://huggingface.co/allenai/tulu-2-13b) | 46.5", "published-number"),
        ("| Model | GSM8K |\n|-|-|\n| this model | **58.0** |", "ppo-13b-gsm8k"),
        ("| Data | DPO |\n|-|-|\n| shp2 | [a](https://huggingface.co/allenai/tulu-v2.5-dpo-13b-shp2) |", "preference-split"),
    ],
)
def test_a_rule_finds(tmp_path: Path, body: str, name: str) -> None:
    names = [found for _, found in checked(write(tmp_path, body)) if found != "metadata-model-index"]
    assert names == [name]


@pytest.mark.parametrize(
    "body",
    [
        "[here](https://huggingface.co/allenai/tulu-2-dpo-70b) and [chat template](https://huggingface.co/docs/transformers)",
        f"[{PPO}](https://huggingface.co/{PPO}), [someone/else-7b](https://huggingface.co/someone/else-7b)",
        "# Tulu V2.5 PPO 13B with a 70B RM\nWe used a 70B RM.",
        "Finetuned from [x](https://huggingface.co/allenai/tulu-2-13b)",
        "| Model | MMLU |\n|-|-|\n| Tulu V2 SFT 13B | 99 |",
        "| a | b |\nno rule under the first line, so no table\n| Tulu V2 SFT 13B | 47.0 |",
    ],
)
def test_a_right_card_is_clean(tmp_path: Path, body: str) -> None:
    assert checked(write(tmp_path, body)) == []


def test_a_right_table_of_results_is_clean_but_for_its_metadata(tmp_path: Path) -> None:
    table = "| Model | GSM8K | AlpacaEval 2 (LC) |\n|-|-|-|\n| Tulu V2 SFT 13B | 46.0 | 10.4 |"
    assert checked(write(tmp_path, table)) == [(2, "metadata-model-index")]
    assert checked(write(tmp_path, table, "license: mit\n"), PPO) == [(1, "metadata-model-index")]
    full = (
        "model-index:\n- name: x/y\n  results:\n  - task: {type: t}\n    dataset: {type: d, name: d}\n"
        "    metrics: [{type: m, value: 46.0}]\n"
    )
    assert checked(write(tmp_path, table, full)) == []


def test_base_model_of_the_metadata(tmp_path: Path) -> None:
    metadata = f"base_model: allenai/tulu-2-dpo-13b\nmodel-index:\n- name: {PPO}\n  results: []\n"
    assert checked(write(tmp_path, "x", metadata)) == [(2, "base-model")]
    assert checked(write(tmp_path, "x", metadata.replace("dpo-", ""))) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# no metadata\n", "has no front matter"),
        (b"---\nname: x\n# never ends\n", "has no front matter"),
        (b"a\n---\nb: [\n---\n", "4: its front matter is not YAML"),
        (b"---\n- 1\n---\n", "2: its front matter is not a mapping"),
        (b"---\n---\n", "is not a mapping"),
        (b"---\na: !!python/object/apply:os.system [id]\n---\n", "2: its front matter is not YAML"),
        (b"---\na: 2024-13-45\n---\n", "not YAML that can be read"),
        (b"---\na: " + b"[" * 5000 + b"\n---\n", "its front matter is not YAML"),
        (b"---\na: caf\xe9\n---\n", ":2: is not UTF-8 (byte 7 of the line)"),
        (b"---\na: 1\n---\n" + b"x" * 1_000_001, "has more than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_card(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_card(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="|-[]()# \nabcGSM8K7B.0:*", max_size=300))
def test_any_text_is_checked_without_an_error_and_lines_are_real(body: str) -> None:
    text = f"---\na: 1\n---\n{body}"
    from tulu_eval.model_card.card_file import CardSpan

    card = CardFile(text, {"a": 1}, CardSpan(4, 9, "a: 1\n"), 13)
    for one in check.check(card, SUITE, SUITE.find(PPO)):
        assert 1 <= one.line <= text.count("\n") + 1
    for row in card.rows():
        assert all(text[cell.start : cell.end] == cell.text for cell in row.cells)


@pytest.mark.parametrize("piece", ["[", "[](", "|", "| ", "-|", "[a](", "8B RM ", "1", "# 7B "])
def test_a_hostile_card_takes_no_long_time(tmp_path: Path, piece: str) -> None:
    """Half a million characters of one kind; a quadratic rule would take minutes."""
    body = "| GSM8K | a |\n|-|-|\n" + piece * (500_000 // len(piece)) + "x"
    checked(write(tmp_path, body))


def test_a_card_with_the_line_ends_of_windows_has_the_same_findings(shared: Path, tmp_path: Path) -> None:
    text = (shared / "seed/model_card.md").read_bytes().replace(b"\r\n", b"\n")
    found = []
    for name, content in {"unix": text, "windows": text.replace(b"\n", b"\r\n"), "mark": b"\xef\xbb\xbf" + text}.items():
        (tmp_path / name).write_bytes(content)
        card = read_card(tmp_path / name)
        found.append(check.check(card, SUITE, check.model_of(card, SUITE)))
    assert found[0] == found[1] == found[2]
    assert found[0]
    (tmp_path / "short").write_bytes(b"---\r\nlicense: mit\r\nmodel-index:\r\n- name: x\r\n---\r\n# Mine\r\n")
    assert check.check(read_card(tmp_path / "short"), SUITE, None)
