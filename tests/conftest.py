"""Fixtures that every room uses: the shared real data and the real small model."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

# Time is measured where it matters (``growth.py``); a busy machine must not make another property fail.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

# One thread a process: with two, a tiny model's every operation waits for the slower core, which on a busy machine is 20 times
# slower (measured). Tests of a real model ask for more themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Workers of pytest-xdist have COLUMNS=80, which wraps tables; a test that needs a terminal says how wide it is.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_readings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test memories of its own: a test with a changed scorer remembers other grades, one with data where it was."""
    folder = tmp_path_factory.getbasetemp() / "readings" / secrets.token_hex(8)
    for module in ("remembered", "remembered_data"):
        monkeypatch.setattr(f"tulu_eval.runs.{module}.cached", lambda *names: folder.joinpath(*names))


@pytest.fixture(scope="session")
def shapes() -> Iterator[ModuleType]:
    """The typed records of all JSON that verbs print, ``docs/json_shapes``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        yield importlib.import_module("json_shapes")


@pytest.fixture
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a test caches and a working folder of its own, no way to the hub and no key of a judge."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    for name in ("OPENAI_API_KEY", "TULU_EVAL_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def beside(name: str) -> ModuleType:
    """Returns a module in this folder: tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(beside("hooks"), "hooks")


@pytest.fixture(scope="session")
def punkt() -> None:
    """Skips where nltk's data are absent, without which IFEval's checkers do not run; in CI that is a failure."""
    from tulu_eval.benchmarks.ifeval_checkers import load
    from tulu_eval.errors import PreflightError

    try:
        load()
    except PreflightError as error:
        if os.environ.get("TULU_EVAL_REQUIRE_SHARED") == "1":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data; the test is skipped if it is absent, and fails in CI."""
    folder = Path(os.environ.get("TULU_EVAL_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        if os.environ.get("TULU_EVAL_REQUIRE_SHARED") == "1":
            pytest.fail(f"{folder} is required here and absent")
        pytest.skip(f"no shared data at {folder}; set TULU_EVAL_SHARED")
    return folder


@pytest.fixture(scope="session")
def loopback(servers: Any) -> Any:
    """The class of a judge's server on the loopback that misbehaves on request; see ``loopback.py``."""
    return servers.Loopback


@pytest.fixture(scope="session")
def model_server(servers: Any) -> Any:
    """The class of a server with a made-up model that misbehaves on request; see ``loopback.py``."""
    return servers.ModelServer


@pytest.fixture(scope="session")
def scripted() -> Any:
    """The module ``scripted.py``: a server whose every answer the test makes."""
    return beside("scripted")


@pytest.fixture(scope="session")
def servers() -> Any:
    """The module ``loopback.py``."""
    return beside("loopback")


@pytest.fixture(scope="session")
def program_group() -> Any:
    """The class in ``programs.py``, for a fixture whose program serves several tests."""
    return beside("programs").Programs


@pytest.fixture
def programs(program_group: Any) -> Iterator[Any]:
    """Starts programs, and kills those that still run when the test ends; see ``programs.py``."""
    with program_group() as group:
        yield group


@pytest.fixture(scope="session")
def growth() -> Any:
    """The module ``growth.py``: whether a pattern's or a parser's time grows no faster than its text."""
    return beside("growth")


TULU_TEMPLATE = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)


@pytest.fixture(scope="session")
def llama3_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama whose tokenizer is built like Llama 3's: byte-level, the tokenizer adds BOS, Tulu template.

    Its ``generation_config`` has the defects of the released checkpoints: a wrong EOS, and sampling switched on.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator([_prose()], trainer)
    bos = raw.token_to_id("<|begin_of_text|>")
    raw.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    return _tiny_model(tmp_path_factory.mktemp("llama3-like"), raw, bos="<|begin_of_text|>", eos="<|end_of_text|>")


@pytest.fixture(scope="session")
def llama2_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama whose tokenizer is built like Llama 2's: SentencePiece-like BPE with byte fallback, BOS added."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers

    alphabet = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.train_from_iterator([_prose()], trainers.BpeTrainer(vocab_size=700, special_tokens=alphabet, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    raw = Tokenizer(models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    raw.normalizer = learner.normalizer
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))])
    return _tiny_model(tmp_path_factory.mktemp("llama2-like"), raw, bos="<s>", eos="</s>", unk_token="<unk>")


def _prose() -> str:
    from tulu_eval.benchmarks.gsm8k import few_shot_prefix

    return few_shot_prefix() + "<|user|>\n<|assistant|>\nSo the answer is 0123456789."


def _tiny_model(folder: Path, raw: Any, *, bos: str, eos: str, **more: str) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=eos, **more)
    tokenizer.chat_template = TULU_TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(folder)
    wrong = {"bos_token_id": 1, "eos_token_id": 40, "do_sample": True, "temperature": 5.0, "top_k": 2}
    (folder / "generation_config.json").write_text(json.dumps(wrong))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON-lines file of the form of GSM8K with twelve made-up rows, for ``--protocol custom``."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        {"question": f"Ann has {n} pens and buys {n + 1} more. How many has she?", "answer": f"{n}+{n + 1}\n#### {2 * n + 1}"}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def make_run(tmp_path: Path, make_run_in: Callable[..., Path]) -> Callable[..., Path]:
    """Makes a run folder of GSM8K; ``make_run(right=121)`` has the first 121 of the published 200 items right."""
    return functools.partial(make_run_in, tmp_path)


@pytest.fixture(scope="session")
def make_run_in() -> Callable[..., Path]:
    """Makes a run folder through the real planner's records and the real runner; only the engine is a script.

    ``make_run_in(root, right=121)`` has the first 121 right, in the name of a model of the hub; with ``finish=[7, 2]`` it is
    interrupted when these places have finished, in this order.
    """
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.benchmarks.base import Item
    from tulu_eval.benchmarks.gsm8k import GSM8K, published_indices
    from tulu_eval.benchmarks.gsm8k_data import TEST_SIZE
    from tulu_eval.models.base import ModelFiles
    from tulu_eval.models.end_tokens import EndToken, EndTokens
    from tulu_eval.models.prompt_form import Template
    from tulu_eval.records import Completion, Request, content_hash
    from tulu_eval.runs.generation import InterruptedRunError
    from tulu_eval.runs.order import Order
    from tulu_eval.runs.progress import Progress
    from tulu_eval.runs.requests import Planned
    from tulu_eval.runs.run_plan import Plan
    from tulu_eval.runs.runner import execute
    from tulu_eval.testing import ScriptedBackend

    def call(
        tmp_path: Path,
        right: int | Callable[[int], bool] = 121,
        *,
        protocol: str = "card-200",
        limit: int | None = None,
        model: str = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm",
        revision: str = "4a372aa0",
        form: Any = "tulu",
        dtype: str = "bfloat16",
        backend: str = "vllm",
        failed: int = 0,
        finish: Sequence[int] | None = None,
        output: str = "results",
        write: Callable[[int, bool], str] = lambda place, right: f" So the answer is {place + 1 if right else 0}.",
        prompt: str = "question",
        tokenizer: str = "t",
        **settings: Any,
    ) -> Path:
        is_right = right if callable(right) else lambda place: place < right
        recipe = GSM8K().protocol(protocol)
        first = published_indices()
        rest = [index for index in range(TEST_SIZE) if index not in set(first)]
        order_of_items = [f"test-{index}" for index in [*first, *(rest if protocol != "published" else [])]][: recipe.n]
        files = ModelFiles(
            model, tmp_path, revision, f"w{revision}", tokenizer, "LlamaForCausalLM", 13_000_000_000, "bfloat16", 4096, 1
        )
        engine = EngineSettings(**settings)
        planned = []
        for place, name in enumerate(order_of_items[:limit]):
            text = f"{prompt} {name}"
            key = content_hash([text, revision, dtype, backend, settings])
            planned.append(Planned(Item(name, text, str(place + 1)), Request(key, (1, place), text), content_hash(text)))
        places = {one.request.key: place for place, one in enumerate(planned)}

        def answer(request: Any, decoding: Any) -> Completion:
            place = places[request.key]
            text = write(place, bool(is_right(place)))
            end, error = ("error", "out of luck") if place < failed else ("stop", "")
            return Completion(request.key, text, tuple(map(ord, text)), end, 0.1, error)

        class Interrupted(ScriptedBackend):
            """Answers the requests of ``finish`` in that order, and is then interrupted."""

            def generate(self, requests: Any, decoding: Any) -> Any:
                yield from super().generate([one for place in finish for one in requests if places[one.key] == place], decoding)
                raise KeyboardInterrupt

        kind = ScriptedBackend if finish is None else Interrupted
        plan = Plan(
            order=Order(
                "gsm8k", model, protocol=protocol, limit=limit, backend=backend, settings=engine, output=tmp_path / output
            ),
            benchmark=GSM8K().under(protocol),
            protocol=recipe,
            model=files,
            template=Template(form, content_hash(form), "tokenizer"),
            decoding=recipe.plain_decoding if form == "plain" else recipe.decoding,
            end_tokens=EndTokens((EndToken(2, "</s>", ("tokenizer",)),)),
            backend=kind.of(answer, name=backend, described={"dtype": dtype, "device": "cpu"}),
            dtype=dtype,
            planned=tuple(planned),
            members={name: tuple(order_of_items[: GSM8K.protocols[name].n]) for name in recipe.covers},
            data_sha256=content_hash(prompt),
            items_sha256=content_hash(prompt),
        )
        if finish is None:
            return execute(plan, Progress(quiet=True)).folder
        with pytest.raises(InterruptedRunError):
            execute(plan, Progress(quiet=True))
        return plan.folder

    return call


@pytest.fixture
def alpaca_run(tmp_path: Path, make_alpaca_run: Callable[..., Path]) -> Callable[..., Path]:
    """Makes a run folder of alpaca-eval; ``alpaca_run(12, {3: "zebra"})`` has twelve answers and that one as its fourth."""
    return functools.partial(make_alpaca_run, tmp_path / "results")


@pytest.fixture(scope="session")
def make_alpaca_run(shared: Path, llama3_like: Path) -> Callable[..., Path]:
    """Makes a run folder of alpaca-eval through the real planner and runner; only the engine is a script."""
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.records import Completion
    from tulu_eval.registry import load_suite
    from tulu_eval.runs.order import Order
    from tulu_eval.runs.progress import Progress
    from tulu_eval.runs.run_plan import make_plan
    from tulu_eval.runs.runner import execute
    from tulu_eval.testing import ScriptedBackend

    data = shared / "data/alpaca_eval/alpaca_eval_gpt4_baseline.json"

    def call(
        output: Path, n: int = 12, texts: dict[int, str] | None = None, failed: int = 0, shard: tuple[int, int] | None = None
    ) -> Path:
        settings = EngineSettings(dtype="float32", device="cpu")
        order = Order("alpaca-eval", str(llama3_like), data=data, limit=n, settings=settings, output=output, shard=shard)
        plan = make_plan(order, load_suite())
        places = {one.request.key: place for place, one in enumerate(plan.planned)}

        def answer(request: Any, decoding: Any) -> Completion:
            place = places[request.key]
            text = (texts or {}).get(place, f"Answer number {place}.\n")
            end, error = ("error", "out of luck") if place < failed else ("stop", "")
            return Completion(request.key, "" if error else text, (), end, 0.1, error)

        scripted = ScriptedBackend.of(answer, name="transformers")
        return execute(dataclasses.replace(plan, backend=scripted), Progress(quiet=True)).folder

    return call


@pytest.fixture
def order(llama3_like: Path, rows: Path, tmp_path: Path) -> Any:
    """An order that runs in a second: a tiny random model in float32 on twelve made-up rows."""
    from tulu_eval.backends.base import EngineSettings
    from tulu_eval.runs.order import Order

    settings = EngineSettings(dtype="float32", device="cpu", batch_size=4)
    return Order("gsm8k", str(llama3_like), protocol="custom", data=rows, settings=settings, output=tmp_path / "results")
