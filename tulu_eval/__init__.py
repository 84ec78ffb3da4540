"""Measure a language model with the exact recipe behind a published number, and say whether the two agree.

>>> import tulu_eval
>>> (run,) = tulu_eval.evaluate("gsm-symbolic", "smollm2-135m-instruct", limit=24)
>>> run
<Run smollm2-135m-instruct on gsm-symbolic: full last-number 0.0 [0.0, 13.8], n = 24 of 500, ...>

Names are fetched when they are first used, so that the import itself loads no other module.
"""

TYPE_CHECKING = False  # type checkers take it for true; the one of ``typing`` would cost a third of the import
if TYPE_CHECKING:
    from tulu_eval.api.audit import audit
    from tulu_eval.api.calibrate_judge import calibrate_judge, plan_calibration
    from tulu_eval.api.card import check_card, make_card
    from tulu_eval.api.compare import compare, compare_outputs
    from tulu_eval.api.doctor import doctor
    from tulu_eval.api.evaluate import evaluate, plan
    from tulu_eval.api.exchange import bundle, import_run, verify_bundle
    from tulu_eval.api.explain import explain
    from tulu_eval.api.items_needed import items_needed
    from tulu_eval.api.judge import judge, plan_judging
    from tulu_eval.api.list_known import list_known
    from tulu_eval.api.merge import merge
    from tulu_eval.api.models import find_model, list_models, load_suite
    from tulu_eval.api.plan_models import plan_models
    from tulu_eval.api.report import report
    from tulu_eval.api.reproduce import plan_reproduction, reproduce
    from tulu_eval.api.run_suite import evaluate_suite, plan_suite
    from tulu_eval.api.runs import Run, find_runs, load_run
    from tulu_eval.api.score import rescore, rescore_judgments, score_annotations
    from tulu_eval.api.table import table
    from tulu_eval.api.train import plan_training, train
    from tulu_eval.api.verify import verify
    from tulu_eval.backends.base import Backend, EngineSettings
    from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol
    from tulu_eval.benchmarks.likelihood import LikelihoodBenchmark
    from tulu_eval.errors import UserError
    from tulu_eval.models.base import Served
    from tulu_eval.records import Completion, Decoding, Grade, Likelihood, Request, Result, Turn
    from tulu_eval.version import __version__ as __version__

_FILES = {
    "api.audit": ("audit",),
    "api.calibrate_judge": ("calibrate_judge", "plan_calibration"),
    "api.card": ("check_card", "make_card"),
    "api.compare": ("compare", "compare_outputs"),
    "api.doctor": ("doctor",),
    "api.evaluate": ("evaluate", "plan"),
    "api.explain": ("explain",),
    "api.exchange": ("bundle", "import_run", "verify_bundle"),
    "api.items_needed": ("items_needed",),
    "api.judge": ("judge", "plan_judging"),
    "api.list_known": ("list_known",),
    "api.merge": ("merge",),
    "api.models": ("find_model", "list_models", "load_suite"),
    "api.plan_models": ("plan_models",),
    "api.report": ("report",),
    "api.reproduce": ("plan_reproduction", "reproduce"),
    "api.runs": ("Run", "find_runs", "load_run"),
    "api.score": ("rescore", "rescore_judgments", "score_annotations"),
    "api.run_suite": ("evaluate_suite", "plan_suite"),
    "api.table": ("table",),
    "api.train": ("plan_training", "train"),
    "api.verify": ("verify",),
    "backends.base": ("Backend", "EngineSettings"),
    "benchmarks.base": ("Benchmark", "Item", "Prompt", "Protocol"),
    "benchmarks.likelihood": ("LikelihoodBenchmark",),
    "errors": ("UserError",),
    "models.base": ("Served",),
    "records": ("Completion", "Decoding", "Grade", "Likelihood", "Request", "Result", "Turn"),
    "version": ("__version__",),
}
"""Public names by their module; the imports above say the same to type checkers."""

__all__ = [
    "Backend",
    "Benchmark",
    "Completion",
    "Decoding",
    "EngineSettings",
    "Grade",
    "Item",
    "Likelihood",
    "LikelihoodBenchmark",
    "Prompt",
    "Protocol",
    "Request",
    "Result",
    "Run",
    "Served",
    "Turn",
    "UserError",
    "audit",
    "bundle",
    "calibrate_judge",
    "check_card",
    "compare",
    "compare_outputs",
    "doctor",
    "evaluate",
    "evaluate_suite",
    "explain",
    "find_model",
    "find_runs",
    "import_run",
    "items_needed",
    "judge",
    "list_known",
    "list_models",
    "load_run",
    "load_suite",
    "make_card",
    "merge",
    "plan",
    "plan_calibration",
    "plan_judging",
    "plan_models",
    "plan_reproduction",
    "plan_suite",
    "plan_training",
    "report",
    "reproduce",
    "rescore",
    "rescore_judgments",
    "score_annotations",
    "table",
    "train",
    "verify",
    "verify_bundle",
]


def __getattr__(name: str) -> object:
    """Returns a public name, and keeps it for the next time."""
    place = next((module for module, names in _FILES.items() if name in names), "")
    if place:
        import importlib

        globals()[name] = found = getattr(importlib.import_module(f"tulu_eval.{place}"), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", "__doc__", "__file__", "__name__", "__path__"})
