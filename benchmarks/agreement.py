"""Do transformers and vLLM say the same? The same token ids, dtype and greedy decoding through both backends.

Equal arithmetic in another order differs in its last bits, so a greedy row can part where the two likeliest tokens are
nearly equal. For each row that parts, one forward pass of transformers in float32 over the tokens before gives two distances
in logits: the margin, from the likeliest token to the second; and the gap, from the likeliest token to the one that an engine
took, the larger of both engines. A large gap would be an error of an engine.

    python benchmarks/agreement.py --data test.jsonl --items 64 --max-new-tokens 256
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tulu_eval.backends.base import Backend, EngineSettings
from tulu_eval.benchmarks.gsm8k import GSM8K, Item
from tulu_eval.benchmarks.gsm8k_data import read_rows
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer
from tulu_eval.records import Completion, Decoding, Request


@dataclasses.dataclass(frozen=True, slots=True)
class Parting:
    """Where two rows part.

    Attributes:
        key: The request's.
        position: Number of equal tokens before.
        margin: Logit of the likeliest token there minus that of the second, in float32.
        behind: Logit of the likeliest token minus that of the token that an engine took, the larger of both.
    """

    key: str
    position: int
    margin: float
    behind: float


def requests_of(model: ModelFiles, data: Path, items: int) -> tuple[list[Request], tuple[int, ...], list[str]]:
    """Returns the first prompts of a data file, the end tokens, and the targets."""
    writer = PromptWriter(load_tokenizer(model.path, model.name, False), model.name, tulu=False, folder=model.path)
    rows = read_rows(data)[:items]
    rendered = [GSM8K().render(Item(str(at), question, target)) for at, (question, target) in enumerate(rows)]
    names = [f"item {at}" for at in range(len(rendered))]
    texts = writer.texts(rendered, names)
    requests = [Request(str(at), ids, texts[at]) for at, ids in enumerate(writer.encode(texts, names))]
    return requests, writer.end_tokens.ids, [target for _, target in rows]


def generate(
    backend: type[Backend],
    model: ModelFiles,
    settings: EngineSettings,
    requests: Sequence[Request],
    eos_ids: tuple[int, ...],
    new: int,
) -> dict[str, Completion]:
    """Returns a backend's completions by key."""
    longest = max(len(request.token_ids) for request in requests) + new
    backend.check(model, settings)
    with backend.load(model, settings, eos_ids, longest) as engine:
        return {done.key: done for done in engine.generate(requests, Decoding(new))}


def partings(
    model: ModelFiles, requests: Sequence[Request], one: dict[str, Completion], other: dict[str, Completion]
) -> list[Parting]:
    """Returns where rows part, with the margin there."""
    import torch
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32).eval()
    found = []
    for request in requests:
        first, second = one[request.key].token_ids, other[request.key].token_ids
        if first == second:
            continue
        pairs = zip(first, second, strict=False)
        at = next((at for at, (left, right) in enumerate(pairs) if left != right), min(len(first), len(second)))
        with torch.inference_mode():
            row = network(torch.tensor([[*request.token_ids, *first[:at]]]), logits_to_keep=1).logits[0, -1]
        top = row.topk(2)
        behind = max(float(top.values[0] - row[token]) for token in (*first[at : at + 1], *second[at : at + 1]))
        found.append(Parting(request.key, at, float(top.values[0] - top.values[1]), behind))
    return found


def report(one: dict[str, Completion], other: dict[str, Completion], targets: list[str], parted: list[Parting]) -> str:
    """Returns the comparison as Markdown."""
    grader, count = GSM8K(), len(one)
    answers = [
        [grade.answer for grade in grader.grade(target, found[str(at)].text)]
        == [grade.answer for grade in grader.grade(target, other[str(at)].text)]
        for at, target in enumerate(targets)
        for found in (one,)
    ]
    same_answers = sum(answers)
    lines = [
        "| | |",
        "|---|---|",
        f"| equal token sequences | {count - len(parted)} of {count} ({(count - len(parted)) / count:.1%}) |",
        f"| equal answers, by every scorer | {same_answers} of {count} ({same_answers / count:.1%}) |",
    ]
    if parted:
        positions, margins = [each.position for each in parted], [each.margin for each in parted]
        behind = [each.behind for each in parted]
        spread = f"median {statistics.median(positions):.0f}, {min(positions)}–{max(positions)}"
        lines += [
            f"| first divergent token | {spread} |",
            f"| margin of the two likeliest there | median {statistics.median(margins):.3f}, largest {max(margins):.3f} |",
            f"| the token taken, behind the likeliest | median {statistics.median(behind):.3f}, largest {max(behind):.3f} |",
        ]
    return "\n".join(lines)


def main() -> None:
    """Generates with both backends and prints the comparison."""
    from tulu_eval.backends.hf.backend import TransformersBackend
    from tulu_eval.backends.vllm.backend import VllmBackend
    from tulu_eval.models.resolve import resolve
    from tulu_eval.registry import load_suite

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="hub id, folder, GGUF file or registry name")
    parser.add_argument("--data", type=Path, required=True, help="GSM8K test rows, one JSON object a line")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--dtype", default="auto")
    order = parser.parse_args()
    model, _ = resolve(order.model, load_suite())
    settings = EngineSettings(dtype=order.dtype)
    requests, eos_ids, targets = requests_of(model, order.data, order.items)
    one, other = (
        generate(backend, model, settings, requests, eos_ids, order.max_new_tokens)
        for backend in (TransformersBackend, VllmBackend)
    )
    print(report(one, other, targets, partings(model, requests, one, other)))
    dtype = model.dtype if order.dtype == "auto" else order.dtype
    print(f"\n{order.model}, {order.items} prompts, up to {order.max_new_tokens} new tokens, {dtype}.")


if __name__ == "__main__":
    main()
