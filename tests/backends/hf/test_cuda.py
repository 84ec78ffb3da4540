"""What only a CUDA device computes: its attention kernels, against products in float32, and the tokens that come of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tulu_eval.backends.base import Usage
from tulu_eval.backends.growing import Finisher
from tulu_eval.backends.hf.batching import Scheduler
from tulu_eval.backends.hf.eligibility import enable_shared_prefix
from tulu_eval.backends.hf.partial_attention import partial_attention, unfused_partial_attention
from tulu_eval.records import Decoding, Request
from tulu_eval.training import packing

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def drawn(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, device="cuda", dtype=dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-3), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("shape", [(5, 2, 4, 64), (1, 8, 70, 742), (7, 2, 3 * 33, 64)])
@pytest.mark.parametrize("masked", [True, False])
def test_the_kernel_against_products(shape: tuple[int, int, int, int], masked: bool, dtype: torch.dtype, bound: float) -> None:
    torch.manual_seed(0)
    rows, heads, queries, keys = shape
    query, key, value = (drawn(rows, heads, length, 64, dtype=dtype) for length in (queries, keys, keys))
    unseen = torch.arange(keys, device="cuda") > torch.randint(0, keys, (rows, 1, 1, 1), device="cuda")
    mask = torch.zeros(rows, 1, 1, keys, device="cuda", dtype=dtype).masked_fill_(unseen, -torch.inf) if masked else None
    if masked and keys % 8:
        pytest.skip("masks have whole buckets of keys")
    found = partial_attention(query, key, value, mask, 0.125)
    wide = (x.double() for x in (query, key, value))
    expected = unfused_partial_attention(*wide, None if mask is None else mask.double(), 0.125)
    assert found.lse.shape == expected.lse.shape
    assert float((found.out.double() - expected.out).norm() / expected.out.norm()) < bound
    torch.testing.assert_close(found.lse.double(), expected.lse.double(), rtol=bound, atol=bound)


def test_tokens_are_those_of_plain_generate() -> None:
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=101, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).cuda().eval()
    draw = random.Random(3)
    head = [draw.randrange(8, 101) for _ in range(20)]
    requests = [Request(f"r{at}", (*head, *(draw.randrange(8, 101) for _ in range(at % 9 + 1))), "") for at in range(11)]
    ending: Any = GenerationConfig(max_new_tokens=24, do_sample=False, eos_token_id=7, pad_token_id=0)  # type: ignore[no-untyped-call]
    plain = {}
    for request in requests:
        row = torch.tensor([request.token_ids], device="cuda")
        out = model.generate(input_ids=row, attention_mask=torch.ones_like(row), generation_config=ending)
        plain[request.key] = tuple(out[0, len(request.token_ids) :].tolist())

    class Numbers:
        def decode(self, tokens: list[int], **_: Any) -> str:
            return " ".join(map(str, tokens))

    assert enable_shared_prefix(model, 256) == ""
    decoding = Decoding(24)
    done = list(Scheduler(model, Finisher(Numbers(), (7,), decoding), decoding, 4, Usage()).run(requests))
    assert {one.key: one.token_ids for one in done} == plain


def test_packed_rows_in_one_kernel_are_those_of_each_length() -> None:
    torch.manual_seed(0)
    packed = packing.Packing.of(torch.tensor([5, 17, 1, 17, 64], device="cuda"), 64)
    query, key, value = (drawn(1, heads, 104, 64, dtype=torch.bfloat16) for heads in (4, 2, 2))
    one = packing._varlen(query, key, value, packed, None).float()
    each = packing._by_length(query.float(), key.float(), value.float(), packed, None)
    assert one.shape == each.shape
    assert float((one - each).norm() / each.norm()) < 1e-2
