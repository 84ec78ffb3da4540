"""Makes the line under a number that suffices to repeat it, after the example of sacrebleu's signatures.

::

    gsm8k:card-200|n:200@19eb9a97|p:bc98d286/tulu@1a2b3c4d|x:last-number|d:greedy,512|m:allenai/...@4d3fa46c|e:vllm-0.32.0/bfloat16

The parts are: benchmark and protocol; number of items and hash of their ids; hash of the constant part of the prompt, form and
hash of the template, and the day that the template wrote if it writes one; scorer (extraction), and the tag up to which answers
were cut before (``,after </think>``); decoding, token limit and samples per item (``,x20``), or ``likelihoods`` of given texts;
model and revision; engine, its version and dtype, and changes of the weights (``+fp8``, ``+lora``). For a served model, the
engine is the server's description of itself, e.g. ``openai+vllm-0.32.0/served``. For a run imported from another harness, the
engine is that harness, and ``unknown`` stands for all that it did not keep; ``+unknown`` means that the weights may have been
changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tulu_eval.benchmarks.base import subset_hash
from tulu_eval.store.manifest_schema import Manifest

UNKNOWN = "unknown"
"""Value that stands for everything that an imported run's harness did not keep."""


def signature(manifest: Manifest, protocol: str, scorer: str, ids: Sequence[str]) -> str:
    """Returns the signature of a row; ``ids`` are those of the graded items in the protocol's order."""
    decoding, template, model, settings = manifest.decoding, manifest.template, manifest.model, manifest.settings
    seed = UNKNOWN if decoding.seed is None else decoding.seed
    drawn = UNKNOWN if decoding.temperature is None else f"t{decoding.temperature:g},seed{seed}"
    draw = "greedy" if decoding.temperature == 0 else drawn
    limit = UNKNOWN if decoding.max_new_tokens is None else decoding.max_new_tokens
    generated = f"{draw},{limit}" if limit else "likelihoods"
    times = f",x{manifest.protocol.samples}" if manifest.protocol.samples else ""
    cut = f",after {manifest.protocol.reasoning[1]}" if manifest.protocol.reasoning else ""
    day = f",{template.date}" if template.date else ""
    altered = f"+{settings.quantization}" if settings.quantization else ""
    altered += "+lora" if settings.adapter and settings.adapter != UNKNOWN else ""
    return "|".join(
        (
            f"{manifest.benchmark.name}:{protocol}",
            f"n:{len(ids)}@{subset_hash(ids)}",
            f"p:{manifest.protocol.prompt_id}/{template.form}@{template.sha256[:8]}{day}",
            f"x:{scorer}{cut}",
            f"d:{generated}{times}",
            f"m:{model.name}@{model.revision.removeprefix('sha256:')[:8]}",
            f"e:{engine(manifest)}/{manifest.dtype}{altered}",
        )
    )


def engine(manifest: Manifest) -> str:
    """Returns a run's backend with the version of the engine, or with the server's description of itself."""
    backend, installed = manifest.backend, manifest.packages
    if software := manifest.engine.get("software"):
        return f"{backend}+{software}"
    return f"{backend}-{installed.get(backend) or installed.get(f'{backend}-cpu') or installed['tulu-eval']}"
