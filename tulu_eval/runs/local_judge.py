"""Loads a judge into this process: makes a vLLM engine that answers questions from the name of a model.

vLLM writes its log to stdout, which is for results. The log therefore goes to a file, and an error names that file.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tulu_eval.backends.base import EngineSettings
from tulu_eval.backends.vllm import preflight
from tulu_eval.backends.vllm.process import explain, read_log
from tulu_eval.backends.vllm.settings import environment, make_spec
from tulu_eval.errors import EngineError, PreflightError
from tulu_eval.judging.judge_recipe import Question
from tulu_eval.judging.vllm_judge import VllmJudge, Write
from tulu_eval.models.base import ModelFiles
from tulu_eval.models.model_files import fetch
from tulu_eval.models.template import ChatTemplate, Conversation
from tulu_eval.models.tokenizer import load_for_prompts
from tulu_eval.models.tokenizer_calls import token_ids
from tulu_eval.records import Turn
from tulu_eval.runs import template_date

POSITIONS = 16384
"""Largest context of a judge. The longest of 41,732 published questions had 6498 tokens; two outputs of 8192 fill the rest."""

CPU_ROWS = 8
"""Number of questions at once on a CPU. An answer is one token, so the work is in the prompts; a few of them fill the cores."""


def judge_name(files: ModelFiles) -> str:
    """Returns the name of a local judge in results; it has the revision in it, since other weights make another judge."""
    return f"{files.name}@{files.revision.removeprefix('sha256:')[:8]}"


def settings_here() -> EngineSettings:
    """Returns the settings of the judge's engine on this machine."""
    return EngineSettings(batch_size=CPU_ROWS if preflight.cpu_build() else 0)


def check(files: ModelFiles) -> None:
    """Checks that vLLM can run the judge before anything heavy is loaded; raises the errors of the vLLM backend's ``check``."""
    preflight.check(files, settings_here())


def writer(files: ModelFiles) -> Write:
    """Returns a function that writes questions in a chat template; raises PreflightError if it or the tokenizer is missing."""
    tokenizer = load_for_prompts(files.path, files.name, trust_remote_code=False)
    template = ChatTemplate.of(tokenizer, files.name)
    if template is None:
        raise PreflightError(f"{files.name} has no chat template, so it cannot be asked as a judge")

    def write(questions: Sequence[Question]) -> list[tuple[list[int], str]]:
        turns = [Conversation([Turn(turn.role, turn.content) for turn in one.messages]) for one in questions]
        rendered = template.attempt(turns, template_date.today())
        names = [f"question {at}" for at in range(len(questions))]
        ids = token_ids(tokenizer, files.name, [one.text for one in rendered], names)
        return [(tokens, one.error) for tokens, one in zip(ids, rendered, strict=True)]

    return write


@contextlib.contextmanager
def local_judge(files: ModelFiles) -> Iterator[VllmJudge]:
    """Yields a judge with a loaded model; downloads the weights first if the model is on the hub.

    Raises:
        PreflightError: If vLLM, a chat template or something else that the judge needs is missing.
        EngineError: If vLLM does not start.
    """
    check(files)
    write = writer(files)
    fetch(files)
    settings = settings_here()
    positions = min(files.context or POSITIONS, POSITIONS)
    os.environ.update(environment(files, settings, positions, 0))
    with _stdout_in_a_file() as log:
        try:
            judge = VllmJudge.load(make_spec(files, settings, (), positions, 0).engine, write)
        except Exception as error:
            cause = explain(f"{type(error).__name__}: {' '.join(str(error).split())}"[:500], read_log(log))
            raise EngineError(f"vLLM did not start: {cause} (log: {log})") from error
        with judge:
            yield judge
    log.unlink()


@contextlib.contextmanager
def _stdout_in_a_file() -> Iterator[Path]:
    """Sends file descriptor 1 of this process and its children to a file and yields its path; the caller deletes the file."""
    with tempfile.NamedTemporaryFile(prefix="tulu-eval-judge-", suffix=".log", delete=False) as file:
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield Path(file.name)
        finally:
            sys.stdout.flush()
            os.dup2(saved, 1)
            os.close(saved)
