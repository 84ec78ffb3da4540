"""A bundle: the same run gives the same bytes, the check needs no run, and it finds every forgery."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tulu_eval.errors import DataError, UserError
from tulu_eval.exchange import archive, bundle
from tulu_eval.records import content_hash
from tulu_eval.store.manifest import samples_hash
from tulu_eval.store.sample_line import decode, encode
from tulu_eval.version import __version__

MakeRun = Callable[..., Path]


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    return make_run(right=5, limit=12)


@pytest.fixture
def file(run: Path, tmp_path: Path) -> Path:
    path = tmp_path / "b.zip"
    bundle.write(bundle.make(run), path)
    return path


def parts_of(file: Path) -> dict[str, bytes]:
    return archive.unpack(file, bundle.PARTS)[0]


def forged(file: Path, **changes: bytes | None) -> Path:
    """Replaces parts, and makes sums and checksums agree as a forger would; ``None`` removes a part."""
    parts = parts_of(file)
    del parts[bundle.SUMS]
    for name, data in changes.items():
        key = name.replace("_", ".")
        if data is None:
            parts.pop(key)
        else:
            parts[key] = data
    parts[bundle.SUMS] = bundle._sums(parts)
    file.write_bytes(archive.pack(parts))
    return file


def test_a_bundle_verifies_alone_and_has_the_numbers_of_the_run(run: Path, file: Path) -> None:
    recorded = json.loads((run / "result.json").read_text())["results"]
    for path in run.iterdir():
        path.unlink()
    found = bundle.verify(file)
    assert found.problems == ()
    assert found.samples == 12
    assert [row.to_fields() for row in found.results] == recorded


def test_the_same_run_gives_the_same_bytes_and_the_id_is_of_the_sums(run: Path, file: Path) -> None:
    made = bundle.make(run)
    assert made.data == file.read_bytes()
    assert made.id == hashlib.sha256(parts_of(file)[bundle.SUMS]).hexdigest()
    assert made.name == f"allenai__tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm-gsm8k-{run.name}.zip"


def test_what_is_in_it(file: Path) -> None:
    parts = parts_of(file)
    assert tuple(parts) == bundle.PARTS
    assert hashlib.sha256(parts["prompt.txt"]).hexdigest().startswith("bc98d286")
    items = [json.loads(line) for line in parts["items.jsonl"].splitlines()]
    samples = [json.loads(line) for line in parts["samples.jsonl"].splitlines()]
    assert [{"id": s["item"], "target": s["target"], "prompt_sha256": s["prompt_sha256"]} for s in samples] == items
    lines = dict(reversed(line.split("  ")) for line in parts["SHA256SUMS"].decode().splitlines())
    assert lines == {name: hashlib.sha256(data).hexdigest() for name, data in parts.items() if name != "SHA256SUMS"}


@pytest.mark.parametrize("name", bundle.PARTS[:-1])
def test_a_part_with_a_changed_byte_is_named(file: Path, name: str) -> None:
    part, data = parts_of(file)[name], bytearray(file.read_bytes())
    data[data.index(part) + len(part) // 2] ^= 0x10
    file.write_bytes(data)
    assert bundle.verify(file).problems == (f"{name} is not what SHA256SUMS says",)


def test_several_changed_parts_are_named(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for name in ("samples.jsonl", "manifest.json"):
        data[data.index(parts_of(file)[name]) + 100] ^= 1
    file.write_bytes(data)
    assert bundle.verify(file).problems == (
        "manifest.json is not what SHA256SUMS says",
        "samples.jsonl is not what SHA256SUMS says",
    )


def test_a_changed_sum_names_its_part(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(parts_of(file)["SHA256SUMS"])] ^= 1
    file.write_bytes(data)
    assert bundle.verify(file).problems == ("bundle.json is not what SHA256SUMS says",)


@pytest.mark.parametrize("spoil", ["time", "sums"])
def test_a_change_beside_the_parts_is_named(file: Path, spoil: str) -> None:
    data = bytearray(file.read_bytes())
    if spoil == "time":
        data[10] ^= 1  # the local header's time
    else:  # a line of another part
        parts = parts_of(file)
        parts["SHA256SUMS"] += b"0" * 64 + b"  other\n"
        data = bytearray(archive.pack(parts))
    file.write_bytes(data)
    assert bundle.verify(file).problems == ("bytes of SHA256SUMS, or beside the parts, were changed",)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_anywhere_passes(file: Path, data: st.DataObject) -> None:
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = file.with_name("changed.zip")
    path.write_bytes(changed)
    with contextlib.suppress(DataError):
        assert bundle.verify(path).problems


def graded_higher(parts: dict[str, bytes]) -> bytes:
    """Returns the result with five points more and the hash that fits."""
    data = json.loads(parts["result.json"])
    data.pop("sha256")
    data["results"][0]["value"] += 5
    return json.dumps({**data, "sha256": content_hash(data)}).encode()


def test_a_number_that_the_samples_do_not_give(file: Path) -> None:
    found = bundle.verify(forged(file, result_json=graded_higher(parts_of(file))))
    assert found.problems == ("result.json: its rows are not what the samples give",)
    assert found.results[0].value == 100 * 5 / 12, "as computed here"


def with_samples(file: Path, change: Callable[[Any], Any]) -> Path:
    """Changes samples but not grades, and makes checksums and the result's hash of the samples fit."""
    parts = parts_of(file)
    lines = [encode(change(decode(line))) for line in parts["samples.jsonl"].splitlines(keepends=True)]
    data = json.loads(parts["result.json"])
    data.pop("sha256")
    data["samples_sha256"] = samples_hash(lines)
    result = json.dumps({**data, "sha256": content_hash(data)}).encode()
    return forged(file, samples_jsonl=b"".join(lines), result_json=result)


def test_grades_that_the_scorers_do_not_give(file: Path) -> None:
    def right(sample: Any) -> Any:
        return dataclasses.replace(sample, grades=tuple(dataclasses.replace(one, score=1.0) for one in sample.grades))

    (problem,) = bundle.verify(with_samples(file, right)).problems
    assert problem.startswith("samples.jsonl: 7 of 12 grades are not what gsm8k gives (first: test-")


def test_a_right_answer_that_is_not_the_items(file: Path) -> None:
    problems = bundle.verify(with_samples(file, lambda sample: dataclasses.replace(sample, target="0"))).problems
    assert any(
        line.startswith("items.jsonl has another right answer or prompt than samples.jsonl for test-1309") for line in problems
    )


def test_samples_left_out(file: Path) -> None:
    parts = parts_of(file)
    lines = parts["samples.jsonl"].splitlines(keepends=True)
    found = bundle.verify(forged(file, samples_jsonl=b"".join(lines[1:])))
    assert found.problems == ("samples.jsonl is not what result.json was computed from",)
    rest = b"".join([lines[0].replace(b"stop", b"spot"), *lines[1:]])
    found = bundle.verify(forged(file, samples_jsonl=rest))
    assert found.problems == ("samples.jsonl: 1 lines are corrupt or changed by hand (first: 1)",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle_json": b'{"format": 2}'}, f"b.zip: bundle.json: is of format 2; tulu-eval {__version__} reads format 1"),
        ({"bundle_json": b"[1]"}, "b.zip: bundle.json: Expected 'object'"),
        ({"bundle_json": b"{"}, "b.zip: bundle.json:1: is not JSON"),
        ({"manifest_json": b'{"format": 7}'}, f"b.zip: manifest.json: is of format 7; tulu-eval {__version__} reads format 1"),
        ({"manifest_json": b"{}"}, "manifest.json: is of format None"),
        ({"manifest_json": b"[" * 100_000}, "manifest.json: is nested too deeply"),
        ({"result_json": None}, "has no result.json, so it is no bundle of a run"),
        ({"items_jsonl": b"{}\n"}, "items.jsonl:1: Object missing required field 'id'"),
        ({"items_jsonl": b"\xff\n"}, "items.jsonl:1: is not UTF-8"),
        ({"items_jsonl": b"1\n"}, "items.jsonl:1: Expected 'object'"),
    ],
)
def test_parts_that_agree_with_their_sums_and_are_not_of_a_run(file: Path, changes: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError) as caught:
        bundle.verify(forged(file, **changes))
    assert message in str(caught.value)
    assert "/tmp/tulu-eval-" not in str(caught.value)


@pytest.mark.parametrize("field", ["items", "decoding", "model", "template", "packages", "benchmark", "settings"])
@pytest.mark.parametrize("value", [{}, {"published": 5}, {"x": ["y"]}])
def test_a_manifest_of_odd_shapes_is_one_line(file: Path, field: str, value: Any) -> None:
    manifest = json.loads(parts_of(file)["manifest.json"])
    manifest[field] = value
    with contextlib.suppress(UserError):  # and no other error
        bundle.verify(forged(file, manifest_json=json.dumps(manifest).encode()))


def test_another_prompt_than_the_manifest_has(file: Path) -> None:
    assert bundle.verify(forged(file, prompt_txt=b"Answer.")).problems == (
        "prompt.txt is not the prompt that manifest.json has the hash of (bc98d286)",
    )
    assert bundle.verify(forged(file, prompt_txt=None)).problems == ()


def test_a_run_changed_by_hand_is_not_bundled(run: Path) -> None:
    ledger = run / "samples.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"answer is 2", b"answer is 3", 1))
    with pytest.raises(DataError, match=r"1 lines are corrupt or changed by hand \(first: 2\)"):
        bundle.make(run)


def test_a_run_made_consistent_by_hand_is_not_bundled(run: Path) -> None:
    path = run / "manifest.json"
    path.write_text(path.read_text().replace('"allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"', '"my/own"'))
    with pytest.raises(DataError, match=r"is not as it was made; .*: manifest\.json: model, .* \(settings_sha256 differs\)"):
        bundle.make(run)


def test_alpaca_eval_is_not_bundled(alpaca_run: MakeRun) -> None:
    with pytest.raises(UserError, match=r"whose texts may not be published .*, so it is not bundled"):
        bundle.make(alpaca_run(2))


def test_a_run_too_large_for_an_archive_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LIMIT", 100)
    with pytest.raises(UserError, match="too large for one archive"):
        bundle.make(run)


def test_another_file_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "b.zip"
    bundle.write(bundle.make(run), path)
    bundle.write(bundle.make(run), path)
    path.write_text("mine")
    with pytest.raises(UserError, match="exists and is not this bundle"):
        bundle.write(bundle.make(run), path)
    assert path.read_text() == "mine"
    with pytest.raises(UserError, match="cannot be written: File exists"):
        bundle.write(bundle.make(run), path / "b.zip")
