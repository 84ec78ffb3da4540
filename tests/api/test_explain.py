"""What :func:`tulu_eval.explain` refuses before it compares; the rest: findings/test_explain.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tulu_eval
from tulu_eval.errors import UserError

MakeRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"protocol": "full"}, "--protocol, --backend, --results and the engine's options go with a recipe; a run has its own"),
        ({"results": "elsewhere"}, "go with a recipe"),
        ({"backend": "vllm"}, "go with a recipe"),
        ({"settings": {"adapter": "lora"}}, "go with a recipe"),
        ({"benchmark": "mmlu"}, "--benchmark mmlu: the run is of gsm8k"),
        ({"data": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ],
)
def test_an_option_that_a_run_has_no_use_for_is_refused(make_run: MakeRun, more: dict[str, Any], message: str) -> None:
    run = make_run(10, limit=20)
    with pytest.raises(UserError) as raised:
        tulu_eval.explain(run, number="50.0", n=20, max_items=0, progress=False, **more)
    assert message.replace("--", "") in str(raised.value).replace("--", "")
