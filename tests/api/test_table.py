"""The table, the page, the suite, cards and bundles from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tulu_eval

MakeRun = Callable[..., Path]


def test_the_table_in_a_format(make_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    make_run(121)
    capfd.readouterr()
    table = tulu_eval.table("results", output="out/table.tex")
    assert "| Tulu V2.5 PPO 13B" in str(table)
    assert "60.5 [53.6, 67.0]" in str(table)
    assert table._repr_markdown_() == str(table)
    assert table.problems == ()
    assert Path("out/table.tex").read_text() == table.text("latex")
    assert capfd.readouterr() == ("", "")
    assert "not measured" in str(tulu_eval.table("nowhere", "plain"))
    with pytest.raises(tulu_eval.UserError, match="unknown format 'html'"):
        tulu_eval.table("results", "html")
    with pytest.raises(tulu_eval.UserError, match=r"^output x.html: the format follows from the name's end"):
        tulu_eval.table("results", output="x.html")


def test_the_page(make_run: MakeRun, rows: Path) -> None:
    make_run(121)
    page = tulu_eval.report("results")
    assert (page.path, page.runs, page.trained, page.problems) == (Path("results/report.html"), 1, 0, ())
    assert page.size == len(page.path.read_text(encoding="utf-8"))
    for more, message in (
        ({"results": "nowhere"}, "no folder nowhere"),
        ({"training": "nowhere"}, "no folder nowhere"),
        ({"data": {"gsm9k": rows}}, "unknown benchmark 'gsm9k'"),
        ({"data": {"gsm8k": "nowhere"}}, "data gsm8k=nowhere: no such file"),
    ):
        with pytest.raises(tulu_eval.UserError, match=message):
            tulu_eval.report(**{"results": "results", **more})  # type: ignore[arg-type]


def test_the_suite() -> None:
    suite = tulu_eval.load_suite()
    model = tulu_eval.find_model("tulu-2-dpo-13b")
    assert model == suite.find("tulu-2-dpo-13b")
    assert model in tulu_eval.list_models("dpo")
    assert len(tulu_eval.list_models()) == len(suite.models)
    with pytest.raises(tulu_eval.UserError, match="Did you mean 'DPO'"):
        tulu_eval.list_models("DPOO")


def test_a_card_is_made_and_checked(make_run: MakeRun) -> None:
    make_run(121)
    card = tulu_eval.make_card("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm")
    assert Path("repository/results.md") in card.write("repository")
    assert Path("repository/results.md").read_text() == card.text
    Path("repository/results.md").write_text("another")
    with pytest.raises(tulu_eval.UserError, match="exists and is not this text"):
        card.write("repository")
    Path("README.md").write_text(card.text)
    found = tulu_eval.check_card("README.md")
    assert found.model == tulu_eval.find_model("tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm")


def test_a_bundle_there_and_back(make_run: MakeRun) -> None:
    run = tulu_eval.load_run(make_run(121))
    written = tulu_eval.bundle(run)
    assert written.size == written.file.stat().st_size
    found = tulu_eval.verify_bundle(written.file)
    assert (found.id, found.problems, found.results) == (written.id, (), run.results)
    with pytest.raises(tulu_eval.UserError, match=r"give another name with output$"):
        tulu_eval.bundle(make_run(97, revision="2a2b2c2d"), output=written.file)


def test_a_run_is_verified_against_another_model(make_run: MakeRun) -> None:
    run = make_run(121, model="my/checkpoint", revision="sha256:55")
    with pytest.raises(tulu_eval.UserError, match="against=NAME compares with"):
        tulu_eval.verify(run)
    found = tulu_eval.verify(run, against="tulu-2-13b")
    assert not found.same_weights
    assert tulu_eval.verify(run).model == found.model, "the run remembers it"
    assert tulu_eval.rescore(run).results == found.run.results


def test_what_a_comparison_takes() -> None:
    names = ["tulu-2-13b", "tulu-2-dpo-13b"]
    assert tulu_eval.items_needed("gsm8k", names, 5.0).unpaired > 1000
    with pytest.raises(tulu_eval.UserError, match=r"^detect is a difference in percent points"):
        tulu_eval.items_needed("gsm8k", names, 0.0)
    with pytest.raises(tulu_eval.UserError, match="a comparison is of two models, not 1"):
        tulu_eval.items_needed("gsm8k", names[:1], 5.0)
