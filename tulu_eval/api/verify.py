"""Does a run agree with what was published?"""

from __future__ import annotations

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.runs import Run, read
from tulu_eval.api.words import spoken
from tulu_eval.findings.published_cells import remember
from tulu_eval.findings.verify import Verification
from tulu_eval.findings.verify import verify as verify_run
from tulu_eval.runs.reading import sound


@spoken
def verify(
    run: Run | AnyPath, *, against: str | None = None, partial: bool = False, registry: AnyPath | None = None
) -> Verification:
    """Compares a run with every published number of its model and benchmark.

    >>> found = tulu_eval.verify("results/my-checkpoint/gsm8k/card-200-1a2b3c4d", against="tulu-2-dpo-13b")
    >>> [one.agreement.verdict for one in found.comparisons]
    ['consistent']

    Args:
        run: The run, or its folder.
        against: Model with whose published numbers a local checkpoint is compared; its weights count as others, so that a gap
            has to be larger. A run without published numbers remembers the model.
        partial: Accept a run of fewer items: a limited one, or the first items of a run that was stopped.
        registry: TOML file with models and published numbers of your own.

    Raises:
        UserError: If nothing was published, the run has no row to compare, or it was changed by hand.
    """
    suite = load_suite(registry)
    found = sound(read(run))
    verification = verify_run(found, suite, stand_in=against, partial=partial)
    if against:
        remember(found, suite, against)
    return verification
