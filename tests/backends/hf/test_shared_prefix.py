"""Shared-prefix decoding gives the tokens of plain ``generate``, on every architecture it takes, and refuses the others."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.backends.base import Usage
from tulu_eval.backends.growing import Finisher, GrowingRow
from tulu_eval.backends.hf.batching import Scheduler, choose_tokens, is_out_of_memory, shared_prefix
from tulu_eval.backends.hf.eligibility import enable_shared_prefix
from tulu_eval.backends.hf.partial_attention import partial_attention, unfused_partial_attention
from tulu_eval.backends.hf.shared_prefix import SharedPrefixDecoder, Store
from tulu_eval.errors import EngineError
from tulu_eval.records import Decoding, Request

VOCABULARY = 101
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
EOS = 7


class Tokens:
    """A tokenizer that writes a token as its number."""

    def decode(self, tokens: list[int], **_: Any) -> str:
        return "".join(f"{token} " for token in tokens if token != EOS)


def tiny(kind: str, **changes: Any) -> Any:
    """Returns a small random model with float32 weights; equal for equal arguments."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SHAPE | changes)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def prompts(count: int, prefix: int = 20, longest: int = 9) -> list[Request]:
    draw = random.Random(count)
    head = [draw.randrange(8, VOCABULARY) for _ in range(prefix)]
    rows = [head + [draw.randrange(8, VOCABULARY) for _ in range(draw.randint(1, longest))] for _ in range(count)]
    return [Request(f"r{index}", tuple(row), "") for index, row in enumerate(rows)]


def plain(model: Any, request: Request, new: int) -> tuple[int, ...]:
    """Returns the tokens of transformers' greedy ``generate`` for one prompt."""
    config = transformers.GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=EOS, pad_token_id=0)
    row = torch.tensor([request.token_ids])
    output = model.generate(input_ids=row, attention_mask=torch.ones_like(row), generation_config=config)
    return tuple(output[0, len(request.token_ids) :].tolist())


def scheduled(model: Any, requests: list[Request], decoding: Decoding, batch: int = 4) -> Scheduler:
    return Scheduler(model, Finisher(Tokens(), (EOS,), decoding), decoding, batch, Usage())


def decode(model: Any, requests: list[Request], decoding: Decoding, batch: int = 4) -> dict[str, tuple[int, ...]]:
    done = list(scheduled(model, requests, decoding, batch).run(requests))
    assert len({one.key for one in done}) == len(done) == len(requests)
    return {one.key: one.token_ids for one in done}


@pytest.fixture(scope="module")
def llama() -> Any:
    model = tiny("Llama")
    assert enable_shared_prefix(model, 256) == ""
    return model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Llama", {}),
        ("Llama", {"num_key_value_heads": 4, "head_dim": 16}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 8}),
        ("Mistral", {"sliding_window": None}),
        ("Mistral", {"sliding_window": 64}),
        ("Olmo2", {}),
        ("Granite", {"logits_scaling": 3.0, "attention_multiplier": 0.2}),
    ],
)
def test_tokens_are_those_of_generate(kind: str, changes: dict[str, Any]) -> None:
    requests, model = prompts(11), tiny(kind, **changes)
    expected = {request.key: plain(model, request, 24) for request in requests}
    assert enable_shared_prefix(model, 20 + 9 + 24) == ""
    assert decode(model, requests, Decoding(24)) == expected
    assert len(set(expected.values())) > 5, "the models must not say the same to everything"


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("Mistral", {"sliding_window": 16}, "sliding_window of 16 tokens"),
        ("Gemma2", {"head_dim": 8, "sliding_window": 512}, "softcap"),
        ("Bloom", {"n_head": 4, "n_layer": 2, "num_key_value_heads": 4}, "attention interface"),
        ("Mamba", {"state_size": 4}, "state"),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic"),
    ],
)
def test_other_attention_is_refused_with_the_reason(kind: str, changes: dict[str, Any], reason: str) -> None:
    model = tiny(kind, **changes)
    before = model.config._attn_implementation
    assert reason in enable_shared_prefix(model, 64)
    assert model.config._attn_implementation == before


def test_the_trial_notices_attention_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("Llama")
    right = torch.sigmoid
    monkeypatch.setattr(torch, "sigmoid", lambda x: 1 - right(x))
    assert "differ from plain attention" in enable_shared_prefix(model, 64)


@pytest.mark.parametrize("attend", [partial_attention, unfused_partial_attention])
def test_partial_attention(attend: Any) -> None:
    torch.manual_seed(1)
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 11, 8), torch.randn(2, 3, 11, 8)
    mask = torch.zeros(2, 1, 1, 11).masked_fill_(torch.arange(11) > 6, -torch.inf)
    scores = query @ key.transpose(2, 3) * 0.3 + mask
    part = attend(query, key, value, mask, 0.3)
    torch.testing.assert_close(part.out, scores.softmax(-1) @ value)
    torch.testing.assert_close(part.lse, scores.logsumexp(-1))


def test_tokens_without_a_fused_kernel(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = prompts(11)
    monkeypatch.setattr("tulu_eval.backends.hf.shared_prefix.partial_attention", unfused_partial_attention)
    reference = tiny("Llama")
    assert decode(llama, requests, Decoding(24)) == {r.key: plain(reference, r, 24) for r in requests}


def test_no_common_prefix(llama: Any) -> None:
    requests = [Request(str(i), tuple(range(10 + i, 14 + 2 * i)), "") for i in range(5)]
    assert shared_prefix(requests) == ()
    reference = tiny("Llama")
    assert decode(llama, requests, Decoding(9)) == {r.key: plain(reference, r, 9) for r in requests}


def test_a_prompt_that_is_the_whole_prefix_keeps_a_token(llama: Any) -> None:
    requests = [Request("short", (11, 12, 13), ""), Request("long", (11, 12, 13, 14), ""), Request("same", (11, 12, 13), "")]
    assert shared_prefix(requests) == (11, 12)
    reference = tiny("Llama")
    assert decode(llama, requests, Decoding(9)) == {r.key: plain(reference, r, 9) for r in requests}


@pytest.mark.parametrize("count", [0, 1])
def test_few_requests(llama: Any, count: int) -> None:
    requests = prompts(count)
    assert decode(llama, requests, Decoding(5)) == {r.key: plain(tiny("Llama"), r, 5) for r in requests}


def test_one_new_token(llama: Any) -> None:
    requests = prompts(6)
    assert decode(llama, requests, Decoding(1)) == {r.key: plain(tiny("Llama"), r, 1) for r in requests}


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=6))
def test_the_prefix_is_the_longest_that_leaves_a_token(rows: list[list[int]]) -> None:
    prefix = shared_prefix([Request(str(i), tuple(row), "") for i, row in enumerate(rows)])
    assert all(tuple(row[: len(prefix)]) == prefix and len(row) > len(prefix) for row in rows)
    longer = len(prefix) + 1
    assert any(len(row) == longer for row in rows) or len({tuple(row[:longer]) for row in rows}) > 1


def test_longest_first_and_streamed_as_they_finish(llama: Any) -> None:
    requests = prompts(9)
    scheduler = scheduled(llama, requests, Decoding(30), batch=2)
    first = next(iter(scheduler.run(requests)))
    lengths = sorted((len(r.token_ids) for r in requests), reverse=True)
    taken = next(len(r.token_ids) for r in requests if r.key == first.key)
    assert taken >= lengths[2]
    assert len(scheduler._waiting) >= 6


@pytest.mark.parametrize("words", ["[enforce fail] DefaultCPUAllocator: can't allocate memory", "CUDA out of memory."])
@pytest.mark.parametrize(
    ("method", "calls"),
    [("admit", {1}), ("admit", {2}), ("admit", {1, 2, 3}), ("step", {1}), ("step", {5}), ("step", {1, 2, 6, 9})],
)
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    llama: Any, monkeypatch: pytest.MonkeyPatch, method: str, calls: set[int], words: str
) -> None:
    requests = prompts(23)
    expected = decode(llama, requests, Decoding(12), batch=16)
    count, batches = 0, []
    right = getattr(SharedPrefixDecoder, method)

    def failing(self: SharedPrefixDecoder, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        logits = right(self, *arguments)
        if count in calls:
            raise torch.OutOfMemoryError(words) if "CUDA" in words else RuntimeError(words)
        batches.append(len(logits))
        return logits

    monkeypatch.setattr(SharedPrefixDecoder, method, failing)
    assert decode(llama, requests, Decoding(12), batch=16) == expected
    assert count > max(calls)
    assert batches[-1] <= 16 >> len(calls)


def test_out_of_memory_with_one_row_ends_in_one_line(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Store, "write", failing)
    with pytest.raises(EngineError, match="out of memory with a single row"):
        decode(llama, prompts(5), Decoding(4))


def test_an_engine_that_breaks_keeps_what_was_yielded(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, done = prompts(9), []
    right = SharedPrefixDecoder.step
    monkeypatch.setattr(
        SharedPrefixDecoder,
        "step",
        lambda self, tokens, lengths: right(self, tokens, lengths) if not done else torch.zeros(1) @ torch.zeros(2),
    )
    with pytest.raises(EngineError, match="the engine failed: RuntimeError"):
        done.extend(scheduled(llama, requests, Decoding(9), 3).run(requests))
    assert 0 < len(done) < 9


def test_a_row_that_is_not_finite_is_an_error_and_spoils_no_other(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = prompts(9)
    expected = decode(llama, requests, Decoding(12))
    right = SharedPrefixDecoder.step

    def broken(self: SharedPrefixDecoder, tokens: list[int], lengths: list[int]) -> torch.Tensor:
        logits = right(self, tokens, lengths).clone()
        if len(tokens) == 4 and not seen:
            seen.append(1)
            logits[1] = torch.nan
            for buffers in self.store.own.values():
                with torch.inference_mode():
                    buffers[1][1] = torch.nan
        return logits

    seen: list[int] = []
    monkeypatch.setattr(SharedPrefixDecoder, "step", broken)
    done = list(scheduled(llama, requests, Decoding(12)).run(requests))
    failed = [one for one in done if one.finish_reason == "error"]
    assert [one.error for one in failed] == ["the model's logits are not finite"]
    assert {one.key: one.token_ids for one in done if not one.error} == {
        key: tokens for key, tokens in expected.items() if key != failed[0].key
    }


def test_sampling_does_not_depend_on_the_batch(llama: Any) -> None:
    requests = prompts(10)
    for decoding in (Decoding(12, 1.0, seed=3), Decoding(12, 0.7, top_p=0.8, seed=3), Decoding(12, 1.5, top_k=5, top_p=0.9)):
        together = decode(llama, requests, decoding, batch=10)
        assert together == decode(llama, requests, decoding, batch=1) == decode(llama, requests[::-1], decoding, batch=3)
        assert together != decode(llama, requests, Decoding(12))
    assert decode(llama, requests, Decoding(12, 1.0, seed=3)) != decode(llama, requests, Decoding(12, 1.0, seed=4))


def test_draws_follow_the_filtered_distribution() -> None:
    rows = [GrowingRow.begin(Request(str(i), (1,), ""), Decoding(1)) for i in range(20000)]
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(len(rows), 4)

    def shares(decoding: Decoding) -> torch.Tensor:
        return torch.tensor(choose_tokens(logits, rows, decoding)).bincount(minlength=4) / len(rows)

    def close(found: torch.Tensor, expected: list[float]) -> bool:
        return bool(((found - torch.tensor(expected)).abs() < 0.015).all())  # 4 standard errors

    assert close(shares(Decoding(1, 1.0)), [0.1, 0.4, 0.2, 0.3])
    assert close(shares(Decoding(1, 0.5)), [1 / 30, 16 / 30, 4 / 30, 9 / 30])
    assert close(shares(Decoding(1, 1.0, top_k=2)), [0, 4 / 7, 0, 3 / 7])
    assert close(shares(Decoding(1, 1.0, top_p=0.71)), [0, 4 / 9, 2 / 9, 3 / 9])
    assert close(shares(Decoding(1, 1.0, top_p=0.69)), [0, 4 / 7, 0, 3 / 7])
    assert close(shares(Decoding(1, 1.0, top_p=1e-9)), [0, 1, 0, 0])


def test_stop_strings_end_the_text_before_them(llama: Any) -> None:
    requests = prompts(6)
    free = decode(llama, requests, Decoding(20))
    token = next(tokens[4] for tokens in free.values() if len(tokens) > 6)
    decoding = Decoding(20, stop=(f" {token} ",))
    done = {one.key: one for one in scheduled(llama, requests, decoding).run(requests)}
    assert any(one.finish_reason == "stop" and one.token_ids[-1] == token for one in done.values())
    for key, one in done.items():
        assert one.token_ids == free[key][: len(one.token_ids)]
        text = Tokens().decode(list(free[key]))
        assert one.text == text.split(decoding.stop[0])[0]


def test_finish_reasons(llama: Any) -> None:
    requests = prompts(30)
    done = list(scheduled(llama, requests, Decoding(40)).run(requests))
    assert {one.finish_reason for one in done} == {"stop", "length"}
    for one in done:
        assert (one.finish_reason == "stop") == (one.token_ids[-1] == EOS)
        assert EOS not in one.token_ids[:-1]
        assert len(one.token_ids) == 40 or one.finish_reason == "stop"
        assert one.seconds > 0


def test_text_that_cannot_be_decoded_is_that_rows_error(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = prompts(5)
    expected = decode(llama, requests, Decoding(6))
    bad = expected["r2"]

    def failing(self: Tokens, tokens: list[int], **_: Any) -> str:
        if tuple(tokens) == bad:
            raise ValueError("no\nsuch token")
        return "fine"

    monkeypatch.setattr(Tokens, "decode", failing)
    done = {one.key: one for one in scheduled(llama, requests, Decoding(6)).run(requests)}
    assert done["r2"].error == "the tokens cannot be decoded: ValueError: no such token"
    assert sum(one.text == "fine" for one in done.values()) == 4


@settings(deadline=None)
@given(st.text())
def test_only_memory_is_out_of_memory(words: str) -> None:
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(MemoryError(words))
    assert is_out_of_memory(RuntimeError(f"MPS backend out of memory {words}"))
