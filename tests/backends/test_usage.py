"""What engines that work side by side used together."""

from __future__ import annotations

from tulu_eval.backends.base import Usage
from tulu_eval.backends.usage import add, spent


def test_tokens_of_two_engines_add_up_and_their_seconds_are_those_of_a_clock() -> None:
    before, after = Usage(100, 1.0, 10, 2.0, 5), Usage(300, 5.0, 50, 8.0, 25)
    total = Usage()
    for _ in range(2):
        add(total, spent(before, after), engines=2)
    assert total == Usage(400, 4.0, 80, 6.0, 40)
    assert [type(getattr(total, name)) for name in ("prefill_tokens", "decode_tokens", "decode_steps")] == [int] * 3
