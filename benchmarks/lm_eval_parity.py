"""GSM8K's protocol ``lm-eval-cot`` beside lm-eval's own task ``gsm8k_cot``: prompts, texts and scores of one model, in float32.

    python benchmarks/lm_eval_parity.py --data test.jsonl --items 100 --write benchmarks/lm_eval_parity.json

Both run here, ours with the transformers backend and lm-eval with its ``hf`` model, on the first items of the test set. A model
with a chat template gets it from both (``--apply_chat_template``). ``tests/benchmarks/test_gsm8k_lm_eval.py`` compares a tiny
model.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks.gsm8k_exemplars import source
from tulu_eval.registry import load_suite
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute

FILTERS = ("strict-match", "flexible-extract")


@dataclasses.dataclass(frozen=True)
class Parity:
    """What both gave on the same items.

    Attributes:
        items: Number of items.
        prompts: Number of items with the same prompt and the same token ids.
        texts: Number of items with the same completion.
        scores: Number of items with the same score under each filter.
        ours: Each filter's value in percent by tulu-eval.
        theirs: The same by lm-eval.
        read: Number of items in which ``strict-match`` found an answer.
        apart: Item, our text and lm-eval's of each item whose texts differ.
    """

    items: int
    prompts: int
    texts: int
    scores: Mapping[str, int]
    ours: Mapping[str, float]
    theirs: Mapping[str, float]
    read: int
    apart: tuple[tuple[str, str, str], ...]


def run_ours(model: str, data: Path, items: int, output: Path, batch: int) -> tuple[Plan, StoredRun]:
    """Runs the protocol on the first items with the transformers backend in float32."""
    settings = EngineSettings(dtype="float32", device="cpu", batch_size=batch)
    order = Order("gsm8k", model, protocol="lm-eval-cot", data=data, limit=items, settings=settings, output=output)
    plan = make_plan(order, load_suite())
    return plan, read_run(execute(plan, Progress(quiet=True)).folder)


def run_theirs(folder: Path, data: Path, items: int, chat: bool, batch: int) -> tuple[Any, Any]:
    """Runs lm-eval's own task on the same items with its ``hf`` model in float32.

    Returns:
        lm-eval's model and results.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    task = yaml.safe_load(source().read_text(encoding="utf-8"))
    task |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {"test": str(data)}}}
    peer: Any = HFLM(pretrained=str(folder), dtype="float32", batch_size=batch, device="cpu")
    return peer, simple_evaluate(
        model=peer, tasks=[task], limit=items, bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat
    )


def compare(model: str, data: Path, items: int, output: Path, batch: int = 8) -> Parity:
    """Runs both and compares them item by item."""
    plan, run = run_ours(model, data, items, output, batch)
    peer, found = run_theirs(plan.model.path, data, items, plan.template.form != "plain", batch)
    theirs: dict[str, dict[int, Any]] = {name: {} for name in FILTERS}
    for sample in found["samples"]["gsm8k_cot"]:
        theirs[sample["filter"]][sample["doc_id"]] = sample
    ours = {sample.item: sample for sample in run.samples()}
    prompts, texts, read, apart = 0, 0, 0, []
    scores = dict.fromkeys(FILTERS, 0)
    for at, planned in enumerate(plan.planned):
        sample, other = ours[planned.item.id], theirs[FILTERS[0]][at]
        prompt, text = other["arguments"][0][0], other["resps"][0][0]
        fed = tuple(peer.tok_batch_encode([prompt])[0][0].tolist())
        prompts += (planned.request.text, planned.request.token_ids) == (prompt, fed)
        texts += sample.completion.text == text
        apart += [] if sample.completion.text == text else [(planned.item.id, sample.completion.text, text)]
        read += sample.grades[0].answered
        for grade in sample.grades[: len(FILTERS)]:
            scores[grade.scorer] += grade.score == float(theirs[grade.scorer][at]["exact_match"])
    values = {row.scorer: row.value for row in run.results if row.scorer in FILTERS}
    others = {name: 100 * float(found["results"]["gsm8k_cot"][f"exact_match,{name}"]) for name in FILTERS}
    return Parity(len(plan.planned), prompts, texts, scores, values, others, read, tuple(apart))


def main() -> None:
    """Compares, prints a line per number and writes all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="GSM8K's test.jsonl")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--write", type=Path, help="file for the comparison as JSON")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as output:
        found = compare(asked.model, asked.data.resolve(), asked.items, Path(output), asked.batch_size)
    print(f"{found.items} items: {found.prompts} prompts, {found.texts} texts the same")
    for name in FILTERS:
        print(f"{name}: {found.scores[name]} scores the same, {found.ours[name]:.2f} here, {found.theirs[name]:.2f} by lm-eval")
    if asked.write:
        versions = {name: importlib.metadata.version(name) for name in ("lm-eval", "transformers", "torch")}
        about = {"model": asked.model, "dtype": "float32", "batch_size": asked.batch_size, "versions": versions}
        asked.write.write_text(json.dumps(about | dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
