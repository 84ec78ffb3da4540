"""Finds the settings in which a run differs from the recipe behind a published number.

The recipe is the protocol of the published number, the model's template in the registry, and the engine of the original
evaluation. Settings that the publisher did not record cannot be compared; :data:`UNRECORDED` names them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from msgspec import UNSET

from tulu_eval.findings.published_cells import packaged_form
from tulu_eval.judging.numbers import NOT_RECORDED, edition_of_metric, parts, published_parts
from tulu_eval.records import Result
from tulu_eval.registry import Metric, Model, PublishedCell
from tulu_eval.runs import catalog
from tulu_eval.runs.reading import StoredRun
from tulu_eval.store.setup_schema import StoredDecoding, stored

UNRECORDED = "engine version, batch size and device of the published number"
"""Settings that no card or script of the suite records; vLLM was not pinned (open-instruct @ ea3467db, requirements.txt)."""

_FORMS = {"tulu": "tulu", None: "plain"}
"""Form of the prompts by the registry's template; base models have none and get the completion form."""

Changes = Literal["weights", "prompts", "answers", "grades", "numerics"]
"""What a setting changes. ``numerics`` only flips single items; the others can move a number by any amount."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A setting that differs: its name in the manifest, and its values behind the published number and in the run."""

    name: str
    published: str
    run: str
    changes: Changes

    @property
    def noise(self) -> bool:
        """Whether the allowance for flipped items covers it."""
        return self.changes == "numerics"


def differences(
    run: StoredRun, row: Result, cell: PublishedCell, metric: Metric, model: Model, same_weights: bool
) -> tuple[Setting, ...]:
    """Returns every setting in which a run differs from the recipe behind a published number, noise last.

    Args:
        run: The run.
        row: Its row that is compared.
        cell: The published number.
        metric: The number's metric, with the engine that made it.
        model: The model of the number.
        same_weights: Whether the run measured the released, unaltered weights of ``model``.
    """
    manifest = run.manifest
    benchmark = catalog.benchmark(run.benchmark, cell.protocol)
    protocol = benchmark.protocol(cell.protocol)
    form = manifest.template.form
    recipe = stored(protocol.plain_decoding if form == "plain" else protocol.decoding, StoredDecoding)
    version = benchmark.version if run.regraded else manifest.benchmark.version
    quantization = manifest.settings.quantization or (packaged_form(run, model) or "" if same_weights else "")
    pairs: list[tuple[str, Any, Any, Changes]] = [
        ("template", "plain" if benchmark.raw else _FORMS.get(model.template, form), form, "prompts"),
        ("prompt", protocol.prompt_id, manifest.protocol.prompt_id, "prompts"),
        *((f"decoding.{name}", getattr(recipe, name), getattr(manifest.decoding, name), "answers")
          for name in recipe.__struct_fields__ if name != "seed"),
        ("quantization", metric.quantization, quantization, "weights"),
        ("adapter", "", manifest.settings.adapter, "weights"),
        ("benchmark version", benchmark.version, version, "grades"),
        ("backend", metric.backend, manifest.backend, "numerics"),
    ]  # fmt: skip
    if row.metric == protocol.metric:
        pairs.append(("scorer", benchmark.scorers[0], row.scorer, "grades"))
    if (edition := edition_of_metric(row.metric)) is not None:
        asked = parts(row.signature)
        names = {"judge": "judge", "by": "judge's method", "prompt": "judge's prompt", "b": "baseline"}
        pairs += [
            (names[key], value, asked.get(key, NOT_RECORDED), "grades") for key, value in published_parts(edition).items()
        ]
        pairs += [(key, "", asked.get(key, ""), "grades") for key in ("sides", "places")]
    if (manifest.settings.dtype or "auto") != "auto":
        pairs.append(("dtype", "as the model's config says", f"{manifest.dtype}, asked for", "numerics"))
    if not same_weights:
        pairs.insert(0, ("model", model.hub_id, f"{run.model} @ {manifest.model.revision[:15]}", "weights"))
    found = [Setting(name, _shown(a), _shown(b), changes) for name, a, b, changes in pairs if a != b]
    return tuple(sorted(found, key=lambda setting: setting.noise))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, tuple) else "unknown" if value in (None, UNSET) else str(value) or "none"
