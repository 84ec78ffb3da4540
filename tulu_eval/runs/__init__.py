"""A run from plan to result: plan, ledger, manifest, runner."""
