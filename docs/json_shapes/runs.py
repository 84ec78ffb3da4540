"""JSON of the verbs that make or move runs."""

from __future__ import annotations

from json_shapes.base import Shape
from tulu_eval.findings.averages import MeasuredAverage
from tulu_eval.models.base import Served
from tulu_eval.models.end_tokens import EndToken
from tulu_eval.records import Result
from tulu_eval.runs.score import Disagreement
from tulu_eval.runs.suite_plan import Unmeasured
from tulu_eval.store.tally import Tally


class ResultWithFailures(Shape, frozen=True):
    """A row of a run; as [Result](#result), with its failures.

    Attributes:
        failed: Items on which the engine or the judge failed.
    """

    benchmark: str
    protocol: str
    scorer: str
    metric: str
    value: float
    n: int
    n_protocol: int
    planned: int
    low: float
    high: float
    interval: str
    counts: dict[str, int]
    signature: str
    samples: int
    failed: int


class RunOutcome(Shape, frozen=True):
    """A run as it is now.

    Attributes:
        folder: The run's folder.
        planned: Samples that the run asked for.
        done: Samples that are there.
        failed: Those of them on which the engine or the judge failed.
        cause: The failure that is most frequent; empty for none.
        finished: Whether all samples are there.
        results: A row per scorer and protocol.
    """

    folder: str
    planned: int
    done: int
    failed: int
    cause: str
    finished: bool
    results: tuple[ResultWithFailures, ...]


class Rescored(RunOutcome, frozen=True):
    """A run whose samples were graded again.

    Attributes:
        scorers: Names of the scorers, in their order.
        disagreements: Items on which scorers disagree.
        unhashed: Why its samples cannot be held against hashes in the manifest; empty if they can.
    """

    scorers: tuple[str, ...]
    disagreements: tuple[Disagreement, ...]
    unhashed: str


class SuiteOutcome(Shape, frozen=True):
    """A suite of one model.

    Attributes:
        unmeasured: Benchmarks that could not be measured here and were skipped.
        failed: Benchmarks whose engine failed.
        averages: The card's average by each rule that explains a printed one.
    """

    suite: str
    runs: tuple[RunOutcome, ...]
    unmeasured: tuple[Unmeasured, ...]
    failed: tuple[Unmeasured, ...]
    averages: tuple[MeasuredAverage, ...]


class Continuation(Shape, frozen=True):
    """A text whose likelihood a prompt asks for."""

    text: str
    token_ids: tuple[int, ...]


class PlannedPrompt(Shape, frozen=True):
    """One of the first prompts of a plan.

    Attributes:
        item: Id of the item.
        text: The prompt, template included.
        sha256: Hash of the text.
        continuations: Texts whose likelihood is asked for; empty if the model writes.
    """

    item: str
    text: str
    token_ids: tuple[int, ...]
    sha256: str
    continuations: tuple[Continuation, ...]


class RunPlan(Shape, frozen=True):
    """What a run would do.

    Attributes:
        items: Number of samples.
        revision: Commit of the weights, or their hash.
        template: Form of the prompts.
        template_date: Day that a chat template writes; empty if it writes none.
        reasoning: Marks between which the template lets the model think; empty for none.
        eos_ids: Tokens that end an answer.
        notices: What a reader of the numbers should know of prompts and end tokens.
        download_bytes: Weights that are not here yet.
        shared_prefix_tokens: Tokens that all prompts begin with.
        memory_bytes: Memory of weights and cache; null behind a server.
        seconds_at_least: Time on this machine; null behind a server.
        seconds_at_most: The same if all answers reach the limit.
        served: The server; null for an engine of this machine.
        prompts: The first prompts.
    """

    folder: str
    benchmark: str
    protocol: str
    items: int
    model: str
    revision: str
    parameters: int
    template: str
    template_date: str
    reasoning: str
    eos_ids: tuple[int, ...]
    end_tokens: tuple[EndToken, ...]
    notices: tuple[str, ...]
    max_new_tokens: int
    backend: str
    dtype: str
    download_bytes: int
    prompt_tokens: int
    shared_prefix_tokens: int
    memory_bytes: int | None
    seconds_at_least: float | None
    seconds_at_most: float | None
    served: Served | None
    prompts: tuple[PlannedPrompt, ...]


class SuitePlan(Shape, frozen=True):
    """What a suite would do."""

    suite: str
    plans: tuple[RunPlan, ...]
    unmeasured: tuple[Unmeasured, ...]
    memory_bytes: int | None
    seconds_at_least: float | None
    seconds_at_most: float | None


class ForeignLine(Shape, frozen=True):
    """A line of an imported file that is no answer to one item."""

    line: int
    question: str


class ImportedDecoding(Shape, frozen=True):
    """Decoding as an imported file has it; null where it does not say."""

    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    stop: tuple[str, ...] | None
    seed: int | None


class ImportedRun(Shape, frozen=True):
    """A run that was made of another harness's answers.

    Attributes:
        other_prompts: Whether its prompts are another recipe's than the protocol's.
        other_decoding: Settings of the file that no field of ours has.
        nulls: Answers that are null in the file.
        answers: Number of answers.
        foreign: Answers to no item.
        changed: Answers to items whose right answer differs.
        repeated: Answers to items that have one already.
        reworded: Answers that were taken by their place, since the question is worded differently.
        missing: Ids of the items without an answer.
        misread: Ids of items of which the harness read another answer than the same rule does here.
    """

    folder: str
    protocol: str
    other_prompts: bool
    harness: str
    version: str
    task: str
    engine: str
    decoding: ImportedDecoding
    other_decoding: tuple[str, ...]
    quantization: str
    adapter: str
    nulls: int
    answers: int
    foreign: tuple[ForeignLine, ...]
    changed: tuple[ForeignLine, ...]
    repeated: tuple[ForeignLine, ...]
    reworded: tuple[ForeignLine, ...]
    missing: tuple[str, ...]
    misread: tuple[str, ...]
    results: tuple[Result, ...]


class MadeBundle(Shape, frozen=True):
    """A bundle that was written.

    Attributes:
        id: Hash over all parts.
        bytes: Size of the file.
        unhashed: Why samples cannot be held against hashes in the manifest; empty if they can.
    """

    file: str
    id: str
    bytes: int
    unhashed: str


class CheckedBundle(Shape, frozen=True):
    """A bundle that was checked.

    Attributes:
        good: Whether it is whole and its numbers are those of its completions.
        samples: Samples that were graded again.
        problems: What is wrong.
    """

    file: str
    good: bool
    id: str
    model: str
    benchmark: str
    samples: int
    tally: Tally | None
    results: tuple[Result, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
