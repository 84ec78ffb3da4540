r"""TyDi QA, gold passage, 1-shot in nine languages, as open-instruct measured the Tulu suite.

Sources: the data, ``tydiqa-goldp-v1.1-dev.json`` and ``-train.json`` (storage.googleapis.com/tydiqa/v1.1, Apache-2.0, arXiv
2003.05002); the recipe, allenai/open-instruct @ 3c335be7, ``eval/tydiqa/run_eval.py``. One raw question of a paragraph::

    {"context": "Quantum field theory naturally began with ...",
     "qas": [{"id": "english-...", "question": "Who first ...?", "answers": [{"text": "Dirac", "answer_start": 5}]}]}

becomes one user turn with one training example of the same language, worded in that language; the answer's tag is prefilled::

    <|user|>
    Answer the following question based on the information in the given passage.

    Passage: (the example's passage)
    Question: (the example's question)
    Answer: (the example's first answer)

    Passage: Quantum field theory naturally began with ...
    Question: Who first ...?

    <|assistant|>
    Answer:

100 questions of each language are drawn with seed 42, and after them one example per language by the same generator. A score is
the best over an item's answers, by SQuAD's program; the value is the mean over the nine languages.

The cards' protocol, ``card-512``, cuts every passage of more than 512 tokens of the model's own tokenizer and decodes the rest
again, so that each model has other prompts. A tokenizer that puts ``<s>`` in front counts it as one of the 512, and the cut
passage begins with it, as in the original. How spaces are decoded can depend on the version of transformers.
``whole-passages`` cuts nothing; its values have names of their own, and no cell is compared with them. There is no hash of the
two files here, which could not be had; the hash of its items is part of a run's identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from tulu_eval import files
from tulu_eval.benchmarks.base import Aggregate, Benchmark, Item, Prompt, Protocol
from tulu_eval.benchmarks.matching import squad_exact_match, squad_f1
from tulu_eval.errors import DataError, PreflightError
from tulu_eval.records import Decoding, Grade

PER_LANGUAGE, SEED = 100, 42
DEV, TRAIN = "tydiqa-goldp-v1.1-dev.json", "tydiqa-goldp-v1.1-train.json"
SOURCE = f"a folder with {DEV} and {TRAIN} of storage.googleapis.com/tydiqa/v1.1"


class Wording(NamedTuple):
    """A language's instruction, and its tags of passage, question and answer."""

    instruction: str
    passage: str
    question: str
    answer: str


WORDINGS: Mapping[str, Wording] = MappingProxyType(
    {
        "arabic": Wording(
            "أجب على السؤال التالي بناءً على المعلومات في المقطع المعطى.",
            "المقطع:",
            "السؤال:",
            "الإجابة:",
        ),
        "bengali": Wording(
            "প্রদত্ত অধ্যায়ের তথ্যের উপর ভিত্তি করে নিম্নলিখিত প্রশ্নের উত্তর দিন।",
            "অধ্যায়:",
            "প্রশ্ন:",
            "উত্তর:",
        ),
        "english": Wording(
            "Answer the following question based on the information in the given passage.",
            "Passage:",
            "Question:",
            "Answer:",
        ),
        "finnish": Wording(
            "Vastaa seuraavaan kysymykseen annetun kappaleen tiedon perusteella.",
            "Kappale:",
            "Kysymys:",
            "Vastaus:",
        ),
        "indonesian": Wording(
            "Jawab pertanyaan berikut berdasarkan informasi di bagian yang diberikan.",
            "Bagian:",
            "Pertanyaan:",
            "Jawaban:",
        ),
        "korean": Wording(
            "주어진 문단의 정보에 기반하여 다음 질문에 답하십시오.",
            "문단:",
            "질문:",
            "답변:",
        ),
        "russian": Wording(
            "Ответьте на следующий вопрос на основе информации в данном отрывке.",
            "Отрывок:",
            "Вопрос:",
            "Ответ:",
        ),
        "swahili": Wording(
            "Jibu swali lifuatalo kulingana na habari kwenye kifungu kilichotolewa.",
            "Kifungu:",
            "Swali:",
            "Jibu:",
        ),
        "telugu": Wording(
            "ఇచ్చిన పేరాలోని సమాచారం ఆధారంగా కింది ప్రశ్నకు సమాధానం ఇవ్వండి.",
            "పేరా:",
            "ప్రశ్న:",
            "సమాధానం:",
        ),
    }
)
"""The words of a prompt in each language (``run_eval.py`` l.18-28)."""

WORDINGS_SHA256 = "260ab34605f580b191bc53807905cfd2363d83450c1fa24899241e9f84de5b24"
"""Hash of the languages and their wordings in alphabetic order, computed from that file."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    id: str
    question: str
    answers: list[_Answer]


@dataclasses.dataclass(frozen=True, slots=True)
class _Paragraph:
    context: str
    qas: list[_Question]


@dataclasses.dataclass(frozen=True, slots=True)
class _Article:
    paragraphs: list[_Paragraph]


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    data: list[_Article]


class GoldQuestion(NamedTuple):
    """A question of a file with its passage."""

    id: str
    passage: str
    question: str
    answers: tuple[str, ...]

    @property
    def language(self) -> str:
        """The first part of the id, e.g. ``arabic``."""
        return self.id.partition("-")[0]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PassageItem(Item):
    """A question with its passage and the training example of its language; the group is the language."""

    passage: str
    example: GoldQuestion


WHOLE = Protocol(
    name="whole-passages",
    summary="900 questions, 1-shot; not the cards' protocol, which cuts passages to 512 of the model's tokens",
    n=0,
    # run_eval.py l.188-197: 50 tokens, greedy; base models stop at a newline, chat models have no stop string
    decoding=Decoding(max_new_tokens=50),
    plain_decoding=Decoding(max_new_tokens=50, stop=("\n",)),
    metric="f1_of_whole_passages",
    prompt_id=WORDINGS_SHA256[:8],
    covers=("whole-passages",),
)

LONGEST_PASSAGE = 512
"""``--max_context_length`` of ``scripts/submit_eval_jobs.py`` and default of ``run_eval.py``."""

CARD = dataclasses.replace(
    WHOLE,
    name="card-512",
    summary="900 questions, 1-shot; passages cut to 512 of the model's tokens, as for the cards",
    metric="f1_of_cut_passages",
    prompt_id=hashlib.sha256(f"{WORDINGS_SHA256} {LONGEST_PASSAGE}".encode()).hexdigest()[:8],
    covers=("card-512",),
    longest_passage=LONGEST_PASSAGE,
)


class TydiQA(Benchmark):
    """TyDi QA, gold passage; see the module's docstring for one item and its prompt."""

    name: ClassVar[str] = "tydiqa"
    scorers: ClassVar[tuple[str, ...]] = ("squad-f1", "squad-exact-match")
    aggregates: ClassVar[Mapping[str, Aggregate]] = MappingProxyType(dict.fromkeys(scorers, "macro"))
    metrics: ClassVar[Mapping[str, str]] = MappingProxyType({"squad-exact-match": "exact_match_of_whole_passages"})
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType({WHOLE.name: WHOLE, CARD.name: CARD})

    def under(self, protocol: str) -> Benchmark:
        """Returns the benchmark with the names of the cards' values for their protocol, else itself."""
        return CutTydiQA() if protocol == CARD.name else TydiQA()

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the drawn questions, languages in alphabetic order, each language's in the order of its draw.

        ``data`` is the folder with the two files; there is no other source.

        Raises:
            PreflightError: If no folder is given.
            DataError: If a file cannot be read, or lacks what the recipe draws.
        """
        if data is None:
            raise PreflightError(f"tydiqa needs --data FOLDER: {SOURCE}")
        asked, examples = draw(_by_language(data / DEV, PER_LANGUAGE), _by_language(data / TRAIN, 1))
        if len({one.id for one in asked}) < len(asked):
            raise DataError(data / DEV, "has a question's id twice")
        return [
            PassageItem(
                one.id,
                one.question,
                json.dumps(one.answers, ensure_ascii=False),
                one.language,
                passage=one.passage,
                example=examples[one.language],
            )
            for one in asked
        ]

    def render(self, item: Item) -> Prompt:
        """Returns the instruction, the example and the question in the item's language, in chat form and in plain form."""
        if not isinstance(item, PassageItem):
            raise DataError(f"item {item.id}", "has no passage, without which TyDi QA has no prompt")
        wording, example = WORDINGS[item.group], item.example
        shown = f"{_block(wording, example.passage, example.question)}{wording.answer} {example.answers[0]}"
        content = f"{wording.instruction}\n\n{shown}\n\n{_block(wording, item.passage, item.question)}"
        return Prompt(user=content, prefill=wording.answer, plain=content + wording.answer)

    def with_passages(self, item: Item, cut: Callable[[str], str]) -> Item:
        """Returns an item with its passage and that of its example cut."""
        if not isinstance(item, PassageItem):
            return item
        example = item.example._replace(passage=cut(item.example.passage))
        return dataclasses.replace(item, passage=cut(item.passage), example=example)

    def grade(self, target: str, text: str) -> tuple[Grade, ...]:
        """Returns the best F1 and exact match over an item's answers; raises DataError if the target is not a list of texts."""
        answers = files.decode(target, tuple[str, ...], files.Place("an item's answers"))
        said = text.strip()
        best = max((squad_f1(said, one) for one in answers), default=0.0)
        same = any(squad_exact_match(said, one) for one in answers)
        return Grade("squad-f1", said, bool(said), best), Grade("squad-exact-match", said, bool(said), float(same))


class CutTydiQA(TydiQA):
    """TyDi QA with passages of at most 512 tokens of the model."""

    metrics: ClassVar[Mapping[str, str]] = MappingProxyType({"squad-exact-match": "exact_match_of_cut_passages"})


def _block(wording: Wording, passage: str, question: str) -> str:
    return f"{wording.passage} {passage}\n{wording.question} {question}\n"


def draw(
    dev: Mapping[str, Sequence[GoldQuestion]], train: Mapping[str, Sequence[GoldQuestion]]
) -> tuple[list[GoldQuestion], dict[str, GoldQuestion]]:
    """Returns the questions and the example of each language that the recipe draws: ``random.seed(42)``, questions first.

    ``dev`` and ``train`` have questions by language, in the file's order.
    """
    draws = random.Random(SEED)  # noqa: S311 - the recipe's own generator
    asked: list[GoldQuestion] = []
    for language in sorted(dev):
        found = dev[language]
        asked += draws.sample(found, PER_LANGUAGE) if len(found) > PER_LANGUAGE else found
    return asked, {language: draws.sample(train[language], 1)[0] for language in sorted(dev)}


def _by_language(path: Path, least: int) -> dict[str, list[GoldQuestion]]:
    """Returns a file's questions by language, each language's in the file's order.

    Raises:
        DataError: If the file is not in SQuAD's form, has another language than the nine, or of one fewer than ``least``
            questions.
    """
    found: dict[str, list[GoldQuestion]] = {language: [] for language in WORDINGS}
    for paragraph in (one for article in files.read_as(path, _File).data for one in article.paragraphs):
        for one in paragraph.qas:
            asked = GoldQuestion(one.id, paragraph.context, one.question, tuple(answer.text for answer in one.answers))
            if asked.language not in found:
                raise DataError(path, f"question {one.id!r}: for this language the recipe has no prompt")
            if not asked.answers:
                raise DataError(path, f"question {one.id!r} has no answer")
            found[asked.language].append(asked)
    for language, questions in found.items():
        if len(questions) < least:
            raise DataError(path, f"has {len(questions)} questions in {language}, and the recipe draws {least}; take {SOURCE}")
    return found
