"""Exports: transformers and evaluation read them, their card is right, and they never replace another run's models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tulu_eval.models.exported import Exported, ExportedRecipe, ExportedSetting
from tulu_eval.records import STATUSES, Result
from tulu_eval.training import loading, networks
from tulu_eval.training.saving import export
from tulu_eval.training.text import TEMPLATE


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    file.write_text(json.dumps({"messages": turns}) * 1 + "\n" + "\n".join([json.dumps({"messages": turns})] * 15) + "\n")
    return file


def sft(model: Path, rows: Path, folder: Path, *words: str) -> Any:
    from tulu_eval.cli import cli

    return CliRunner().invoke(
        cli, ["train", "sft", "-r", "tiny", "-m", str(model), "--data", str(rows), "-o", str(folder), "--device", "cpu", *words]
    )


def test_the_template_is_the_released_ones_where_there_is_no_system_message(llama3_like: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama3_like)
    turns = [
        {"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": "1"},
    ]  # fmt: skip
    for prompt in (True, False):
        for n in (1, 2, 3):
            released = tokenizer.apply_chat_template(turns[:n], tokenize=False, add_generation_prompt=prompt)
            ours = tokenizer.apply_chat_template(
                turns[:n], chat_template=TEMPLATE, tokenize=False, add_generation_prompt=prompt
            )
            assert ours == released


def test_a_finished_run_has_nothing_to_do_and_its_card_is_from_its_manifest(
    llama3_like: Path, conversations: Path, tmp_path: Path
) -> None:
    done = sft(llama3_like, conversations, tmp_path / "run", "--set", "learning_rate=1e-3")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "run" / "policy"
    card = (folder / "README.md").read_text()
    assert "| learning_rate | 0.001 | command line |" in card
    assert "| clip_norm | 1.0 | EL optimizers.py |" in card
    assert "# run/policy" in card
    assert "Not measured yet" in card
    loss = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["loss"]
    assert f"{loss:.4g}" in card
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == TEMPLATE
    assert AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id == tokenizer.eos_token_id
    again = sft(llama3_like, conversations, tmp_path / "run", "--set", "learning_rate=1e-3")
    assert again.exit_code == 0
    assert "step" not in again.stderr


def test_models_of_another_run_are_not_written_over(llama3_like: Path, conversations: Path, tmp_path: Path) -> None:
    kept = tmp_path / "policy" / "precious"
    kept.parent.mkdir()
    kept.write_text("x")
    refused = sft(llama3_like, conversations, tmp_path)
    assert refused.exit_code == 2
    assert "policy exists and belongs to another run; give another --output, or --fresh to rename it" in refused.stderr
    fresh = sft(llama3_like, conversations, tmp_path, "--fresh")
    assert fresh.exit_code == 0, fresh.output
    assert (next(tmp_path.glob("*-policy")) / "precious").read_text() == "x"


def test_a_reward_model_is_one_to_transformers_too(toys: Any, llama3_like: Path, tmp_path: Path) -> None:
    """With a padding token that also ends texts, transformers would read the score of the token before the end."""
    tokenizer = AutoTokenizer.from_pretrained(llama3_like)
    scorer = toys.scorer(len(tokenizer))
    state = {name: value.to(torch.bfloat16) for name, value in scorer.state_dict().items()}
    loading.save(scorer, state, tmp_path, tokenizer)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert loaded.config.pad_token_id is None
    ids = torch.tensor([[5, 6, 7, tokenizer.eos_token_id]])
    batch = networks.collate([toys.tokens(ids[0].tolist())], torch.device("cpu"))
    own = loading.load_scorer(tmp_path, compute="bfloat16", trained=False)
    expected = networks.last_token_scores(own(batch), batch)
    assert loaded(ids).logits.flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-2)


def test_results_on_a_card_keep_their_intervals_and_signatures() -> None:
    counts = dict.fromkeys(STATUSES, 0)
    row = Result("gsm8k", "full", "last-number", "exact_match", 12.5, 8, 8, 8, 2.2, 47.1, "wilson95", counts, "a|b")
    manifest = Exported(
        version="0", stage="rm", recipe=ExportedRecipe("r", "0" * 64, ""), settings={"seed": ExportedSetting(1, "me | you")},
        identity={}, model="m", reward_model=None, rows_kept=5, rows_dropped={"equal sides": 2}, steps=1, ranks=1, commit="",
        packages={}, machine={},
    )  # fmt: skip
    text = export.card(Path("/a/b/c"), manifest, Path("absent"), [row])
    assert "| gsm8k | full | last-number | 12.5 | [2.2, 47.1] | 8 | a\\|b |" in text
    assert "| seed | 1 | me \\| you |" in text
    assert "dropped: 2 equal sides" in text
