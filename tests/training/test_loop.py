"""What the loops share: updates, guards, memory, signals, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tulu_eval.errors import EngineError, PreflightError, UserError
from tulu_eval.training import ppo, sft
from tulu_eval.training.loop import LoopSettings, Stopped, Trainer
from tulu_eval.training.networks import Policy, collate
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.rewards import Mixture
from tulu_eval.training.rollout import PolicyEngine
from tulu_eval.training.saving import checkpoint
from tulu_eval.training.saving.checkpoint import CheckpointError
from tulu_eval.training.text import Tokens


@pytest.fixture
def rows(toys: ModuleType) -> list[Tokens]:
    return [toys.tokens([2, 3 + n % 5, 4, 5 + n % 3, 1], 2 + n % 3) for n in range(16)]


def sft_run(toys: ModuleType, folder: Path, policy: Policy, n: int = 16, **changes: Any) -> Trainer:
    how = {name: changes.pop(name) for name in ("save_every", "identity", "ranks") if name in changes}
    made = toys.recipe("sft", **{"batch": 4, "micro_tokens": 20, "warmup": 0.0, "learning_rate": 1e-2, **changes})
    run: Trainer = toys.trainer(folder, made, {"policy": policy}, n, **how)
    return run


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


class TestUpdates:
    def test_sft_loss_is_the_mean_over_assistant_tokens(self, toys: ModuleType, tmp_path: Path, rows: list[Tokens]) -> None:
        policy = toys.policy(11)
        run = sft_run(toys, tmp_path, policy, 4, micro_tokens=15)
        expected = []
        for index in run.batch(0):
            logits = policy.model(input_ids=torch.tensor([rows[index].ids.tolist()])).logits[0].detach()
            for place in range(1, len(rows[index])):
                if rows[index].mask[place]:
                    expected.append(-float(logits[place - 1].log_softmax(-1)[rows[index].ids[place]]))
        sft.train(run, policy, rows[:4])
        assert losses(tmp_path) == [pytest.approx(sum(expected) / len(expected), abs=1e-6)]

    def test_three_steps_of_adam_by_hand(self, toys: ModuleType, tmp_path: Path) -> None:
        model = torch.nn.Linear(1, 1, bias=False)
        model.weight.data.fill_(1.0)
        made = toys.recipe("sft", batch=1, learning_rate=0.1, final_learning_rate=0.1, warmup=0.0, clip_norm=100.0)
        run = toys.trainer(tmp_path, made, {"m": model}, 3)
        weight, first, second = 1.0, 0.0, 0.0
        for step, gradient in zip(run.steps(), (0.5, -2.0, 1.5), strict=True):
            model.weight.grad = torch.tensor([[gradient]])
            run.update(torch.tensor(0.0), [])
            first, second = 0.9 * first + 0.1 * gradient, 0.95 * second + 0.05 * gradient**2
            weight -= 0.1 * (first / (1 - 0.9 ** (step + 1))) / (math.sqrt(second / (1 - 0.95 ** (step + 1))) + 1e-8)
            assert float(model.weight.detach()) == pytest.approx(weight, abs=1e-6)

    def test_the_gradient_is_clipped_for_each_model(
        self, toys: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        two = {name: torch.nn.Linear(2, 1, bias=False) for name in ("large", "small")}
        run = toys.trainer(tmp_path, toys.recipe("sft", batch=1), two, 1)
        seen: list[Tensor] = []
        for one in run._trained.values():
            monkeypatch.setattr(one.optimizer, "step", lambda model=one.model: seen.append(model.weight.grad.clone()))
        for _ in run.steps():
            two["large"].weight.grad, two["small"].weight.grad = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.3, 0.4]])
            numbers = run.update(torch.tensor(1.0), [])
        assert [float(gradient.norm()) for gradient in seen] == pytest.approx([1.0, 0.5])
        assert (numbers["large_gradient_norm"], numbers["small_gradient_norm"]) == pytest.approx((5.0, 0.5))

    def test_the_rate_follows_the_updates_not_the_steps(self, toys: ModuleType, tmp_path: Path) -> None:
        made = toys.recipe("sft", batch=1, learning_rate=1.0, final_learning_rate=1.0, warmup=0.5)
        run = toys.trainer(tmp_path, made, {"m": torch.nn.Linear(1, 1)}, 4, updates=2)
        rates = [run.update(torch.tensor(0.0), [])["learning_rate"] for _ in run.steps() for _ in range(2)]
        assert rates == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0])

    def test_a_warm_up_of_one_epoch(self, toys: ModuleType, tmp_path: Path) -> None:
        made = toys.recipe("sft", batch=1, epochs=2, learning_rate=1.0, final_learning_rate=1.0, warmup=0.5, warmup_of="epoch")
        run = toys.trainer(tmp_path, made, {"m": torch.nn.Linear(1, 1)}, 4)
        rates = [run.update(torch.tensor(0.0), [])["learning_rate"] for _ in run.steps()]
        assert rates == pytest.approx([0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])

    def test_each_epoch_takes_every_row_once_and_drops_the_rest(self, toys: ModuleType, tmp_path: Path) -> None:
        run = sft_run(toys, tmp_path, toys.policy(11), 11, epochs=2)
        assert run.steps_total == 4
        first, second = ([index for step in steps for index in run.batch(step)] for steps in ((0, 1), (2, 3)))
        assert len(set(first)) == len(set(second)) == 8
        assert first != second

    def test_too_few_rows(self, toys: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="3 rows are too few for one step of 4"):
            sft_run(toys, tmp_path, toys.policy(11), 3)

    def test_uneven_ranks(self) -> None:
        with pytest.raises(PreflightError, match="batch = 6 cannot be shared evenly by 4 ranks"):
            Ranks(0, 4).refuse_uneven(batch=6)


class TestMemory:
    def test_a_micro_batch_that_does_not_fit_is_halved_without_a_change(
        self, toys: ModuleType, tmp_path: Path, rows: list[Tokens], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = toys.policy(11)
        sft.train(sft_run(toys, tmp_path / "plain", plain), plain, rows)
        small, right, failures = toys.policy(11), Policy.forward, []

        def forward(self: Policy, batch: Any, temperature: float = 1.0) -> Tensor:
            found = right(self, batch, temperature)
            if self is small and len(batch.ids) > 1 and len(failures) < 2:
                # The gradients of an earlier micro-batch are there already, and must not count twice.
                failures.append(len(batch.ids))
                found.sum().backward()
                raise torch.OutOfMemoryError("CUDA out of memory")
            return found

        monkeypatch.setattr(Policy, "forward", forward)
        run = sft_run(toys, tmp_path / "small", small)
        sft.train(run, small, rows)
        assert failures == [4, 2]
        assert run.micro.tokens == 5
        assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "plain"), abs=1e-5)
        for a, b in zip(plain.parameters(), small.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=0)

    def test_one_row_that_does_not_fit_ends_the_run(self, toys: ModuleType, tmp_path: Path, rows: list[Tokens]) -> None:
        def fail(part: list[Tokens]) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        run = sft_run(toys, tmp_path, toys.policy(11))
        with pytest.raises(EngineError, match="out of memory with a row of 5 tokens alone"):
            run.micro.each(rows, len, fail)
        with pytest.raises(ZeroDivisionError):
            run.micro.each(rows, len, lambda part: [1 / 0 for _ in part])


class TestNotFinite:
    def poisoned(
        self, toys: ModuleType, folder: Path, rows: list[Tokens], bad: set[int], monkeypatch: pytest.MonkeyPatch
    ) -> Trainer:
        policy, right, calls = toys.policy(11), Policy.forward, []

        def forward(self: Policy, batch: Any, temperature: float = 1.0) -> Tensor:
            calls.append(1)
            found = right(self, batch, temperature)
            return found * math.nan if len(calls) - 1 in bad else found

        monkeypatch.setattr(Policy, "forward", forward)
        run = sft_run(toys, folder, policy)
        sft.train(run, policy, rows)
        return run

    def test_it_is_skipped_and_counted(
        self, toys: ModuleType, tmp_path: Path, rows: list[Tokens], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = self.poisoned(toys, tmp_path, rows, {1, 3}, monkeypatch)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [line["skipped"] for line in lines] == [0, 1, 1, 2]
        assert [line["loss"] is None for line in lines] == [False, True, False, True]
        assert all(bool(p.isfinite().all()) for p in run._trained["policy"].model.parameters())

    def test_it_stops_after_some_in_a_row_with_the_batch_saved(
        self, toys: ModuleType, tmp_path: Path, rows: list[Tokens], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(Stopped, match="was not finite 3 times in a row; the last rows are in"):
            self.poisoned(toys, tmp_path, rows, {1, 2, 3}, monkeypatch)
        saved = json.loads((tmp_path / "not-finite-step-00000003-rank-0.json").read_text())
        assert len(saved) == 4
        assert saved[0] in [row.ids.tolist() for row in rows]


class TestGuards:
    def run(self, toys: ModuleType, folder: Path, **changes: Any) -> None:
        made = toys.recipe(
            "ppo", **{"rollout_batch": 8, "batch": 8, "max_new_tokens": 4, "epochs": 9, "patience": 2, "warmup": 0.0, **changes}
        )
        four = ppo.Models(
            toys.policy(11),
            toys.policy(11, seed=5, trained=False),
            toys.scorer(11),
            Mixture.of_model(toys.scorer(11, trained=False)),
        )
        run = toys.trainer(folder, made, {"policy": four.policy, "value": four.value}, 8)
        ppo.train(run, four, PolicyEngine(four.policy, [1], 8), [toys.tokens([2])] * 8, made)

    def test_kl_ceiling(self, toys: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(
            Stopped, match=r"is over kl_ceiling = 0\.0 in 2 steps in a row; stopped after step \d with a checkpoint"
        ):
            self.run(toys, tmp_path, kl_ceiling=0.0, learning_rate=0.1, final_learning_rate=0.1, seed=3)
        saved = checkpoint.newest(tmp_path / "checkpoints")
        assert saved is not None
        assert saved.step in (2, 3)

    def test_eos_floor(self, toys: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(Stopped, match=r"EOS rate 0\.\d+ is under eos_floor = 1\.0 in 2 steps in a row"):
            self.run(toys, tmp_path, eos_floor=1.0)

    def test_one_step_beyond_is_forgiven(self, toys: ModuleType, tmp_path: Path) -> None:
        run = sft_run(toys, tmp_path, toys.policy(11), 16)
        for step in run.steps():
            run.guard("too far" if step % 2 else "", 2)
        assert run.steps_total == 4


class TestResume:
    def test_asked_to_end_it_saves_and_goes_on_later_as_if_nothing_was(
        self, toys: ModuleType, tmp_path: Path, rows: list[Tokens]
    ) -> None:
        plain = toys.policy(11)
        sft.train(sft_run(toys, tmp_path / "plain", plain), plain, rows)
        first = toys.policy(11)
        run = sft_run(toys, tmp_path / "cut", first)
        run.settings = dataclasses.replace(
            run.settings, report=lambda step, steps, numbers: run.ask_to_end() if step == 1 else None
        )
        sft.train(run, first, rows)
        assert run.interrupted
        assert len(losses(tmp_path / "cut")) == 2
        second = toys.policy(11, seed=99)
        again = sft_run(toys, tmp_path / "cut", second)
        sft.train(again, second, rows)
        assert not again.interrupted
        assert losses(tmp_path / "cut") == losses(tmp_path / "plain")
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), second.parameters(), strict=True))

    def test_asked_in_the_last_step_it_is_simply_done(self, toys: ModuleType, tmp_path: Path, rows: list[Tokens]) -> None:
        policy = toys.policy(11)
        run = sft_run(toys, tmp_path, policy, 4)
        run.ask_to_end()
        sft.train(run, policy, rows[:4])
        assert not run.interrupted

    def test_what_a_killed_run_logged_beyond_its_checkpoint_is_replaced(
        self, toys: ModuleType, tmp_path: Path, rows: list[Tokens]
    ) -> None:
        policy = toys.policy(11)
        sft.train(sft_run(toys, tmp_path, policy, save_every=1), policy, rows)
        whole = losses(tmp_path)
        checkpoint.shutil.rmtree(tmp_path / "checkpoints" / "step-00000004")
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4, "lo')
        sft.train(sft_run(toys, tmp_path, policy, save_every=1), policy, rows)
        assert losses(tmp_path) == whole

    @pytest.mark.parametrize("what", ["data", "recipe"])
    def test_another_run_is_refused(self, toys: ModuleType, tmp_path: Path, rows: list[Tokens], what: str) -> None:
        policy = toys.policy(11)
        sft.train(sft_run(toys, tmp_path, policy, identity={"recipe": "a", "data": "b"}), policy, rows)
        with pytest.raises(
            CheckpointError, match=f"was written with another {what}; give that one, another --output, or --fresh"
        ):
            sft_run(toys, tmp_path, policy, identity={"recipe": "a", "data": "b", what: "c"})


def test_settings_report_by_default_to_nobody(tmp_path: Path) -> None:
    LoopSettings(tmp_path, {}, 1).report(0, 1, {})


def test_masks_of_collated_rows(toys: ModuleType, rows: list[Tokens]) -> None:
    batch = collate(rows[:3], torch.device("cpu"))
    assert batch.mask.sum(1).tolist() == [2, 3, 4]
