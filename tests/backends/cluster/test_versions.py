"""Machines with other programs are told apart."""

from __future__ import annotations

import pytest

from tulu_eval.backends.cluster.versions import ABSENT, difference, other_engine, versions


def test_python_packages_and_our_own_code_are_compared() -> None:
    here = versions()
    assert {"python", "tulu-eval", "ray", "torch", "transformers", "vllm"} <= set(here)
    assert "(code " in here["tulu-eval"]
    assert difference("a", dict(here), here) == ""


@pytest.mark.parametrize("name", ["python", "tulu-eval", "ray", "torch", "transformers", "vllm"])
def test_each_difference_is_one_line_that_names_the_node(name: str) -> None:
    here = {**versions(), name: "2.0"}
    assert difference("far", {**here, name: "1.0"}, here) == (
        f"the node far has {name} 1.0, and this machine 2.0; install the same on both"
    )
    without = {key: version for key, version in here.items() if key != name}
    assert f"has {name} {ABSENT}, and this machine 2.0" in difference("far", without, here)


def test_an_engine_that_says_another_thing_of_itself_is_one_line() -> None:
    assert other_engine("far", {"dtype": "float32"}, {"dtype": "float32"}) == ""
    assert other_engine("far", {"dtype": "bfloat16"}, {"dtype": "float32"}) == (
        "the engine on the node far is another one: dtype is bfloat16, elsewhere float32"
    )
    assert "kernel is fast, elsewhere None" in other_engine("far", {"kernel": "fast"}, {})
