"""The backend on transformers, for CPU, CUDA and Apple silicon.

The prompts of a benchmark share a prefix. If the architecture allows it, the engine keeps the prefix's keys and values once
(:mod:`~tulu_eval.backends.hf.shared_prefix`). Otherwise it uses plain batched generation
(:mod:`~tulu_eval.backends.hf.plain`), and ``describe()["attention"]`` gives the reason.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

from tulu_eval.backends import branches
from tulu_eval.backends.base import Backend, EngineSettings, ReloadError, Usage
from tulu_eval.backends.branches import Branches, BranchScores
from tulu_eval.backends.hf.device import resolve_device
from tulu_eval.backends.impossible import impossible
from tulu_eval.errors import PreflightError, UnknownName
from tulu_eval.logprobs import Choice, ChoiceRequest, ScoreRequest, Scores
from tulu_eval.models import config as configs
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.quiet import without_bars
from tulu_eval.models.skeleton import check_shapes, first_line
from tulu_eval.records import Completion, Decoding, Kind, Request

_LOG = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16")
"""dtypes in which a model can be computed."""

CPU_BATCH = 128
"""Largest number of rows decoded together on a CPU if ``batch_size`` is 0.

SmolLM2-135M in bfloat16 on one core takes, in milliseconds per step and row: 6.4 with 16 rows, 4.2 with 32, 3.3 with 64, 2.5
with 128.
"""

GPU_BATCH = 256
"""Largest number of rows decoded together on an accelerator if ``batch_size`` is 0."""


def resolve_dtype(setting: str, stored: str) -> str:
    """Returns the dtype of the computation; ``auto`` is the dtype of the stored weights.

    Raises:
        UnknownName: If the dtype is not in :data:`DTYPES`.
    """
    dtype = stored if setting == "auto" else setting
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, ["auto", *DTYPES])
    return dtype


def free_bytes(device: str) -> int:
    """Returns the free memory of a device in bytes."""
    import psutil
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)


class TransformersBackend(Backend):
    """A causal language model of transformers on one device.

    Args:
        model: The loaded model, in evaluation mode.
        tokenizer: Its tokenizer, used for decoding only.
        max_length: Largest length of a row in tokens; a row of this length ends with ``length``.
    """

    name: ClassVar[str] = "transformers"
    by_ids: ClassVar[bool] = True
    kinds: ClassVar[frozenset[Kind]] = frozenset({"generate", "choose", "score"})
    own_settings: ClassVar[frozenset[str] | None] = frozenset({"device", "dtype", "prefix_caching"})

    def __init__(self, model: Any, tokenizer: Any, settings: EngineSettings, eos_ids: Sequence[int], max_length: int) -> None:
        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        self._eos_ids, self._max_length = tuple(eos_ids), max_length
        self._loaded: ModelFiles | None = None
        self._own_attention = model.config._attn_implementation
        self._usage = Usage()
        self._attend()

    def _attend(self) -> None:
        """Chooses the path of decoding: with a shared prefix where the settings ask for it and the model allows it."""
        from tulu_eval.backends.hf.eligibility import TOLERANCE, enable_shared_prefix
        from tulu_eval.backends.hf.plain import padding_is_safe

        self._padding, self._attention = True, "shared prefix"
        wanted = self._settings.prefix_caching
        reason = enable_shared_prefix(self._model, self._max_length) if wanted else "switched off"
        self._shared = not reason
        if reason:
            self._padding = padding_is_safe(self._model, TOLERANCE[self._model.dtype])
            batches = "padded batches" if self._padding else "batches of equal length"
            self._attention = f"plain, {batches} ({reason})"
            _LOG.info("no shared prefix: %s; decoding in plain %s", reason, batches)

    @classmethod
    def check(cls, model: ModelFiles, settings: EngineSettings) -> None:
        """Raises PreflightError if something is missing or not allowed; loads no weights.

        Raises:
            PreflightError: If a device or memory is missing, a setting belongs to another engine, or the model needs pickle or
                code that is not allowed.
            UnknownName: If there is no such device or dtype.
        """
        device = resolve_device(settings.device)
        dtype = resolve_dtype(settings.dtype, model.dtype)
        cls.check_settings(settings)
        if not settings.allow_pickle and not all(name.endswith(".safetensors") for name in model.weight_files):
            raise PreflightError(
                f"{model.name} has pickle weights, which can run any code when loaded; --allow-pickle allows it"
            )
        if not settings.trust_remote_code and _needs_own_code(model):
            raise PreflightError(f"{model.name} needs Python code that comes with it; --trust-remote-code runs it")
        needed = model.parameters * (4 if dtype == "float32" else 2)
        free = free_bytes(device)
        if needed > free:
            raise PreflightError(
                f"{model.name} needs {needed / 2**30:.1f} GiB for its weights in {dtype}; "
                f"{device} has {free / 2**30:.1f} GiB free"
            )

    @classmethod
    def load(cls, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int) -> Self:
        """Loads the model and tests whether it can share a prefix; raises PreflightError if a file is corrupt or incomplete."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = resolve_device(settings.device)
        dtype = getattr(torch, resolve_dtype(settings.dtype, model.dtype))
        trust = settings.trust_remote_code
        check_shapes(AutoModelForCausalLM, model.path, model.weight_files, trust_remote_code=trust)
        try:
            tokenizer = AutoTokenizer.from_pretrained(model.path, trust_remote_code=trust)
            with without_bars():
                answer: Any = AutoModelForCausalLM.from_pretrained(
                    model.path,
                    dtype=dtype,
                    trust_remote_code=trust,
                    use_safetensors=None if settings.allow_pickle else True,
                    output_loading_info=True,
                )
        except Exception as error:  # transformers raises of any kind where a config does not fit its weights
            raise PreflightError(f"{model.name} cannot be loaded: {first_line(error)}") from error
        loaded, report = answer
        if missing := sorted(report["missing_keys"]):
            raise PreflightError(
                f"{model.name} cannot be loaded: weights are missing, {missing[0]} and {len(missing) - 1} more"
            )
        made = cls(loaded.to(device).eval(), tokenizer, settings, eos_ids, max_length)
        made._loaded = model
        return made

    def reload(
        self, model: ModelFiles, settings: EngineSettings, eos_ids: tuple[int, ...], max_length: int, probe: tuple[int, ...]
    ) -> None:
        """Takes another batch size or way to decode for the loaded model; raises ReloadError for anything else."""
        before = self._settings
        same = dataclasses.replace(before, batch_size=settings.batch_size, prefix_caching=settings.prefix_caching)
        if (self._loaded, same, self._eos_ids) != (model, settings, eos_ids) or max_length > self._max_length:
            raise ReloadError
        self._settings = settings
        if before.prefix_caching != settings.prefix_caching:
            self._model.set_attn_implementation(self._own_attention)
            self._attend()

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Completion]:
        """Yields one completion per request as soon as it finishes; the completion of an impossible prompt is an error."""
        from tulu_eval.backends.growing import Finisher
        from tulu_eval.backends.hf.batching import Scheduler
        from tulu_eval.backends.hf.plain import PlainDecoder

        good: list[Request] = []
        for request in requests:
            cause = self._refuse(request)
            if cause:
                yield Completion(request.key, "", (), "error", 0.0, cause)
            else:
                good.append(request)
        if not good:
            return
        finisher = Finisher(self._tokenizer, self._eos_ids, decoding, self._max_length)
        rows = self._batch_size(good, decoding)
        if self._shared:
            yield from Scheduler(self._model, finisher, decoding, rows, self._usage).run(good)
        else:
            yield from PlainDecoder(self._model, finisher, decoding, rows, self._padding).run(good)

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[Choice]:
        """Yields the log-probabilities of each request's candidates; the answer to an impossible request is an error."""
        yield from branches.choices(self._likelihoods(branches.of_choices(requests)))

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[Scores]:
        """Yields the log-probabilities of each request's continuations; the answer to an impossible request is an error."""
        yield from branches.scores(requests, self._likelihoods(branches.of_scores(requests)))

    def _likelihoods(self, asked: Sequence[Branches]) -> Iterator[BranchScores]:
        """Yields an answer to each, at once if it is an error."""
        from tulu_eval.backends.hf.likelihoods import LikelihoodEngine

        room, size = self._max_length, self._model.get_input_embeddings().weight.shape[0]
        refused = {one.key: cause for one in asked if (cause := impossible(one.prompt, one.texts, room, size))}
        for key, cause in refused.items():
            yield BranchScores(key, [], 0.0, cause)
        rows = self._settings.batch_size
        engine = LikelihoodEngine(self._model, shared=self._shared, reach=room, rows=rows, usage=self._usage)
        yield from engine.run([one for one in asked if one.key not in refused])

    def _refuse(self, request: Request) -> str:
        """Returns why a request cannot be decoded, empty if it can; on CUDA an index error would end the process."""
        if not request.token_ids:
            return "the prompt has no tokens"
        size = self._model.get_input_embeddings().weight.shape[0]
        if not 0 <= min(request.token_ids) <= max(request.token_ids) < size:
            return f"the prompt has a token id outside the model's vocabulary of {size}"
        length, room = len(request.token_ids), self._max_length
        return f"the prompt has {length} tokens, and a row has room for {room}" if length >= room else ""

    def _batch_size(self, requests: Sequence[Request], decoding: Decoding) -> int:
        """Returns how many rows to decode together: ``batch_size``, or if it is 0, as many as fit into memory."""
        if self._settings.batch_size:
            return self._settings.batch_size
        config = self._model.config.get_text_config()
        device = str(self._model.device)
        number_bytes: int = self._model.dtype.itemsize
        heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token_bytes: int = 2 * config.num_hidden_layers * heads * width * number_bytes
        longest = min(max(len(request.token_ids) for request in requests) + decoding.max_new_tokens, self._max_length)
        fits = int(0.7 * free_bytes(device)) // (token_bytes * longest)
        return max(1, min(fits, CPU_BATCH if device == "cpu" else GPU_BATCH))

    def usage(self) -> Usage | None:
        """Returns tokens and seconds; ``None`` on the plain path, on which transformers runs the steps."""
        return self._usage if self._shared else None

    def describe(self) -> dict[str, str]:
        """Returns dtype, device, versions and attention path."""
        import torch
        import transformers

        return {
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": str(self._model.device),
            "attention": self._attention,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        }

    def close(self) -> None:
        """Frees the model's memory; a second call does nothing."""
        import torch

        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _needs_own_code(model: ModelFiles) -> bool:
    """Whether transformers does not know the model's architecture and the model brings code for it."""
    from transformers import CONFIG_MAPPING

    config = configs.read(model.path)
    return config.own_code and config.model_type not in CONFIG_MAPPING
