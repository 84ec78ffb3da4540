"""Makes a run folder from another harness's file: its answers, graded by this project's scorers, and its settings.

The text of the question tells which item an answer belongs to. Answers to no item, second answers to an item, answers to an
item with another right answer, and items without an answer are counted and named; nothing is guessed. If a file has one row per
item, all in the benchmark's order, a few rows with reworded questions belong to the items at their places, and are named too.
Prompts that differ from this project's, and settings and end reasons that the file does not have, are ``unknown`` in the
manifest and the signature.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tulu_eval.benchmarks.base import Benchmark, Item, Prompt, Protocol, items_hash, protocol_fields
from tulu_eval.benchmarks.likelihood import LikelihoodBenchmark
from tulu_eval.caching import file_sha256
from tulu_eval.errors import UnknownName, UserError
from tulu_eval.exchange.foreign import RESPONSES, read_foreign
from tulu_eval.exchange.foreign_answers import Foreign, ForeignAnswer
from tulu_eval.exchange.import_matching import Matched, match, placed
from tulu_eval.exchange.olmes import OLMES
from tulu_eval.files import Place, checked
from tulu_eval.records import Completion, Result, content_hash
from tulu_eval.registry import Suite
from tulu_eval.runs import catalog
from tulu_eval.runs.grading import Grader
from tulu_eval.runs.remembered_data import note_data
from tulu_eval.runs.scoring import write_rows
from tulu_eval.sandbox import Execution
from tulu_eval.store import manifest as files
from tulu_eval.store.identity import data_hash, safe_name, settings_hash
from tulu_eval.store.ledger import Ledger
from tulu_eval.store.manifest_schema import Manifest, Session
from tulu_eval.store.sample_line import Sample, asked_of
from tulu_eval.store.setup_schema import (
    Setup,
    StoredBenchmark,
    StoredDecoding,
    StoredImported,
    StoredModel,
    StoredProtocol,
    StoredSettings,
    StoredTemplate,
    plain,
)
from tulu_eval.store.signature import UNKNOWN
from tulu_eval.store.tally import Tally
from tulu_eval.version import __version__


@dataclasses.dataclass(frozen=True, slots=True)
class Imported:
    """An imported run.

    Attributes:
        misread: Ids of items for which the harness extracted another answer than the same rule does here.
        protocol: Name of the protocol whose items these are.
        other_prompts: Whether the file has prompts, and they are not the protocol's.
    """

    folder: Path
    source: Foreign
    matched: Matched
    misread: tuple[str, ...]
    results: tuple[Result, ...]
    tally: Tally
    protocol: str
    other_prompts: bool


def import_file(
    path: Path,
    model: str,
    benchmark_name: str,
    data: Path | None,
    output: Path,
    suite: Suite,
    execution: Execution = Execution(),  # noqa: B008 - frozen
) -> Imported:
    """Makes a run folder from another harness's file; writes nothing before it has read and matched the whole file.

    ``model`` is the name of the model that wrote the answers, followed by ``@revision`` if known; ``data`` is a file to read
    instead of the benchmark's own source. ``execution`` says how programs among the answers are run.

    Raises:
        UserError: If no known harness wrote the file, or it has no answer to an item of the benchmark.
    """
    source = read_foreign(path)
    protocol = _protocol(catalog.benchmark(benchmark_name), source, path)
    benchmark = catalog.benchmark(benchmark_name, protocol.name)
    items = benchmark.load(protocol, data)
    if not any(item.target for item in items):
        raise UserError(f"{benchmark_name} has no right answers to grade with; 'tulu-eval judge' takes files of outputs")
    matched = match(items, source.answers, benchmark.continuations if isinstance(benchmark, LikelihoodBenchmark) else None)
    if source.harness == RESPONSES:
        matched = placed(items, source.answers, matched)
    if not matched.answers:
        first = source.answers[0].question if source.answers else ""
        raise UserError(
            f"{path}: none of its {len(source.answers)} answers is to an item of {benchmark_name} (first: {first[:60]!r})"
        )
    name, revision = _model(model, source, suite)
    manifest = _manifest(path, source, benchmark, protocol, items, matched, name, revision, data)
    folder = output / safe_name(name) / benchmark.name / f"imported-{source.harness}-{manifest.settings_sha256[:8]}"
    grader = Grader.of(benchmark, manifest, execution)
    samples = list(grader.grade_all(_sample(item, answer, manifest.settings_sha256) for item, answer in matched.answers))
    asked = [(sample.completion.key, sample.item) for sample in samples]
    manifest = files.with_asked(manifest, map(asked_of, samples))
    with files.locked(folder):
        files.write_manifest(folder, manifest)
        with Ledger(folder / files.LEDGER) as ledger:
            for sample in samples:
                if not ledger.has(sample.completion.key, sample.item):
                    ledger.append(sample)
            rows = write_rows(folder, manifest, benchmark, ledger.lines(asked))
        files.write_manifest(folder, rows.manifest)
    misread = tuple(
        sample.item for sample, (_, answer) in zip(samples, matched.answers, strict=True)
        if answer.prediction is not None and sample.grades[0].answered and sample.grades[0].answer != answer.prediction
    )  # fmt: skip
    kept = any(answer.prompt or answer.turns for _, answer in matched.answers)
    other = kept and manifest.protocol.prompt_id == UNKNOWN
    return Imported(folder, source, matched, misread, rows.results, rows.tally, protocol.name, other)


def _protocol(benchmark: Benchmark, source: Foreign, path: Path) -> Protocol:
    """Returns the protocol whose items a file is matched with: the one that its task names, else the one with the most items.

    Raises:
        UserError: If the benchmark has no protocol for what the file has: a generated text per item, or likelihoods of choices.
    """
    chosen = bool(source.answers) and bool(source.answers[0].likelihoods)
    kinds = ("choose", "score") if chosen else ("generate",)
    usable = [one for one in benchmark.protocols.values() if one.samples == 1 and benchmark.under(one.name).kind in kinds]
    if not usable:
        texts, likelihoods = "a generated text per item", "likelihoods of choices"
        has, needs = (likelihoods, texts) if chosen else (texts, likelihoods)
        raise UserError(f"{path} has {has}, and {benchmark.name} is graded by {needs}, one answer per item")
    named = next((one for one in usable if one.name == _named(benchmark.name, source)), None)
    return named or max(usable, key=lambda one: (one.n > 0, len(one.covers), one.n))


def _named(benchmark: str, source: Foreign) -> str:
    """Returns the name of the protocol that the harness's task means, or its prompts; empty for the default."""
    if benchmark == "gsm8k":
        return "olmes-tulu3" if source.harness == OLMES and any(answer.turns for answer in source.answers) else ""
    if benchmark == "truthfulqa":
        return "mc1" if source.task.endswith("mc1") else ""
    if benchmark == "bbh":
        return "direct" if source.task.startswith("bbh") and "cot" not in source.task else "cot"
    if benchmark == "mmlu" and not any("\nAnswer: " in (answer.prompt or "") for answer in source.answers):
        return "0-shot"
    return ""


def _model(asked: str, source: Foreign, suite: Suite) -> tuple[str, str]:
    """Returns the name under which the run is filed, and the revision: the harness's, else the command's."""
    name, _, revision = asked.partition("@")
    if not name.strip() or not name.isprintable():
        raise UserError(f"--model {asked!r} is no name of a model")
    if revision and source.revision not in (UNKNOWN, revision) and not source.revision.startswith(revision):
        raise UserError(f"--model says revision {revision}, and the harness measured {source.revision}")
    with contextlib.suppress(UnknownName):  # a model outside the registry keeps the name as given
        known = suite.find(name)
        name = known.name if known.package else known.hub_id
    return name, source.revision if source.revision != UNKNOWN else revision or UNKNOWN


def _sample(item: Item, answer: ForeignAnswer, settings: str) -> Sample:
    prompt = UNKNOWN
    if answer.prompt is not None:
        prompt = hashlib.sha256(answer.prompt.encode("utf-8", "surrogatepass")).hexdigest()
    key = content_hash({"settings": settings, "item": item.id})
    completion = Completion(key, answer.text, (), "unknown", 0.0, likelihoods=answer.likelihoods)
    return Sample(item.id, item.target, prompt, completion, "ok", (), item.group)


def _prompts(benchmark: Benchmark, protocol: Protocol, source: Foreign, matched: Matched) -> tuple[str, str]:
    """Returns the form of the prompts, and the hash of their constant part: the protocol's own, or unknown.

    A template may stand around the protocol's text; without one the prompts are the protocol's plain form or others.
    """
    pairs = [(benchmark.render(item), answer) for item, answer in matched.answers]
    if all(answer.prompt == prompt.plain for prompt, answer in pairs):
        return "plain", protocol.prompt_id
    templated = not benchmark.raw and source.template_sha256 != "none"
    if templated and all(_holds(answer, prompt) for prompt, answer in pairs):
        return "imported", protocol.prompt_id
    return "imported", UNKNOWN


def _holds(answer: ForeignAnswer, prompt: Prompt) -> bool:
    """Whether a harness asked with a prompt's turns: with just these messages, or with a text that has them in this order."""
    texts = answer.turns or (answer.prompt or "",)
    if not prompt.earlier:
        return any(prompt.user in text for text in texts)
    wanted = [turn.content for turn in prompt.turns] + [prompt.prefill] * bool(prompt.prefill)
    if answer.turns:
        return list(answer.turns) == wanted
    place = 0
    for text in wanted:
        place = texts[0].find(text, place) + len(text)
        if place < len(text):
            return False
    return True


def _manifest(
    path: Path,
    source: Foreign,
    benchmark: Benchmark,
    protocol: Protocol,
    items: Sequence[Item],
    matched: Matched,
    name: str,
    revision: str,
    data: Path | None,
) -> Manifest:
    """Returns the run's manifest; a fact that the file does not have is ``unknown``, or null in a field of numbers or lists."""
    digest = file_sha256(path)
    note_data(data, data_hash(data, items_hash(items)))
    form, prompt_id = _prompts(benchmark, protocol, source, matched)
    items_sha256 = items_hash(items)
    decoding = checked(dataclasses.asdict(source.decoding), StoredDecoding, Place(path))
    recipe = {**protocol_fields(protocol), "prompt_id": prompt_id, "summary": f"items of {protocol.name}, imported"}
    recipe |= {"decoding": plain(decoding), "plain_decoding": plain(decoding)}
    now = files.now()
    counts = {field.name: len(getattr(matched, field.name)) for field in dataclasses.fields(matched)}
    setup = Setup(
        model=StoredModel(
            name=name,
            revision=revision,
            weights_sha256=UNKNOWN,
            tokenizer_sha256=f"{UNKNOWN}-{digest[:8]}",
            architecture=UNKNOWN,
            parameters=source.parameters,
            context=0,
        ),
        benchmark=StoredBenchmark(
            name=benchmark.name,
            version=benchmark.version,
            data_sha256=data_hash(data, items_sha256),
            items_sha256=items_sha256,
        ),
        protocol=checked({**recipe, "sha256": content_hash(recipe)}, StoredProtocol, Place(path)),
        template=StoredTemplate(form=form, sha256=source.template_sha256, source=source.harness),
        decoding=decoding,
        eos_ids=None,
        backend=source.harness,
        dtype=source.dtype,
        settings=StoredSettings(quantization=source.quantization, adapter=source.adapter),
        imported=StoredImported(
            file=path.name,
            sha256=digest,
            called=source.called,
            lines=source.lines,
            nulls=source.nulls,
            end_reasons=UNKNOWN,
            **{name: n for name, n in counts.items() if n or name != "reworded"},
        ),
    )
    return Manifest(
        **msgspec.structs.asdict(setup),
        format=files.FORMAT,
        settings_sha256=settings_hash(setup),
        seed=None,
        limit=source.limit,
        items=benchmark.members(protocol, items),
        planned=tuple(item.id for item, _ in matched.answers),
        engine={
            "harness": source.harness,
            "task": source.task,
            "model": source.engine,
            "other_decoding": source.other_decoding,
        },
        packages={"tulu-eval": __version__, source.harness: source.version},
        commit="",
        machine={},
        command=files.command_line(),
        sessions=(Session(started=now, finished=now, samples=0, prompt_tokens=0, new_tokens=0, ended="imported"),),
        status="imported",
    )
