"""Rollouts on vLLM: an engine process on each rank's device, which gets the policy's weights before each step.

They go from the ranks' shards into the engine's memory (:mod:`~tulu_eval.training.weight_sync`). A probe checks that they
arrived: its log-probabilities must change if the weights did, and agree with the policy's own. On a GPU the engine sleeps while
the models learn. vLLM's CPU engine cannot: it takes the order and keeps its memory (vLLM 0.32, ``v1/worker/cpu_worker.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.backends.vllm.messages import Fingerprint, Look, Sleep
from tulu_eval.backends.vllm.settings import IPC
from tulu_eval.backends.vllm.weight_stream import STREAM, TRANSFER_SECONDS
from tulu_eval.errors import EngineError
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.training import networks
from tulu_eval.training.networks import Policy
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.text import Tokens
from tulu_eval.training.weight_sync import TRANSPORTS, PolicyWeights

TOLERANCE = 0.25
"""Largest mean difference between engine and policy over the probe, in nats per token.

Another kernel in bfloat16 changes a token by a few hundredths, and another step's weights at the recipes' rates by less. So
this limit finds another model's weights; only a missing change of the engine's own numbers shows another step's weights.
"""

PROBE_TOKENS = 64

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "ROLE_RANK")
"""Environment variables by torchrun for its processes, which vLLM would read as its own."""

GO_ON = "the last checkpoint is whole: give the same command again, or with --rollouts policy"


class VllmEngine:
    """A vLLM engine as :class:`~tulu_eval.training.rollout.RolloutEngine`.

    Args:
        settings: Settings of the engine; the dtype is the recipe's compute dtype.
        max_length: Largest number of tokens of a prompt with its response.
        probe: A prompt whose log-probabilities show which weights the engine has.

    Raises:
        EngineError: If the engine did not start.
    """

    def __init__(
        self, model: ModelFiles, settings: EngineSettings, eos_id: int, max_length: int, probe: Tokens, ranks: Ranks
    ) -> None:
        self._ranks = ranks
        ids = probe.ids[:PROBE_TOKENS]
        self._probe = Tokens(ids, np.arange(len(ids)) > 0)
        self._dtype = getattr(torch, settings.dtype)
        self._sums: tuple[int, ...] = ()
        self._fingerprint = Fingerprint(())
        self._sleeps = ranks.device.type == "cuda"
        transfer = IPC if self._sleeps else STREAM
        with _alone(ranks):
            self._backend = VllmBackend.load(model, settings, (eos_id,), max_length, transfer)
        try:
            self._transport = TRANSPORTS[transfer](self._backend)
        except BaseException:
            self._backend.close()
            raise

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request, as they finish."""
        return self._backend.generate(requests, decoding)

    def update(self, policy: Policy) -> int:
        """Puts the policy's weights into the engine, wakes it, and checks that they arrived; returns the bytes that moved.

        All ranks must call it.

        Raises:
            EngineError: If they did not arrive.
        """
        weights = PolicyWeights(policy, self._dtype)
        try:
            moved = self._transport.send(weights)
            (found,) = self._backend.ask(Look(tuple(self._probe.ids.tolist())), seconds=TRANSFER_SECONDS)
        except EngineError as error:
            raise EngineError(f"the policy's weights did not get to vLLM: {error}; {GO_ON}") from error
        with torch.no_grad():
            own = policy(networks.collate([self._probe], self._ranks.device))[0, 1:].tolist()
        changed = bool(self._sums) and weights.sums != self._sums
        failed = stale(self._fingerprint.logprobs, found.logprobs, own, changed=changed)
        if self._ranks.any(bool(failed)):
            raise EngineError(f"the policy's weights did not arrive in vLLM: {failed or 'on another rank'}; {GO_ON}")
        self._sums, self._fingerprint = weights.sums, found
        return moved

    def rest(self) -> None:
        """Frees the engine's memory for the models that learn, where it can; :meth:`update` takes it back."""
        if self._sleeps:
            self._backend.ask(Sleep(), seconds=TRANSFER_SECONDS)

    def close(self) -> None:
        """Ends the engine."""
        self._transport.close()
        self._backend.close()


def stale(before: Sequence[float], after: Sequence[float], own: Sequence[float], *, changed: bool) -> str:
    """Returns why an engine must have other weights than the policy; empty if nothing shows that.

    ``before`` and ``after`` are the engine's log-probabilities of the probe around an update, ``own`` the policy's; ``changed``
    says whether the new weights differ from the last ones.
    """
    if changed and tuple(before) == tuple(after):
        return "they changed, but a probe's log-probabilities did not"
    gap = float(np.abs(np.array(after) - np.array(own)).mean())
    if not gap <= TOLERANCE:
        return f"a probe's log-probabilities differ from the policy's by {gap:.2f} nats per token"
    return ""


@contextlib.contextmanager
def _alone(ranks: Ranks) -> Iterator[None]:
    """Shows processes started in the context only this rank's device, and nothing about other ranks."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name in LAUNCHER or name.startswith("TORCHELASTIC_")]:
        del os.environ[name]
    if ranks.device.type == "cuda":
        visible = before.get("CUDA_VISIBLE_DEVICES")
        index = ranks.device.index or 0
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index] if visible else str(index)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
