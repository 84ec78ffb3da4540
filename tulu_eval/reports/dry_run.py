"""A plan for people, before anything is loaded."""

from __future__ import annotations

from typing import Any

from tulu_eval.runs.estimate import estimate
from tulu_eval.runs.plan import Plan

SHOWN = 2
"""Prompts printed whole."""


def as_json(plan: Plan) -> dict[str, Any]:
    """Returns the plan as plain data: counts, settings, estimate, and the first prompts as text and token ids."""
    guess = estimate(plan)
    prompts = [
        {"item": one.item.id, "text": one.request.text, "token_ids": list(one.request.token_ids), "sha256": one.prompt_sha256}
        for one in plan.planned[:SHOWN]
    ]
    return {
        "folder": str(plan.folder),
        "benchmark": plan.benchmark.name,
        "protocol": plan.protocol.name,
        "items": len(plan.planned),
        "model": plan.model.name,
        "revision": plan.model.revision,
        "parameters": plan.model.parameters,
        "template": plan.template.form,
        "eos_ids": list(plan.eos_ids),
        "max_new_tokens": plan.decoding.max_new_tokens,
        "backend": plan.backend.name,
        "dtype": plan.dtype,
        "download_bytes": plan.model.missing_bytes,
        "prompt_tokens": sum(len(one.request.token_ids) for one in plan.planned),
        "shared_prefix_tokens": guess.shared_tokens,
        "memory_bytes": guess.memory_bytes,
        "seconds_at_least": guess.seconds_low,
        "seconds_at_most": guess.seconds_high,
        "prompts": prompts,
    }


def as_text(plan: Plan) -> str:
    """Returns the plan for people."""
    data = as_json(plan)
    limit = f", at most {data['max_new_tokens']} new tokens each"
    lines = [
        f"{data['benchmark']}, protocol {data['protocol']}: {data['items']} items{limit}",
        f"{data['model']} @ {data['revision'][:20]}, {data['parameters'] / 1e6:,.0f} M parameters, {data['dtype']}",
        f"prompts: template {data['template']}, {data['prompt_tokens']:,} tokens, of which {data['shared_prefix_tokens']:,} "
        f"are one prefix of all; ends at token {' or '.join(map(str, data['eos_ids']))}",
        f"memory: about {data['memory_bytes'] / 1e9:.1f} GB; time: between {data['seconds_at_least']:,.0f} s and "
        f"{data['seconds_at_most']:,.0f} s on this machine with {data['backend']}, engine start not counted",
        f"run folder: {data['folder']}",
    ]
    if data["download_bytes"]:
        lines.insert(2, f"to download: {data['download_bytes'] / 1e9:.1f} GB")
    for prompt in data["prompts"]:
        lines += [
            "",
            f"--- {prompt['item']}, sha256 {prompt['sha256'][:16]}",
            prompt["text"],
            f"--- token ids: {prompt['token_ids']}",
        ]
    return "\n".join(lines)
