"""The results table and the family table of the suite's model card, cell by cell as printed.

As in :mod:`tulu_eval.registry.entries`, each field is the TOML key of the same name.
"""

from __future__ import annotations

import dataclasses
import re

from tulu_eval.registry.published import Identity

_BOLD = re.compile(r"\*\*(.*?)\*\*")
_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)]*)\)\s*(?P<suffix>.*)")
HUB = "https://huggingface.co/"


@dataclasses.dataclass(frozen=True, slots=True)
class CardRow:
    """One row of the card's results table.

    Attributes:
        label: First column as printed, bold marks included.
        size: Second column.
        alignment: Third column.
        gsm8k: Fourth column as printed, bold marks included.
        alpaca_eval: Fifth column as printed, bold marks included.
        model: Hub id of the row's model.
        source: Key of the card's source.
        identity: ``certain`` if the row names this model; ``inferred`` if we worked it out.
        note: How the model was identified, and what is wrong in the row.
    """

    label: str
    size: str
    alignment: str
    gsm8k: str
    alpaca_eval: str
    model: str
    source: str
    identity: Identity
    note: str = ""

    @property
    def printed(self) -> tuple[str, ...]:
        """The row's five cells as the card's Markdown has them."""
        return (self.label, self.size, self.alignment, self.gsm8k, self.alpaca_eval)


@dataclasses.dataclass(frozen=True, slots=True)
class FamilyRow:
    """One row of the card's family table, each cell as printed in Markdown.

    Attributes:
        printed_split: Name of the preference data as printed.
        split: That split's name in ``allenai/tulu-2.5-preference-data``.
    """

    printed_split: str
    split: str
    dpo: str
    ppo: str = ""
    reward_model: str = ""
    value_model: str = ""

    @property
    def printed(self) -> tuple[str, ...]:
        """The row's five cells as the card's Markdown has them."""
        return (self.printed_split, self.dpo, self.ppo, self.reward_model, self.value_model)

    @property
    def links(self) -> tuple[Link | None, ...]:
        """Links in the four model cells; ``None`` for a cell without a link."""
        return tuple(Link.read(cell) for cell in self.printed[1:])


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """A Markdown link in a cell, with the text that it shows."""

    text: str
    target: str
    suffix: str

    @classmethod
    def read(cls, cell: str) -> Link | None:
        """Returns the link that a cell starts with, ``None`` if it starts with none."""
        found = _LINK.fullmatch(cell)
        return cls(**found.groupdict()) if found else None

    @property
    def hub_id(self) -> str:
        """Hub id in the address; empty if the address is not on the Hugging Face hub."""
        return self.target.removeprefix(HUB) if self.target.startswith(HUB) else ""


def plain(cell: str) -> str:
    """Returns a cell without Markdown's bold marks."""
    return _BOLD.sub(r"\1", cell)
