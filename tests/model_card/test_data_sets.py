"""Every benchmark of this package has a data set of the hub, but the variants of one have one."""

from __future__ import annotations

from tulu_eval.model_card.data_sets import DATA_SETS, data_set
from tulu_eval.runs.catalog import BENCHMARKS, names


def test_every_benchmark_is_named_and_others_go_by_their_own_name() -> None:
    assert {name for name in names(BENCHMARKS) if name not in DATA_SETS} == {"gsm-symbolic-zero-shot"}
    theirs = data_set("their-benchmark", "accuracy")
    assert (theirs.id, theirs.name, theirs.config, theirs.task) == ("their-benchmark", "their-benchmark", None, "")


def test_alpaca_eval_1_and_2_are_two_configurations() -> None:
    one, two = data_set("alpaca-eval", "alpaca_eval_1_win_rate"), data_set("alpaca-eval", "lc_win_rate")
    assert one.id == two.id
    assert (one.name, two.name) == ("AlpacaEval 1", "AlpacaEval 2")
    assert one.config != two.config
