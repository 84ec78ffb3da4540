"""The eight worked examples of GSM8K's chain-of-thought prompts (Wei et al., 2022), as the package lm-eval ships them."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
from pathlib import Path

from tulu_eval.errors import PreflightError


@functools.cache
def exemplars() -> tuple[tuple[str, str], ...]:
    """Returns question and reasoning of each example; the reasoning ends in "The answer is N.".

    Raises:
        PreflightError: If the package is missing, or has no examples where version 0.4.13 has them.
    """
    import yaml

    try:
        samples = yaml.safe_load(source().read_text(encoding="utf-8"))["fewshot_config"]["samples"]
        return tuple((str(shot["question"]), str(shot["target"])) for shot in samples)
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise _other_version() from error


def so_exemplars() -> tuple[tuple[str, str], ...]:
    """Returns question and reasoning as the Tulu suites have them: the reasoning ends in "So the answer is N."."""
    return tuple(
        (question, re.sub(r"The answer is (\S+)\Z", r"So the answer is \1", reasoning)) for question, reasoning in exemplars()
    )


def source() -> Path:
    """Returns the file of the package lm-eval that has the examples; raises PreflightError if the package is missing."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise PreflightError(
            "the GSM8K exemplars come from the package lm-eval, which is missing: pip install 'lm-eval>=0.4.13'"
        )
    return Path(spec.submodule_search_locations[0]) / "tasks" / "gsm8k" / "gsm8k-cot.yaml"


def checked(prefix: str, sha256: str) -> str:
    """Returns a prompt's constant part if it has the known hash; raises PreflightError if the package's examples are others."""
    if hashlib.sha256(prefix.encode()).hexdigest() != sha256:
        raise _other_version()
    return prefix


def _other_version() -> PreflightError:
    return PreflightError(f"the exemplars in {source()} do not give the published prompt: pip install 'lm-eval==0.4.13'")
