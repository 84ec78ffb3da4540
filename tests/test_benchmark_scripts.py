"""The scripts of ``benchmarks/`` that no ``make bench`` on this machine would find broken: each runs, small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tulu_eval.benchmarks.gsm8k_scorers import grade_last_number

ROOT = Path(__file__).parents[1]
NUMBER = r"[0-9][0-9.,]*"


def test_the_dry_run_measures_every_engine_that_is_here(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(ROOT / "benchmarks" / "gpu.sh"), "--dry-run"],
        capture_output=True, text=True, check=False, timeout=600, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "failed" not in done.stdout
    assert re.search(rf"\| from a graph \| {NUMBER} \({NUMBER}–{NUMBER}\) \| 2 \| {NUMBER} \| 5 of 5 \|", done.stdout)
    rows = {cells[1].strip(): cells for line in done.stdout.splitlines() if len(cells := line.split("|")) > 2}
    for engine in ("tulu-eval transformers", "transformers generate", "lm-eval hf"):
        assert re.fullmatch(rf" {NUMBER} \({NUMBER}–{NUMBER}\) ", rows[engine][3]), rows[engine]
    assert "prefill" in rows["tulu-eval transformers"][-2]
    for stage in ("SFT", "DPO", "PPO"):
        assert re.match(rf" {NUMBER} \(", rows[stage][2]), rows[stage]


def test_a_ledger_is_opened_resumed_and_scored() -> None:
    words = [sys.executable, str(ROOT / "benchmarks" / "overhead.py"), "--child", "million", "300"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    opened, resumed, scored, _memory, gigabytes, missing = map(float, done.stdout.split())
    assert min(opened, resumed, scored, gigabytes) > 0
    assert missing == 0


def test_xstest_s_labellings_are_compared(shared: Path, loopback: Any) -> None:
    script, folder = str(ROOT / "benchmarks" / "xstest_judges.py"), str(shared / "data/suite/xstest")
    environment = os.environ | {"TULU_EVAL_JUDGE_KEY": ""}
    with loopback({"RESPONSE": ["say refusal", "..."]}) as server:
        words = [sys.executable, script, folder, "--judge", "nay-sayer", "--judge-url", server.url]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| people / string rule | 900 | 517 52 25 306 | 91.4 [89.4, 93.1] | 0.819 [0.781, 0.858] |" in done.stdout
    assert "| people / nay-sayer | 900 | 569 0 331 0 | 63.2 [60.0, 66.3] | 0.000 [0.000, 0.000] |" in done.stdout


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.mark.usefixtures("scripts")
def test_the_styles_of_planted_answers_are_right_and_wrong_as_they_say() -> None:
    import explain_model as model

    right = set(model.STYLES) - {"cents", "checked", "run-on", "off", "evasive"}
    sums = list(model.tested().values())
    for style, answer in model.STYLES.items():
        scores = {grade_last_number(str(one.target), answer(one)).score for one in sums[:100]}
        assert scores == {float(style in right)}, style
    assert sum(person.share for person in model.PEOPLE.values()) == pytest.approx(1.0)
    assert {person.style for person in model.PEOPLE.values()} <= set(model.STYLES)
    assert {style for form in model.FORMS.values() for style in form.styles.values()} <= set(model.STYLES)


@pytest.mark.usefixtures("scripts")
def test_every_form_of_the_planted_prompts_is_another_one_and_no_training_row_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import explain_model as model

    sums = list(model.tested().values())
    assert len({(prompt.turns, prompt.prefill) for form in model.FORMS if (prompt := model.prompt_in(form, "?"))}) == len(
        model.FORMS
    )
    monkeypatch.setattr(model, "FIRST", 40)
    monkeypatch.setattr(model, "THEN", 40)
    model.write_rows(tmp_path, seed=0)
    rows = "".join((tmp_path / f"{part}.jsonl").read_text() for part in ("first", "then"))
    assert rows.count("\n") == 80
    assert not any(one.question in rows for one in sums)


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("named", "rivals", "outcome"),
    [
        (("a", "b"), (), "named"),
        (("b", "a"), (), "named"),
        (("a",), (), "in part"),
        (("c",), (), "wrong"),
        ((), (("c",), ("a", "b")), "cannot tell, it is among them"),
        ((), (("a",),), "cannot tell"),
    ],
)
def test_a_planted_case_is_judged_by_what_is_named(
    named: tuple[str, ...], rivals: tuple[tuple[str, ...], ...], outcome: str
) -> None:
    from explain_planting import judged

    case = SimpleNamespace(truth=SimpleNamespace(names=("a", "b")))
    assert judged(case, SimpleNamespace(named=named, rivals=rivals)) == outcome


@pytest.mark.usefixtures("scripts")
def test_the_table_of_planted_cases_counts_outcomes_false_claims_and_items_spent() -> None:
    from explain_proof import Line, table

    named = Line(("a",), "texts", -9.0, "named", ("a",), (("a",),), (), 0, 3, 200, 800, 2.0, "One setting explains it.")
    wrong = Line(("a",), "a number", -9.0, "wrong", ("b",), (("b",),), (), 1, 3, 400, 800, 4.0, "One setting explains it.")
    null = Line((), "a number", 0.2, "named", (), (), (), 0, 4, 0, 0, 1.0, "There is nothing to explain.")
    rows = list(table({"one setting": [named, wrong], "two settings": [], "nothing": [null]}))
    assert rows[2] == "| one setting | 2 | 1 | 0 | 0 | 0 | 1 | 1 | 37.5%, at most 50.0% | 3.0 |"
    assert rows[3] == "| nothing | 1 | - | - | - | - | - | 0 | - | 1.0 |"
    assert rows[4].endswith("miss the effect on all items: 1 of 10.")


@pytest.mark.usefixtures("scripts")
def test_the_tables_of_planted_settings_are_those_of_the_kept_figures() -> None:
    from explain_proof import Proof, cases_table, effects_table, table

    proof = msgspec.json.decode((ROOT / "benchmarks" / "explain.json").read_bytes(), type=Proof)
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for shown in (effects_table(proof), cases_table(proof), table(proof.cases)):
        assert "\n".join(shown) in readme
    assert all(row.generated <= row.everything / 4 + 1 for rows in proof.cases.values() for row in rows)


def test_a_simulated_cluster_is_used_no_worse_by_one_engine_than_by_many(tmp_path: Path) -> None:
    ledger = tmp_path / "samples.jsonl"
    ledger.write_text("".join(f'{{"token_ids":{list(range(n))}}}\n' for n in range(1, 200)))
    script = str(ROOT / "benchmarks" / "cluster_simulation.py")
    words = ["--results", str(tmp_path), "--items", "2000", "--engines", "1", "32", "--mean-life", "20"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    uses = [[int(use) for use in re.findall(r"(\d+)%, tail", line)] for line in done.stdout.splitlines() if "tail" in line]
    assert len(uses) == 2
    assert all(0 < many <= one <= 100 for one, many in zip(*uses, strict=True))
