"""Makes the plan of a run before any weight is loaded: items and their order, prompts, settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
from msgspec import UNSET

from tulu_eval import files
from tulu_eval.backends.base import Backend, EngineSettings
from tulu_eval.benchmarks.base import Benchmark, Item, Protocol, items_hash
from tulu_eval.benchmarks.varied import VariedBenchmark, is_varied, varied
from tulu_eval.errors import DataError, PreflightError, UserError, printable
from tulu_eval.models import resolve, served
from tulu_eval.models.base import SERVED, ModelFiles
from tulu_eval.models.end_tokens import EndTokens
from tulu_eval.models.prompt_form import Template
from tulu_eval.models.tokenizer import PromptWriter, load_for_prompts
from tulu_eval.records import Decoding, content_hash
from tulu_eval.registry import Suite
from tulu_eval.runs import catalog, template_date
from tulu_eval.runs.order import Order
from tulu_eval.runs.requests import (
    Planned,
    check_groups,
    check_lengths,
    check_recipe,
    length,
    make_requests,
    part_of,
    sample_ids,
)
from tulu_eval.runs.written import Writer, write_prompts
from tulu_eval.sandbox import check_sandbox
from tulu_eval.store import environment
from tulu_eval.store.identity import data_hash, of_completions, safe_name, settings_hash
from tulu_eval.store.manifest import FORMAT, command_line, with_asked
from tulu_eval.store.manifest_schema import Manifest
from tulu_eval.store.setup_schema import (
    Setup,
    StoredBenchmark,
    StoredDecoding,
    StoredEndTokens,
    StoredModel,
    StoredSettings,
    StoredTemplate,
    stored,
    stored_protocol,
)

SHARDS = "shards"
"""Name of the folder in a run's folder that has the folders of its shards."""


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """Everything that a run will do; no weights are loaded yet.

    Attributes:
        benchmark: Benchmark with the prompts and scorers of the protocol.
        model: Files of the model, or its name on a server.
        template: Form of the prompts and chat template.
        end_tokens: Tokens that end a completion, with the files that name them.
        dtype: Resolved dtype, never ``auto``; ``served`` for a model behind a server.
        planned: Samples to make, in the order of the run.
        members: Ids of all samples of each protocol that the run covers, by protocol; the limit does not shorten them.
        data_sha256: Hash of the data file, or of the items if there is no file or a folder of them.
        items_sha256: Hash of the items, which does not depend on the form of a file.
        notices: Facts about prompts and end tokens that a reader of the number should know, one line each.
    """

    order: Order
    benchmark: Benchmark
    protocol: Protocol
    model: ModelFiles
    template: Template
    decoding: Decoding
    end_tokens: EndTokens
    backend: type[Backend]
    dtype: str
    planned: tuple[Planned, ...]
    members: dict[str, tuple[str, ...]]
    data_sha256: str
    items_sha256: str
    notices: tuple[str, ...] = ()

    def __repr__(self) -> str:
        what = f"{self.model.name} on {self.benchmark.name}: {self.protocol.name}, {len(self.planned)} items"
        return printable(f"<Plan {what}, prompts of at most {self.longest_prompt} tokens, {self.backend.name}, {self.folder}>")

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end a completion."""
        return self.end_tokens.ids

    @property
    def setup(self) -> Setup:
        """The part of the manifest that does not depend on the planned items."""
        return Setup(
            model=StoredModel(
                name=self.model.name,
                revision=self.model.revision,
                weights_sha256=self.model.weights_sha256,
                tokenizer_sha256=self.model.tokenizer_sha256,
                architecture=self.model.architecture,
                parameters=self.model.parameters,
                context=self.model.context,
            ),
            benchmark=StoredBenchmark(
                name=self.benchmark.name,
                version=self.benchmark.version,
                data_sha256=self.data_sha256,
                items_sha256=self.items_sha256,
            ),
            protocol=stored_protocol(self.protocol),
            template=StoredTemplate(
                form=self.template.form,
                sha256=self.template.sha256,
                source=self.template.source or UNSET,
                date=self.template.date or UNSET,
                reasoning=self.template.reasoning or UNSET,
            ),
            decoding=stored(self.decoding, StoredDecoding),
            eos_ids=self.eos_ids,
            end_tokens=stored(self.end_tokens, StoredEndTokens),
            backend=self.backend.name,
            dtype=self.dtype,
            settings=stored(self.order.settings, StoredSettings),
        )

    @property
    def manifest(self) -> Manifest:
        """The manifest before anything is loaded."""
        setup = self.setup
        manifest = Manifest(
            **msgspec.structs.asdict(setup),
            format=FORMAT,
            settings_sha256=settings_hash(setup),
            seed=self.order.seed,
            limit=self.order.limit,
            items=self.members,
            planned=tuple(one.item.id for one in self.planned),
            engine={},
            packages=environment.packages(),
            commit=environment.commit(),
            machine=environment.machine(),
            command=command_line(),
            sessions=(),
            status="running",
            shard=self.order.shard or UNSET,
        )
        return with_asked(
            manifest, ((one.item.id, one.request.key, one.item.target, one.prompt_sha256) for one in self.planned)
        )

    @property
    def settings_sha256(self) -> str:
        """Hash of everything that all samples of this model, benchmark and setting have in common, whichever items run."""
        return settings_hash(self.setup)

    @property
    def folder(self) -> Path:
        """Folder that gets the samples: the run's folder, or ``shards/I-of-N`` in it, which no other process writes to."""
        if self.order.shard is None:
            return self.run_folder
        part, parts = self.order.shard
        return self.run_folder / SHARDS / f"{part}-of-{parts}"

    @property
    def run_folder(self) -> Path:
        """The run's folder: ``output/model/benchmark/protocol[-firstN]-settings``."""
        first = f"-first{self.order.limit}" if self.order.limit else ""
        name = f"{self.protocol.name}{first}-{self.settings_sha256[:8]}"
        return self.order.output / safe_name(self.model.name) / self.benchmark.name / name

    @property
    def longest_prompt(self) -> int:
        """Number of tokens of the longest prompt; 0 without items."""
        return max((len(planned.request.token_ids) for planned in self.planned), default=0)

    @property
    def max_length(self) -> int:
        """Largest number of positions of a row: its prompt and all that may follow, but at most the model's context."""
        asked = max((length(planned.request, self.decoding) for planned in self.planned), default=0)
        return min(asked, self.model.context) if self.model.context else asked


def make_plan(order: Order, suite: Suite) -> Plan:
    """Returns the plan of a run; loads the benchmark's items and the model's tokenizer, and no weights.

    Raises:
        UserError: If something in the order cannot be done; the cheapest checks come first.
    """
    if order.limit is not None and order.limit < 1:
        raise UserError(f"--limit must be 1 or more, not {order.limit}")
    files.check_folder(order.output)
    benchmark = catalog.benchmark(order.benchmark)
    if order.protocol is not None and is_varied(benchmark, order.protocol):
        benchmark = varied(benchmark, order.protocol, strict=True)
    protocol = benchmark.protocol(order.protocol)
    benchmark = benchmark.under(protocol.name)
    check_recipe(benchmark, protocol)
    backend = catalog.backend(_backend_name(order))
    backend.check_kind(benchmark.kind, order.settings)
    if benchmark.executes:
        check_sandbox(order.execution)
    settings, model, writer = _find_model(order, backend, suite, raw=benchmark.raw)
    for how in benchmark.writings if isinstance(benchmark, VariedBenchmark) else ():
        writer = writer.written(how)
    order = dataclasses.replace(order, settings=settings)
    items = benchmark.load(protocol, order.data)
    if len(items) < protocol.n:
        raise DataError(order.data or benchmark.name, f"has {len(items)} items, the protocol {protocol.name} has {protocol.n}")
    check_groups(benchmark, items)
    decoding = protocol.plain_decoding if writer.template.form == "plain" else protocol.decoding
    if benchmark.kind == "generate" and not decoding.greedy:
        decoding = dataclasses.replace(decoding, seed=order.seed)
    prompts = [benchmark.render(item) for item in items]
    dtype = model.dtype if order.settings.dtype == "auto" else order.settings.dtype
    dtype = dtype if backend.local else SERVED
    items_sha256 = items_hash(items)
    plan = Plan(
        order=order,
        benchmark=benchmark,
        protocol=protocol,
        model=model,
        template=writer.template_of(prompts),
        decoding=decoding,
        end_tokens=writer.end_tokens,
        backend=backend,
        dtype=dtype,
        planned=(),
        members=_members(benchmark, protocol, items),
        data_sha256=data_hash(order.data, items_sha256),
        items_sha256=items_sha256,
    )
    date = _date(plan, writer)
    items, prompts = items[: order.limit], prompts[: order.limit]
    shared = content_hash(of_completions(plan.setup))
    written = write_prompts(benchmark, protocol, items, prompts, writer, date)
    requests = make_requests(benchmark, protocol.samples, written, writer, shared)
    planned = part_of(requests, protocol.samples, order.shard)
    check_lengths(planned, model)
    notices = (*writer.notices(written.prompts), *written.notices)
    return dataclasses.replace(plan, planned=planned, template=dataclasses.replace(plan.template, date=date), notices=notices)


def _members(benchmark: Benchmark, protocol: Protocol, items: list[Item]) -> dict[str, tuple[str, ...]]:
    """Returns the ids of the samples of each protocol that the run covers."""
    members = benchmark.members(protocol, items)
    return {name: tuple(one for item in ids for one in sample_ids(item, protocol.samples)) for name, ids in members.items()}


def _backend_name(order: Order) -> str:
    if order.backend != "auto":
        return order.backend
    return "openai" if order.settings.served else catalog.default_backend()


def _find_model(order: Order, backend: type[Backend], suite: Suite, *, raw: bool) -> tuple[EngineSettings, ModelFiles, Writer]:
    """Returns the settings (with the server's answers for a served model), the model, and the writer of its prompts."""
    settings = order.settings
    backend.check_settings(settings)
    if not backend.local:
        if settings.served is None:
            raise PreflightError(f"--backend {backend.name} needs --base-url URL, such as http://localhost:8000/v1")
        found = served.settle(
            order.model, settings.served, suite, called=order.name, trust_remote_code=settings.trust_remote_code
        )
        writer = found.writer.without_template() if raw else found.writer
        return dataclasses.replace(settings, served=found.served), found.model, writer
    model, known = resolve.resolve(order.model, suite, called=order.name, allow_pickle=settings.allow_pickle)
    tokenizer = load_for_prompts(model.path, model.name, settings.trust_remote_code)
    tulu = known is not None and known.template == "tulu"
    own = PromptWriter(tokenizer, model.name, tulu=tulu, folder=model.path)
    return settings, model, own.without_template() if raw else own


def _date(plan: Plan, writer: Writer) -> str:
    """Returns the day that the template writes, YYYY-MM-DD; empty if it writes none.

    Raises:
        UserError: If the user asks for a day and the template writes none.
    """
    order = plan.order
    if not writer.dated:
        if order.date is not None:
            raise UserError(f"--date {order.date}: the chat template of {plan.model.name} writes no date")
        return ""
    if order.fresh and order.date is None:
        return template_date.today()
    return template_date.settle(order.date, plan.run_folder, plan.folder, SHARDS)
