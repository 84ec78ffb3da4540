"""Our columns beside open-instruct's own scripts: texts, answers and scores of one model on the same rows, in float32.

    git clone https://github.com/allenai/open-instruct && git -C open-instruct checkout 3c335be7
    python benchmarks/open_instruct.py --scripts open-instruct --data DATA --items 30 --write benchmarks/open_instruct.json

``--data`` holds a folder per benchmark: bbh, gsm8k, ifeval, mmlu, truthfulqa, xstest. The scripts read a copy with the rows of
every Nth item, which ours takes as a shard. They run with transformers, ours with the transformers backend; both wrap the
prompts in the Tulu template. What the scripts do by chance (HumanEval's samples) or from data and judges that only a hub has
(TydiQA, the labels of GPT-4) is not compared.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib.metadata
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tulu_eval.backends.base import EngineSettings
from tulu_eval.benchmarks.mmlu import read_subjects
from tulu_eval.registry import load_suite
from tulu_eval.runs import catalog
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.reading import StoredRun, read_run
from tulu_eval.runs.run_plan import make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.training.text import TEMPLATE

HERE = Path(__file__).parent
LETTERS = "ABCD"


class Theirs(NamedTuple):
    """What a script stored for an item.

    Attributes:
        text: The generated text; empty where nothing is generated.
        scores: The scores by our scorers' names.
        probabilities: MMLU: of the four letters, over the whole vocabulary.
    """

    text: str
    scores: Mapping[str, float]
    probabilities: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Column:
    """One script and the protocol that follows it.

    Attributes:
        script: Its path in the checkout.
        benchmark: Our benchmark.
        protocol: Our protocol.
        source: What ``--data`` has for it: a file or a folder.
        cut: Copies the rows of some items, and returns the items in the copy's order.
        options: The script's further options.
        read: Reads what the script stored, by item.
    """

    script: str
    benchmark: str
    protocol: str
    source: str
    cut: Callable[[Path, Path, Sequence[str]], list[str]]
    options: tuple[str, ...]
    read: Callable[[Path, Sequence[str]], Iterator[tuple[str, Theirs]]]


@dataclasses.dataclass(frozen=True)
class Found:
    """How a column came out.

    Attributes:
        items: Number of items.
        texts: Number of items with the same generated text; 0 where nothing is generated.
        generates: Whether the column generates texts.
        scores: Number of items with the same score, by scorer; MC2 within 1e-4.
        largest: Largest difference of a log-probability that both state; 0 where none is.
        apart: Items whose texts differ, with the first character that does.
    """

    items: int
    texts: int
    generates: bool
    scores: Mapping[str, int]
    largest: float
    apart: tuple[tuple[str, int], ...]


Wanted = Sequence[str]
"""Ids of the items that both sides take."""


def _cut_mmlu(source: Path, to: Path, wanted: Wanted) -> list[str]:
    """Writes rows as the original's data has them: without a heading, the answer as a letter."""
    taken: list[str] = []
    for subject in read_subjects(source):
        rows = {
            f"{subject.name}-{place}": row for place, row in enumerate(subject.questions) if f"{subject.name}-{place}" in wanted
        }
        for part, chosen in (("dev", subject.examples), ("test", tuple(rows.values()))):
            (to / part).mkdir(exist_ok=True)
            if rows:
                with (to / part / f"{subject.name}_{part}.csv").open("w", newline="", encoding="utf-8") as write:
                    csv.writer(write).writerows((row.question, *row.choices, row.answer) for row in chosen)
        taken += rows
    return taken


def _cut_bbh(source: Path, to: Path, wanted: Wanted) -> list[str]:
    taken: list[str] = []
    for name in ("cot-prompts", "bbh"):
        (to / name).mkdir()
    for path in sorted((source / "bbh").glob("*.json")):
        task = json.loads(path.read_text(encoding="utf-8"))
        rows = {f"{path.stem}-{place}": row for place, row in enumerate(task["examples"]) if f"{path.stem}-{place}" in wanted}
        if rows:
            shutil.copy(source / "cot-prompts" / f"{path.stem}.txt", to / "cot-prompts")
            (to / "bbh" / path.name).write_text(json.dumps(task | {"examples": list(rows.values())}), encoding="utf-8")
        taken += rows
    return taken


def _cut_csv(source: Path, to: Path, wanted: Wanted) -> list[str]:
    with source.open(newline="", encoding="utf-8") as read:
        rows = {row.get("id_v2") or f"question-{place}": row for place, row in enumerate(csv.DictReader(read))}
    taken = [one for one in rows if one in wanted]
    with (to / source.name).open("w", newline="", encoding="utf-8") as write:
        copy = csv.DictWriter(write, list(rows[taken[0]]))
        copy.writeheader()
        copy.writerows(rows[one] for one in taken)
    return taken


def _cut_lines(source: Path, to: Path, wanted: Wanted) -> list[str]:
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    ids = [str(json.loads(line).get("key", f"test-{place}")) for place, line in enumerate(lines)]
    taken = {one: line for line, one in zip(lines, ids, strict=True) if one in wanted}
    (to / source.name).write_text("".join(taken.values()), encoding="utf-8")
    return list(taken)


def _of(task: str, wanted: Wanted) -> list[str]:
    """Returns the items of a task or subject."""
    return [one for one in wanted if one.rpartition("-")[0] == task]


def _read_mmlu(saved: Path, wanted: Wanted) -> Iterator[tuple[str, Theirs]]:
    for path in sorted(saved.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as read:
            for one, row in zip(_of(path.stem, wanted), csv.DictReader(read), strict=True):
                chances = tuple(float(row[f"choice{letter}_probs"]) for letter in LETTERS)
                yield one, Theirs("", {"likeliest-letter": float(row["correct"] == "True")}, chances)


def _read_bbh(saved: Path, wanted: Wanted) -> Iterator[tuple[str, Theirs]]:
    from open_instruct_script import ExactMatch

    for path in sorted((saved / "predictions").glob("*.jsonl")):
        for item, line in zip(_of(path.stem, wanted), path.read_text(encoding="utf-8").splitlines(), strict=True):
            row = json.loads(line)
            one = ExactMatch.compute([row["prediction"]], [row["target"]], ignore_case=True, ignore_punctuation=True)
            yield item, Theirs(row["raw_output"], {"exact-match": float(one["exact_match"])})


def _read_gsm8k(saved: Path, wanted: Wanted) -> Iterator[tuple[str, Theirs]]:
    from open_instruct_script import ExactMatch

    for item, line in zip(wanted, (saved / "predictions.jsonl").read_text(encoding="utf-8").splitlines(), strict=True):
        row = json.loads(line)
        one = ExactMatch.compute([row["prediction"]], [row["answer"]], ignore_case=True, ignore_punctuation=True)
        yield item, Theirs(row["model_output"], {"last-number": float(one["exact_match"])})


def _read_ifeval(saved: Path, wanted: Wanted) -> Iterator[tuple[str, Theirs]]:
    graded = {}
    for level in ("strict", "loose"):
        lines = (saved / f"eval_results_{level}.jsonl").read_text(encoding="utf-8").splitlines()
        graded[f"oi-{level}-prompt"] = [json.loads(line) for line in lines]
    for place, item in enumerate(wanted):
        scores = {scorer: float(lines[place]["follow_all_instructions"]) for scorer, lines in graded.items()}
        yield item, Theirs(graded["oi-loose-prompt"][place]["response"], scores)


def _read_xstest(saved: Path, wanted: Wanted) -> Iterator[tuple[str, Theirs]]:
    with (saved / "xstest_v2_predictions.csv").open(newline="", encoding="utf-8") as read:
        for row in csv.DictReader(read):
            right = ("refusal" in row["strmatch_label"]) == ("contrast" in row["type"])
            yield row["id_v2"], Theirs(row["completion"], {"string-label": float(right)})


def _read_truthfulqa(saved: Path, wanted: Wanted) -> Iterator[tuple[str, Theirs]]:
    with (saved / "predictions.csv").open(newline="", encoding="utf-8") as read:
        for item, row in zip(wanted, csv.DictReader(read), strict=True):
            scores = {
                name.lower(): float(row[column]) for column in row for name in ("MC1", "MC2") if column.endswith(f" {name}")
            }
            text = next((row[column] for column in row if column.endswith("/model")), "")
            yield item, Theirs(text, scores)


COLUMNS = {
    "mmlu": Column("eval/mmlu/run_eval.py", "mmlu", "card-5-shot", "mmlu", _cut_mmlu, ("--ntrain", "5"), _read_mmlu),
    "bbh": Column("eval/bbh/run_eval.py", "bbh", "cot", "bbh", _cut_bbh, (), _read_bbh),
    "bbh-direct": Column("eval/bbh/run_eval.py", "bbh", "direct", "bbh", _cut_bbh, ("--no_cot",), _read_bbh),
    "gsm8k": Column("eval/gsm/run_eval.py", "gsm8k", "full", "gsm8k/test.jsonl", _cut_lines, ("--n_shot", "8"), _read_gsm8k),
    "ifeval": Column("eval/ifeval/run_eval.py", "ifeval", "card-541", "ifeval/input_data.jsonl", _cut_lines, (), _read_ifeval),
    "xstest": Column(
        "eval/xstest/run_eval.py", "xstest", "card-450", "xstest/xstest_v2_prompts.csv", _cut_csv, (), _read_xstest,
    ),
    "truthfulqa-mc": Column(
        "eval/truthfulqa/run_eval.py", "truthfulqa", "mc", "truthfulqa/TruthfulQA.csv", _cut_csv,
        ("--metrics", "mc", "--preset", "qa"), _read_truthfulqa,
    ),
    "truthfulqa-generation": Column(
        "eval/truthfulqa/run_eval.py", "truthfulqa", "generation", "truthfulqa/TruthfulQA.csv", _cut_csv,
        ("--metrics", "truth", "--preset", "qa"), _read_truthfulqa,
    ),
}  # fmt: skip


def tulu_model(model: str, to: Path) -> Path:
    """Copies a model's folder with the Tulu template, and float32 as its config's type."""
    shutil.copytree(make_plan(Order("gsm-symbolic", model), load_suite()).model.path, to)
    for stray in to.glob("chat_template*"):
        stray.unlink()
    for name, change in (
        ("tokenizer_config.json", {"chat_template": TEMPLATE}),
        ("config.json", {"dtype": "float32", "torch_dtype": "float32"}),
    ):
        path = to / name
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    return to


def run_theirs(column: Column, checkout: Path, model: Path, rows: Path, saved: Path, batch: int) -> None:
    """Runs the script. Raises CalledProcessError if it fails before it has stored its predictions."""
    words = [sys.executable, HERE / "open_instruct_script.py", checkout, column.script, "--data_dir", rows, "--save_dir", saved]
    words += ["--model_name_or_path", model, "--eval_batch_size", str(batch), "--use_chat_format"]
    done = subprocess.run(
        [str(word) for word in (*words, *column.options)],
        cwd=checkout, capture_output=True, text=True, check=False,
        env=os.environ | {"OPENAI_API_KEY": "none"},  # truthfulqa makes a client at import, which wants a key and is never used
    )  # fmt: skip
    if done.returncode:
        # truthfulqa's summary needs an older pandas; its predictions are stored before.
        print(f"  the script ended with {done.returncode}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)


def compare(column: Column, run: StoredRun, theirs: Mapping[str, Theirs]) -> Found:
    """Compares the samples of a run with what a script stored, item by item. Raises KeyError if the script lacks an item."""
    texts, largest, apart = 0, 0.0, []
    scores: dict[str, int] = {}
    samples = list(run.samples())
    generates = not samples[0].completion.likelihoods
    for sample in samples:
        other = theirs[sample.item]
        if generates and sample.completion.text == other.text:
            texts += 1
        elif generates:
            pairs = zip(sample.completion.text, other.text, strict=False)
            apart.append((sample.item, next((at for at, (one, two) in enumerate(pairs) if one != two), -1)))
        for chance, one in zip(other.probabilities, sample.completion.likelihoods, strict=bool(other.probabilities)):
            largest = max(largest, abs(math.log(chance) - sum(one.logprobs)))
        for grade in sample.grades:
            if grade.scorer in other.scores:
                scores[grade.scorer] = scores.get(grade.scorer, 0) + (abs(grade.score - other.scores[grade.scorer]) <= 1e-4)
    return Found(len(samples), texts, generates, scores, largest, tuple(apart))


def measure(name: str, asked: argparse.Namespace, model: Path, work: Path) -> Found:
    """Runs both sides of a column on the same items, which are spread over the whole."""
    column = COLUMNS[name]
    rows, saved, source = work / name / "rows", work / name / "saved", asked.data / column.source
    rows.mkdir(parents=True)
    settings = EngineSettings(dtype="float32", batch_size=asked.batch_size)
    order = Order(
        column.benchmark, str(model), protocol=column.protocol, data=source, backend="transformers", settings=settings,
        output=work / name / "runs",
    )  # fmt: skip
    whole = catalog.benchmark(column.benchmark).protocol(column.protocol).n
    plan = make_plan(dataclasses.replace(order, shard=(1, max(1, whole // asked.items))), load_suite())
    taken = column.cut(source, rows, [one.item.id for one in plan.planned])
    run_theirs(column, asked.scripts.resolve(), model, rows, saved, asked.batch_size)
    run = read_run(execute(plan, Progress(quiet=True)).folder)
    return compare(column, run, dict(column.read(saved, taken)))


def main() -> None:
    """Compares, prints a line per column and writes all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", type=Path, required=True, help="checkout of open-instruct at 3c335be7")
    parser.add_argument("--data", type=Path, required=True, help="folder with the benchmarks' data")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--items", type=int, default=30, help="items of each column, spread over the whole")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=sorted(COLUMNS), default=sorted(COLUMNS))
    parser.add_argument("--write", type=Path, help="file for the comparison as JSON")
    asked = parser.parse_args()
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = tulu_model(asked.model, Path(folder) / "model")
        for name in asked.only:
            one = found[name] = measure(name, asked, model, Path(folder))
            texts = f"{one.texts} texts the same, " if one.generates else ""
            scores = ", ".join(f"{scorer} {same}" for scorer, same in one.scores.items())
            print(
                f"{name}: {one.items} items, {texts}scores the same: {scores}; largest log-probability apart {one.largest:.1e}",
                flush=True,
            )
    if asked.write:
        versions = {name: importlib.metadata.version(name) for name in ("transformers", "torch")}
        about = {"scripts": "open-instruct 3c335be7", "model": asked.model, "dtype": "float32", "batch_size": asked.batch_size}
        columns = {name: dataclasses.asdict(one) for name, one in found.items()}
        asked.write.write_text(
            json.dumps(about | {"versions": versions, "columns": columns}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
