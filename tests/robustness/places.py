"""A good command line for every verb, with good and bad inputs beside each other; no case of it loads a model."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from robustness import mutations


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A verb's good command line; no case of it loads a model.

    Attributes:
        arguments: What stands behind the verb; ``{names}`` of a place are filled in.
        options: Values of options.
        flags: Flags that every case has.
        slow: Whether it takes many seconds as a program, for the packages that it imports.
    """

    arguments: tuple[str, ...] = ()
    options: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    flags: tuple[str, ...] = ()
    slow: bool = False


_JUDGE = {"--judge": ("gpt-4.1",)}
_TRAIN = {"--recipe": ("tiny",), "--model": ("{model}",), "--data": ("{sft}",), "--output": ("{root}/t",), "--device": ("cpu",)}
_CUSTOM = {"--model": ("{model}",), "--protocol": ("custom",), "--data": ("{rows}",), "--limit": ("1",), "--device": ("cpu",)}

LINES: dict[str, Line] = {
    "run": Line(("gsm8k",), {**_CUSTOM, "--output": ("{root}/o",)}, ("--dry-run",), slow=True),
    "merge": Line(("{shards}",)),
    "score": Line(("{run}",)),
    "score alpaca-eval": Line(("alpaca-eval",), {"--annotations": ("{annotations}",), "--gamed": ("{gamed}",)}, ("--partial",)),
    "verify": Line(("{run}",), {}, ("--partial",)),
    "compare": Line(("{run}", "{second}")),
    "explain": Line(("{run}", "{second}"), {"--max-items": ("0",)}, ("-q",), slow=True),
    "audit": Line(("{run}",), {"--model": ("{root}/no-model",)}, ("-q",), slow=True),
    "plan": Line(("gsm8k",), {"--models": ("tulu-2-13b", "tulu-v2.5-dpo-13b-uf-mean"), "--detect": ("2.0",)}),
    "plan --gpus": Line(("tulu-2.5",), {"--models": ("{models}",), "--gpus": ("8",)}),
    "import": Line(("{predictions}",), {"--model": ("my-model",), "--data": ("{set}",), "--output": ("{root}/r",)}),
    "table": Line((), {"--results": ("{results}",)}),
    "report": Line((), {"--results": ("{results}",), "--output": ("{root}/r.html",)}, ("-q",)),
    "list": Line(("recipes",)),
    "models": Line(),
    "models show": Line(("tulu-2-13b",)),
    "card": Line(("allenai/tulu-2-13b",), {"--results": ("{results}",)}, ("--published",)),
    "card --check": Line((), {"--check": ("{card}",)}),
    "bundle": Line(("{run}",), {"--output": ("{root}/b.zip",)}),
    "verify-bundle": Line(("{bundle}",)),
    "judge": Line(("{alpaca}",), {**_JUDGE, "--data": ("{data}",), "--gamed": ("{gamed}",)}, ("--dry-run", "--partial")),
    "compare-outputs": Line(("{alpaca}",), {"--with": ("{alpaca2}",)}),
    "calibrate-judge": Line(("{annotations}",), {**_JUDGE, "--output": ("{root}/c.json",), "--limit": ("30",)}, ("--dry-run",)),
    "train": Line(("sft",), _TRAIN, ("--dry-run",), slow=True),
    "reproduce": Line((), {"--recipe": ("no-such-recipe",)}, ("-q",)),
    "doctor": Line(slow=True),
}
"""One line per verb, for some verbs a second one with other options. ``reproduce`` has no dry run, so its line is refused."""

REFUSED = {"audit": 2, "reproduce": 2, "card --check": 1, "calibrate-judge": 2}
"""Exit codes of the lines that do not end with 0 on good inputs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Good inputs of all verbs, beside bad ones, under a folder that is put back after each case.

    Attributes:
        root: The folder.
        kept: What it is put back from.
        names: What the words' ``{names}`` stand for.
        bad: Hostile paths by kind.
    """

    root: Path
    kept: Path
    names: dict[str, str]
    bad: dict[str, str]

    def restore(self) -> None:
        """Puts everything back as it was."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.kept, self.root, symlinks=True)
        make_bad(self.root)

    def words(self, verb: str, skip: str = "", more: tuple[str, ...] = (), first: str | None = None) -> list[str]:
        """Returns the words of a verb's line, an option left out, further words put to it, or another first argument."""
        line = LINES[verb]
        options = [(name, *values) for name, values in line.options.items() if name != skip]
        named = [word for option in options for word in option]
        given = line.arguments if first is None else line.arguments[1:]
        words = [word.format(**self.names) for word in (*verb_of(verb), *line.flags, *named, *given)]
        return [*words, *more, *(() if first is None else (first,))]


def verb_of(name: str) -> tuple[str, ...]:
    """Returns the verb's own words."""
    return ("models", "show") if name == "models show" else (name.split()[0],)


def make_place(folder: Path, runs: dict[str, Path], fixed: dict[str, Path]) -> Place:
    """Makes good and bad inputs.

    Args:
        folder: Where.
        runs: Run folders by name, which verbs may write into and so are copied.
        fixed: Files and folders by name, which nothing writes into.
    """
    root, kept = folder / "place", folder / "kept"
    kept.mkdir()
    for name, run in runs.items():
        shutil.copytree(run, kept / "results" / name / run.parent.name / run.name)
    names = {name: f"{root}/results/{name}/{run.parent.name}/{run.name}" for name, run in runs.items()}
    names |= {name: str(path) for name, path in fixed.items()} | {"root": str(root), "results": f"{root}/results"}
    _shards(kept / "sharded", runs["run"])
    rows = [json.loads(line) for line in fixed["set"].read_text(encoding="utf-8").splitlines()[:3]]
    texts = {
        "sft.jsonl": _sft(),
        "card.md": "---\nlicense: mit\nmodel-index:\n- name: x\n---\n# Mine\n",
        "models.txt": "tulu-2-13b\ntulu-2-dpo-70b\n",
        "empty": "",
        "words": "words\n",
    }
    texts["predictions.jsonl"] = "".join(_predicted(row) for row in rows)
    for name, text in texts.items():
        (kept / name).write_text(text, encoding="utf-8")
        names[name.partition(".")[0]] = f"{root}/{name}"
    names["shards"], names["bundle"] = f"{root}/sharded", f"{root}/made.zip"
    place = Place(root, kept, names, {kind: f"{root}/{name}" for kind, name in BAD.items()} | PLAIN)
    place.restore()
    _bundle(kept / "made.zip", runs["run"])
    place.restore()
    return place


def _bundle(path: Path, run: Path) -> None:
    from tulu_eval.exchange import bundle

    bundle.write(bundle.make(run), path)


def _shards(folder: Path, run: Path) -> None:
    shard = folder / "shards" / "1-of-1"
    shutil.copytree(run, shard)
    manifest = shard / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "shard": [1, 1]}))


def _sft() -> str:
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2."}]
    return "".join(json.dumps({"messages": turns}) + "\n" for _ in range(8))


def _predicted(row: dict[str, Any]) -> str:
    answer = row["answer"].rpartition("#### ")[2]
    return (
        json.dumps({"question": row["question"], "answer": answer, "model_output": f" {answer}.", "prediction": answer}) + "\n"
    )


ODD = os.fsdecode(b"odd-\xff\xfe")
"""A name that is not UTF-8."""

STEERING = "hostile\x1b[31m\n<b>"

BAD = {
    "no input: missing": "missing",
    "no input: a pipe": "pipe",
    "no input: a link to nothing": "dangling",
    "no input: a link to itself": "loop",
    "no input: a socket": "socket",
    "no input: a device": "zero",
    "no input: an empty device": "null",
    "no input: a full device": "full",
    "no input: memory": "memory",
    "no input: below a file": "empty/x",
    "no input: 300 letters": "x" * 300,
    "no input: 5000 letters": "x/" * 2500,
    "an empty file": "empty",
    "words": "words",
    "a folder": "folder",
    "a large file": "large",
    "hostile": STEERING,
    "hostile, missing": f"no{STEERING}",
    "not UTF-8": ODD,
    "not UTF-8, missing": ODD + "x",
    "deep": "deep.json",
    "a folder/": "folder/",
}
"""Names under the place of what a path should not be, by kind."""

PLAIN = {"empty": "", "a dash": "-", "dots": "..", "a dot": ".", "tilde": "~", "a dashed name": "-x.json"}


def make_bad(root: Path) -> None:
    """Makes what :data:`BAD` names. Devices are links: what replaces one replaces a link."""
    made = {"a pipe": "pipe", "a link to nothing": "dangling", "a link to itself": "loop", "a socket": "socket"}
    for kind, name in made.items():
        mutations.MADE[kind](root / name)
    for name, target in {"zero": "/dev/zero", "null": "/dev/null", "full": "/dev/full", "memory": "/proc/self/mem"}.items():
        (root / name).symlink_to(target)
    (root / "folder").mkdir()
    (root / "large").touch()
    os.truncate(root / "large", 3 << 30)
    (root / STEERING).write_text("x")
    (root / ODD).write_bytes(b"\xff\xfe\x00x")
    (root / "deep.json").write_text("[" * 100_000)
