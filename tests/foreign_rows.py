"""Rows as lm-eval writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def sampled(rows: Sequence[dict[str, str]], **more: Any) -> list[dict[str, Any]]:
    """Rows as lm-eval writes them for one filter."""
    kwargs = {"do_sample": False, "until": ["Q:"], "max_gen_toks": 512}
    return [
        {
            "doc_id": place, "doc": row, "resps": [[" The answer is 0."]], "filter": "strict-match",
            "arguments": {"gen_args_0": {"arg_0": f"Q: {row['question']}\nA:", "arg_1": kwargs}}, **more,
        }
        for place, row in enumerate(rows)
    ]  # fmt: skip


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
