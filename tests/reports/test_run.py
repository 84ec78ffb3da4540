"""Tables of a run's rows and of its scorers' disagreements, which must fit a terminal."""

from __future__ import annotations

import pytest

from tulu_eval.benchmarks.ifeval import IFEval
from tulu_eval.records import STATUSES, Result
from tulu_eval.reports.run import of_disagreements, of_run
from tulu_eval.runs.score import Disagreement, Regraded
from tulu_eval.store.tally import Tally

PARTIAL = "1 of 2, not combination:repeat_prompt"


def regraded(scorers: tuple[str, ...], *disagreements: Disagreement) -> Regraded:
    return Regraded((), Tally(1, 1, 0), scorers, disagreements)


def test_the_disagreements_of_eight_scorers_fit_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Item 1129 of IFEval as SmolLM2-135M-Instruct answers it, with a target of 300 characters."""
    monkeypatch.setenv("COLUMNS", "80")
    failed = "0 of 2, not keywords:letter_frequency, combination:repeat_prompt"
    answers = (failed, failed, PARTIAL, PARTIAL, *[failed] * 4)
    target = '[{"id":"keywords:letter_frequency","kwargs":' + "x" * 256
    one = Disagreement("1129", target, answers, (0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0))
    lines = of_disagreements(regraded(IFEval.scorers, one)).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "strict-prompt and strict-instruction disagree\non 1 items:" in text
    assert '1129    [{"id":"keywords:let...  0 of 2, not' in text
    assert all(any(scorer in line.replace(",", " ").split() for line in lines[5:]) for scorer in IFEval.scorers)
    assert [line.split()[-1] for line in lines if "1 of 2" in line] == ["oi-strict-prompt", "oi-strict-instruction"]
    assert (text.count("(wrong)"), text.count("(0.5)")) == (2, 1)


@pytest.mark.parametrize("wide", ["a" * 5000, "two words " * 500, "\x1b[2J\n" * 300])
def test_a_wide_answer_is_cut(wide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    one = Disagreement("test-1309", wide, (wide, ""), (1.0, 0.0))
    text = of_disagreements(regraded(("last-number", "stated-answer"), one))
    assert max(map(len, text.splitlines())) <= 80
    assert text.isprintable() or set(filter(lambda letter: not letter.isprintable(), text)) == {"\n"}
    assert len(text.splitlines()) < 15
    assert text.splitlines()[-1].split() == ["none", "(wrong)", "stated-answer"]


def test_samples_per_item_stand_with_the_classes() -> None:
    counts = {**dict.fromkeys(STATUSES, 0), "ok": 15, "unfinished_reasoning": 5}
    row = Result("dice", "thinking", "pass@1", "pass", 50.0, 5, 5, 5, 20.0, 80.0, "clustered95", counts, "dice:thinking", 4)
    assert "thinking, 4 samples per item: 15 ok, 5 unfinished_reasoning\n" in of_run([row], Tally(20, 20, 0))
    assert "thinking: 15 ok, 5 unfinished_reasoning\n" in of_run(
        [Result.from_json(row.to_fields() | {"samples": 1})], Tally(20, 20, 0)
    )
