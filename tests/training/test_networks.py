"""The models' alignment and independence of padding, the value model's start, and what cannot be loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from tulu_eval.errors import PreflightError
from tulu_eval.training import loading, networks
from tulu_eval.training.networks import Policy, collate

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch.set_grad_enabled("never_change" in request.node.name):
        yield


def test_log_probabilities_stand_at_their_tokens(toys: ModuleType) -> None:
    policy = toys.policy(11, layers=2)
    rows = [toys.tokens([2, 5, 7, 3, 9], 3), toys.tokens([4, 6, 1], 1)]
    found = policy(collate(rows, CPU))
    for index, row in enumerate(rows):
        ids = torch.tensor([row.ids.tolist()])
        expected = policy.model(input_ids=ids).logits[0].log_softmax(-1)
        for place, counts in enumerate(row.mask):
            if counts:
                assert float(found[index, place]) == pytest.approx(float(expected[place - 1, row.ids[place]]), abs=1e-6)
            else:
                assert float(found[index, place]) == 0.0


@pytest.mark.parametrize("kind", ["rotary", "learned positions"])
def test_padded_equals_alone(toys: ModuleType, kind: str) -> None:
    if kind == "rotary":
        policy = toys.policy(11, layers=2)
    else:
        torch.manual_seed(0)
        shape = GPT2Config(vocab_size=11, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1)
        policy = Policy(GPT2LMHeadModel(shape), torch.float32)
    rows = [toys.tokens([2, 5, 7, 3, 9, 1, 4, 4], 4), toys.tokens([4, 6, 1], 2)]
    together = policy(collate(rows, CPU))
    for index, row in enumerate(rows):
        alone = policy(collate([row], CPU))
        torch.testing.assert_close(together[index, : len(row)], alone[0], atol=1e-6, rtol=0)


def test_an_end_token_that_is_also_the_padding_counts(toys: ModuleType) -> None:
    """Masks come from lengths, so token 0, which is also the padding, is an ordinary token."""
    rows = [toys.tokens([2, 5, 0], 2), toys.tokens([2, 5, 4, 3, 0], 3)]
    batch = collate(rows, CPU)
    assert batch.mask.sum(1).tolist() == [2, 3]
    found = toys.policy(11)(batch)
    assert bool((found[batch.mask] < 0).all())
    scores = toys.scorer(11)(batch)
    assert networks.last_token_scores(scores, batch).tolist() == [float(scores[0, 2]), float(scores[1, 4])]


def test_response_columns(toys: ModuleType) -> None:
    batch = collate([toys.tokens([2, 2, 2, 5, 6], 2), toys.tokens([2, 7, 8, 9], 3)], CPU)
    mask = networks.response_mask(batch)
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert networks.responses(batch.ids, batch)[mask].tolist() == [5, 6, 7, 8, 9]


def test_value_model_starts_as_the_reward_model_bit_for_bit(toys: ModuleType, tmp_path: Path) -> None:
    toys.scorer(11, layers=2).model.save_pretrained(tmp_path)
    reward = loading.load_scorer(tmp_path, compute="float32", trained=False)
    value = loading.load_scorer(tmp_path, compute="float32", trained=True)
    batch = collate([toys.tokens([2, 5, 7, 1], 3), toys.tokens([2, 1], 1)], CPU)
    score = networks.last_token_scores(reward(batch), batch)
    assert torch.equal(value(batch).gather(1, batch.lengths.unsqueeze(1) - 1)[:, 0], score)
    before = networks.values_before(value(batch))
    assert torch.equal(before[:, 1:], value(batch)[:, :-1])
    assert float(before[0, 0]) == 0.0
    assert not any(p.requires_grad for p in reward.parameters())
    assert all(p.requires_grad for p in value.parameters())


def test_reward_equals_the_pooled_logit_of_transformers(toys: ModuleType) -> None:
    scorer = toys.scorer(11, layers=2)
    row = toys.tokens([2, 5, 7, 3], 2)
    batch = collate([row, toys.tokens([2, 9], 1)], CPU)
    alone = scorer.model(input_ids=torch.tensor([row.ids.tolist()])).logits[0, 0]
    assert float(networks.last_token_scores(scorer(batch), batch)[0]) == pytest.approx(float(alone), abs=1e-6)


def test_no_dropout_even_in_training_mode(toys: ModuleType) -> None:
    policy = toys.policy(11)
    policy.model.config.attention_dropout = 0.5
    policy.train()
    batch = collate([toys.tokens([2, 5, 7, 1], 3)], CPU)
    assert torch.equal(policy(batch), policy(batch))
    assert not policy.model.training


@pytest.mark.parametrize("tied", [False, True])
def test_bfloat16_computes_over_float32_parameters(toys: ModuleType, tmp_path: Path, tied: bool) -> None:
    shape = toys.config(11)
    shape.tie_word_embeddings = tied
    torch.manual_seed(0)
    LlamaForCausalLM(shape).save_pretrained(tmp_path)
    trained = loading.load_policy(tmp_path, compute="bfloat16", trained=True)
    frozen = loading.load_policy(tmp_path, compute="bfloat16", trained=False)
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    assert {p.dtype for p in frozen.parameters()} == {torch.bfloat16}
    batch = collate([toys.tokens([2, 5, 7, 1], 3)], CPU)
    exact = loading.load_policy(tmp_path, compute="float32", trained=True)(batch)
    assert torch.equal(trained(batch), frozen(batch))
    assert (trained.model.lm_head.weight is trained.model.model.embed_tokens.weight) == tied
    with torch.enable_grad():
        trained(batch).sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained.parameters())
    found = trained(batch)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)


class TestLoading:
    def test_a_policy_is_no_reward_model(self, toys: ModuleType, tmp_path: Path) -> None:
        toys.policy(11).model.save_pretrained(tmp_path)
        with pytest.raises(PreflightError, match=r"is not a reward model: score.weight is missing; train one"):
            loading.load_scorer(tmp_path, compute="float32", trained=False)

    def test_a_new_head_is_drawn_from_the_seed(self, toys: ModuleType, tmp_path: Path) -> None:
        toys.policy(11, hidden=64).model.save_pretrained(tmp_path)
        made = [loading.load_scorer(tmp_path, compute="float32", trained=True, new_head=(seed, 0.02)) for seed in (1, 1, 2)]
        heads = [scorer.model.score.weight for scorer in made]
        assert torch.equal(heads[0], heads[1])
        assert not torch.equal(heads[0], heads[2])
        assert float(heads[0].detach().std()) == pytest.approx(0.02, rel=0.5)

    def test_a_missing_folder_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(PreflightError, match="cannot be loaded"):
            loading.load_policy(tmp_path / "absent", compute="float32", trained=True)

    def test_a_model_with_missing_weights(self, toys: ModuleType, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        toys.policy(11).model.save_pretrained(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        del weights["model.norm.weight"]
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(PreflightError, match=r"weights are missing, model.norm.weight"):
            loading.load_policy(tmp_path, compute="float32", trained=True)

    def test_saved_models_load_again(self, toys: ModuleType, llama3_like: Path, tmp_path: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(llama3_like)
        scorer, policy = toys.scorer(11), loading.load_policy(llama3_like, compute="float32", trained=True)
        loading.save(scorer, scorer.state_dict(), tmp_path / "rm", tokenizer)
        loading.save(policy, policy.state_dict(), tmp_path / "policy", tokenizer)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
        assert loaded.config.architectures == ["LlamaForSequenceClassification"]
        assert torch.equal(loaded.score.weight, scorer.model.score.weight)
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
        assert again.generation_config.eos_token_id == tokenizer.eos_token_id
        assert not again.generation_config.do_sample


def digest(model: torch.nn.Module) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def test_reference_and_reward_model_never_change(toys: ModuleType, tmp_path: Path) -> None:
    from tulu_eval.training import ppo
    from tulu_eval.training.rewards import Mixture
    from tulu_eval.training.rollout import PolicyEngine

    made = toys.recipe("ppo", rollout_batch=8, batch=4, micro_tokens=16, max_new_tokens=4, no_eos_reward=None, warmup=0.0)
    reference, reward = toys.policy(11, trained=False), toys.scorer(11, trained=False)
    four = ppo.Models(toys.policy(11), reference, toys.scorer(11), Mixture.of_model(reward))
    before = [digest(model) for model in (reference, reward, four.policy, four.value)]
    run = toys.trainer(tmp_path, made, {"policy": four.policy, "value": four.value}, 8, per_step=8, updates=2)
    ppo.train(run, four, PolicyEngine(four.policy, [1], 8), [toys.tokens([2])] * 8, made)
    after = [digest(model) for model in (reference, reward, four.policy, four.value)]
    assert after[:2] == before[:2]
    assert after[2] != before[2]
    assert after[3] != before[3]
