"""Translates lm-eval's settings of a completion into this project's decoding, as lm-eval 0.4.13 applies them.

The effect of a row's ``generation_kwargs`` depends on lm-eval's engine (its ``--model``), and in two places on its version:

============================  ==========================  =============================  ========================
``do_sample``, temperature    hf                          vllm                           local-(chat-)completions
============================  ==========================  =============================  ========================
any, 0                        greedy                      greedy                         greedy
False, none                   greedy                      greedy                         greedy (0 by default)
True, T                       T                           T                              T
False, T                      greedy                      greedy; before 0.4.10 T        T: ``do_sample`` is dropped
none, T                       T; before 0.4.10 greedy or  T                              T
                              what the model's
                              generation_config says
none, none                    greedy                      1: vLLM's own default          greedy (0 by default)
True, none                    refused by transformers     1: vLLM's own default          greedy (0 by default)
============================  ==========================  =============================  ========================

Source: ``normalize_gen_kwargs`` (models/utils.py, since 0.4.10), ``HFLM._model_generate``, ``VLLM.modify_gen_kwargs`` and
``LocalCompletionsAPI._create_payload``, 0.4.4 to 0.4.13. The first three lines hold for every engine. In the others, a value
that depends on the version counts as unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tulu_eval.store.signature import UNKNOWN

SERVERS = frozenset({"local-completions", "local-chat-completions"})
"""Engines for servers other than OpenAI's; the engines for OpenAI's change the temperature for some models."""

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names for the largest number of new tokens."""

_READ = frozenset({*_LIMITS, "do_sample", "temperature", "top_p", "top_k", "until"})
"""Settings that this module reads; with any other, e.g. ``num_beams``, a manifest cannot describe the sampling."""

_ADAPTERS = ("peft", "delta", "lora_local_path")
_QUANTIZATIONS = ("quantization", "quantization_config", "load_in_4bit", "load_in_8bit", "autogptq", "gptqmodel", "gguf_file")
"""Arguments of ``--model_args`` that change the weights (``HFLM.__init__``, ``VLLM.__init__``)."""

_OFF = ("", "False", "false", "None", "none", "0")


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignDecoding:
    """The fields of a :class:`tulu_eval.records.Decoding`; ``None`` is unknown."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None


NOTHING_GENERATED = ForeignDecoding(max_new_tokens=0, temperature=0.0, top_p=1.0, top_k=0, stop=(), seed=0)
"""Decoding where every answer is a choice."""


def decoding(kwargs: Mapping[str, Any] | None, engine: str) -> ForeignDecoding:
    """Returns the decoding from the common settings of all rows (``None`` if they differ) and lm-eval's ``--model``."""
    if kwargs is None:
        return ForeignDecoding()
    temperature = None if kwargs.keys() - _READ else _temperature(kwargs, engine)
    greedy = temperature == 0
    top_k = kwargs.get("top_k")
    return ForeignDecoding(
        max_new_tokens=_limit(kwargs),
        temperature=temperature,
        top_p=1.0 if greedy else _number(kwargs.get("top_p")),
        top_k=0 if greedy else top_k if _whole(top_k) else None,
        stop=_stops(kwargs.get("until")),
        seed=0 if greedy else None,
    )


def others(kwargs: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Returns the settings that a manifest has no field for, as ``name=value``."""
    return tuple(f"{name}={kwargs[name]}"[:80] for name in sorted(kwargs.keys() - _READ)) if kwargs else ()


def altered(config: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the names of quantization and adapter; empty for none, ``unknown`` if nothing tells.

    ``config`` is that of ``results_DATE.json``; empty if there is no such file.
    """
    arguments = _arguments(config.get("model_args"))
    if config.get("model") not in ("hf", "vllm") or arguments is None:
        return UNKNOWN, UNKNOWN
    given = {name: value for name, value in arguments.items() if value not in _OFF}
    quantization = next((name for name in _QUANTIZATIONS if name in given), "")
    adapter = next((given[name] for name in _ADAPTERS if name in given), "peft" if config.get("peft_sha") else "")
    if quantization == "quantization":
        quantization = given["quantization"]
    return quantization, adapter.rstrip("/").rpartition("/")[2]


def _temperature(kwargs: Mapping[str, Any], engine: str) -> float | None:
    sampled, temperature = kwargs.get("do_sample"), _number(kwargs.get("temperature"))
    if kwargs.get("temperature") is not None and temperature is None:
        return None
    if temperature == 0 or (sampled is False and temperature is None):
        return 0.0
    if sampled is True and temperature is not None:
        return temperature
    if engine in SERVERS:
        return temperature or 0.0
    if engine == "vllm" and sampled is not False:
        return 1.0 if temperature is None else temperature
    if engine == "hf" and (sampled is False or (sampled is None and temperature is None)):
        return 0.0
    return None


def _limit(kwargs: Mapping[str, Any]) -> int | None:
    found = {kwargs[name] for name in _LIMITS if _whole(kwargs.get(name))}
    return found.pop() if len(found) == 1 else None


def _stops(until: Any) -> tuple[str, ...] | None:
    if isinstance(until, str):
        return (until,)
    return tuple(until) if isinstance(until, list) and all(isinstance(one, str) for one in until) else None


def _arguments(given: Any) -> dict[str, str] | None:
    """Returns ``--model_args``, which the file has as a text ``name=value,...`` or as an object."""
    if isinstance(given, dict):
        return {str(name): str(value) for name, value in given.items()}
    if isinstance(given, str):
        return {name: value for name, _, value in (part.partition("=") for part in given.split(","))}
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9 else None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
