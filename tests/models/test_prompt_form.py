"""The Tulu template's own function, and what is checked of a prompt before any template sees it."""

from __future__ import annotations

from typing import Any

import pytest

from tulu_eval.benchmarks.base import Prompt
from tulu_eval.errors import PreflightError
from tulu_eval.models.prompt_form import PROBE, check_asked, probe_of, render_tulu
from tulu_eval.records import Turn

SHOT = (Turn("user", "1+1?"), Turn("assistant", " 2"))


def test_the_tulu_template_of_several_turns() -> None:
    turns = Prompt("2+2?", "", "", SHOT).turns
    assert render_tulu(turns, "</s>") == "<|user|>\n1+1?\n<|assistant|>\n 2</s>\n<|user|>\n2+2?\n<|assistant|>\n"
    with pytest.raises(PreflightError, match="the Tulu template has no form for a system prompt"):
        render_tulu([Turn("system", "Be brief."), *turns])


@pytest.mark.parametrize(
    ("earlier", "roles"),
    [
        ((), ["user"]),
        (SHOT * 5, ["user", "assistant", "user"]),
        ((Turn("system", "Be brief."),), ["system", "user"]),
        ((Turn("system", "Be brief."), *SHOT), ["system", "user", "assistant", "user"]),
    ],
)
def test_the_probe_has_the_roles_of_the_prompts(earlier: tuple[Turn, ...], roles: list[str]) -> None:
    probe = probe_of([Prompt("a", "", ""), Prompt("b", "", "", earlier)])
    assert [turn.role for turn in probe] == roles
    assert [turn.content for turn in probe] == [*(f"{role}'s probe" for role in roles[:-1]), PROBE]


def test_a_role_that_no_conversation_has_is_refused_with_the_items_name() -> None:
    odd: Any = Turn("tool", "1")  # type: ignore[arg-type]
    with pytest.raises(PreflightError, match="item 3: a turn's role is 'tool', not one of system, user, assistant"):
        check_asked([Prompt("a", "", "", (odd,))], ["item 3"])


def test_half_a_character_is_found_in_every_turn() -> None:
    with pytest.raises(PreflightError, match="item 3: its text has a lone surrogate"):
        check_asked([Prompt("a", "", "", (Turn("user", "x"), Turn("assistant", "\ud83d")))], ["item 3"])
