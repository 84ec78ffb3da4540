"""Runs one of open-instruct's evaluation scripts as it stands, without vLLM, a hub or OpenAI: ``open_instruct.py`` calls it.

    python open_instruct_script.py CHECKOUT eval/bbh/run_eval.py --data_dir ... --save_dir ... --model_name_or_path ...

Three things that the scripts import are replaced. ``vllm`` is a name only, because ``--use_vllm`` is never given. The
``exact_match`` of ``evaluate`` would come from the hub: lm-eval 0.4.13 carries the same function (``lm_eval/api/metrics.py``,
``exact_match_hf_evaluate``). XSTest's question to ``gpt-4-0613`` is answered by the string rule's label, which is not compared.

IFEval's script asks nltk for the pickle of punkt: nltk 3.9 and later answer with punkt_tab, found where our checkers find it.
langdetect has our checkers' seed, because the script gives it none and a text's language would be a matter of chance.
"""

from __future__ import annotations

import runpy
import sys
import types
from collections.abc import Sequence
from typing import Any


class ExactMatch:
    """``evaluate``'s metric of this name."""

    @staticmethod
    def compute(predictions: Sequence[str], references: Sequence[str], **how: bool) -> dict[str, Any]:
        """Returns the share of predictions that equal their reference."""
        from lm_eval.api.metrics import exact_match_hf_evaluate

        return dict(exact_match_hf_evaluate(list(predictions), list(references), **how))


def main() -> None:
    """Replaces the three modules and runs the script under its own name."""
    checkout, script, *options = sys.argv[1:]
    sys.path.insert(0, checkout)
    sys.modules["vllm"] = types.ModuleType("vllm")
    metrics: Any = types.ModuleType("evaluate")
    metrics.load = lambda name: ExactMatch
    sys.modules["evaluate"] = metrics
    if "ifeval" in script:
        from tulu_eval.benchmarks import ifeval_checkers

        ifeval_checkers.load()
    if "xstest" in script:
        import eval.xstest.classify_refusal as labels  # type: ignore[import-not-found]

        labels.classify_refusals_w_gpt4 = lambda rows, **asking: labels.classify_outputs_w_strmatch(rows)
    sys.argv = [script, *options]
    runpy.run_path(f"{checkout}/{script}", run_name="__main__")


if __name__ == "__main__":
    main()
