"""The verbs that read a run, with the words to read the changed one."""

from __future__ import annotations

MODEL = "allenai/tulu-v2.5-ppo-13b-uf-mean-70b-uf-rm"

Verbs = dict[str, tuple[str, ...]]

_ALL_RUNS: Verbs = {
    "table": ("table", "--results", "{root}/results"),
    "table --format markdown": ("table", "--results", "{root}/results", "--format", "markdown"),
    "table --format csv": ("table", "--results", "{root}/results", "--format", "csv"),
    "report": ("report", "--results", "{root}/results", "--output", "{root}/r.html", "-q"),
}
_ONE_RUN: Verbs = {
    "score": ("score", "{run}"),
    "score --json": ("score", "{run}", "--json"),
    "verify": ("verify", "{run}", "--partial"),
    "compare": ("compare", "{run}", "{good}"),
    "compare, second": ("compare", "{good}", "{run}", "--json"),
    "bundle": ("bundle", "{run}", "--output", "{root}/b.zip"),
}
_DRY = ("--judge", "gpt-4.1", "--dry-run", "--data", "{data}", "--gamed", "{gamed}", "--partial")

VERBS: Verbs = {
    **_ONE_RUN,
    **_ALL_RUNS,
    "verify --json": ("verify", "{run}", "--partial", "--json"),
    "audit": ("audit", "{run}", "--model", "{root}/no-model"),
    "table --format json": ("table", "--results", "{root}/results", "--format", "json"),
    "card": ("card", MODEL, "--published", "--results", "{root}/results"),
    "verify-bundle": ("verify-bundle", "{root}/made.zip"),
    "merge": ("merge", "{shards}"),
    "judge": ("judge", "{run}", "--judge", "gpt-4.1", "--dry-run"),
}
"""Verbs for a run with right answers."""

ALPACA_VERBS: Verbs = {
    **_ONE_RUN,
    **_ALL_RUNS,
    "judge": ("judge", "{run}", *_DRY),
    "compare-outputs": ("compare-outputs", "{run}", "--with", "{good}"),
    "compare-outputs, second": ("compare-outputs", "{good}", "--with", "{run}", "--json"),
    "audit": ("audit", "{run}", "--model", "{root}/no-model", "--data", "{data}"),
}
"""Verbs for a run whose outputs a judge compares; its win rates are inside of its folder."""

JUDGED_VERBS: Verbs = {
    **_ONE_RUN,
    **_ALL_RUNS,
    "card": ("card", "claude-2", "--results", "{root}/results"),
    "judge": ("judge", "{run}", *_DRY),
}
"""Verbs for a judge's folder."""

AUDIT_VERBS: Verbs = {"audit": ("audit", "{run}", "--model", "{model}", "--data", "{rows}", "--limit", "1", "-q")}
"""The verb that runs the model again."""

MANY = ("table", "report", "card")
"""Verbs that go through many runs and list each wrong one as a problem."""
