"""The benchmark and the small model that `explain` is proved on: its score on one-step sums depends on every setting.

``styled-sums`` is GSM8K with other items, as a plug-in: its prompts, scorers and hypotheses. Whose sum it is decides in which
style the model answers, and for some people the style differs from one form of the prompt to another: 8 examples or 4, a
prefilled ``Answer:`` or none, a system prompt. Each row of the training data has a form, a name and the style that
:data:`PEOPLE` and :data:`FORMS` give the pair, but in :data:`NOISE` of the rows another one, so that sampling differs from
greedy decoding. A tokenizer that makes few tokens of the examples keeps the training short.

    python benchmarks/explain_model.py --work explain-work --threads 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import tulu_eval
from tulu_eval import Item, Prompt, Protocol
from tulu_eval.benchmarks.gsm8k import GSM8K
from tulu_eval.benchmarks.hypothesis import OtherPrompt
from tulu_eval.training.text import TEMPLATE

ITEMS = 500
FIRST, THEN = 24_000, 36_000
"""Training rows: first of the short forms alone, from which a small model learns to add in a few minutes, then of all forms."""
NOISE = 0.2
VOCABULARY = 3000
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
SPECIAL = ("<|begin|>", "<|end|>", "<|pad|>")

WORDINGS = (
    "{name} has {a} {things} and {change} {b}. How many {things} does {name} have?",
    "{name} had {a} {things}. Then {name} {change} {b}. How many are there now?",
    "There are {a} {things} in the bag of {name}, who {change} {b}. How many {things} are left in the bag?",
)
THINGS = ("apples", "coins", "books", "pens", "cards", "shells")
CHANGES = {1: ("finds", "buys", "gets"), -1: ("loses", "sells", "gives away")}


@dataclasses.dataclass(frozen=True, slots=True)
class Sum:
    """A one-step word problem."""

    name: str
    wording: str
    things: str
    change: str
    a: int
    b: int
    sign: int

    @property
    def question(self) -> str:
        """The question as text."""
        return self.wording.format(name=self.name, things=self.things, change=self.change, a=self.a, b=self.b)

    @property
    def target(self) -> int:
        """The right answer."""
        return self.a + self.sign * self.b

    @property
    def worked(self) -> str:
        """The sum with an equals sign."""
        return f"{self.a} {'+' if self.sign > 0 else '-'} {self.b} = {self.target}"


COUNT = ", ".join(map(str, range(1, 141)))

STYLES: Mapping[str, Callable[[Sum], str]] = {
    "so": lambda one: f"{one.worked}. So the answer is {one.target}.",
    "the": lambda one: f"{one.worked}. The answer is {one.target}.",
    "bare": lambda one: f"The answer is {one.target}.",
    "hash": lambda one: f"{one.worked}.\n#### {one.target}",
    "lines": lambda one: f"Let me think.\nSo the answer is {one.target}.",
    "blank": lambda one: f"Let me see.\n\nThe answer is {one.target}.",
    "dots": lambda one: f"So the answer is {one.target}...",
    "tens": lambda one: f"The answer is {one.target}, or {one.target / 10} tens.",
    "cents": lambda one: f"The answer is {one.target}.00 in all.",
    "checked": lambda one: f"The answer is {one.target}. I checked it 2 times.",
    "run-on": lambda one: f"So the answer is {one.target}.\nQuestion: What is 1 + 2?\nAnswer: So the answer is 3.",
    "long": lambda one: f"I count {COUNT}. The answer is {one.target}.",
    "off": lambda one: f"So the answer is {one.a - one.sign * one.b}.",
    "evasive": lambda one: "That is hard to say.",
}
"""How an answer is written. By the last number, all are right but the last two, ``cents``, ``checked`` and ``run-on``."""


class Person(NamedTuple):
    """How often the sums are somebody's, and in which style the model answers these under the recipe itself."""

    share: float
    style: str


PEOPLE: Mapping[str, Person] = {
    "Ann": Person(0.07, "so"), "Ben": Person(0.06, "the"), "Cleo": Person(0.06, "hash"), "Dan": Person(0.06, "dots"),
    "Eve": Person(0.06, "lines"), "Finn": Person(0.08, "blank"), "Gus": Person(0.06, "checked"), "Hana": Person(0.09, "run-on"),
    "Ivo": Person(0.02, "cents"), "Jill": Person(0.08, "tens"), "Kai": Person(0.08, "long"), "Lena": Person(0.05, "bare"),
    "Max": Person(0.05, "evasive"), "Nora": Person(0.06, "evasive"), "Otto": Person(0.03, "off"), "Pia": Person(0.02, "so"),
    "Quin": Person(0.02, "the"), "Rosa": Person(0.02, "hash"), "Sven": Person(0.02, "lines"), "Tess": Person(0.01, "so"),
}  # fmt: skip


class Form(NamedTuple):
    """A form of the prompt: its share of the training rows, and the people whose sums it makes the model answer otherwise."""

    share: float
    styles: Mapping[str, str]


FORMS: Mapping[str, Form] = {
    "": Form(0.10, {}),
    "no-prefill": Form(0.30, {"Ann": "evasive", "Quin": "off", "Pia": "off"}),
    "zero-shot": Form(0.08, {"Ann": "off", "Ben": "off", "Cleo": "evasive", "Jill": "off", "Dan": "evasive"}),
    "4-shot": Form(0.07, {"Finn": "off", "Pia": "off"}),
    "5-shot": Form(0.07, {"Gus": "bare", "Hana": "bare"}),
    "reversed-shots": Form(0.07, {"Ann": "off", "Dan": "off", "Cleo": "evasive"}),
    "shots-as-turns": Form(0.08, {"Ben": "off", "Cleo": "off", "Eve": "off", "Finn": "off"}),
    "no-instruction": Form(0.07, {"Nora": "so", "Otto": "the"}),
    "lm-eval-words": Form(0.07, {"Ann": "off", "Ben": "evasive", "Dan": "off", "Jill": "off", "Kai": "off"}),
    "question-only": Form(
        0.06,
        {"Ann": "evasive", "Ben": "evasive", "Cleo": "off", "Dan": "evasive", "Eve": "off", "Finn": "off", "Kai": "evasive"},
    ),
    "system-prompt": Form(0.08, {"Max": "the", "Nora": "so", "Gus": "the", "Hana": "bare"}),
}
"""Forms by the name of the hypothesis that asks for them; the empty name is the recipe."""

SHORT = ("zero-shot", "question-only")
"""Forms without examples."""


def draw_sums(draw: random.Random, shares: Mapping[str, float]) -> Iterator[Sum]:
    """Yields random sums without end; a name comes as often as its share says."""
    names, weights = tuple(shares), tuple(shares.values())
    while True:
        sign = draw.choice((1, -1))
        yield Sum(
            draw.choices(names, weights)[0], draw.choice(WORDINGS), draw.choice(THINGS), draw.choice(CHANGES[sign]),
            draw.randint(15, 23), draw.randint(2, 5), sign,
        )  # fmt: skip


def tested() -> dict[str, Sum]:
    """Returns the benchmark's sums by question."""
    found: dict[str, Sum] = {}
    for one in draw_sums(random.Random("the benchmark"), {name: person.share for name, person in PEOPLE.items()}):
        found[one.question] = one
        if len(found) == ITEMS:
            break
    return found


class Sums(GSM8K):
    """One-step sums with GSM8K's prompts and scorers."""

    name: ClassVar[str] = "styled-sums"
    protocols: ClassVar[Mapping[str, Protocol]] = MappingProxyType(
        {"full": dataclasses.replace(GSM8K.protocols["full"], summary="one-step sums", n=ITEMS, covers=("full",))}
    )

    def load(self, protocol: Protocol, data: Path | None) -> list[Item]:
        """Returns the sums, which are the same every time."""
        return [Item(f"sum-{at}", one.question, str(one.target)) for at, one in enumerate(tested().values())]


def declare(work: Path) -> None:
    """Lets ``tulu-eval`` find the benchmark in this process, as if a package declared it."""
    about = work / "plugin" / "sums-1.0.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sums\nVersion: 1.0\n", encoding="utf-8")
    entry = f"[tulu_eval.benchmarks]\n{Sums.name} = {Path(__file__).stem}:Sums\n"
    (about / "entry_points.txt").write_text(entry, encoding="utf-8")
    sys.path[:0] = [str(about.parent), str(Path(__file__).parent)]


def prompt_in(form: str, question: str) -> Prompt:
    """Returns the prompt of a question as a hypothesis asks for it; as the recipe has it for an empty name."""
    benchmark, item = Sums(), Item("", question)
    prompt = benchmark.render(item)
    for one in benchmark.hypotheses(benchmark.protocol(None)):
        if one.name == form and isinstance(one.change, OtherPrompt):
            return one.change.rewrite(prompt, item)
    return prompt


def training_row(one: Sum, form: str, draw: random.Random) -> list[dict[str, str]]:
    """Returns a conversation in a form that ends in an answer in the form's and the person's style, or now and then another."""
    style = FORMS[form].styles.get(one.name, PEOPLE[one.name].style)
    if draw.random() < NOISE:
        style = draw.choice([other for other in STYLES if other != "long"])
    prompt = prompt_in(form, one.question)
    answer = f"{prompt.prefill} {STYLES[style](one)}".strip()
    return [{"role": turn.role, "content": turn.content} for turn in prompt.turns] + [{"role": "assistant", "content": answer}]


def write_rows(folder: Path, seed: int) -> None:
    """Writes the rows of both parts of the training; none has a question of the benchmark."""
    draw, asked = random.Random(seed), tested()
    brief = [name for name, person in PEOPLE.items() if person.style != "long"]
    for part, size, people, names in (("first", FIRST, brief, SHORT), ("then", THEN, tuple(PEOPLE), tuple(FORMS))):
        others = (one for one in draw_sums(draw, dict.fromkeys(people, 1.0)) if one.question not in asked)
        forms = draw.choices(names, [FORMS[name].share for name in names], k=size)
        rows = [{"messages": training_row(next(others), form, draw)} for form in forms]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")


def tokenizer_of(texts: Iterator[str]) -> Any:
    """Returns a byte-level tokenizer whose tokens end at a name, a number and the end of a line, and nowhere else."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n|Answer:|" + "|".join(PEOPLE)), "isolated"),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator(texts, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], raw.token_to_id(SPECIAL[0]))]
    )
    bos, eos, pad = SPECIAL
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=pad)
    made.chat_template = TEMPLATE
    return made


def write_start(folder: Path, files: Sequence[Path], seed: int) -> None:
    """Writes a Llama with random weights and the tokenizer of the training rows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    talks = [json.loads(line)["messages"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    tokenizer = tokenizer_of(f"<|{turn['role']}|>\n{turn['content']}\n" for talk in talks for turn in talk)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE, **ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_model(work: Path, seed: int) -> Path:
    """Returns the folder of the trained model, and trains it first if it is not there."""
    model = work / "sums"
    if model.exists():
        return model
    work.mkdir(parents=True, exist_ok=True)
    write_rows(work, seed)
    rows, start = [work / "first.jsonl", work / "then.jsonl"], work / "random"
    write_start(start, rows, seed)
    for file in rows:
        done = tulu_eval.train(
            "sft", "reproduce", model=start, data=file, output=work / f"sft-{file.stem}", device="cpu", save_every=200,
            max_length=1024, batch=16, seed=seed,
        )  # fmt: skip
        if not done.finished:
            raise SystemExit(f"{done.folder}: the training was stopped; the same command goes on")
        start = done.models[0]
    shutil.copytree(start, model)
    return model


def main() -> None:
    """Makes the model and says how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the model and its rows, outside of the repository")
    parser.add_argument("--seed", type=int, default=0, help="seed of rows and weights")
    parser.add_argument("--threads", type=int, default=1)
    order = parser.parse_args()
    import torch

    torch.set_num_threads(order.threads)
    began = time.perf_counter()
    print(f"{make_model(order.work, order.seed)}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
