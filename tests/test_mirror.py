"""Tests mirror the package: ``tests/room/test_x.py`` tests ``tulu_eval/room/x.py``, or the list says what does instead."""

from __future__ import annotations

import re
from pathlib import Path

import tulu_eval

TESTS = Path(__file__).parent
PACKAGE = Path(tulu_eval.__file__).parent

_VERB = "each of the verb's calls is in cli/test_output.py"
_PRINTED = "what it prints is kept by cli/test_output.py"
_STAGE = "its gradients and what it learns: training/test_learning.py"

ELSEWHERE = {
    "api/asking": "what judge and calibrate_judge share: api/test_judge.py",
    "api/audit": _VERB,
    "api/calibrate_judge": "api/test_judge.py; " + _VERB,
    "api/card": _VERB,
    "api/compare": "api/test_runs.py; " + _VERB,
    "api/doctor": "returns what findings/test_doctor.py tests",
    "api/exchange": _VERB,
    "api/explain": "findings/test_explain.py",
    "api/items_needed": _VERB,
    "api/merge": "api/test_evaluate.py; " + _VERB,
    "api/label": "runs/test_labelling.py",
    "api/models": _VERB,
    "api/paths": "one type",
    "api/report": _VERB,
    "api/reproduce": "reproduction/test_reproduce.py runs all of it",
    "api/score": _VERB,
    "api/verify": "api/test_runs.py; " + _VERB,
    "backends/branches": "backends/hf/test_likelihoods.py, backends/vllm/test_branch_rows.py",
    "backends/growing": "the text so far: models/test_end_tokens.py, backends/hf/test_shared_prefix.py",
    "backends/hf/batching": "backends/hf/test_shared_prefix.py",
    "backends/hf/eligibility": "which models are taken and refused: backends/hf/test_shared_prefix.py",
    "backends/hf/partial_attention": "backends/hf/test_shared_prefix.py, backends/hf/test_branching.py",
    "backends/hf/plain": "backends/hf/test_backend.py",
    "backends/impossible": "backends/hf/test_likelihoods.py",
    "backends/openai/sending": "backends/openai/test_backend.py, backends/openai/test_logprob_calls.py",
    "backends/vllm/devices": "backends/vllm/test_settings.py, backends/vllm/test_preflight.py",
    "backends/vllm/extension": "runs inside of vLLM: backends/vllm/test_reload.py",
    "backends/vllm/messages": "records between processes: backends/vllm/test_reload.py, backends/vllm/test_backend.py",
    "backends/vllm/process": "backends/vllm/test_settings.py, backends/vllm/test_backend.py",
    "backends/vllm/stream_receiver": "runs inside of vLLM: training/test_vllm_rollout.py",
    "backends/vllm/worker": "a program of its own, started by backends/vllm/test_backend.py",
    "benchmarks/alpaca_set": "judging/test_outputs.py, benchmarks/test_alpaca_eval.py",
    "benchmarks/common_hypotheses": "benchmarks/test_varied.py, findings/test_explain.py",
    "benchmarks/gsm8k_hypotheses": "benchmarks/test_varied.py, findings/test_explain.py",
    "benchmarks/hypothesis": "benchmarks/test_varied.py",
    "benchmarks/gsm8k_data": "benchmarks/test_gsm8k.py",
    "benchmarks/labelled": "what judges are asked: runs/test_labelling.py",
    "benchmarks/likelihood": "benchmarks/test_kinds_plugin.py",
    "benchmarks/ifeval_checkers": "benchmarks/test_ifeval.py; its time in test_growth.py",
    "benchmarks/suites": "api/test_run_suite.py",
    "stated/reader": "stated/test_statement.py; its time in test_growth.py",
    "stated/tail": "stated/test_statement.py; its time in test_growth.py",
    "stated/tokens": "stated/test_numerals.py; its time in test_growth.py",
    "stated/vocabulary": "words, which stated/test_statement.py reads",
    "cli/asking": "cli/test_judge.py, cli/test_judge_bad_input.py",
    "cli/audit": _VERB,
    "cli/calibrate_judge": "cli/test_judge.py; " + _VERB,
    "cli/common": "errors: cli/test_failures.py, cli/test_system_errors.py; JSON: cli/test_json_output.py",
    "cli/compare": "cli/test_suite_verbs.py; " + _VERB,
    "cli/compare_outputs": "cli/test_judge.py; " + _VERB,
    "cli/doctor": _VERB,
    "cli/engine_options": "cli/test_run.py",
    "cli/explain": "findings/test_explain.py; " + _VERB,
    "cli/merge": "runs/test_merge.py; " + _VERB,
    "cli/models": "cli/test_suite_verbs.py; " + _VERB,
    "cli/plan": "cli/test_suite_verbs.py; " + _VERB,
    "cli/report": _VERB,
    "cli/reproduce": "reproduction/test_reproduce.py; " + _VERB,
    "cli/suite_runs": "api/test_run_suite.py, api/test_verbs.py",
    "cli/score": "cli/test_judge.py, cli/test_judge_bad_input.py; " + _VERB,
    "cli/table": "cli/test_suite_verbs.py; " + _VERB,
    "cli/train": "training/test_train.py",
    "cli/verify": "cli/test_suite_verbs.py; " + _VERB,
    "endpoint/answer": "each server's words for an end: backends/openai/test_answers.py",
    "endpoint/client": "endpoint/test_wire.py, judging/test_endpoint_judge.py, backends/openai/test_backend.py",
    "endpoint/replies": "endpoint/test_wire.py; its time in test_growth.py",
    "exchange/foreign_answers": "records that exchange/test_foreign.py reads",
    "exchange/lm_eval_docs": "exchange/test_lm_eval_samples.py",
    "findings/changes": "findings/test_compare.py; of imported runs exchange/test_import_file.py",
    "findings/deviations": "findings/test_verify.py, findings/test_verify_judged.py",
    "findings/explain_evidence": "findings/test_explain.py, findings/test_explain_verdicts.py",
    "findings/explain_fit": "findings/test_explain.py",
    "findings/explain_record": "records",
    "findings/explain_rules": "findings/test_explain.py",
    "findings/explain_search": "findings/test_explain.py",
    "findings/explain_sides": "findings/test_explain.py",
    "findings/explain_trials": "findings/test_explain.py",
    "findings/explain_words": "findings/test_explain.py",
    "findings/published_cells": "findings/test_verify.py",
    "findings/table_columns": "findings/test_table.py",
    "judging/annotations": "judging/test_outputs.py",
    "judging/gamed": "judging/test_outputs.py, judging/test_win_rates.py",
    "judging/judge": "judging/test_endpoint_judge.py, judging/test_session.py",
    "judging/judged": "judging/test_win_rates.py",
    "judging/label_answers": "runs/test_labelling.py",
    "judging/record": "judging/test_outputs.py, runs/test_judged_check.py",
    "model_card/card_file": "model_card/test_check.py, model_card/test_make.py",
    "models/base": "records",
    "models/exported": "training/test_export.py, models/test_resolve.py",
    "models/gguf_header": "models/test_gguf.py",
    "models/served": "models/test_resolve.py, backends/openai/test_backend.py",
    "models/server": "backends/openai/test_servers.py, backends/openai/test_refusals.py",
    "models/server_request": "what servers get: backends/openai/test_backend.py, backends/openai/test_servers.py",
    "models/skeleton": "models/test_config.py",
    "models/template_worker": "a program of its own, started by models/test_template.py",
    "models/tokenizer_calls": "models/test_tokenizer.py",
    "registry/entries": "records; their rules in registry/test_suite_schema.py",
    "registry/lineage": "registry/test_suite.py",
    "registry/published": "registry/test_cells.py",
    "reports/audit": _PRINTED,
    "reports/board": "reports/test_report.py",
    "reports/card": _PRINTED,
    "reports/compare": _PRINTED,
    "reports/doctor": _PRINTED,
    "reports/dry_run": _PRINTED,
    "reports/explain": "findings/test_explain.py; " + _PRINTED,
    "reports/import_file": _PRINTED,
    "reports/judge": _PRINTED,
    "reports/labelled_run": "runs/test_labelling.py",
    "reports/models": _PRINTED,
    "reports/page": "reports/test_report.py, reports/test_report_browser.py",
    "reports/plan": _PRINTED,
    "reports/reproduce": _PRINTED,
    "reports/suite_table": "api/test_run_suite.py",
    "reports/train": _PRINTED,
    "reports/verify": _PRINTED,
    "reproduction/scratch": "the model that reproduction/test_reproduce.py trains",
    "reproduction/acts": "the recipe that reproduction/test_reproduce.py follows",
    "reproduction/summary": "records, which reproduction/test_reproduce.py writes and reads",
    "runs/adoption": "runs/test_runner.py, benchmarks/test_kinds_plugin.py",
    "runs/completions": "benchmarks/test_kinds_plugin.py",
    "store/digests": "runs/test_reading.py",
    "runs/estimate": "runs/test_roofline.py, findings/test_plan.py",
    "runs/generation": "runs/test_runner.py",
    "runs/grading": "runs/test_scoring.py, benchmarks/test_kinds_plugin.py",
    "store/identity": "what changes a key and what does not: runs/test_run_plan.py",
    "runs/judged_schema": "types, whose violations are in runs/test_judged_check.py",
    "store/manifest": "runs/test_runner.py, runs/test_reading.py",
    "runs/suite_plan": "api/test_run_suite.py",
    "runs/stored_labels": "runs/test_labelling.py",
    "runs/yes_judge": "runs/test_labelling.py",
    "runs/order": "a record; its checks: runs/test_run_plan.py",
    "runs/remembered": "runs/test_reading.py",
    "runs/rereading": "runs/test_reading.py",
    "runs/rescored": "runs/test_judged_check.py",
    "store/schema": "types, whose violations are in runs/test_reading.py and robustness/test_run_folders.py",
    "runs/score": "runs/test_scoring.py",
    "sandbox/driver": "a program of its own, started by sandbox/test_programs.py",
    "sandbox/launching": "sandbox/test_programs.py",
    "sandbox/limits": "records",
    "store/setup_schema": "store/test_manifest_schema.py",
    "stats/power": "two constants",
    "training/dpo": _STAGE,
    "training/job": "training/test_train.py",
    "training/loading": "training/test_networks.py, training/test_export.py",
    "training/micro_batches": "training/test_packing.py, training/test_loop.py",
    "training/pairs": _STAGE,
    "training/parallel": "ranks: training/test_distributed.py; micro-batches: training/test_packing.py",
    "training/ppo": _STAGE + ", training/test_rollout.py",
    "training/reward_model": _STAGE,
    "training/saved": "training/test_checkpoint.py",
    "training/sft": _STAGE,
    "training/sharding": "training/test_distributed.py",
    "training/speed": "training/test_packing.py",
    "training/stages": "training/test_recipes.py",
    "training/step_means": "training/test_rollout.py",
    "training/text": "training/test_data.py",
    "version": "test_contributing.py",
}
"""Modules without a test file of their place and name, and what tests them."""


def modules() -> set[str]:
    """Returns the places of all modules, such as ``runs/ledger``."""
    paths = (path for path in PACKAGE.rglob("*.py") if path.stem not in {"__init__", "__main__"})
    return {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in paths}


def mirrored(module: str) -> bool:
    room, _, name = module.rpartition("/")
    return (TESTS / room / f"test_{name}.py").is_file()


def test_every_module_has_a_test_file_or_a_reason() -> None:
    assert {module for module in modules() if not mirrored(module)} == set(ELSEWHERE)


def test_what_a_reason_names_is_there() -> None:
    named = {name for reason in ELSEWHERE.values() for name in re.findall(r"[\w/]+\.py", reason)}
    assert sorted(name for name in named if not (TESTS / name).is_file()) == []
