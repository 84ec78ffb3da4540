"""The decoding for lm-eval's settings, compared with what the code of lm-eval 0.4.13 does with them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulu_eval.exchange import lm_eval

DRAWS = list(itertools.product((None, False, True), (None, 0, 0.0, 0.7, 1)))
"""``do_sample`` and ``temperature``; None is left out."""


def settings_of(
    sampled: bool | None, temperature: float | None, more: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    given = {"do_sample": sampled, "temperature": temperature, "until": ["Q:"], "max_gen_toks": 512, **more}
    return {name: value for name, value in given.items() if value is not None}


def by_hf(kwargs: dict[str, Any]) -> float:
    """Returns the temperature that ``HFLM._model_generate`` uses after ``normalize_gen_kwargs``."""
    from lm_eval.models.utils import normalize_gen_kwargs

    found: Any = normalize_gen_kwargs(kwargs)
    return float(found.get("temperature", 0.0)) if found["do_sample"] else 0.0


def by_vllm(kwargs: dict[str, Any]) -> float:
    """The same of ``VLLM.modify_gen_kwargs``, which drops ``do_sample`` then; the default of vLLM's SamplingParams is 1."""
    from lm_eval.models.utils import normalize_gen_kwargs

    found: Any = normalize_gen_kwargs(kwargs)
    return float(found.get("temperature", 1.0))


def by_server(kwargs: dict[str, Any]) -> float:
    from lm_eval.models.openai_completions import LocalChatCompletion

    client = LocalChatCompletion.__new__(LocalChatCompletion)
    client.model, client._max_gen_toks = "m", 256
    return float(client._create_payload([{"role": "user"}], generate=True, gen_kwargs=dict(kwargs), eos="</s>")["temperature"])


ENGINES = {"hf": by_hf, "vllm": by_vllm, "local-chat-completions": by_server}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("sampled", "temperature"), DRAWS)
def test_a_temperature_that_is_said_is_the_one_that_lm_eval_used(
    engine: str, sampled: bool | None, temperature: float | None
) -> None:
    kwargs = settings_of(sampled, temperature)
    said = lm_eval.decoding(kwargs, engine).temperature
    if engine == "hf" and sampled and not temperature:
        return  # transformers refuses it, so there are no such answers
    assert said in (None, ENGINES[engine](kwargs))
    without = lm_eval.decoding(kwargs, "unknown").temperature
    assert without in (None, said)
    if without is None:
        assert len({use(kwargs) for use in ENGINES.values()} | {"version"}) > 1


def test_what_is_unknown_without_the_engine() -> None:
    unknown = {pair for pair in DRAWS if lm_eval.decoding(settings_of(*pair), "unknown").temperature is None}
    assert unknown == {(False, 0.7), (False, 1), (None, 0.7), (None, 1), (None, None), (True, None)}
    assert lm_eval.decoding(settings_of(None, 0.7), "local-chat-completions").temperature == 0.7
    assert lm_eval.decoding(settings_of(False, 0.7), "local-chat-completions").temperature == 0.7
    assert lm_eval.decoding(settings_of(None, None), "vllm").temperature == 1.0
    assert lm_eval.decoding(settings_of(False, 0.7), "hf").temperature == 0.0
    assert lm_eval.decoding(settings_of(False, 0.7), "vllm").temperature is None  # 0.4.9 sampled, 0.4.10 does not


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        ({"num_beams": 4}, "temperature", None),
        ({"repetition_penalty": 1.2}, "temperature", None),
        ({"max_gen_toks": None}, "max_new_tokens", None),
        ({"max_gen_toks": None, "max_completion_tokens": 7}, "max_new_tokens", 7),
        ({"max_tokens": 7}, "max_new_tokens", None),
        ({"max_tokens": 512}, "max_new_tokens", 512),
        ({"max_gen_toks": True}, "max_new_tokens", None),
        ({"until": None}, "stop", None),
        ({"until": "x"}, "stop", ("x",)),
        ({"until": ["x", 3]}, "stop", None),
        ({"temperature": "hot"}, "temperature", None),
        ({"temperature": float("nan")}, "temperature", None),
        ({"temperature": 10**400}, "temperature", None),
    ],
)
def test_other_fields(more: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(lm_eval.decoding(settings_of(False, None, more), "hf"), field) == value


def test_sampled_draws_have_no_settings_that_nobody_said() -> None:
    found = lm_eval.decoding(settings_of(True, 0.5, {"top_k": 40}), "hf")
    assert (found.temperature, found.top_p, found.top_k, found.seed) == (0.5, None, 40, None)
    assert lm_eval.decoding(None, "hf") == lm_eval.ForeignDecoding()
    assert lm_eval.others({"num_beams": 4, "until": []}) == ("num_beams=4",)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, ("unknown", "unknown")),
        ({"model": "hf"}, ("unknown", "unknown")),
        ({"model": "hf", "model_args": "pretrained=a/b,dtype=bfloat16"}, ("", "")),
        ({"model": "hf", "model_args": {"pretrained": "a/b", "load_in_8bit": False}}, ("", "")),
        ({"model": "hf", "model_args": "pretrained=a/b,load_in_4bit=True,peft=/home/me/lora/"}, ("load_in_4bit", "lora")),
        ({"model": "hf", "model_args": "pretrained=a/b", "peft_sha": "x"}, ("", "peft")),
        ({"model": "vllm", "model_args": "pretrained=a/b,quantization=fp8,lora_local_path=x"}, ("fp8", "x")),
        ({"model": "local-completions", "model_args": "model=a/b"}, ("unknown", "unknown")),
        ({"model": ["hf"], "model_args": 3}, ("unknown", "unknown")),
    ],
)
def test_what_alters_the_weights(config: dict[str, Any], found: tuple[str, str]) -> None:
    assert lm_eval.altered(config) == found


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["do_sample", "temperature", "top_p", "top_k", "until", "max_tokens", "x"]), ANYTHING),
    st.dictionaries(st.sampled_from(["model", "model_args", "peft_sha"]), ANYTHING | st.just("hf")),
)
def test_anything_is_read(kwargs: dict[str, Any], config: dict[str, Any]) -> None:
    found = lm_eval.decoding(kwargs, "hf")
    assert found.temperature is None or 0 <= found.temperature < 1e9
    assert all(isinstance(part, str) for part in (*lm_eval.altered(config), *lm_eval.others(kwargs)))
