"""A backend as somebody else would write it, whose answers depend on the prompt alone, and which dies of some prompts."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Self

from tulu_eval import Completion, Decoding, Request
from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.cluster.actor import EngineActor, LoadOrder
from tulu_eval.backends.cluster.node_messages import AnswerBatch, NodeReport, read, written
from tulu_eval.models.base import ModelFiles
from tulu_eval.testing import ScriptedBackend

POISON = "has 7 pens"
"""What the question has that ends the process of a :class:`Mortal` engine."""

BRAKE = "TULU_EVAL_TEST_BRAKE"
"""Variable with the path of the brake."""


class Engine(ScriptedBackend):
    """Answers at once, or each after a time."""

    name: ClassVar[str] = "transformers"

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        return f" So the answer is {len(request.text) % 7}."

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        for request in requests:
            time.sleep(self.seconds)
            yield from super().generate([request], decoding)

    seconds: ClassVar[float] = 0.0


class Slow(Engine):
    seconds: ClassVar[float] = 0.02


class Braked(Engine):
    """Takes a tenth of a second for each as long as the brake is there, on whatever machine."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        if os.path.exists(os.environ[BRAKE]):
            time.sleep(0.1)
        return super().answer(request, decoding)


class Mortal(Engine):
    """Dies of the poison, as a kernel that crashes does."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        if POISON in request.text.rpartition("Ann")[2]:
            os._exit(3)
        return super().answer(request, decoding)


class Weak(Engine):
    """Fails on the poison and lives."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        if POISON in request.text.rpartition("Ann")[2]:
            return Completion(request.key, "", (), "error", 0.1, "out of luck")
        return super().answer(request, decoding)


class Failing(Engine):
    """Raises instead of answering anything."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        raise ZeroDivisionError("no luck")


GROUP = """
import os, ray
ray.init(log_to_driver=False)
here = ray.util.get_node_ip_address()
group = ray.util.placement_group([{"GPU": 1, f"node:{here}": 0.001}, {"GPU": 1}], strategy="PACK")
ray.get(group.ready(), timeout=60)
print(len(set(ray.util.placement_group_table(group)["bundles_to_node_id"].values())), "CUDA_VISIBLE_DEVICES" in os.environ)
"""
"""What vLLM's Ray executor does in the engine's own process (0.32, ``v1/executor/ray_utils.py``): it joins the cluster, and has
a placement group with a GPU per rank, the first of them on its own machine."""


class OverNodes(Engine):
    """Has a GPU on each of two nodes, as vLLM's Ray executor has."""

    over_nodes: ClassVar[bool] = True

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        engine = super().load(model, settings, eos_ids, max_length)
        done = subprocess.run([sys.executable, "-c", GROUP], check=True, capture_output=True, text=True)
        engine.nodes, engine.hides = done.stdout.split()
        return engine

    def describe(self) -> dict[str, str]:
        return {**super().describe(), "nodes": self.nodes, "hides": self.hides}


LIES = "TULU_EVAL_TEST_LIES"
"""Variable with the path of a file that says which node lies, and how: Ray's name of the node, a space, the lie."""


def lie() -> str:
    """The lie of this node; empty for an honest one."""
    import ray

    node, _, told = Path(os.environ[LIES]).read_text().partition(" ")
    return told if node in ("all", ray.get_runtime_context().get_node_id()) else ""


class Lying(Engine):
    """On the lying node each answer is wrong in another way, and of the right form; it honestly fails on the first."""

    def answer(self, request: Request, decoding: Decoding) -> str | Completion:
        said = super().answer(request, decoding)
        assert isinstance(said, str)
        if not lie():
            return said
        self.told = getattr(self, "told", -1) + 1
        right = Completion(request.key, said, tuple(map(ord, said)), "stop", 0.1)
        wrong: list[dict[str, object]] = [
            {"finish_reason": "error", "error": "the model's logits are not finite"},
            {"finish_reason": "error", "error": "\x1b[2J" + "x\n" * 1_000_000},
            {"token_ids": (10**12,)},
            {"token_ids": (-1,)},
            {"token_ids": (1,) * 100_000},
            {"seconds": float("nan")},
            {"seconds": -1.0},
            {"text": "x" * 2_000_000},
        ]
        return dataclasses.replace(right, **wrong[self.told % len(wrong)])  # type: ignore[arg-type]


class Unreadable(Exception):
    """Cannot be unpickled: its class wants two arguments, and gets one."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


class Loud(Exception):
    """Has no words, but an error."""

    def __str__(self) -> str:
        raise ZeroDivisionError


class LyingActor(EngineActor):
    """Does on the lying node what no actor of this project does."""

    def more(self) -> bytes:
        honest, told = super().more(), lie()
        batch = read(honest, AnswerBatch)
        found, answer = batch.completions, batch.completions[:1]
        match told:
            case "garbage":
                return b"\xc1" * 100
            case "huge":
                raise ValueError("\x1b[31m" + "x\n" * 3_000_000)
            case "unreadable":
                raise Unreadable("a", "b")
            case "interrupt":
                raise KeyboardInterrupt
            case "hangs":
                time.sleep(600)
            case "twice":
                return written(dataclasses.replace(batch, completions=found + answer))
            case "fewer":
                return written(dataclasses.replace(batch, completions=(), last=True))
        return honest

    def load(self, order: LoadOrder) -> bytes:
        return b"loaded" if lie() == "load" else super().load(order)

    def reload(self, order: LoadOrder, probe: tuple[int, ...]) -> bytes:
        if lie() == "reload":
            time.sleep(600)
        return super().reload(order, probe)

    def look(self, model: ModelFiles, settings: EngineSettings, config: str) -> bytes:
        return written(NodeReport("\x1b[2J\nno")) if lie() == "look" else super().look(model, settings, config)
