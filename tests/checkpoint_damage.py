"""Checkpoints that have changed since they were written: what may have happened to one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tulu_eval.training.saving import saved


def shard_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def rewrite(folder: Path, **fields: Any) -> None:
    """Changes a manifest and corrects sizes and hashes, as an attacker would."""
    path = folder / saved.MANIFEST
    data = json.loads(path.read_text())
    for file in folder.iterdir():
        if file.name != saved.MANIFEST:
            data["files"][file.name] = {"size": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    path.write_text(json.dumps(data | fields))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


def other_shape(folder: Path) -> None:
    tensors = load_file(shard_of(folder))
    name = next(name for name in tensors if name.endswith("norm.weight"))
    save_file(tensors | {name: torch.zeros(7)}, shard_of(folder))
    rewrite(folder)


def half_precision(folder: Path) -> None:
    save_file({name: tensor.half() for name, tensor in load_file(shard_of(folder)).items()}, shard_of(folder))
    rewrite(folder)


def lost_tensor(folder: Path) -> None:
    tensors = load_file(shard_of(folder))
    save_file(dict(list(tensors.items())[1:]), shard_of(folder))
    rewrite(folder)


def lost_part(folder: Path) -> None:
    """A part of a tensor after a gap, as if a rank's file were missing."""
    tensors = load_file(shard_of(folder))
    name = next(name for name in tensors if name.endswith("lm_head.weight"))
    places = {key: {"saved_offsets": [0] * tensor.dim()} for key, tensor in tensors.items()}
    places[name] = {"saved_offsets": [1, 0]}
    cut = tensors | {name: tensors[name][1:].contiguous()}
    save_file(cut, shard_of(folder), metadata={"DCP_SHARDING_INFO": json.dumps(places)})
    rewrite(folder)


def twice(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace("{", '{"step": 4, ', 1))


def odd_places(folder: Path) -> None:
    save_file(load_file(shard_of(folder)), shard_of(folder), metadata={"DCP_SHARDING_INFO": "[" * 100_000})
    rewrite(folder)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda folder: flip(shard_of(folder)),
    "flipped bit in the manifest": lambda folder: flip(folder / saved.MANIFEST),
    "cut file": lambda folder: shard_of(folder).write_bytes(shard_of(folder).read_bytes()[:-1]),
    "empty file": lambda folder: shard_of(folder).write_bytes(b""),
    "no file": lambda folder: shard_of(folder).unlink(),
    "file too many": lambda folder: (folder / "shard-00002-model-00001-of-00001.safetensors").write_bytes(b"x"),
    "link": lambda folder: (shard_of(folder).rename(folder.parent / "away"), (folder / "x").symlink_to(folder.parent / "away")),
    "fifo": lambda folder: (shard_of(folder).unlink(), os.mkfifo(folder / "shard-00001-model-00001-of-00001.safetensors")),
    "folder": lambda folder: (shard_of(folder).unlink(), (folder / "shard-00001-model-00001-of-00001.safetensors").mkdir()),
    "no manifest": lambda folder: (folder / saved.MANIFEST).unlink(),
    "manifest is a folder": lambda folder: ((folder / saved.MANIFEST).unlink(), (folder / saved.MANIFEST).mkdir()),
    "manifest is a list": lambda folder: (folder / saved.MANIFEST).write_text("[]"),
    "manifest is deep": lambda folder: (folder / saved.MANIFEST).write_text("[" * 200_000),
    "manifest is huge": lambda folder: (folder / saved.MANIFEST).write_text(" " * (saved.MAX_MANIFEST + 1)),
    "manifest with a name twice": lambda folder: twice(folder / saved.MANIFEST),
    "manifest is not UTF-8": lambda folder: (folder / saved.MANIFEST).write_bytes(b"\xff"),
    "step 10**9": lambda folder: rewrite(folder, step=10**9),
    "step 3": lambda folder: rewrite(folder, step=3),
    "step is text": lambda folder: rewrite(folder, step="4"),
    "step is true": lambda folder: rewrite(folder, step=True),
    "step is negative": lambda folder: rewrite(folder, step=-4),
    "unknown field": lambda folder: rewrite(folder, more=1),
    "counters are a list": lambda folder: rewrite(folder, counters=[]),
    "no counters": lambda folder: rewrite(folder, counters={}),
    "skipped updates": lambda folder: rewrite(folder, counters={"skipped": 1, "skipped_in_a_row": 0, "beyond_in_a_row": 0}),
    "file elsewhere": lambda folder: rewrite(folder, files={"../x": {"size": 1, "sha256": "0" * 64}}),
    "file without a hash": lambda folder: rewrite(folder, files={shard_of(folder).name: shard_of(folder).stat().st_size}),
    "another shape": other_shape,
    "another dtype": half_precision,
    "a tensor less": lost_tensor,
    "a part less": lost_part,
    "places that are none": odd_places,
}  # fmt: skip
