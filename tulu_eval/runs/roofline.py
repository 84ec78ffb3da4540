"""Compares a run's speed with the machine's limits: makes the line at the end of every run.

Arithmetic bounds prefill: two FLOPs per parameter and token. Memory bounds decoding: every step reads the weights once. It also
reads keys and values, which are not counted, so the percentage is a lower bound. The measurement of the machine's two rates
takes about a second; the user's cache keeps them.
"""

from __future__ import annotations

import math

from tulu_eval.models.model_files import DTYPE_BYTES
from tulu_eval.runs.rates import Rates, machine_rates
from tulu_eval.store.manifest_schema import Manifest, StoredUsage

_DEVICES = ("tensor_parallel", "pipeline_parallel", "data_parallel")
"""Fields of an engine's description whose product is its number of devices. On a CPU the processes share one device."""


def line(manifest: Manifest) -> str:
    """Returns the line about the speed of a run's last session; empty if the session is missing or did not complete."""
    session = manifest.sessions[-1] if manifest.sessions else None
    if session is None or session.ended != "complete":
        return ""
    seconds, made = session.generate_seconds or 0.0, session.new_tokens or 0
    parts = [f"start {session.load_seconds or 0.0:.1f} s"]
    usage, traffic = session.usage, session.traffic
    if traffic:
        parts.append(
            f"served {seconds:.1f} s: {traffic.sent or 0:,} requests, {traffic.resent or 0:,} of them sent again, "
            f"{made / max(seconds, 1e-9):,.0f} new tok/s"
            if made
            else f"served {seconds:.1f} s: {traffic.sent or 0:,} requests, {traffic.resent or 0:,} of them sent again"
        )
    elif not usage:
        parts.append(
            f"prefill and decoding {seconds:.1f} s: {session.prompt_tokens or 0:,} prompt tokens "
            f"(shared ones not all computed), {made:,} new, {made / max(seconds, 1e-9):,.0f} new tok/s"
        )
    else:
        parts += _split(usage, manifest)
    parts.append(f"scoring {session.score_seconds or 0.0:.1f} s")
    return " · ".join(parts)


def _split(usage: StoredUsage, manifest: Manifest) -> list[str]:
    parameters, engine = manifest.model.parameters, manifest.engine
    device = str(engine["device"])
    devices = 1 if device == "cpu" else math.prod(int(str(engine.get(name, 1))) for name in _DEVICES)
    prefill, prefilled = max(usage.prefill_seconds or 0.0, 1e-9), usage.prefill_tokens or 0
    decode, decoded = max(usage.decode_seconds or 0.0, 1e-9), usage.decode_tokens or 0
    read = (usage.decode_steps or 0) * parameters * DTYPE_BYTES.get(manifest.dtype, 2)
    done = Rates(flops=2 * parameters * prefilled / prefill / devices, bytes=read / decode / devices)
    rates = machine_rates(device, manifest.dtype, done)
    return [
        f"prefill {prefill:.1f} s, {prefilled / prefill:,.0f} tok/s, "
        f"{100 * done.flops / rates.flops:.0f} % of {devices * rates.flops / 1e12:,.2f} TFLOP/s",
        f"decoding {decode:.1f} s, {decoded / decode:,.0f} tok/s, "
        f"{100 * done.bytes / rates.bytes:.0f} % of {devices * rates.bytes / 1e9:,.0f} GB/s",
    ]
