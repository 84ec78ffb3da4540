"""A template's date is that of the day on which a run was started: after midnight it goes on, and its shards fit together."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.errors import DataError, UserError
from tulu_eval.registry import load_suite
from tulu_eval.runs import template_date
from tulu_eval.runs.merge import merge
from tulu_eval.runs.order import Order
from tulu_eval.runs.progress import Progress
from tulu_eval.runs.run_plan import Plan, make_plan
from tulu_eval.runs.runner import execute
from tulu_eval.store.manifest import read_manifest
from tulu_eval.store.signature import signature

QUIET = Progress(quiet=True)
FIRST, SECOND = "2026-11-29", "2026-11-30"


@pytest.fixture
def dated(order: Order, llama3_like: Path, tmp_path: Path) -> Order:
    """An order for a model whose template writes the day before the question."""
    folder = tmp_path / "dated"
    shutil.copytree(llama3_like, folder)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        assert (folder / name).exists()
    source = "Today is {{ strftime_now('%d %b %Y') }}.\n{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(source)
    return dataclasses.replace(order, model=str(folder), limit=4)


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(template_date, "today", lambda: FIRST)
    return monkeypatch


def plan_of(order: Order, **changes: object) -> Plan:
    return make_plan(dataclasses.replace(order, **changes), load_suite())  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of four tokens."""
    custom = GSM8K.protocols["custom"]
    decoding = dataclasses.replace(custom.decoding, max_new_tokens=4)
    monkeypatch.setattr(GSM8K, "protocols", {**GSM8K.protocols, "custom": dataclasses.replace(custom, decoding=decoding)})


def test_the_date_is_noted_and_is_no_part_of_the_settings(dated: Order, today: pytest.MonkeyPatch) -> None:
    first = plan_of(dated)
    today.setattr(template_date, "today", lambda: SECOND)
    second = plan_of(dated)
    assert (first.template.date, second.template.date) == (FIRST, SECOND)
    assert first.planned[0].request.text.startswith("Today is 29 Nov 2026.\n")
    assert first.folder == second.folder
    assert first.settings_sha256 == second.settings_sha256
    assert first.planned[0].request.key != second.planned[0].request.key


def test_a_run_killed_before_midnight_goes_on_after_it(dated: Order, today: pytest.MonkeyPatch) -> None:
    before = execute(plan_of(dated, limit=2), QUIET)
    execute(plan_of(dated), QUIET)
    today.setattr(template_date, "today", lambda: SECOND)
    after = execute(plan_of(dated), QUIET)
    assert after.generated == 0
    manifest = read_manifest(after.folder)
    assert manifest.template.date == FIRST
    assert "2026-11-29" in after.results[0].signature
    whole = execute(plan_of(dated, limit=None), QUIET)
    assert whole.generated == 12 - 4, "the samples of another limit are taken over, with their day"
    assert read_manifest(before.folder).settings_sha256 == manifest.settings_sha256


def test_fresh_begins_with_the_day_of_today(dated: Order, today: pytest.MonkeyPatch) -> None:
    execute(plan_of(dated), QUIET)
    today.setattr(template_date, "today", lambda: SECOND)
    anew = execute(plan_of(dated, fresh=True), QUIET, fresh=True)
    assert read_manifest(anew.folder).template.date == SECOND


def test_a_run_has_one_day(dated: Order, today: pytest.MonkeyPatch) -> None:
    execute(plan_of(dated), QUIET)
    with pytest.raises(DataError, match="was started with --date 2026-11-29; leave --date away, or --fresh"):
        execute(plan_of(dated, date=SECOND), QUIET)


def test_shards_started_on_different_days(dated: Order, today: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = dataclasses.replace(dated, limit=None)
    one = execute(plan_of(order, shard=(1, 2)), QUIET)
    today.setattr(template_date, "today", lambda: SECOND)
    two = execute(plan_of(order, shard=(2, 2)), QUIET)  # sees the first one's folder
    assert merge([one.folder, two.folder]).results[0].n == 12
    elsewhere = dataclasses.replace(order, output=tmp_path / "elsewhere")
    other = execute(plan_of(elsewhere, shard=(2, 2)), QUIET)
    with pytest.raises(DataError, match="template"):
        merge([one.folder, other.folder], tmp_path / "merged")
    given = dataclasses.replace(order, output=tmp_path / "given", date=FIRST)
    assert merge([one.folder, execute(plan_of(given, shard=(2, 2)), QUIET).folder], tmp_path / "merged").results[0].n == 12


@pytest.mark.parametrize("text", ["2026-11-31", "today", "", "2026-1-1", "20261129", "2026-11-29T00:00", "２０２６-11-29"])
def test_what_is_no_day_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no day of the form YYYY-MM-DD"):
        template_date.settle(text, tmp_path / "x-1", tmp_path / "x-1", "shards")


def test_a_day_for_a_template_without_one_is_refused(order: Order) -> None:
    with pytest.raises(UserError, match=r"--date 2026-11-29: the chat template of .*llama3-like0 writes no date"):
        plan_of(order, date=FIRST)


def test_the_signature_names_the_day_where_there_is_one(order: Order, dated: Order, today: pytest.MonkeyPatch) -> None:
    for plan, day in ((plan_of(dated), f",{FIRST}|"), (plan_of(order), "|")):
        form, sha = plan.template.form, plan.template.sha256[:8]
        assert f"/{form}@{sha}{day}x:" in signature(plan.manifest, "custom", "last-number", ["a"])
