"""Computes hashes again after a change, as a forger would."""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec

from tulu_eval.records import content_hash
from tulu_eval.store.identity import settings_hash
from tulu_eval.store.manifest import answers_hash, manifest_hash, samples_hash
from tulu_eval.store.manifest_schema import Manifest


def rehash_manifest(data: dict[str, Any]) -> None:
    """Computes the manifest's own hashes again, if the fields below them are still there."""
    with contextlib.suppress(Exception):
        protocol = {name: value for name, value in data["protocol"].items() if name != "sha256"}
        data["protocol"]["sha256"] = content_hash(protocol)
    with contextlib.suppress(Exception):
        data["settings_sha256"] = settings_hash(msgspec.convert(data, Manifest))


def forged_manifest(folder: Path, data: Any) -> None:
    """Writes a manifest, and computes all hashes in the folder again."""
    with contextlib.suppress(Exception):
        rehash_manifest(data)
    text = json.dumps(data)
    (folder / "manifest.json").write_text(text)
    with contextlib.suppress(Exception):
        own = manifest_hash(msgspec.convert(json.loads(text), Manifest))
        forged_result(folder, json.loads((folder / "result.json").read_text()), manifest_sha256=own)


def forged_manifest_alone(folder: Path, data: Any) -> None:
    """Writes a manifest with right hashes, and removes the result, so that rows are computed from the forged manifest."""
    forged_manifest(folder, data)
    (folder / "result.json").unlink()


def forged_result(folder: Path, data: Any, **change: Any) -> None:
    """Writes a result with a right hash."""
    with contextlib.suppress(Exception):
        data |= change
        data.pop("sha256", None)
        data["sha256"] = content_hash(data)
    (folder / "result.json").write_text(json.dumps(data))


def forged_judgments(folder: Path, lines: list[str]) -> None:
    """Writes judgments, with the result's hash over them made again."""
    text = "".join(lines)
    (folder / "judgments.jsonl").write_text(text)
    with contextlib.suppress(Exception):
        forged_result(folder, json.loads((folder / "result.json").read_text()), samples_sha256=content_hash(text))


def sample_line(text: str, *, right: bool = True) -> bytes:
    """Returns a sample's JSON as a line of a ledger, whose checksum is ``right`` or the one that the JSON has."""
    text = text.strip()
    at = text.rfind(', "crc"')
    body = text[:at].encode("utf-8", "surrogatepass") if at > 0 else text.rstrip("}").encode("utf-8", "surrogatepass")
    body = body.replace(b'": ', b'":').replace(b', "', b',"')
    kept = re.search(r'"crc": "([0-9a-f]{8})"', text)
    checksum = b"%08x" % zlib.crc32(body) if right or kept is None else kept[1].encode()
    return body + b',"crc":"' + checksum + b'"}\n'


def forged_samples(folder: Path, lines: list[bytes], *, hashes: bool) -> None:
    """Writes a ledger; with ``hashes`` the hashes over it in result and manifest are made again."""
    (folder / "samples.jsonl").write_bytes(b"".join(lines))
    if hashes:
        with contextlib.suppress(Exception):
            change = {"samples_sha256": samples_hash(lines), "answers_sha256": answers_hash(lines)}
            manifest = json.loads((folder / "manifest.json").read_text()) | {"answers_sha256": change["answers_sha256"]}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            forged_result(folder, json.loads((folder / "result.json").read_text()), **change)


def forged_samples_alone(folder: Path, lines: list[bytes]) -> None:
    """Writes a ledger, and removes all that was computed from it, so that rows are computed from the forged ledger."""
    (folder / "samples.jsonl").write_bytes(b"".join(lines))
    (folder / "result.json").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("answers_sha256", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
