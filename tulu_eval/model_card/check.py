"""Finds statements of a model card that contradict the registry or the card itself, or that the hub cannot read.

There are two kinds of findings. Findings of the record are the registry's contradictions whose first statement is in this card;
a pattern finds each place. Findings of the rules apply to any card: links whose text names another model, "published" numbers
that nobody published, sizes, base and reward models that differ from the registry's, metadata that is empty or misplaced,
numbers of tables that do not fit each other. If a rule and the record concern the same place, the check keeps the record's
finding, which says more.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tulu_eval.model_card.card_file import CardFile, CardSpan, TableRow
from tulu_eval.model_card.table_lint import doubts
from tulu_eval.registry.card_tables import plain
from tulu_eval.registry.entries import Model
from tulu_eval.registry.published import PublishedCell
from tulu_eval.registry.suite import Suite

REGISTRY = "the registry"
ARITHMETIC = "arithmetic"
METADATA = "huggingface_hub, which reads a card as the hub does"

_SIZE = re.compile(r"\b\d+(?:\.\d+)?B\b")
_REWARD_MODEL_SIZE = re.compile(r"\b(?:used|using|with) an? (\d+(?:\.\d+)?B) (?:RM|reward model)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.(\d+))?")
_NAME = re.compile(r"[\w.-]+/[\w.-]+|\w[\w.]*-[\w.-]+")
_COLUMNS = {"GSM8K_8shot_CoT": re.compile(r"gsm8k", re.I), "AlpacaEval2_LC": re.compile(r"alpaca.?eval.?2.{0,60}\bLC\b", re.I)}
"""Patterns of a results table's column titles, by metric."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One error in a card.

    Attributes:
        line: One-based line.
        check: Id of the contradiction, or name of the rule.
        says: The card's statement, one sentence.
        instead: The fact that contradicts it.
        source: Source of the fact in ``instead``.
        advice: What to do; empty if ``instead`` makes it obvious.
    """

    line: int
    check: str
    says: str
    instead: str
    source: str
    advice: str
    place: CardSpan


def model_of(card: CardFile, suite: Suite) -> Model | None:
    """Returns the registry's model that the card's metadata names; ``None`` if it names none."""
    index = card.metadata.get("model-index")
    first = index[0] if isinstance(index, list) and index else None
    name = first.get("name") if isinstance(first, dict) else None
    return suite.known(name) if isinstance(name, str) else None


def check(card: CardFile, suite: Suite, model: Model | None) -> tuple[Finding, ...]:
    """Returns the errors in a card, in the card's order; without a ``model``, only by the rules that need none."""
    recorded = list(_recorded(card, suite, model)) if model else []
    ruled = [*_metadata(card), *_links(card, suite), *(found for row in card.rows() for found in _row(card, suite, model, row))]
    ruled += _tables(card, suite, model)
    if model is not None:
        ruled += [*_base(card, suite, model), *_sizes(card, suite, model), *_reward_model(card, suite, model)]
    said = {(one.line, one.check) for one in recorded}
    new = [
        one
        for one in ruled
        if not any(one.place.meets(other.place) for other in recorded) and (one.line, one.check) not in said
    ]
    return tuple(sorted([*recorded, *new], key=lambda one: (one.place.start, one.check)))


def _finding(
    card: CardFile, place: CardSpan, name: str, says: str, instead: str, source: str = REGISTRY, advice: str = ""
) -> Finding:
    return Finding(card.line(place.start), name, says, instead, source, advice, place)


def _recorded(card: CardFile, suite: Suite, model: Model) -> Iterator[Finding]:
    """Yields each place of each contradiction that the registry records for this model's card."""
    own = {key for key, source in suite.sources.items() if source.document == f"model card of {model.hub_id}"}
    for entry in suite.contradictions():
        if entry.first_source not in own or not entry.pattern:
            continue
        for found in re.finditer(entry.pattern, card.text, re.MULTILINE):
            place = CardSpan(*found.span(), found.group())
            source = str(suite.sources[entry.second_source])
            yield _finding(card, place, entry.id, entry.first, entry.second, source, entry.advice)


def _metadata(card: CardFile) -> Iterator[Finding]:
    if card.text[: card.front.start].strip() != "---":
        says = f"The metadata begins at line {card.line(card.front.start) - 1}."
        yield _finding(
            card, CardSpan(0, 1, ""), "metadata-place", says, "The hub reads metadata only at the start of a card.", METADATA
        )
    numbers = any(_column(title) for row in card.rows() for title in row.header)
    place = card.key("model-index")
    if "model-index" not in card.metadata:
        if numbers:
            says = "The card has a table of results, and its metadata has no model-index."
            yield _finding(card, place, "metadata-model-index", says, "Programs read results from model-index.", METADATA)
        return
    try:
        from huggingface_hub.repocard_data import model_index_to_eval_results

        results: list[Any] = model_index_to_eval_results(card.metadata["model-index"])[1]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        lost = " 'results' is beside model-index, not in its entry." if "results" in card.metadata else ""
        instead = f"The hub refuses such a model-index ({type(error).__name__}: {error}).{lost}"
        yield _finding(
            card, place, "metadata-model-index", "The metadata's model-index lacks the required form.", instead, METADATA
        )
        return
    if not results and numbers:
        says = "The card has a table of results, and its model-index has none."
        yield _finding(card, place, "metadata-model-index", says, "Programs read results from model-index.", METADATA)


def _links(card: CardFile, suite: Suite) -> Iterator[Finding]:
    """Yields links to a model's repository whose text names another model, or no model."""
    for place, link in card.links():
        if not _NAME.fullmatch(link.text) or not re.fullmatch(r"[\w.-]+/[\w.-]+", link.hub_id):
            continue
        named, target = suite.known(link.text), suite.known(link.hub_id)
        says = f"The link {link.text!r} leads to {link.hub_id}."
        if named is not None and (target is None or target.hub_id != named.hub_id):
            yield _finding(card, place, "link-elsewhere", says, f"{link.text} is {named.hub_id}.")
        elif named is None and target is not None:
            yield _finding(
                card, place, "link-unknown-name", says, f"No model has the name shown; the link's is {target.hub_id}."
            )
        elif target is not None and target.hub_id != link.hub_id:
            yield _finding(card, place, "link-former-name", says, f"The repository is now called {target.hub_id}.")


def _row(card: CardFile, suite: Suite, model: Model | None, row: TableRow) -> Iterator[Finding]:
    yield from _numbers(card, suite, model, row)
    split, *models = row.cells
    linked = (suite.known(link.hub_id) for cell in models for _, link in card.links(cell) if link.hub_id)
    first = next((found for found in linked if found and found.preference_split), None)
    if first is not None and re.fullmatch(r"\w+", split.text) and split.text != first.preference_split:
        says = f"The row of {first.name} calls its preference data {split.text!r}."
        yield _finding(card, split, "preference-split", says, f"It is {first.preference_split!r}.")


def _numbers(card: CardFile, suite: Suite, model: Model | None, row: TableRow) -> Iterator[Finding]:
    """Yields numbers in a results row that nobody published for the row's model, or that the record contradicts."""
    columns = [(key, cell) for title, cell in zip(row.header, row.cells, strict=False) if (key := _column(title))]
    subject = _subject(suite, model, row) if columns else None
    for key, cell in columns:
        printed = _NUMBER.fullmatch(plain(cell.text))
        published = [one for one in suite.cells(subject) if one.metric_key == key] if subject else []
        if subject is None or printed is None or not published:
            continue
        half = 0.5 * 10.0 ** -len(printed[1] or "") + 1e-9
        same = [one for one in published if abs(one.value - float(printed[0])) <= half]
        says = f"The table prints {suite.metrics[key].title} {printed[0]} for {subject.name}."
        if not same:
            known = "; ".join(f"{one.printed} ({one.source})" for one in published)
            yield _finding(card, cell, "published-number", says, f"Published are: {known}.")
        yield from _contradicted(card, suite, cell, says, same)


def _contradicted(card: CardFile, suite: Suite, cell: CardSpan, says: str, same: Iterable[PublishedCell]) -> Iterator[Finding]:
    ids = {name for one in same for name in one.contradictions}
    for entry in suite.contradictions():
        if entry.id in ids:
            source = f"{suite.sources[entry.first_source]}; {suite.sources[entry.second_source]}"
            yield _finding(card, cell, entry.id, says, f"{entry.first} {entry.second}", source, entry.advice)


def _tables(card: CardFile, suite: Suite, model: Model | None) -> Iterator[Finding]:
    """Yields numbers of tables that do not fit each other."""
    counted = frozenset(metric.metric.replace("_", " ") for metric in suite.metrics.values() if metric.counted)
    for one in doubts(list(card.rows()), lambda row: _subject(suite, model, row), counted):
        yield _finding(card, one.place, one.check, one.says, one.instead, ARITHMETIC, one.advice)


def _column(title: str) -> str:
    return next((key for key, pattern in _COLUMNS.items() if pattern.search(title)), "")


def _subject(suite: Suite, model: Model | None, row: TableRow) -> Model | None:
    """Returns the model of a row of a results table: the card's own, one with a label of the suite's card, or one by name."""
    label = plain(row.cells[0].text)
    if "this model" in label.lower():
        return model
    listed = next((one.model for one in suite.card_rows if plain(one.label) == label), None)
    linked = re.search(r"\]\(([^()]*)\)", label)
    return suite.known(listed or (linked.group(1) if linked else label))


def _base(card: CardFile, suite: Suite, model: Model) -> Iterator[Finding]:
    if model.base is None:
        return
    named = card.metadata.get("base_model")
    for name in [named] if isinstance(named, str) else named if isinstance(named, list) else []:
        found = suite.known(name) if isinstance(name, str) else None
        if found is not None and found.hub_id != model.base:
            says = f"The metadata's base_model is {name}."
            yield _finding(card, card.key("base_model"), "base-model", says, f"Training started from {model.base}.")
    line_of_descent = {one.hub_id for one in suite.lineage(model).path}
    for line in card.lines():
        if re.search(r"finetuned from", line.text, re.IGNORECASE):
            for place, link in card.links(line):
                if link.hub_id and link.hub_id not in line_of_descent:
                    says = f"The card says: finetuned from {link.hub_id}."
                    yield _finding(card, place, "base-model", says, f"Training started from {model.base}.")


def _sizes(card: CardFile, suite: Suite, model: Model) -> Iterator[Finding]:
    """Yields sizes in the card's title that neither the model nor its reward model has."""
    title = next((line for line in card.lines() if line.text.startswith("# ")), None)
    reward = suite.known(model.reward_model) if model.reward_model else None
    sizes = {model.size, *([reward.size] if reward else [])}
    for found in _SIZE.finditer(title.text if title else ""):
        if title is not None and found.group() not in sizes:
            place = CardSpan(title.start + found.start(), title.start + found.end(), found.group())
            yield _finding(card, place, "title-size", f"The title says {found.group()}.", f"The model has {model.size}.")


def _reward_model(card: CardFile, suite: Suite, model: Model) -> Iterator[Finding]:
    """Yields statements outside tables about the model's reward model that contradict the registry."""
    reward = suite.known(model.reward_model) if model.reward_model else None
    if reward is None:
        return
    worked_out = ", worked out from the model's name" if "reward_model" in model.inferred else ""
    instead = f"Its reward model is {reward.hub_id} ({reward.size}){worked_out}."
    for line in card.lines():
        if "|" in line.text or line.text.startswith("#") or not re.search(r"reward model|\bRM\b", line.text, re.IGNORECASE):
            continue
        for found in _REWARD_MODEL_SIZE.finditer(line.text):
            if found.group(1) != reward.size:
                place = CardSpan(line.start + found.start(), line.start + found.end(), found.group())
                yield _finding(card, place, "reward-model", f"The card says: {found.group()}.", instead)
        for place, link in card.links(line):
            linked = suite.known(link.hub_id) if link.hub_id else None
            if linked is not None and linked.stage == "RM" and linked.hub_id != reward.hub_id:
                yield _finding(card, place, "reward-model", f"The card links to the reward model {linked.hub_id}.", instead)
