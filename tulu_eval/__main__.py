"""``python -m tulu_eval`` is the same as ``tulu-eval``."""

from tulu_eval.cli import main

main()
