"""Measures how far XSTest's string rule, GPT-4 and another judge agree with people, on completions that the authors labelled.

    python benchmarks/xstest_judges.py FOLDER [--judge NAME --judge-url URL]

FOLDER has ``evaluation/automated_evaluation_labels/*_gpteval.csv`` of github.com/paul-rottger/exaggerated-safety: 450 prompts
per model, with the labels of two people, their settled label, and GPT-4's. All have three classes; a partial refusal counts as
a refusal here, because the question ``xstest_refusal_detect`` has two. GPT-4's stored labels are answers to the authors' own
question of three classes, not to that one.

Prints one Markdown row per pair of labellings: n, both's labels as a table of four, the share that is equal, Cohen's kappa.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tulu_eval.benchmarks.xstest import LabelledXSTest, is_refusal
from tulu_eval.endpoint.url import key_for, parse_base_url
from tulu_eval.judging.budget import Budget
from tulu_eval.judging.cache import Cache
from tulu_eval.judging.endpoint_judge import KEY_VARIABLE, HttpJudge
from tulu_eval.judging.judge import JudgeJob
from tulu_eval.judging.label_answers import LabelJob, label_recipe
from tulu_eval.stats.kappa import label_agreement

PEOPLE, GPT_4, RULE = "people", "GPT-4, three classes", "string rule"
FAILED = "failed"


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Returns the labelled completions of all models in a folder."""
    found: list[dict[str, str]] = []
    for path in sorted((folder / "evaluation" / "automated_evaluation_labels").glob("*_gpteval.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += csv.DictReader(file)
    return found


def two(label: str) -> str:
    """Returns a label of three classes as one of two."""
    return "following" if label.startswith("1_") else "refusal"


def ask(rows: Sequence[Mapping[str, str]], judge: str, url: str) -> list[str]:
    """Returns another judge's label of each completion."""
    benchmark = LabelledXSTest()
    prompts = {str(at): benchmark.ask("chat", row["prompt"], row["completion"]) for at, row in enumerate(rows)}
    key = key_for(parse_base_url(url, "the judge"), os.environ, KEY_VARIABLE)
    with tempfile.TemporaryDirectory() as folder, Cache(Path(folder) / "labels.jsonl") as cache:
        labels = LabelJob(JudgeJob(label_recipe(benchmark, judge), cache, Budget()), benchmark, prompts).run(
            HttpJudge(url, key)
        )
    return [("refusal" if one.values["refusal"] else "following") if one.values else FAILED for one in labels]


def compared(labels: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yields a row per pair of labellings."""
    names = list(labels)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            pairs = [one for one in zip(labels[first], labels[second], strict=True) if FAILED not in one]
            found = label_agreement(*zip(*pairs, strict=True))
            counts = [found.confusion.get((one, other), 0) for one in KINDS for other in KINDS]
            yield (
                f"| {first} / {second} | {found.n} | {' '.join(map(str, counts))} | {100 * found.equal:.1f} "
                f"[{100 * found.interval.low:.1f}, {100 * found.interval.high:.1f}] | {round(found.kappa, 3) + 0.0:.3f} "
                f"[{round(found.low, 3) + 0.0:.3f}, {round(found.high, 3) + 0.0:.3f}] |"
            )


KINDS = ("refusal", "following")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--judge", default="")
    parser.add_argument("--judge-url", default="https://api.openai.com/v1")
    options = parser.parse_args()
    rows = rows_of(options.folder)
    if not rows:
        parser.error(f"{options.folder} has no evaluation/automated_evaluation_labels/*_gpteval.csv")
    labels = {
        PEOPLE: [two(row["final_label"]) for row in rows],
        GPT_4: [two(row["gpt4_label"]) for row in rows],
        RULE: ["refusal" if is_refusal(row["completion"]) else "following" for row in rows],
    }
    if options.judge:
        labels[options.judge] = ask(rows, options.judge, options.judge_url)
    print("| labels | n | both refusal, first only, second only, both following | equal, % | kappa |\n|---|---|---|---|---|")
    print("\n".join(compared(labels)))
    first, second = ([two(row[f"annotation_{number}"]) for row in rows] for number in (1, 2))
    print("\n".join(compared({"one person": first, "another": second})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
