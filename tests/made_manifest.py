"""A manifest for tests of what reads one."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.records import Decoding
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.setup_schema import (
    StoredBenchmark,
    StoredDecoding,
    StoredModel,
    StoredSettings,
    StoredTemplate,
    stored,
    stored_protocol,
)

MANIFEST = Manifest(
    format=1,
    settings_sha256="0" * 64,
    model=StoredModel(name="m", revision="r", tokenizer_sha256="t", parameters=10**9),
    benchmark=StoredBenchmark(name="gsm8k", version=2),
    protocol=replace(stored_protocol(GSM8K.protocols["full"]), sha256="0" * 64),
    template=StoredTemplate(form="tulu", sha256="t"),
    decoding=stored(Decoding(512), StoredDecoding),
    eos_ids=(1,),
    backend="transformers",
    dtype="bfloat16",
    settings=StoredSettings(quantization="", adapter=""),
    seed=0,
    limit=None,
    items={"card-200": ("a", "b"), "full": ("a", "b", "c", "d")},
    planned=("a", "b", "c"),
    engine={"device": "cpu"},
    packages={"transformers": "1", "tulu-eval": "1"},
    machine={},
    sessions=(),
    commit="",
)


def made_manifest(**changes: Any) -> Manifest:
    """Returns a manifest with these fields changed."""
    return replace(MANIFEST, **changes)
