"""Two runs compared: causes of flips, the texts' first difference, the paired test against statsmodels, differing settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tulu_eval.errors import UnknownName, UserError
from tulu_eval.findings.compare import compare
from tulu_eval.runs.reading import read_run
from tulu_eval.store import manifest as files
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.sample_line import encode

MakeRun = Callable[..., Path]


def answer(place: int, right: bool) -> str:
    return f" So the answer is {place + 1 if right else 0}."


def regrade(folder: Path, item: str, **changes: object) -> None:
    """Changes one item's published grade and nothing else."""
    import dataclasses

    path = folder / files.LEDGER
    with Ledger(path, read_only=True) as ledger:
        samples = list(ledger.samples())
    lines = []
    for sample in samples:
        first, *rest = sample.grades
        if sample.item == item:
            sample = dataclasses.replace(sample, grades=(dataclasses.replace(first, **changes), *rest))
        lines.append(encode(sample))
    path.write_bytes(b"".join(lines))


def test_a_scorer_can_be_named(make_run: MakeRun) -> None:
    a, b = (read_run(make_run(right=right, output=f"o{right}", revision=f"{right}aaa")) for right in (121, 118))
    first, second = (row.scorer for row in a.results[:2])
    assert compare(a, b).scorer == compare(a, b, first).scorer == first
    found = compare(a, b, second)
    assert found.scorer == second
    wanted = {sample.item for sample in a.samples() if {g.scorer: g.score for g in sample.grades}[second] == 1}
    assert found.paired.right_a == len(wanted)
    with pytest.raises(UnknownName, match=f"unknown scorer of both runs '{second}s'.*{second}"):
        compare(a, b, f"{second}s")


def test_flips_are_counted_tested_and_explained(make_run: MakeRun) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as reference

    a = make_run(right=lambda place: place < 121)
    b = make_run(right=lambda place: 8 <= place < 124, output="b", revision="0000aaaa")
    found = compare(read_run(a), read_run(b))
    paired = found.paired
    assert (paired.n, paired.right_a, paired.right_b, paired.only_a, paired.only_b) == (200, 121, 116, 8, 3)
    assert paired.p_value == pytest.approx(reference([[0, 8], [3, 0]], exact=True).pvalue)
    assert paired.difference == pytest.approx(2.5)
    assert paired.low < 2.5 < paired.high
    assert (paired.same_text, paired.same_answer) == (189, 189)
    assert len(found.flips) == 11
    assert {flip.cause for flip in found.flips} == {"text differs"}
    first = found.flips[0]
    assert (first.item, first.target, first.a.answer, first.b.answer) == ("test-1309", "1", "1", "0")
    assert (first.a.right, first.b.right) == (True, False)
    where = len(" So the answer is ")
    assert first.divergence is not None
    assert (first.divergence.token, first.divergence.character) == (where, where)
    assert (first.divergence.a, first.divergence.b) == ("1.", "0.")
    assert {(change.name, change.kind) for change in found.changes} == {
        ("model.revision", "setting"),
        ("model.weights_sha256", "setting"),
    }


def test_another_prompt_is_the_cause_before_anything_else(make_run: MakeRun) -> None:
    a = make_run(right=121)
    b = make_run(right=120, output="b", prompt="Question", form="chat")
    found = compare(read_run(a), read_run(b))
    assert [flip.cause for flip in found.flips] == ["prompt differs"]
    assert {change.name for change in found.changes} == {"template.form", "template.sha256"}


def test_extraction_and_grade_are_told_apart(make_run: MakeRun) -> None:
    a, b = make_run(right=121), make_run(right=121, output="b")
    regrade(b, "test-1309", answer="7", score=0.0)
    regrade(b, "test-228", score=0.0)
    found = compare(read_run(a), read_run(b))
    assert {flip.item: (flip.cause, flip.divergence) for flip in found.flips} == {
        "test-1309": ("extraction", None),
        "test-228": ("grade", None),
    }
    assert found.changes == ()


def test_other_tokenizers_are_compared_by_characters(make_run: MakeRun) -> None:
    a, b = make_run(right=121), make_run(right=120, output="b", tokenizer="another")
    flip = compare(read_run(a), read_run(b)).flips[0]
    assert flip.divergence is not None
    assert flip.divergence.token is None


def test_only_what_both_answered_is_compared(make_run: MakeRun) -> None:
    a = make_run(right=121, failed=4)
    b = make_run(right=121, output="b", protocol="full", limit=300)
    found = compare(read_run(a), read_run(b))
    assert (found.paired.n, found.left_out, found.only_in) == (196, 4, (0, 100))
    assert found.flips == ()
    assert {"protocol.name", "limit"} <= {change.name for change in found.changes}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"benchmark": "gsm-symbolic"}, "is of gsm8k and .* of gsm-symbolic: no items are shared"),
        ({"target": "9"}, "the right answer of test-1309 is '1' in one run and '9' in the other: other data"),
        ({"scorer": "mine"}, "have no scorer in common; 'tulu-eval score' grades both again"),
        ({"items": "other"}, "share no item$"),
    ],
)
def test_runs_that_cannot_be_compared(make_run: MakeRun, spoil: dict[str, object], message: str) -> None:
    import dataclasses

    a, b = make_run(right=121, limit=1), make_run(right=121, limit=1, output="b")
    path = b / files.LEDGER
    with Ledger(path, read_only=True) as ledger:
        (sample,) = ledger.samples()
    if "target" in spoil:
        sample = dataclasses.replace(sample, target=str(spoil["target"]))
    if "items" in spoil:
        sample = dataclasses.replace(sample, item="test-0")
    grades = {name: value for name, value in spoil.items() if name in ("scorer", "score")}
    sample = dataclasses.replace(sample, grades=tuple(dataclasses.replace(grade, **grades) for grade in sample.grades))
    path.write_bytes(encode(sample))
    if "benchmark" in spoil:
        data = json.loads((b / files.MANIFEST).read_text())
        data["benchmark"]["name"] = spoil["benchmark"]
        (b / files.MANIFEST).write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        compare(read_run(a), read_run(b))


def test_nothing_answered_in_both(make_run: MakeRun) -> None:
    a, b = make_run(right=1, limit=2, failed=2), make_run(right=1, limit=2, output="b")
    with pytest.raises(UserError, match="share no item that the engine answered in both"):
        compare(read_run(a), read_run(b))


def test_scores_between_right_and_wrong_get_a_t_test(make_run: MakeRun) -> None:
    import dataclasses

    from scipy.stats import ttest_1samp

    a, b = make_run(right=10, limit=12), make_run(right=10, limit=12, output="b")
    with Ledger(b / files.LEDGER, read_only=True) as ledger:
        samples = list(ledger.samples())
    halved = [
        dataclasses.replace(one, grades=tuple(dataclasses.replace(g, score=g.score / 2) for g in one.grades)) for one in samples
    ]
    (b / files.LEDGER).write_bytes(b"".join(map(encode, halved)))
    found = compare(read_run(a), read_run(b)).paired
    assert (found.test, found.only_a, found.only_b, found.n) == ("t", 10, 0, 12)
    assert found.difference == pytest.approx(100 * 5 / 12)
    assert (found.score_a, found.score_b) == (pytest.approx(100 * 10 / 12), pytest.approx(100 * 5 / 12))
    assert found.low < found.difference < found.high
    assert found.p_value == pytest.approx(float(ttest_1samp([0.5] * 10 + [0.0] * 2, 0).pvalue))
    assert found.verdict == "differ"
