"""A protocol with settings changed: its name, its prompts and decoding, and that nothing else of the benchmark changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tulu_eval import plugins
from tulu_eval.benchmarks.base import Item
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.benchmarks.gsm8k_hypotheses import _card
from tulu_eval.benchmarks.hypothesis import Hypothesis, OtherDecoding, OtherScorer
from tulu_eval.benchmarks.varied import VariedBenchmark, is_varied, varied
from tulu_eval.errors import UnknownName
from tulu_eval.records import Decoding, to_json
from tulu_eval.runs import catalog
from tulu_eval.runs.reading import read_run
from tulu_eval.runs.requests import item_of
from tulu_eval.store.identity import settings_hash
from tulu_eval.store.manifest import read_manifest, read_results
from tulu_eval.store.signature import signature

COMMITTED = sorted(
    file.parent for file in (Path(__file__).parents[2] / "results" / "smollm2-135m-instruct").glob("*/*/manifest.json")
)
"""Runs that were made before protocols could be varied."""

ITEM = Item("test-1", "How many?", "3")


def test_every_hypothesis_has_a_name_of_its_own_and_a_source() -> None:
    for name in plugins.names(plugins.BENCHMARKS):
        benchmark = catalog.benchmark(name)
        for protocol in benchmark.protocols.values():
            found = benchmark.under(protocol.name).hypotheses(protocol)
            assert [name for name, count in Counter(one.name for one in found).items() if count > 1] == []
            assert all(one.source and one.setting and one.to for one in found)


def test_a_varied_protocol_has_another_name_and_prompt_and_the_same_items_and_scorers() -> None:
    made = catalog.benchmark("gsm8k", "card-200+zero-shot+stop-newline")
    assert isinstance(made, VariedBenchmark)
    assert isinstance(made, GSM8K)
    protocol, original = made.protocol("card-200+zero-shot+stop-newline"), GSM8K().protocol("card-200")
    assert (protocol.n, protocol.metric, protocol.covers) == (original.n, original.metric, (protocol.name,))
    assert protocol.decoding == Decoding(512, stop=("\n",))
    assert protocol.prompt_id != original.prompt_id
    assert made.render(ITEM).user == "Answer the following questions.\n\nQuestion: How many?"
    assert made.scorers == GSM8K.scorers
    assert made.grade("3", "3") == GSM8K().grade("3", "3")
    assert made.under(protocol.name) is made
    assert GSM8K().render(ITEM) != made.render(ITEM)


def test_the_published_prompt_is_the_one_that_is_varied() -> None:
    assert _card(8, GSM8K().render(ITEM), ITEM) == GSM8K().render(ITEM)


def test_decoding_alone_changes_no_prompt() -> None:
    made = varied(GSM8K(), "full+limit-256")
    assert made.protocol("full+limit-256").prompt_id == GSM8K().protocol("full").prompt_id
    assert made.protocol("full+limit-256").decoding.max_new_tokens == 256
    assert made.render(ITEM) == GSM8K().render(ITEM)


def test_without_a_template_the_stop_strings_stay_those_of_the_template() -> None:
    made = varied(GSM8K(), "card-200+no-template")
    assert made.protocol("card-200+no-template").plain_decoding == GSM8K().protocol("card-200").decoding
    assert isinstance(made, VariedBenchmark)
    assert made.writings == ("plain",)


def test_a_change_that_is_not_known_is_refused_where_a_run_is_made_and_passed_over_where_one_is_read() -> None:
    assert varied(GSM8K(), "card-200+of-yore").render(ITEM) == GSM8K().render(ITEM)
    with pytest.raises(UnknownName, match="Did you mean 'zero-shot'"):
        varied(GSM8K(), "card-200+zero-shto", strict=True)
    with pytest.raises(UnknownName):
        varied(GSM8K(), "card-200+by-stated-answer", strict=True)  # a free change makes no run
    with pytest.raises(UnknownName):
        varied(GSM8K(), "card-201+zero-shot")
    assert not is_varied(GSM8K(), "card-200")


def test_answers_under_a_change_are_beginnings_only_if_they_end_earlier() -> None:
    base = Decoding(512, stop=("Question:",))
    assert OtherDecoding(256).only_ends_earlier(base)
    assert OtherDecoding(stop=("Question:", "\n")).only_ends_earlier(base)
    assert not OtherDecoding(stop=("\n",)).only_ends_earlier(base)
    assert not OtherDecoding(1024).only_ends_earlier(base)
    assert not OtherDecoding(temperature=0.6).only_ends_earlier(base)


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_runs_of_before_keep_hash_and_signature_beside_varied_protocols(folder: Path) -> None:
    manifest, recorded = read_manifest(folder), read_results(folder)
    name, protocol = manifest.benchmark.name, manifest.protocol.name
    own = catalog.benchmark(name, protocol)
    before = to_json(own.protocol(protocol))
    for one in own.hypotheses(own.protocol(protocol)):
        made = catalog.benchmark(name, f"{protocol}+{one.name}")
        assert made.protocol(f"{protocol}+{one.name}").name == f"{protocol}+{one.name}"
    after = catalog.benchmark(name, protocol).protocol(protocol)
    assert to_json(after) == before
    assert after.prompt_id == manifest.protocol.prompt_id
    assert settings_hash(manifest) == manifest.settings_sha256
    assert manifest.settings_sha256.startswith(folder.name.rpartition("-")[2])
    for row in recorded.rows:
        drawn = [one for one in manifest.items[row.protocol] if one in manifest.planned]
        ids = list(dict.fromkeys(item_of(one, manifest.protocol.samples or 1) for one in drawn))
        if own.aggregates.get(row.scorer) == "part":
            part = {one.item for one in read_run(folder).samples() for g in one.grades if g.scorer == row.scorer and g.weight}
            ids = [item for item in ids if item in part]
        assert signature(manifest, row.protocol, row.scorer, ids) == row.signature


@pytest.mark.parametrize("name", ["", "Zero", "a b", "../x", "a+b", "x" * 62])
def test_a_hypothesis_has_a_name_that_a_folder_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="a hypothesis is named by"):
        Hypothesis(name, "s", "t", "u", OtherScorer("x", lambda target, text: GSM8K().grade(target, text)[0]))
