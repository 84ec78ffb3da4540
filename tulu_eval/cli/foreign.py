"""What users of lm-eval and inspect type: some of it works here, the rest gets one line that says where it went."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

VERBS = {
    ("models", "list"): ("models",),
    ("list", "models"): ("models",),
    ("tasks",): ("list", "benchmarks"),
    ("benchmarks",): ("list", "benchmarks"),
    ("ls",): ("list", "runs"),
    ("view",): ("report",),
}
"""Words at the beginning of a command, and what they are here."""

FIXED = {
    "--num-fewshot": "how many examples a prompt has",
    "--fewshot-as-multiturn": "the form of the examples",
    "--apply-chat-template": "whether the model's chat template is used",
    "--system-instruction": "what stands in front of a prompt",
    "--gen-kwargs": "how answers are decoded",
    "--temperature": "how answers are decoded",
    "--top-p": "how answers are decoded",
    "--max-tokens": "how long an answer may be",
    "--max-gen-toks": "how long an answer may be",
    "--epochs": "how many samples an item gets",
}
"""Options that change a number, which a protocol fixes."""

TRAINING = frozenset({"train", "reproduce"})
"""Verbs whose numbers a recipe fixes, not a protocol."""

ELSEWHERE = {
    "--tasks": "benchmarks are arguments: tulu-eval run gsm8k -m MODEL",
    "--model-args": "each has an option of its own: --model NAME, --dtype, --tensor-parallel, --base-url",
    "--log-samples": "every sample is always kept, in samples.jsonl of the run's folder",
    "--output-path": "the folder of runs is --output",
    "--log-dir": "the folder of runs is --output",
    "--use-cache": "nothing is generated twice; the same command goes on from its ledger",
}
"""Options for something that works in another way here."""

OLDER = {
    ("report", "--write"): "--output",
    ("table", "--write"): "--output",
    ("card", "--write"): "--output",
    ("explain", "--write"): "--output",
    ("audit", "--items"): "--limit",
    ("calibrate-judge", "--size"): "--limit",
    ("train", "--probe-items"): "--probe-limit",
    ("run", "--tp"): "--tensor-parallel",
    ("run", "--tensor-parallel-size"): "--tensor-parallel",
}
"""Options by verb under the names that they had, or have elsewhere, and their names here."""

HARMFUL = frozenset({"--fresh", "--unsafe-execution", "--allow-pickle", "--trust-remote-code", "--yes"})
"""Options that set results aside, run code or spend money: nobody's typing error may end there."""


def translated(words: list[str]) -> list[str]:
    """Returns a command line's words in this program's own: dashes for underscores, and the verbs of :data:`VERBS`."""
    found = [re.sub(r"^--[a-z_]+", lambda name: name[0].replace("_", "-"), word) for word in words]
    first = next((place for place, word in enumerate(found) if word != "--debug"), 0)
    for theirs, ours in VERBS.items():
        if tuple(found[first : first + len(theirs)]) == theirs:
            found[first : first + len(theirs)] = ours
            break
    verb = next((word for word in found if not word.startswith("-")), "")
    parts = [word.partition("=") for word in found]
    found = [OLDER.get((verb, name), name) + equals + value for name, equals, value in parts]
    return _without_auto(found)


def _without_auto(words: list[str]) -> list[str]:
    """Returns words with 0, by which the backend chooses, for the ``auto`` of lm-eval's ``--batch_size``."""
    found = [word if word != "--batch-size=auto" else "--batch-size=0" for word in words]
    return [
        "0" if word == "auto" and before == "--batch-size" else word for before, word in zip(["", *found], found, strict=False)
    ]


def answer(error: click.NoSuchOption) -> str:
    """Returns the line for an option that a verb does not have."""
    name, verb = error.option_name, error.ctx.command_path if error.ctx else "tulu-eval"
    if name in FIXED and verb.rpartition(" ")[2] not in TRAINING:
        return f"the protocol fixes {FIXED[name]}, so there is no {name}; 'tulu-eval list protocols' shows what each says"
    if name in ELSEWHERE:
        return f"no such option {name}: {ELSEWHERE[name]}"
    near = [one for one in error.possibilities or () if one not in HARMFUL]
    hint = f" Did you mean {' or '.join(map(repr, sorted(near)))}?" if near else ""
    return f"no such option {name!r}.{hint} Try '{verb} --help'."


def split(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names that stand apart or with commas between them, as a tuple."""
    return tuple(name for one in names for name in one.split(",") if name)
