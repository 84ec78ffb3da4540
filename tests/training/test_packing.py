"""Packed passes, log-probabilities without all logits, and checkpointed layers give the same results as the plain ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tulu_eval.training import formulas as rl
from tulu_eval.training import packing, parallel, sharding
from tulu_eval.training.at_once import HEAD_ROWS
from tulu_eval.training.networks import checkpoint_activations, collate
from tulu_eval.training.packing import Packing, cut, parts_needed, spread
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.watching.speed import Speed, in_words

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


def rows(toys: Any) -> Any:
    draw = torch.Generator().manual_seed(1)
    made = [toys.tokens(torch.randint(0, 6, (length,), generator=draw).tolist()) for length in (3, 9, 1, 9, 5)]
    for row in made:
        row.mask[len(row) // 2 :] = True
    return collate(made, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["policy", "scorer"])
def test_packed_rows_give_what_padded_rows_give(toys: Any, kind: str) -> None:
    model = getattr(toys, kind)(6, 0)
    if kind == "scorer":
        torch.nn.init.normal_(model.model.score.weight)
    assert model.packed
    batch = rows(toys)
    packed = model(batch)
    packed.square().sum().backward()
    expected = gradients(model)
    model.packed = False
    padded = model(batch)
    padded.square().sum().backward()
    assert float(packed.detach().abs().max()) > 0
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-4)


def test_attention_is_in_the_dtype_of_the_pass(toys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are float32, and rotary positions must not be: else no half-precision kernel would be used."""
    seen = []
    by_length = packing._by_length

    def recorded(query: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append((query.dtype, *(x.dtype for x in rest[:2])))
        return by_length(query, *rest)

    model = toys.policy(6, 0)
    expected = model(rows(toys))
    monkeypatch.setattr(packing, "_by_length", recorded)
    model.compute = torch.bfloat16
    with parallel.ranks("cpu") as ranks:
        found = sharding.shard(model, ranks)(rows(toys))
    assert seen
    assert {dtype for call in seen for dtype in call} == {torch.bfloat16}
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_checkpointed_layers_give_the_same_gradients(toys: Any) -> None:
    model = toys.policy(6, 0)
    batch = rows(toys)
    model(batch).sum().backward()
    expected = gradients(model)
    checkpoint_activations(model)
    model(batch).sum().backward()
    found = gradients(model)
    assert set(found) == set(expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_logprobs_without_all_logits_are_those_with_them(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    tokens = 2 * HEAD_ROWS + 3
    targets = torch.randint(0, 40, (tokens,))
    weights = torch.randn(tokens)
    sides = []
    for way in ("plain", "parts"):
        torch.manual_seed(1)
        hidden, head = (torch.randn(*shape).to(dtype).requires_grad_() for shape in ((tokens, 16), (40, 16)))
        if way == "plain":
            found = rl.token_logprobs(hidden @ head.T, targets, 0.7)
        else:
            found = rl.head_logprobs(hidden, head, targets, 0.7)
        assert found.dtype == torch.float32
        (found * weights).sum().backward()
        assert hidden.grad is not None
        assert head.grad is not None
        sides.append((found.detach(), hidden.grad.float(), head.grad.float()))
    for plain, parts in zip(*sides, strict=True):
        assert float((plain - parts).norm() / plain.norm()) <= tolerance


@given(LENGTHS, st.integers(1, 120))
def test_cuts_have_every_row_once_and_keep_the_budget(lengths: list[int], budget: int) -> None:
    parts = cut(lengths, parts_needed(lengths, budget))
    assert sorted(place for part in parts for place in part) == list(range(len(lengths)))
    assert all(parts)
    assert max(sum(lengths[place] for place in part) for part in parts) <= max(budget, *lengths)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_packing_spreads_back_to_the_rows(lengths: list[int]) -> None:
    width = max(*lengths, 1)
    packed = Packing.of(torch.tensor(lengths), width)
    there = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    assert torch.equal(spread(torch.ones(sum(lengths)), packed.places, len(lengths), width), there.float())
    assert torch.equal(packed.positions, packed.places % width)
    assert packed.bounds.diff().tolist() == list(packed.lengths)


def test_a_steps_parts_are_named_with_tokens_a_second() -> None:
    speed = Speed(Ranks(), "float32")
    with speed.part("rollout"):
        torch.randn(64, 64)
    speed.count(1e6, 10.0)
    numbers = speed.summary()
    assert numbers["tokens_per_second"] == pytest.approx(10 / numbers["seconds"])
    assert 0 < numbers["seconds_rollout"] <= numbers["seconds"]
    assert numbers["mfu"] > 0
    parts = {"seconds_rollout": 0.5, "seconds_weights": 0.25}
    assert "(rollout 0.50)" in in_words(numbers | parts)
    assert "(rollout 0.50, weights 0.25 for 269.0 MB)" in in_words(numbers | parts | {"weight_bytes": 2.69e8})
    assert speed.summary()["mfu"] == 0
