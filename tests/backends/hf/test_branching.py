"""Branches have the log-probabilities that one plain forward pass per row gives, however they are packed."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers

from tulu_eval.backends.hf.branching import BranchScorer, LevelPlan, Rectangle, logprobs_at
from tulu_eval.backends.hf.eligibility import enable_shared_prefix
from tulu_eval.backends.hf.partial_attention import unfused_partial_attention

VOCABULARY = 101


def tiny(kind: str, **changes: Any) -> Any:
    """Returns a small random model with float32 weights; equal for equal arguments."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
    }
    config = getattr(transformers, f"{kind}Config")(**shape | changes)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def expected(model: Any, row: list[int], branch: list[int]) -> list[float]:
    """Returns the log-probability of each token of a branch from one forward pass of its whole row."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([row + branch])).logits[0].double().log_softmax(-1)
    return [float(logprobs[len(row) - 1 + at, token]) for at, token in enumerate(branch)]


def drawn(seed: int) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Returns seven prompts, and up to four continuations of each, of 1 to 40 tokens; one prompt has only short ones."""
    draw = random.Random(seed)

    def row(length: int) -> list[int]:
        return [draw.randrange(VOCABULARY) for _ in range(length)]

    prompts = [row(draw.randint(1, 35)) for _ in range(7)]
    branches = [[row(draw.choice([1, 1, 2, 5, 40])) for _ in range(draw.randint(1, 4))] for _ in prompts]
    branches[3] = [row(1), row(1)]
    branches[5].append(row(40))
    return prompts, branches


def worst(model: Any, reference: Any, prefix: list[int], budget: int, seed: int = 0) -> float:
    """Returns the largest difference of a log-probability."""
    prompts, branches = drawn(seed)
    found = BranchScorer(model, prefix, 256, budget).score(prompts, branches)
    return max(
        abs(a - b)
        for prompt, own, scores in zip(prompts, branches, found, strict=True)
        for branch, score in zip(own, scores, strict=True)
        for a, b in zip(score, expected(reference, prefix + prompt, branch), strict=True)
    )


@pytest.fixture(scope="module")
def llama() -> Any:
    model = tiny("Llama")
    assert enable_shared_prefix(model, 256) == ""
    return model


@pytest.mark.parametrize("prefix", [0, 1, 50])
@pytest.mark.parametrize("budget", [1, 30, 10**6])
def test_log_probabilities_are_those_of_whole_rows(llama: Any, prefix: int, budget: int) -> None:
    head = [(7 * at) % VOCABULARY for at in range(prefix)]
    assert worst(llama, tiny("Llama"), head, budget) < 2e-5


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Llama", {"num_key_value_heads": 4, "head_dim": 16}),
        ("Qwen3", {"head_dim": 8}),
        ("Olmo2", {}),
        ("Granite", {"logits_scaling": 3.0, "attention_multiplier": 0.2}),
    ],
)
def test_other_architectures(kind: str, changes: dict[str, Any]) -> None:
    model = tiny(kind, **changes)
    assert enable_shared_prefix(model, 256) == ""
    assert worst(model, tiny(kind, **changes), list(range(20)), 60) < 2e-5


def test_without_a_fused_kernel(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def causal(query: Any, key: Any, value: Any, scale: float) -> Any:
        mask = torch.full((query.shape[2],) * 2, -torch.inf).triu(1)
        return unfused_partial_attention(query, key, value, mask, scale)

    monkeypatch.setattr("tulu_eval.backends.hf.branching.causal_attention", causal)
    monkeypatch.setattr("tulu_eval.backends.hf.branching.partial_attention", unfused_partial_attention)
    assert worst(llama, tiny("Llama"), list(range(20)), 60) < 2e-5


def test_prompts_whose_continuations_have_one_token_keep_no_keys(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[LevelPlan] = []
    right = LevelPlan.attend

    def spy(self: LevelPlan, *arguments: Any) -> Any:
        plans.append(self)
        return right(self, *arguments)

    monkeypatch.setattr(LevelPlan, "attend", spy)
    (scores,) = BranchScorer(llama, [1, 2], 256, 100).score([[3, 4]], [[[5], [6]]])
    assert len(set(map(id, plans))) == 1, "one forward pass"
    assert not plans[0]._kept
    assert [score[0] for score in scores] == pytest.approx(
        [expected(tiny("Llama"), [1, 2, 3, 4], [token])[0] for token in (5, 6)], abs=2e-5
    )


def test_log_probabilities_are_accumulated_in_float32() -> None:
    torch.manual_seed(0)
    logits = (8 * torch.randn(150, 5000)).bfloat16()
    rows, tokens = [0, 0, 70, 149], [1, 4999, 3, 17]
    wanted = logits.double().log_softmax(-1)[rows, tokens]
    torch.testing.assert_close(torch.tensor(logprobs_at(logits, rows, tokens)).double(), wanted, rtol=0, atol=1e-5)


def test_a_rectangle_gives_back_what_it_spread() -> None:
    rectangle = Rectangle([2, 0, 3], torch.device("cpu"))
    packed = torch.arange(1, 11).view(5, 2)
    spread = rectangle.spread(packed, 4)
    assert spread.shape == (3, 4, 2)
    assert spread[:, :, 0].tolist() == [[1, 3, 0, 0], [0] * 4, [5, 7, 9, 0]]
    assert torch.equal(rectangle.pack(rectangle.spread(packed)), packed)
