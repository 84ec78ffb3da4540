"""What belongs on a model card, and what is wrong on one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tulu_eval.api.models import load_suite
from tulu_eval.api.paths import AnyPath
from tulu_eval.api.words import spoken
from tulu_eval.errors import UserError
from tulu_eval.model_card import check
from tulu_eval.model_card import make as report
from tulu_eval.model_card.card_file import read_card
from tulu_eval.registry import Model
from tulu_eval.store.manifest import write_text


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """What belongs on a model's card.

    Attributes:
        metadata: The front matter, YAML, without its fences.
        section: The results, Markdown.
        files: Text of the hub's ``.eval_results`` files, by their paths in the model's repository.
        left_out: Why runs or rows are not on it, one line each.
    """

    name: str
    metadata: str
    section: str
    files: dict[str, str]
    left_out: tuple[str, ...]

    @property
    def text(self) -> str:
        """Front matter and section: a whole card."""
        return f"---\n{self.metadata}---\n{self.section}"

    @spoken
    def write(self, folder: AnyPath) -> tuple[Path, ...]:
        """Writes results.md and the hub's files into a folder; returns their paths.

        Raises:
            UserError: If a file is there with another text; then nothing is written.
        """
        texts = {Path(folder) / name: text for name, text in {"results.md": self.text, **self.files}.items()}
        for path, text in texts.items():
            if path.exists() and (not path.is_file() or path.read_bytes() != text.encode()):
                raise UserError(f"{path} exists and is not this text; nothing was written: remove it, or name another folder")
        for path, text in texts.items():
            write_text(path, text)
        return tuple(texts)


@spoken
def make_card(model: str, *, results: AnyPath = "results", published: bool = False, registry: AnyPath | None = None) -> Card:
    """Returns what belongs on a model's card, from its finished runs; the hub's own library has read it back.

    >>> card = tulu_eval.make_card("my-checkpoint")
    >>> card.write("my-checkpoint-repository")

    Args:
        model: A name of the registry, or what its runs are filed under.
        results: Folder under which run folders are looked for.
        published: Include the model's published numbers, marked as such.
        registry: TOML file with models and published numbers of your own.

    Raises:
        UserError: If the model has no whole run, and no published number was asked for or exists.
    """
    suite = load_suite(registry)
    made = report.make(model, suite, Path(results), published)
    return Card(made.name, report.metadata(made), report.section(made, suite), report.hub_files(made), made.left_out)


@dataclasses.dataclass(frozen=True, slots=True)
class CardCheck:
    """What was found on a card.

    Attributes:
        model: The card's model; None if unknown.
        findings: Every place where it contradicts itself or the registry, or where the hub does not read it.
    """

    model: Model | None
    findings: tuple[check.Finding, ...]


@spoken
def check_card(file: AnyPath, *, model: str | None = None, registry: AnyPath | None = None) -> CardCheck:
    """Returns every place where a model card contradicts itself or the registry, or where the hub does not read it.

    >>> [(one.line, one.says) for one in tulu_eval.check_card("README.md").findings]

    Args:
        file: The card.
        model: The card's model, if its metadata does not name it.
        registry: TOML file with models and published numbers of your own.

    Raises:
        UserError: If the file cannot be read as a model card, or there is no such model.
    """
    suite = load_suite(registry)
    card = read_card(Path(file))
    whose = suite.find(model) if model else check.model_of(card, suite)
    return CardCheck(whose, check.check(card, suite, whose))
