"""Makes runs: plan, manifest, ledger, runner, result. It also reads them again."""
