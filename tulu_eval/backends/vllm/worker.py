"""One vLLM engine in a process of its own, started by :mod:`tulu_eval.backends.vllm.backend`.

This process is a session leader, so vLLM's engine core and its workers, which are its descendants, are in its process group.
A watch thread ends that group when the process that started it is gone, however it went; vLLM 0.32 alone leaves its engine
core running after a SIGKILL of its parent.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import active_children
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, TypeVar

from tulu_eval.backends.branches import BranchScores
from tulu_eval.backends.growing import Finisher, GrowingRow, one_line
from tulu_eval.backends.vllm import extension, meter
from tulu_eval.backends.vllm.branch_rows import ScoringJob, ScoringRow
from tulu_eval.backends.vllm.messages import (
    Done,
    EngineJob,
    Failed,
    Fingerprint,
    Finished,
    Look,
    Ready,
    Reload,
    Reloaded,
    Scored,
    ScoreOrder,
    Sleep,
    Spec,
    Stop,
    Transfer,
)
from tulu_eval.records import Completion, Decoding, Request

WATCH_SECONDS = 0.5
"""How often the watch thread looks whether the parent is there."""

GRACE_SECONDS = 2.0
"""From SIGTERM to SIGKILL of the process group: time for vLLM to remove its shared memory."""

Row = TypeVar("Row")
Made = TypeVar("Made")


class WorkerEngine:
    """The engine and its request loop; ``connection`` is to the process that asked for it."""

    def __init__(self, spec: Spec, connection: Connection) -> None:
        from vllm import LLM
        from vllm.engine.arg_utils import EngineArgs
        from vllm.lora.request import LoRARequest
        from vllm.v1.metrics.stats import SchedulerStats

        from tulu_eval.models.tokenizer import load_tokenizer

        self._spec, self._connection = spec, connection
        self._llm = LLM(**spec.engine, **meter.arguments(EngineArgs, SchedulerStats))
        self._meter = meter.StepMeter()
        self._llm.llm_engine.logger_manager = self._meter
        self._children = active_children()
        self._tokenizer = load_tokenizer(spec.folder, spec.name, spec.trust_remote_code)
        self._adapter = LoRARequest("adapter", 1, spec.adapter) if spec.adapter else None
        self._asleep = False

    def facts(self) -> dict[str, str]:
        """Returns what vLLM made of the settings."""
        import vllm

        config = self._llm.llm_engine.vllm_config
        device = str(config.device_config.device_type)
        # Its CPU platform has one attention for all models but those with latent attention, and logs none.
        known = {"attention": "CPU_ATTN"} if device == "cpu" and not config.model_config.use_mla else {}
        return known | {
            "vllm": vllm.__version__,
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "device": device,
            "max_model_len": str(config.model_config.max_model_len),
            "max_num_seqs": str(config.scheduler_config.max_num_seqs),
            "prefix_caching": str(bool(config.cache_config.enable_prefix_caching)).lower(),
            "enforce_eager": str(bool(config.model_config.enforce_eager)).lower(),
            "quantization": str(config.model_config.quantization or "none"),
        }

    def run(self, job: EngineJob) -> bool:
        """Runs a job, sending completions as they finish; returns whether another job may come."""
        engine = self._llm.llm_engine
        finisher = Finisher(self._tokenizer, self._spec.eos_ids, job.decoding, self._spec.engine["max_model_len"])
        shared = self._sampling(job.decoding)
        rows = {str(at): GrowingRow.begin(request, job.decoding) for at, request in enumerate(longest_first(job.requests))}
        for name, row in rows.items():
            sampling, limit = shared, finisher.limit(row.request)
            if not job.decoding.greedy or limit < job.decoding.max_new_tokens:
                sampling = shared.clone()
                sampling.max_tokens = limit
                sampling.seed = None if job.decoding.greedy else row.draw.getrandbits(63)
            prompt = {"prompt_token_ids": list(row.request.token_ids)}
            engine.add_request(name, prompt, sampling, lora_request=self._adapter)
        return self._work(rows, lambda row, output: finish(row, output.outputs[0], finisher), partial(Finished, job.number))

    def score(self, order: ScoreOrder) -> bool:
        """Scores texts, sending answers as they finish, errors for impossible prompts; returns whether another job may come."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        config = engine.vllm_config
        by_ids = bool(getattr(config, "use_v2_model_runner", False))
        job = ScoringJob(order.asked, config.model_config.max_model_len, config.model_config.get_vocab_size(), by_ids=by_ids)
        rows: dict[str, ScoringRow] = {}
        names = map(str, itertools.count())

        def add(row: ScoringRow) -> None:
            name = next(names)
            rows[name] = row
            sampling = SamplingParams(
                max_tokens=1,
                temperature=0.0,
                detokenize=False,
                flat_logprobs=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_clone=True,
                **job.asks(row),
            )
            engine.add_request(name, {"prompt_token_ids": row.tokens}, sampling, lora_request=self._adapter)

        def take(row: ScoringRow, output: Any) -> BranchScores | None:
            made = job.take(row, output)
            if isinstance(made, ScoringRow):
                add(made)
                return None
            return made

        for row in job.rows():
            add(row)
        if job.refused or not rows:
            self._connection.send(Scored(order.number, tuple(job.refused), last=not rows))
        return self._work(rows, take, partial(Scored, order.number))

    def _work(self, rows: dict[str, Row], take: Callable[[Row, Any], Made | None], reply: Callable[..., object]) -> bool:
        """Steps until all rows are done or the parent says to stop, sending what is made; returns whether another job may come.

        Args:
            rows: What is in the engine, by name; emptied as it comes back, and ``take`` may add to it.
            take: Makes an answer of a row and vLLM's output for it; ``None`` if there is none yet.
            reply: Makes the message of a step's answers, whether they are the last, and usage.
        """
        engine = self._llm.llm_engine
        self._meter.begin()
        while rows:
            ended = [(rows.pop(output.request_id), output) for output in engine.step() if output.finished]
            done = [made for row, output in ended if (made := take(row, output)) is not None]
            if done or not rows:
                self._connection.send(reply(tuple(done), not rows, self._meter.take()))
            if rows and self._connection.poll():
                order = self._connection.recv()
                engine.abort_request(list(rows))
                self._connection.send(reply((), last=True))
                return order is not None
        return True

    def reload(self, order: Reload) -> Reloaded:
        """Reads a checkpoint's weights into the running engine and forgets what the old ones computed.

        vLLM keeps the prefix cache, whose keys and values are the old weights'; it only warns of weights that it did not find.
        """
        before = self._fingerprint(order.probe)
        self._llm.collective_rpc(extension.REPLACE, args=(str(order.folder),))
        self._forget()
        if order.eos_ids is not None:
            self._spec = dataclasses.replace(self._spec, eos_ids=order.eos_ids)
        return Reloaded(before, self._fingerprint(order.probe))

    def answer(self, message: Reload | Transfer | Sleep | Look) -> object:
        """Does what is asked for between two jobs; returns the answer."""
        match message:
            case Reload():
                return self.reload(message)
            case Transfer():
                return self.transfer(message)
            case Sleep():
                return self.sleep()
            case Look():
                return self._fingerprint(message.probe)

    def transfer(self, order: Transfer) -> Done:
        """Does a step of a transfer; a sleeping engine wakes for it, with its cache once the weights are there."""
        if self._asleep and order.method == "start_weight_update":
            self._llm.wake_up(["weights"])
        self._llm.collective_rpc(order.method, kwargs=order.arguments)
        if order.method == "finish_weight_update":
            if self._asleep:
                self._llm.wake_up(["kv_cache"])
                self._asleep = False
            self._forget()
        return Done()

    def sleep(self) -> Done:
        """Frees the memory of weights, keys and values.

        At vLLM's level 1 the weights would go to the CPU's memory and come back, and be overwritten by the trainer's at once;
        level 2 drops them, and keeps what no trainer sends: buffers (vLLM 0.32, ``v1/worker/gpu_worker.py``).
        """
        self._llm.sleep(level=2)
        self._asleep = True
        return Done()

    def _forget(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be emptied")

    def _fingerprint(self, probe: Sequence[int]) -> Fingerprint:
        """Returns the log-probability of each token of a probe but the first, which vLLM computes anew each time."""
        from vllm import SamplingParams

        sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        (output,) = self._llm.generate([{"prompt_token_ids": list(probe)}], sampling, use_tqdm=False)
        pairs = zip(output.prompt_logprobs[1:], probe[1:], strict=True)
        return Fingerprint(tuple(float(found[token].logprob) for found, token in pairs))

    def _sampling(self, decoding: Decoding) -> Any:
        """Returns vLLM's sampling parameters, with every field that a default could change said.

        ``ignore_eos`` leaves the end to ``stop_token_ids``: vLLM would also end at what it takes for the model's end token.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            n=1,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k,
            min_p=0.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            repetition_penalty=1.0,
            min_tokens=0,
            max_tokens=decoding.max_new_tokens,
            ignore_eos=True,
            stop_token_ids=list(self._spec.eos_ids),
            stop=list(decoding.stop) or None,
            include_stop_str_in_output=True,
            detokenize=bool(decoding.stop),
            skip_special_tokens=True,
            logprobs=None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def cause(self, error: Exception) -> str:
        """Returns one line for a failure: how a child process ended, where one did."""
        for child in self._children:
            child.join(timeout=1)
            if child.exitcode is not None and child.exitcode < 0:
                return f"vLLM's process {child.name} was killed by {signal.Signals(-child.exitcode).name}"
        return one_line(error)

    def shut_down(self) -> None:
        """Ends vLLM's own processes in order, so that they remove their shared memory."""
        self._llm.llm_engine.engine_core.shutdown()


def longest_first(requests: Sequence[Request]) -> list[Request]:
    """Returns requests with the longest prompt first: a long one that starts late would end alone."""
    return sorted(requests, key=lambda request: -len(request.token_ids))


def finish(row: GrowingRow, choice: Any, finisher: Finisher) -> Completion:
    """Returns a row's completion of vLLM's ``CompletionOutput``, with text by the same code as the transformers backend's."""
    *before, last = choice.token_ids or (-1,)
    row.tokens.extend(before)
    return finisher.advance(row, last) or row.fail(f"vLLM ended it early: {choice.finish_reason}")


def watch(parent: int) -> None:
    """Ends this process group once this process has another parent."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def keep_going(_number: int, _frame: FrameType | None) -> None:
    """Handler that lets this process outlive the SIGTERM to its own group; vLLM's processes set their own."""


def serve(connection: Connection) -> None:
    """Builds the engine that the first message asks for and runs jobs until the parent says or is gone."""
    spec: Spec = connection.recv()
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    try:
        engine = WorkerEngine(spec, connection)
    except Exception as error:
        connection.send(Failed(one_line(error)))
        raise
    connection.send(Ready(engine.facts()))
    try:
        while (message := connection.recv()) is not None:
            if isinstance(message, EngineJob | ScoreOrder):
                more = engine.run(message) if isinstance(message, EngineJob) else engine.score(message)
                if not more:
                    break
            elif not isinstance(message, Stop):  # a job that was over when it came
                connection.send(engine.answer(message))
    except EOFError:
        pass  # the parent closed its end
    except Exception as error:
        connection.send(Failed(engine.cause(error)))
        raise
    engine.shut_down()


def main() -> None:
    """Starts the watch thread and serves; the arguments are the connection's file descriptor and the parent's process id."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    signal.signal(signal.SIGTERM, keep_going)
    threading.Thread(target=watch, args=(parent,), daemon=True, name="watch").start()
    serve(Connection(descriptor))
