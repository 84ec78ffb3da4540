"""A record of a manifest is its file, field by field, so that no hash of an old run changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_manifest import MANIFEST

from tulu_eval.errors import DataError
from tulu_eval.records import content_hash
from tulu_eval.store.manifest import manifest_hash
from tulu_eval.store.manifest_schema import Manifest, checked_manifest
from tulu_eval.store.setup_schema import (
    StoredBenchmark,
    StoredDecoding,
    StoredModel,
    StoredSettings,
    StoredTemplate,
    plain,
    stored,
)

RESULTS = Path(__file__).parents[2] / "results"
COMMITTED = sorted(RESULTS.rglob("manifest.json"))
FREE = {"sessions", "status", "tally", "answers_sha256", "command", "commit", "machine", "engine", "shard"}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.parent.relative_to(RESULTS)))
def test_a_committed_manifest_is_read_and_written_field_by_field(path: Path) -> None:
    data = json.loads(path.read_text())
    manifest = checked_manifest(path, data)
    assert json.dumps(plain(manifest), sort_keys=True) == json.dumps(data, sort_keys=True), "no 1 becomes 1.0, no null appears"
    assert manifest_hash(manifest) == content_hash({name: value for name, value in data.items() if name not in FREE})


numbers = st.none() | st.integers(0, 10**6) | st.floats(0, 1e6)
names = st.text(max_size=20)


@st.composite
def parts(draw: Callable[..., Any]) -> dict[str, Any]:
    """Parts of a manifest of any version: what older ones did not write may be absent, numbers may be whole or not."""

    def some(**given: st.SearchStrategy[Any]) -> dict[str, Any]:
        return {name: draw(value) for name, value in given.items() if draw(st.booleans())}

    counts = st.integers(0, 10**6)
    return {
        "model": {"name": "m", "revision": "r", "tokenizer_sha256": "t", "parameters": draw(counts)}
        | some(weights_sha256=st.none() | names, architecture=st.none() | names, context=st.none() | counts),
        "benchmark": {"name": "gsm8k", "version": draw(counts)} | some(data_sha256=names, items_sha256=names),
        "decoding": {"max_new_tokens": draw(counts), "temperature": draw(numbers), "seed": draw(counts)}
        | some(top_p=numbers, top_k=st.none() | counts, stop=st.none() | st.lists(names, max_size=3)),
        "template": {"form": "tulu", "sha256": draw(names)} | some(source=names, date=names, reasoning=names),
        "settings": {"quantization": draw(names), "adapter": draw(names)}
        | some(dtype=names, batch_size=counts, prefix_caching=st.booleans(), gpu_memory_utilization=st.floats(0, 1)),
    }


@given(parts())
def test_a_manifest_of_any_version_is_read_and_written_field_by_field(data: dict[str, Any]) -> None:
    kinds = {
        "model": StoredModel, "benchmark": StoredBenchmark, "decoding": StoredDecoding, "template": StoredTemplate,
        "settings": StoredSettings,
    }  # fmt: skip
    for name, kind in kinds.items():
        assert json.dumps(plain(msgspec.convert(data[name], kind)), sort_keys=True) == json.dumps(data[name], sort_keys=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planned": ["a", "a"]}, "planned: has 'a' twice"),
        ({"items": {"full": ["b", "c", "b"]}}, r"items\.full: has 'b' twice"),
        ({"packages": {"transformers": "5"}}, "packages: has no 'tulu-eval'"),
        ({"seed": None}, "seed: is null, which only an imported run may have"),
        ({"eos_ids": None}, "eos_ids: is null"),
        ({"decoding": {"max_new_tokens": 1, "temperature": None, "seed": 0}}, r"decoding\.temperature: is null"),
        ({"model": {"name": "m"}}, "model: Object missing required field 'revision'"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_a_manifest_that_no_version_wrote_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked_manifest(Path("manifest.json"), {**plain(MANIFEST), **change})


def test_what_no_manifest_can_hold_is_refused_before_it_is_written() -> None:
    from tulu_eval.backends.base import EngineSettings

    with pytest.raises(DataError, match="EngineSettings: max_model_len: Expected 'int' >= 0"):
        stored(EngineSettings(max_model_len=-1), StoredSettings)


def test_fields_that_are_unset_are_no_fields() -> None:
    assert "keys" not in plain(MANIFEST)
    assert isinstance(checked_manifest(Path("m"), plain(MANIFEST)), Manifest)
