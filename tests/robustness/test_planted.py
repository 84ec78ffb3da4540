"""The harness is tested too: of each check that is taken out of the package it says that something is wrong."""

from __future__ import annotations

import io
from typing import Any

import pytest
from robustness import endings
from robustness.bench import Bench
from robustness.test_run_folders import all_cases

from tulu_eval.store.manifest_schema import Manifest


def _nothing(*_: object, **__: object) -> tuple[()]:
    return ()


def _same(text: str) -> str:
    return text


def _first(one: Any, *_: object) -> Any:
    return one


def _whole(line: bytes) -> bool:
    return line.endswith(b'"}\n') and line.startswith(b'{"key":"')


ALONE = "manifest.json, hashes made again and no result"
PLANTED: dict[str, tuple[str, Any, str, str, str]] = {
    "manifests are not checked": (
        "store.manifest.checked_manifest", lambda path, data: Manifest(**data), "score", "manifest.json", "other type",
    ),
    "results are not checked": (
        "store.schema.check_results", _nothing, "score", "result.json, hashes made again", "other type",
    ),
    "a manifest is not held against its hashes": (
        "runs.rereading.of_manifest", _nothing, "score", "manifest.json", "other case",
    ),
    "rows are not computed again": (
        "runs.rereading.rows",
        lambda _manifest, _benchmark, _found, recorded: (recorded.rows if recorded else (), []),
        "verify",
        "result.json, hashes made again",
        "other ",
    ),
    "a sample's checksum is not looked at": (
        "store.ledger.intact", _whole, "compare", "samples.jsonl, no result", "other case",
    ),
    "a file is opened whatever it is": (
        "files.opening.open_regular", lambda path: io.FileIO(path), "score", "manifest.json", "a pipe",
    ),
    "a terminal can be steered": ("cli.common.printable_lines", _same, "score", ALONE, "hostile"),
    "a tag stands in Markdown": ("reports.table.markdown_cell", _same, "table --format markdown", ALONE, "hostile"),
    "problems are not told": ("runs.reading.sound", _first, "table", "manifest.json", "other"),
    "a run that was stopped passes for a whole one": (
        "store.tally.Tally.unfinished", property(lambda _tally: ""), "score", "samples.jsonl, hashes made again", "a line less",
    ),
}  # fmt: skip
"""Checks that are taken out of the package: what stands in their place, and the verb and the cases that must show it."""


@pytest.mark.parametrize("name", PLANTED)
def test_the_harness_finds_a_check_that_is_missing(name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    target, instead, verb, file, kind = PLANTED[name]
    wanted = [case for case in all_cases(bench) if case.file == file and case.kind.startswith(kind)]
    assert wanted
    bench.plain(verb)
    monkeypatch.setattr(endings, "SECONDS", 2)
    monkeypatch.setattr(f"tulu_eval.{target}", instead)
    assert any(bench.attempt(case, verb) for case in wanted)
