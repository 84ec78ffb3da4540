"""The report of a run's plan, before anything is loaded."""

from __future__ import annotations

import dataclasses
from typing import Any

from tulu_eval.models.end_tokens import describe
from tulu_eval.reports.layout import duration
from tulu_eval.runs.estimate import common_prefix, estimate
from tulu_eval.runs.requests import continuations
from tulu_eval.runs.run_plan import Plan

SHOWN = 2
"""Number of items whose prompts the report prints in full."""


def as_json(plan: Plan) -> dict[str, Any]:
    """Returns the plan as plain data: counts, settings, estimate, and the first prompts as text and token ids."""
    guess = estimate(plan) if plan.backend.local else None
    prompts = [
        {
            "item": one.item.id,
            "text": one.request.text,
            "token_ids": list(one.request.token_ids),
            "sha256": one.prompt_sha256,
            "continuations": [dataclasses.asdict(end) for end in continuations(one.request)],
        }
        for one in plan.planned[:: plan.protocol.samples][:SHOWN]
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
        "template_date": plan.template.date,
        "reasoning": plan.template.reasoning,
        "eos_ids": list(plan.eos_ids),
        "end_tokens": [dataclasses.asdict(token) for token in plan.end_tokens.chosen],
        "notices": list(plan.notices),
        "max_new_tokens": plan.decoding.max_new_tokens,
        "backend": plan.backend.name,
        "dtype": plan.dtype,
        "download_bytes": plan.model.missing_bytes,
        "prompt_tokens": sum(len(one.request.token_ids) for one in plan.planned),
        "shared_prefix_tokens": common_prefix([one.request.token_ids for one in plan.planned]),
        "memory_bytes": guess and guess.memory_bytes,
        "seconds_at_least": guess and guess.seconds_low,
        "seconds_at_most": guess and guess.seconds_high,
        "served": dataclasses.asdict(plan.order.settings.served) if plan.order.settings.served else None,
        "prompts": prompts,
    }


def as_text(plan: Plan) -> str:
    """Returns the plan as text for people."""
    data = as_json(plan)
    lines = [
        f"{data['benchmark']}, protocol {data['protocol']}: {_asked(plan)}",
        f"{data['model']} @ {data['revision'][:20]}, {data['parameters'] / 1e6:,.0f} M parameters, {data['dtype']}",
        _prompts(plan, data),
        *(f"note: {notice}" for notice in data["notices"]),
        _cost(data),
        f"run folder: {data['folder']}",
    ]
    if data["download_bytes"]:
        lines.insert(2, f"to download: {data['download_bytes'] / 1e9:.1f} GB")
    for prompt in data["prompts"]:
        lines += [
            "",
            f"--- {prompt['item']}, sha256 {prompt['sha256'][:16]}",
            prompt["text"],
        ]
        if prompt["token_ids"]:
            lines.append(f"--- token ids: {prompt['token_ids']}")
        lines += [f"--- may follow: {one['text']!r}, token ids {list(one['token_ids'])}" for one in prompt["continuations"]]
    return "\n".join(lines)


def _asked(plan: Plan) -> str:
    samples, count = plan.protocol.samples, len(plan.planned)
    if plan.benchmark.kind != "generate":
        return f"{count} items, of which the model says how likely given texts are"
    items = f"{count} items" if samples == 1 else f"{count} samples, {samples} per item"
    return f"{items}, at most {plan.decoding.max_new_tokens} new tokens each"


def _prompts(plan: Plan, data: dict[str, Any]) -> str:
    if not data["prompt_tokens"]:
        return f"prompts: template {data['template']}; the server counts the tokens and ends completions"
    dated = f" with the date {plan.template.date}" if plan.template.date else ""
    return (
        f"prompts: template {data['template']}{dated}, {data['prompt_tokens']:,} tokens; shared prefix of "
        f"{data['shared_prefix_tokens']:,} tokens; end tokens: {describe(plan.end_tokens.chosen)}"
    )


def _cost(data: dict[str, Any]) -> str:
    if data["served"]:
        sent = {"tokens": "token ids", "text": "texts", "chat": "chat turns"}[data["served"]["prompts"]]
        return f"served: {data['served']['name']} at {data['served']['url']}, prompts sent as {sent}"
    return (
        f"memory: about {data['memory_bytes'] / 1e9:.1f} GB; time: between {duration(data['seconds_at_least'])} and "
        f"{duration(data['seconds_at_most'])} on this machine with {data['backend']}, engine start not counted"
    )
