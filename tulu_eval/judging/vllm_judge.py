"""A judge in this process: a vLLM engine that takes the same questions as an endpoint and answers in the same form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tulu_eval.judging.budget import Budget, JudgeUsage, answer_limit
from tulu_eval.judging.endpoint_judge import Answer
from tulu_eval.judging.judge_recipe import Question

if TYPE_CHECKING:
    from vllm import LLM

CHUNK = 128
"""Questions per call of the engine; their answers are stored before the next call."""


Write = Callable[[Sequence[Question]], list[tuple[list[int], str]]]
"""Applies the model's chat template to questions; returns for each its token ids, and an error if the template fails."""


class VllmJudge:
    """A chat model in vLLM as a judge; a context manager. It costs nothing, so the budget only counts its tokens.

    Args:
        engine: A loaded ``vllm.LLM`` whose ``max_logprobs`` is at least 5; vLLM's default is 20.
        write: Applies the chat template.
    """

    def __init__(self, engine: LLM, write: Write) -> None:
        self._engine, self._write = engine, write

    @classmethod
    def load(cls, settings: Mapping[str, Any], write: Write) -> VllmJudge:
        """Returns a judge with a loaded model; ``settings`` are the arguments of ``vllm.LLM``."""
        from vllm import LLM

        return cls(LLM(**settings, use_tqdm_on_load=False), write)

    def ask(self, questions: Sequence[Question], budget: Budget, done: Callable[[Answer], None]) -> None:
        """Asks the questions in chunks of :data:`CHUNK` and hands each answer to ``done``."""
        for start in range(0, len(questions), CHUNK):
            allowed = []
            for question in questions[start : start + CHUNK]:
                if budget.reserve(question):
                    allowed.append(question)
                else:
                    done(Answer(question, None, failure="over_budget", detail="the request could have exceeded --max-cost"))
            for answer in self._answers(allowed):
                budget.settle(answer.question, answer.usage)
                done(answer)

    def close(self) -> None:
        """Ends the engine's process and frees its memory; a second call does nothing."""
        self._engine.llm_engine.engine_core.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Yields the answers to questions of one recipe; a question that does not fit is rejected, as a server would do."""
        from vllm import SamplingParams

        prompts: list[tuple[Question, list[int]]] = []
        for question, (tokens, why) in zip(questions, self._write(questions), strict=True):
            why = why or self._too_long(question, len(tokens))
            if why:
                yield Answer(question, None, failure="rejected", detail=why)
            else:
                prompts.append((question, tokens))
        if not prompts:
            return
        asked = questions[0].parameters
        sampling = SamplingParams(
            max_tokens=answer_limit(questions[0]),
            temperature=asked.get("temperature", 1.0),
            top_p=asked.get("top_p", 1.0),
            logprobs=asked.get("top_logprobs"),
        )
        outputs = self._engine.generate([{"prompt_token_ids": tokens} for _, tokens in prompts], sampling, use_tqdm=False)
        for (question, _), output in zip(prompts, outputs, strict=True):
            yield _answer(question, output)

    def _too_long(self, question: Question, tokens: int) -> str:
        """Returns an error if a question of ``tokens`` tokens does not fit with its answer, else an empty text."""
        room = self._engine.llm_engine.vllm_config.model_config.max_model_len
        wanted = tokens + answer_limit(question)
        return f"{wanted} tokens with its answer, and the judge has {room} positions" if wanted > room else ""


def _answer(question: Question, output: Any) -> Answer:
    """Returns a vLLM output in the form of a chat completion."""
    made = output.outputs[0]
    choice: dict[str, Any] = {"finish_reason": made.finish_reason, "message": {"role": "assistant", "content": made.text}}
    if made.logprobs:
        limit = question.parameters.get("top_logprobs", 5)
        choice["logprobs"] = {"content": [{"top_logprobs": _alternatives(made.logprobs[0])[:limit]}]}
    usage = JudgeUsage(len(output.prompt_token_ids or ()), len(made.token_ids))
    return Answer(question, choice, question.model, usage)


def _alternatives(position: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Returns the alternatives at one position, most likely first; they always include the sampled token."""
    ranked = sorted(position.values(), key=lambda one: -one.logprob)
    return [{"token": one.decoded_token or "", "logprob": one.logprob} for one in ranked]
