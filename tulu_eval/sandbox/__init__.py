"""Runs programs that models wrote, each in a sandbox of its own: no network, no files, bounded memory, processes and time."""

from tulu_eval.sandbox.limits import Ending, Execution, Limits, Outcome
from tulu_eval.sandbox.programs import check_sandbox, run_programs

__all__ = ["Ending", "Execution", "Limits", "Outcome", "check_sandbox", "run_programs"]
