"""A judge in this process: a vLLM engine asked the same questions as an endpoint, with the same answers' form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tulu_eval.errors import PreflightError
from tulu_eval.judging.budget import Budget, Usage, answer_limit
from tulu_eval.judging.client import Answer
from tulu_eval.judging.recipe import Question

if TYPE_CHECKING:
    from vllm import LLM

CHUNK = 128
"""Questions handed to the engine at a time; their answers are stored before the next ones are asked."""


class VllmJudge:
    """A chat model of vLLM's as a judge; use it as a context manager. It costs nothing, so only its tokens are counted.

    Args:
        engine: A loaded ``vllm.LLM`` whose ``max_logprobs`` is at least 5, vLLM's own default being 20.
    """

    def __init__(self, engine: LLM) -> None:
        self._engine = engine

    @classmethod
    def load(cls, model: Path | str, **settings: Any) -> VllmJudge:
        """Loads a model as a judge.

        Args:
            model: Folder or hub id.
            settings: Of ``vllm.LLM``, such as ``dtype`` or ``max_model_len``.

        Raises:
            PreflightError: vLLM is missing.
        """
        try:
            from vllm import LLM
        except ImportError as error:
            raise PreflightError("a judge in this process needs vLLM: pip install 'tulu-eval[vllm]'") from error
        return cls(LLM(model=str(model), **settings))

    def ask(self, questions: Sequence[Question], budget: Budget, done: Callable[[Answer], None]) -> None:
        """Asks every question and hands each answer to ``done``, a chunk at a time."""
        for start in range(0, len(questions), CHUNK):
            allowed = []
            for question in questions[start : start + CHUNK]:
                if budget.reserve(question):
                    allowed.append(question)
                else:
                    done(
                        Answer(question, None, failure="over_budget", detail="the limit of --max-cost could have been crossed")
                    )
            for question, answer in zip(allowed, self._answers(allowed), strict=True):
                budget.settle(question, answer.usage)
                done(answer)

    def close(self) -> None:
        """Ends the engine's process and frees its memory; may be called twice."""
        self._engine.llm_engine.engine_core.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        from vllm import SamplingParams

        if not questions:
            return []
        asked = questions[0].parameters
        sampling = SamplingParams(
            max_tokens=answer_limit(questions[0]),
            temperature=asked.get("temperature", 1.0),
            top_p=asked.get("top_p", 1.0),
            logprobs=asked.get("top_logprobs"),
        )
        turns = [[{"role": turn.role, "content": turn.content} for turn in question.messages] for question in questions]
        outputs = self._engine.chat(turns, sampling, use_tqdm=False)
        return [_answer(question, output) for question, output in zip(questions, outputs, strict=True)]


def _answer(question: Question, output: Any) -> Answer:
    """Returns a vLLM output in the form of a chat completion's."""
    made = output.outputs[0]
    choice: dict[str, Any] = {"finish_reason": made.finish_reason, "message": {"role": "assistant", "content": made.text}}
    if made.logprobs:
        choice["logprobs"] = {"content": [{"top_logprobs": _alternatives(made.logprobs[0])}]}
    usage = Usage(len(output.prompt_token_ids or ()), len(made.token_ids))
    return Answer(question, choice, question.model, usage)


def _alternatives(position: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Returns the alternatives of one position, likeliest first."""
    ranked = sorted(position.values(), key=lambda one: -one.logprob)
    return [{"token": one.decoded_token or "", "logprob": one.logprob} for one in ranked]
