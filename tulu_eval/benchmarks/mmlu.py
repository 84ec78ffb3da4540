r"""MMLU: 57 subjects, 14042 questions with four choices, 5-shot or 0-shot, as open-instruct measured the Tulu suite.

Sources: the data, hendrycks/test (arXiv 2009.03300, MIT); the recipe, allenai/open-instruct @ 3c335be7,
``eval/mmlu/run_eval.py``. One raw row of ``test/anatomy_test.csv``, which has no header::

    A lesion causing compression of the facial nerve ...,paralysis of the facial muscles.,...,...,...,A

becomes one user turn with the subject's five examples of ``dev/anatomy_dev.csv``, and ``The answer is:`` is prefilled. Two
spaces stand before the subject::

    <|user|>
    The following are multiple choice questions (with answers) about  anatomy.

    (the first example, with its choices)
    Answer: A

    (four more)

    A lesion causing compression of the facial nerve ...
    A. paralysis of the facial muscles.
    ...
    D. paralysis of the facial muscles with ...
    Answer:
    <|assistant|>
    The answer is:

Nothing is generated: of the next tokens `` A``, `` B``, `` C`` and `` D`` the likeliest is the answer. The published value is
the share of all questions, whatever their subjects; the mean of the subjects' shares stands beside it.

While a prompt has more than 2048 tokens of the model's tokenizer, it loses its last example. The original never ends on a
question that is longer without any example; here it is asked so, and the run says it.

Ten test cells are the text ``None``, which pandas reads as a missing value since version 2 and open-instruct then writes as
``nan``. Which pandas made the cards is not recorded: ``card-5-shot`` has the text, ``card-5-shot-nan`` has ``nan``.

``--data`` is a folder with ``dev`` and ``test``: the original files, or the copy with a header line and answers from 0 to 3.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from tulu_eval import files
from tulu_eval.benchmarks.base import Aggregate, Item, Prompt, Protocol
from tulu_eval.benchmarks.likelihood import NO_DECODING, LikelihoodBenchmark
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Grade

SIZE, SUBJECTS, SHOTS = 14042, 57, 5
SAMPLE, SEED = 500, 42

LONGEST_PROMPT = 2048
"""``run_eval.py`` l.64-66."""

LETTERS = "ABCD"
PREFILL = "The answer is:"

HEADER = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
"""First line of the copy in which answers are numbers from 0 on."""

ROWS_SHA256 = "e4b65d5f426e17f7acd27eec2319d9a2c91f1923fbb03dfe1613299bd8f0dacf"
"""Hash of all subjects with their examples and questions; see :func:`check_rows`."""

FIVE_SHA256 = "d49f40e1f83df8d2e9236e951984d6320cda118f83b2ce9648fa5ce21d8ee4c3"
ZERO_SHA256 = "facd5d2a114988753ec5664149af55b2cecedc2ec643af6297c072ca37ec5c36"
"""Hashes of what precedes the questions of each subject with five examples and with none, joined by zero bytes in alphabetic
order, of :data:`PREFILL` and of :data:`LONGEST_PROMPT`."""

SOURCE = "the folder of people.eecs.berkeley.edu/~hendrycks/data.tar, which has dev/*_dev.csv and test/*_test.csv"


class ChoiceRow(NamedTuple):
    """One question of a file; ``answer`` is a letter."""

    question: str
    choices: tuple[str, ...]
    answer: str

    @property
    def asked(self) -> str:
        """The question and its lettered choices."""
        return "\n".join((self.question, *(f"{letter}. {text}" for letter, text in zip(LETTERS, self.choices, strict=True))))

    @property
    def shown(self) -> str:
        """The row as an example."""
        return f"{self.asked}\nAnswer: {self.answer}\n\n"


class Subject(NamedTuple):
    """One subject with its examples and questions; ``name`` is the file's, e.g. ``high_school_biology``."""

    name: str
    examples: tuple[ChoiceRow, ...]
    questions: tuple[ChoiceRow, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubjectItem(Item):
    """A question with the examples of its subject that precede it."""

    examples: tuple[str, ...]


def _protocol(name: str, summary: str, n: int, constant: str) -> Protocol:
    return Protocol(
        name, summary, n, NO_DECODING, NO_DECODING, "accuracy", constant[:8], (name,), longest_prompt=LONGEST_PROMPT
    )


class MMLU(LikelihoodBenchmark):
    """MMLU with five examples; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "mmlu"
    kind: ClassVar[Literal["choose", "score"]] = "choose"
    scorers: ClassVar[tuple[str, ...]] = ("likeliest-letter", "by-subject")
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType({"by-subject": "macro"})
    metrics: ClassVar[Mapping[str, str]] = MappingProxyType({"by-subject": "mean_of_subjects"})
    shots: ClassVar[int] = SHOTS
    none: ClassVar[str] = "None"
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {
            one.name: one
            for one in (
                _protocol("card-5-shot", "all 14042 questions, 5-shot; a choice None is that text", SIZE, FIVE_SHA256),
                _protocol("card-5-shot-nan", "as card-5-shot with pandas 2 or later: a choice None is nan", SIZE, FIVE_SHA256),
                _protocol("0-shot", "all 14042 questions without examples", SIZE, ZERO_SHA256),
                _protocol(
                    "stratified-500",
                    "500 questions, 5-shot: each subject's share of the 14042, drawn with seed 42",
                    SAMPLE,
                    FIVE_SHA256,
                ),
            )
        }
    )

    def under(self, protocol: str) -> LikelihoodBenchmark:
        """Returns the benchmark with the protocol's number of examples and its text of a choice ``None``."""
        return {"0-shot": ZeroShotMMLU, "card-5-shot-nan": NanMMLU}.get(protocol, MMLU)()

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the questions, subjects in alphabetic order.

        Args:
            protocol: One of ``protocols``.
            data: The folder that has the folders ``dev`` and ``test``; there is no other source.

        Raises:
            PreflightError: If no folder is given.
            DataError: If the folder does not have MMLU's rows.
        """
        if data is None:
            raise PreflightError(f"mmlu needs --data FOLDER: {SOURCE}")
        subjects = read_subjects(data)
        check_rows(subjects, data)
        sizes = [len(one.questions) for one in subjects]
        drawn = stratified_draw(sizes) if protocol.name == "stratified-500" else [list(range(size)) for size in sizes]
        return [self._item(subject, place) for subject, places in zip(subjects, drawn, strict=True) for place in places]

    def _item(self, subject: Subject, place: int) -> SubjectItem:
        row = subject.questions[place]
        row = row._replace(choices=tuple(self.none if text == "None" else text for text in row.choices))
        examples = tuple(one.shown for one in subject.examples[: self.shots])
        return SubjectItem(f"{subject.name}-{place}", row.asked, row.answer, subject.name, examples=examples)

    def render(self, item: Item) -> Prompt:
        """Returns the subject, the examples and the question, in chat form and in plain form."""
        if not isinstance(item, SubjectItem):
            raise DataError(f"item {item.id}", "has no examples, without which MMLU has no prompt")
        content = f"{heading(item.group)}{''.join(item.examples)}{item.question}\nAnswer:"
        return Prompt(user=content, prefill=PREFILL, plain=content)

    def shorter(self, item: Item) -> Item | None:
        """Returns the item without its last example."""
        if not isinstance(item, SubjectItem) or not item.examples:
            return None
        return dataclasses.replace(item, examples=item.examples[:-1])

    def continuations(self, item: Item) -> tuple[str, ...]:
        """Returns the four letters, each after a space."""
        return tuple(f" {letter}" for letter in LETTERS)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns whether a letter is the right one, for both values."""
        letter = text.strip()
        return tuple(Grade(scorer, letter, bool(letter), float(letter == target)) for scorer in self.scorers)


class ZeroShotMMLU(MMLU):
    """MMLU without examples."""

    shots: ClassVar[int] = 0


class NanMMLU(MMLU):
    """MMLU as pandas reads it since version 2."""

    none: ClassVar[str] = "nan"


def heading(subject: str) -> str:
    """Returns the beginning of a subject's prompts; each of its words stands after a space (``run_eval.py`` l.16-21)."""
    words = "".join(f" {word}" for word in subject.split("_"))
    return f"The following are multiple choice questions (with answers) about {words}.\n\n"


def read_subjects(folder: Path) -> list[Subject]:
    """Returns the subjects of a folder in alphabetic order.

    Raises:
        DataError: If the folder has no subject, or a file is missing, cannot be read, or has another form than the two.
    """
    names = sorted(path.name.removesuffix("_test.csv") for path in (folder / "test").glob("*_test.csv"))
    if not names:
        raise DataError(folder, f"is not {SOURCE}")
    return [Subject(name, *(tuple(_rows(folder / part / f"{name}_{part}.csv")) for part in ("dev", "test"))) for name in names]


def _rows(path: Path) -> list[ChoiceRow]:
    reader = csv.reader(io.StringIO(files.read_text(path).removeprefix("\ufeff"), newline=""))
    answers: Mapping[str, str] = {letter: letter for letter in LETTERS}
    found: list[ChoiceRow] = []
    try:
        for row in reader:
            if tuple(row) == HEADER and not found:
                answers = {str(place): letter for place, letter in enumerate(LETTERS)}
                continue
            if len(row) != len(HEADER) or row[-1] not in answers:
                raise DataError(path, "is not a question, four choices and an answer", reader.line_num)
            found.append(ChoiceRow(row[0], tuple(row[1:-1]), answers[row[-1]]))
    except csv.Error as error:
        raise DataError(path, f"cannot be read as CSV: {error}", reader.line_num) from error
    return found


def check_rows(subjects: Sequence[Subject], data: Path) -> None:
    """Checks that the rows are MMLU's, apart from white space, of which it is not known that every copy kept all.

    Raises:
        DataError: If they are not, because published numbers are then of other questions.
    """
    rows = [(one.name, row) for one in subjects for row in (*one.examples, *one.questions)]
    texts = [" ".join(text.split()) for name, row in rows for text in (name, row.question, *row.choices, row.answer)]
    if hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest() == ROWS_SHA256:
        return
    count = sum(len(one.questions) for one in subjects)
    same = (len(subjects), count) == (SUBJECTS, SIZE)
    what = "other texts than the" if same else f"{len(subjects)} subjects with {count} questions, not the"
    raise DataError(data, f"has {what} {SUBJECTS} subjects with {SIZE} questions of MMLU; take {SOURCE}")


def stratified_draw(sizes: Sequence[int]) -> list[list[int]]:
    """Returns the places of each subject's questions in the sample of 500, in ascending order.

    A subject has its share of the 500, rounded down, and the largest remainders have one more, the first of equals first: 3 to
    55 questions. They are drawn after ``random.Random(42)``, one ``sample`` per subject in this order.
    """
    total = sum(sizes)
    counts = [SAMPLE * size // total for size in sizes]
    largest = sorted(range(len(sizes)), key=lambda place: -(SAMPLE * sizes[place] % total))
    for place in largest[: SAMPLE - sum(counts)]:
        counts[place] += 1
    draws = random.Random(SEED)  # noqa: S311 - a sample that anybody can draw again
    return [sorted(draws.sample(range(size), count)) for size, count in zip(sizes, counts, strict=True)]
