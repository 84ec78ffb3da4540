"""Writes and reads digests of a run's samples, which may be published if a licence forbids to publish items or answers.

``digests.jsonl`` has one line per sample: item, status, and hashes of its prompt, of its text and of its line in the ledger.
Without the ledger, a reader can still check ``result.json`` (its hash over all samples is a hash over their lines) and the
folder of a judge (its judgments name the outputs by hash).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from msgspec import structs

from tulu_eval import files
from tulu_eval.errors import DataError
from tulu_eval.records import Status, content_hash, to_json
from tulu_eval.store.manifest import combined, write_text
from tulu_eval.store.sample_line import decode, timeless
from tulu_eval.store.schema import Count, Hash, Name

DIGESTS = "digests.jsonl"


class Digest(files.Record, frozen=True):
    """A line of ``digests.jsonl``.

    Attributes:
        text_sha256: :func:`~tulu_eval.records.content_hash` of the model's text.
        characters: Number of characters of the model's text.
        line_sha256: Hash of the ledger's line without its time and checksum.
    """

    item: str
    status: Status
    prompt_sha256: Name
    text_sha256: Hash
    characters: Count
    line_sha256: Hash


def digest(line: bytes) -> Digest:
    """Returns the digest of a ledger's line."""
    sample = decode(line)
    text = sample.completion.text
    own = hashlib.sha256(timeless(line)).hexdigest()
    return Digest(sample.item, sample.status, sample.prompt_sha256, content_hash(text), len(text), own)


def write_digests(folder: Path, digests: Iterable[Digest]) -> None:
    """Writes ``digests.jsonl``."""
    write_text(folder / DIGESTS, "".join(to_json(structs.asdict(one)) + "\n" for one in digests))


def read_digests(folder: Path) -> list[Digest]:
    """Returns the digests of a run folder; raises DataError if a line is not a digest, or two lines have the same item."""
    path = folder / DIGESTS
    found = [files.checked(row.data, Digest, row.place, "is not a sample's digest: ") for row in files.json_rows(path)]
    if len({one.item for one in found}) < len(found):
        raise DataError(path, "has an item twice")
    return found


def hash_of_all(digests: Iterable[Digest]) -> str:
    """Returns the hash over all samples, which equals :func:`tulu_eval.store.manifest.samples_hash` of the ledger's lines."""
    return combined(bytes.fromhex(one.line_sha256) for one in digests)
