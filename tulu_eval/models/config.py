"""A model's ``config.json``: the few fields that are used here, typed, and checked against the weights' headers."""

from __future__ import annotations

import codecs
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.errors import DataError

MAX_CONFIG = 16_000_000
"""Bytes; the largest of the released Tulu models has 1 kB."""

MAX_NUMBER = 1 << 31
"""Limit above every size of a layer or vocabulary, and above every number of positions."""

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_EXTRA_LAYERS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_layers")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_FEED_FORWARD = ("intermediate_size", "n_inner", "ffn_dim")
_NUMBERED = re.compile(r"(.*?)\.(\d{1,9})\.")


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """What a config says; a number is 0 if the config lacks it.

    Attributes:
        architecture: ``architectures[0]``; ``unknown`` where there is none.
        model_type: transformers' name of its family; empty where there is none.
        dtype: torch's name, e.g. ``bfloat16``; empty where there is none.
        context: Positions.
        width: Numbers that stand for a token between two layers.
        kv_heads: Heads per layer with keys and values of their own.
        feed_forward: Numbers between the matrices of a layer's feed-forward part; 0 also where layers differ.
        extra_layers: Layers behind those, which only guess further tokens ahead and are not used here.
        own_code: Whether Python code comes with the model.
    """

    architecture: str
    model_type: str
    dtype: str
    context: int
    vocabulary: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    layers: int
    feed_forward: int
    extra_layers: int
    quantised: bool
    own_code: bool


def read_object(path: Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object in a model's file of at most ``limit`` bytes.

    ``Infinity``, which some released files have, is accepted.

    Raises:
        DataError: If it cannot be read, is larger, is not a JSON object, or begins with a byte-order mark, which transformers
            does not read.
    """
    data = files.read_json(path, limit, nan=True)
    with files.open_regular(path) as file:
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            raise DataError(path, "begins with a byte-order mark, which transformers does not read: save it without one")
    if not isinstance(data, dict):
        raise DataError(path, "is not a JSON object")
    return data


def read(folder: Path) -> Config:
    """Returns the config of a model's folder; raises DataError if it cannot be read, or a field has the wrong type or range."""
    path = folder / "config.json"
    data = read_object(path, MAX_CONFIG)
    if data.get("transformers_weights") is not None:
        raise DataError(path, "names weight files of its own (transformers_weights), which only transformers would load")
    nested = data.get("text_config")
    text: Mapping[str, Any] = nested if isinstance(nested, dict) else data
    names = data.get("architectures")
    first = names[0] if isinstance(names, list) and names else "unknown"
    return Config(
        architecture=first if isinstance(first, str) else "unknown",
        model_type=_word(data.get("model_type")),
        dtype=_word(data.get("dtype")) or _word(data.get("torch_dtype")),
        context=_number(path, text, ("max_position_embeddings",)),
        vocabulary=_number(path, text, ("vocab_size",)),
        width=_number(path, text, _WIDTH),
        heads=_number(path, text, ("num_attention_heads",)),
        kv_heads=_number(path, text, ("num_key_value_heads",)),
        head_size=_number(path, text, ("head_dim",)),
        layers=_number(path, text, _LAYERS),
        feed_forward=next((text[key] for key in _FEED_FORWARD if type(text.get(key)) is int), 0),
        extra_layers=_number(path, text, _EXTRA_LAYERS),
        quantised=data.get("quantization_config") is not None,
        own_code="auto_map" in data,
    )


def check_fit(folder: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Checks a config against the shapes of the weights, by tensor name, before anybody makes a model of its sizes.

    A config with fewer layers than the weights would load, and measure another model; one with a billion would never end.

    Raises:
        DataError: If layers, vocabulary or width are not those of the weights.
    """
    config, path = read(folder), folder / "config.json"
    depths: dict[str, int] = {}
    for name in shapes:
        if match := _NUMBERED.match(name):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    if config.layers and depths and not {config.layers, config.layers + config.extra_layers} & set(depths.values()):
        raise DataError(path, f"says {config.layers:,} layers, and the weights have {max(depths.values()):,}")
    if config.quantised:
        return  # packed weights have shapes of their own
    rows = {shape[0] for shape in shapes.values() if len(shape) > 1}
    if config.vocabulary and config.vocabulary not in rows:
        raise DataError(path, f"says a vocabulary of {config.vocabulary:,}, and no tensor of the weights has as many rows")
    if config.width and not any(config.width in shape for shape in shapes.values()):
        raise DataError(path, f"says a width of {config.width:,}, and no tensor of the weights has it")


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(path: Path, data: Mapping[str, Any], keys: Sequence[str]) -> int:
    for key in keys:
        value = data.get(key)
        if value is None:
            continue
        if type(value) is not int or not 0 <= value < MAX_NUMBER:
            raise DataError(path, f"{key} is {repr(value)[:40]}, not a whole number below {MAX_NUMBER:,}")
        return value
    return 0
