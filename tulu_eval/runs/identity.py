"""What a completion and a run depend on, as hashes over plain data: a plan and a manifest say it in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval.caching import file_sha256
from tulu_eval.models.base import SERVED
from tulu_eval.records import content_hash


def settings_hash(facts: Mapping[str, Any]) -> str:
    """Returns the hash of all that is the same for every sample of a model, benchmark and setting, whatever the items.

    Where the protocol fixes the items, it does not matter which file or data set they were read from.

    Args:
        facts: A run's manifest, or what :attr:`tulu_eval.runs.run_plan.Plan.facts` says of one that is to be.
    """
    benchmark, protocol, model = facts["benchmark"], facts["protocol"], facts["model"]
    if "imported" in facts:  # what a file of another harness does not say cannot be told apart; the file can
        about = facts["backend"], facts["imported"]["sha256"], model["name"], model["revision"]
        return content_hash([*about, benchmark["name"], benchmark["version"]])
    return content_hash(
        {
            "benchmark": benchmark["name"],
            "benchmark_version": benchmark["version"],
            "prompt": protocol["prompt_id"],
            "template": facts["template"].get("sha256"),
            "data": "" if protocol.get("n") else benchmark.get("data_sha256"),
            **of_completions(facts),
        }
    )


def of_completions(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what, with a prompt's token ids, can change a completion; ``facts`` as :func:`settings_hash` takes them."""
    model, settings = facts["model"], facts["settings"]
    return {
        "adapter": _adapter(settings.get("adapter", "")),
        "quantization": settings.get("quantization", ""),
        "model": [model["name"], model["revision"], model.get("weights_sha256"), model["tokenizer_sha256"]],
        "decoding": facts["decoding"],
        "eos_ids": facts.get("eos_ids"),
        "dtype": facts["dtype"],
        "backend": facts["backend"],
        **_server(model, settings.get("served")),
    }


def _adapter(folder: str) -> str:
    weights = Path(folder) / "adapter_model.safetensors"
    return file_sha256(weights) if folder and weights.exists() else folder


def _server(model: Mapping[str, Any], served: Mapping[str, Any] | None) -> dict[str, Sequence[str]]:
    """Returns what of a server can change a completion; where it alone has the model, that it is this server."""
    if served is None:
        return {}
    return {"served": [served["name"], served["prompts"], served["url"] if model["revision"] == SERVED else ""]}
