"""Every mistake of a user: one clear line on stderr, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, llama3_like: Path, rows: Path) -> dict[str, str]:
    """Paths that the commands below name in braces: a good model and file, and spoiled ones."""
    files = {
        "empty": b"",
        "words": b"not json\n",
        "latin": b'{"question": "caf\xe9", "answer": "#### 1"}\n',
        "other": b'{"prompt": "q"}\n',
        "array": b"[1]\n",
        "nul": b"\x00\x01\x02",
    }
    names = {"model": str(llama3_like), "rows": str(rows), "out": str(tmp_path / "out"), "dir": str(tmp_path)}
    for name, content in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(content)
        names[name] = str(path)
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"question": "many " * 3000, "answer": "#### 1"}) + "\n")
    names["long"] = str(long)
    for name in ("untokenized", "corrupt", "nothing"):
        names[name] = str(shutil.copytree(llama3_like, tmp_path / name))
    (tmp_path / "untokenized" / "tokenizer.json").unlink()
    weights = tmp_path / "corrupt" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "nothing" / "model.safetensors").unlink()
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    names["blocked"] = str(blocked)
    return names


GOOD = "run gsm8k -m {model} --protocol custom --data {rows} -o {out}"

CASES = [
    ("rum gsm8k", "no such verb 'rum'. Did you mean 'run'?"),
    ("run gsm8 -m {model}", "unknown benchmark 'gsm8'. Did you mean 'gsm8k'?"),
    ("run gsm8k", "Missing option '--model' / '-m'."),
    ("run gsm8k -m smollm2-135m-instuct", "unknown model 'smollm2-135m-instuct'. Did you mean 'smollm2-135m-instruct'"),
    ("run gsm8k -m ١/٢", "'١/٢' can be no model of the hub: Repo id must"),
    ("run gsm8k -m ./no/such/folder", "no such model file or folder: ./no/such/folder"),
    ("run gsm8k -m {dir}", "is not a model folder: it has no config.json"),
    (GOOD + " --name a/b", "--name 'a/b': up to 96 letters, digits, '.', '_' and '-', and a letter or digit first"),
    (GOOD + " --name smollm2-135m-instruct", "--name smollm2-135m-instruct is a released model's name"),
    (GOOD + " --name a --name b", "2 --name for 1 --model."),
    (GOOD + " -m {model} --name a --name a", "two models cannot have one --name."),
    ("run gsm-symbolic -m smollm2-135m-instruct --name a", "--name a: smollm2-135m-instruct is no folder or file here"),
    ("run gsm8k -m {model} --protocol card-20", "unknown protocol of gsm8k 'card-20'. Did you mean 'card-200'?"),
    ("run gsm8k -m {model} --protocol custom", "--protocol custom: needs --data FILE"),
    ("run gsm8k -m {model} --backend vlm", "unknown backend 'vlm'. Did you mean 'vllm'?"),
    ("run gsm8k -m {model} --dtype int4", "Invalid value for '--dtype': 'int4' is not one of"),
    (GOOD + " --limit 0", "--limit must be 1 or more, not 0"),
    (GOOD + " --limit -3", "--limit must be 1 or more, not -3"),
    (GOOD + " --limit many", "Invalid value for '--limit': 'many' is not a whole number of at most 18 digits."),
    (GOOD + " --limits 3", "no such option '--limits'. Did you mean '--limit'?"),
    (GOOD + " --batch-size -1", "--batch-size must be 0 (the backend chooses) or more, not -1"),
    (GOOD + " --batch-size -4 --dry-run", "--batch-size must be 0 (the backend chooses) or more, not -4"),
    (GOOD + " --backend transformers --tensor-parallel 2 --dry-run", "--tensor-parallel is no setting of --backend trans"),
    (GOOD + " --device tpu", "unknown device 'tpu'"),
    (GOOD + " --device tpu --dry-run", "unknown device 'tpu'"),
    (GOOD + " --device cuda:²", "unknown device 'cuda:²'"),
    (GOOD.replace("{rows}", "{empty}"), "is empty; expected one JSON object per line"),
    (GOOD.replace("{rows}", "{words}"), "words.jsonl:1: is not JSON (Expecting value at column 1)"),
    (GOOD.replace("{rows}", "{latin}"), "latin.jsonl:1: is not UTF-8 (byte 18 of the line)"),
    (GOOD.replace("{rows}", "{other}"), "other.jsonl:1: field 'question' is missing or not a string"),
    (GOOD.replace("{rows}", "{array}"), "array.jsonl: row 1: is"),
    (GOOD.replace("{rows}", "{nul}"), "nul.jsonl:1: is not JSON"),
    (GOOD.replace("{rows}", "{dir}"), "is a folder, not a file"),
    (GOOD.replace("{rows}", "nowhere.jsonl"), "nowhere.jsonl: no such file"),
    (GOOD.replace("{rows}", "{long}"), "/llama3-like0 has 2048 positions; no token would be left for an answer"),
    ("run gsm8k -m {model} --data {rows}", "12 rows, not the 1319 of the GSM8K test set, so no published protocol applies"),
    ("run gsm-symbolic -m {model} --data {rows}", "gsm-symbolic generates its items; leave it out"),
    (GOOD.replace("{model}", "{untokenized}"), "untokenized has no tokenizer: none of tokenizer.json"),
    (GOOD.replace("{model}", "{corrupt}"), "corrupt safetensors file (cut or overwritten); download or copy it again"),
    (GOOD.replace("{model}", "{nothing}"), "nothing has no weights: neither model.safetensors nor"),
    (GOOD.replace("{out}", "{blocked}"), "is no folder; give another --output"),
    ("run gsm8k alpaca-eval -m {model} --data {rows}", "rows.jsonl: for which benchmark? --data gsm8k=FILE."),
    ("run gsm8k alpaca-eval -m {model} --protocol full", "--protocol goes with one benchmark."),
    (GOOD + " --data gsm8k={rows}", "--data is given twice for gsm8k."),
    ("score {dir}", "is not a run folder: it has no manifest.json"),
    ("score {dir}/nowhere", "nowhere: no such run folder"),
    ("verify {dir}/" + "x" * 300, "File name too long"),
    ("train sft -r tiny -m {model} --data {rows} --probe-data {rows} --dry-run --json", "--probe-data needs --probe"),
]


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_one_line_exit_code_2_nothing_written(invoke: Run, place: dict[str, str], command: str, message: str) -> None:
    before = sorted(Path(place["dir"]).rglob("*"))
    done = invoke(*(word.format(**place) for word in command.split()))
    lines = done.stderr.strip().splitlines()
    assert done.exit_code == 2, done.output
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tulu-eval: ")
    assert message in lines[0]
    assert done.stdout == ""
    assert sorted(Path(place["dir"]).rglob("*")) == before


def test_debug_shows_the_traceback(invoke: Run) -> None:
    done = invoke("run", "gsm8", "-m", "x", "--debug")
    assert "Traceback" in done.stderr
    assert done.stderr.strip().endswith("Did you mean 'gsm8k'?")
    assert done.exit_code == 2
