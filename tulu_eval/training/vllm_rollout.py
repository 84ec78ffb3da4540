"""Rollouts on vLLM: an engine process on each rank's device, which gets the policy's weights before each step.

The first rank writes the weights as safetensors into the run's folder, from which all engines load them. A probe checks that
they arrived: its log-probabilities must change if the weights did, and agree with the policy's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm.backend import VllmBackend
from tulu_eval.caching import file_sha256
from tulu_eval.errors import EngineError
from tulu_eval.models.base import ModelFiles
from tulu_eval.records import Completion, Decoding, Request
from tulu_eval.training import loading, networks, parallel
from tulu_eval.training.networks import Policy
from tulu_eval.training.parallel import Ranks
from tulu_eval.training.text import Tokens

TOLERANCE = 0.25
"""Largest mean difference between engine and policy over the probe, in nats per token.

Another kernel in bfloat16 changes a token by a few hundredths, and another step's weights at the recipes' rates by less. So
this limit finds another model's weights; only a missing change of the engine's own numbers shows another step's weights.
"""

PROBE_TOKENS = 64

FOLDER = "rollout-weights"

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "ROLE_RANK")
"""Environment variables by torchrun for its processes, which vLLM would read as its own."""


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
        self,
        model: ModelFiles,
        settings: EngineSettings,
        eos_id: int,
        max_length: int,
        folder: Path,
        tokenizer: Any,
        probe: Tokens,
        ranks: Ranks,
    ) -> None:
        self._folder, self._tokenizer, self._ranks = folder / FOLDER, tokenizer, ranks
        ids = probe.ids[:PROBE_TOKENS]
        self._probe = Tokens(ids, np.arange(len(ids)) > 0)
        self._dtype = getattr(torch, settings.dtype)
        self._sent = ""
        with _alone(ranks):
            self._backend = VllmBackend.load(model, settings, (eos_id,), max_length)

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request, as they finish."""
        return self._backend.generate(requests, decoding)

    def update(self, policy: Policy) -> None:
        """Copies the policy's weights into the engine, and checks that they arrived.

        Raises:
            EngineError: If they did not arrive.
        """
        state = parallel.whole_state(policy, keep=self._ranks.first)
        if self._ranks.first:
            shutil.rmtree(self._folder, ignore_errors=True)
            loading.save(policy, {name: value.to(self._dtype) for name, value in state.items()}, self._folder, self._tokenizer)
        self._ranks.wait()
        files = sorted(self._folder.glob("*.safetensors"))
        digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
        with torch.no_grad(), parallel.whole(policy):
            batch = networks.collate([self._probe], self._ranks.device)
            own = policy(batch)[0, 1:].tolist()
        failed = ""
        for found in self._backend.update_weights(self._folder, self._probe.ids.tolist()):
            failed = failed or stale(
                found.before.logprobs, found.after.logprobs, own, changed=bool(self._sent) and digest != self._sent
            )
        if self._ranks.any(bool(failed)):
            raise EngineError(
                f"the policy's weights did not arrive in vLLM: {failed or 'on another rank'}; the last checkpoint is whole: "
                "go on with --rollouts policy"
            )
        self._sent = digest

    def close(self) -> None:
        """Ends the engine and removes the folder of weights."""
        self._backend.close()
        if self._ranks.first:
            shutil.rmtree(self._folder, ignore_errors=True)


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
