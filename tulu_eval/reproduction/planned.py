"""The records of a plan: what ``reproduce`` would do, each figure with what it was computed from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tulu_eval import files

TO_DO, DONE = "to do", "done"


class Figure(files.Record, frozen=True):
    """A range of a number, and its source.

    Attributes:
        low: Smallest value; equal to ``high`` if it is one number.
        source: What it was computed from.
    """

    low: float
    high: float
    unit: Literal["steps", "seconds", "bytes"]
    source: str


class PlannedMemory(files.Record, frozen=True):
    """The memory of a stage on each of some devices.

    Attributes:
        parts: Bytes by part.
        fits: Whether they fit.
    """

    devices: int
    parts: dict[str, int]
    fits: bool


class PlannedStage(files.Record, frozen=True):
    """A stage of a reproduction.

    Attributes:
        what: What it does, in words.
        state: ``done``, ``to do``, or how far it is.
        start: Models that it starts from.
        data: Data set and split, or file.
        steps: Steps of training; ``None`` for other stages.
        seconds: Time of the whole stage; ``None`` if nothing is known of it.
        disk: What it leaves or, while it runs, needs on the disk.
        devices: Number of devices of its commands; 0 for this machine's CPU.
        memory: Memory on each device, for some numbers of devices.
        commands: Commands to give on each of its nodes; empty if ``reproduce`` does it.
    """

    name: str
    what: str
    state: str
    start: tuple[str, ...] = ()
    data: str = ""
    steps: Figure | None = None
    seconds: Figure | None = None
    disk: Figure | None = None
    devices: int = 0
    memory: tuple[PlannedMemory, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state == DONE


class ReproductionPlan(files.Record, frozen=True):
    """What a reproduction would do.

    Attributes:
        seed: Seed of data, initial weights and draws.
        folder: Where everything would be.
        stages: In the order in which they are done.
        per_node: Number of devices of a node; 0 if the recipe needs none.
        device: Name and memory of a device; empty if the recipe needs none.
        seconds: Time of what is left to do, as far as it is known.
        disk: Bytes of what is left to do.
        free: Bytes that are free where the folder would be.
        notes: What a user should know, one line each.
    """

    recipe: str
    seed: int
    folder: str
    stages: tuple[PlannedStage, ...]
    per_node: int
    device: str
    seconds: Figure
    disk: Figure
    free: int
    notes: tuple[str, ...]


def together(figures: Iterable[Figure | None], unit: Literal["seconds", "bytes"]) -> Figure:
    """Returns the sum of those figures that are known."""
    known = [one for one in figures if one is not None]
    return Figure(sum(one.low for one in known), sum(one.high for one in known), unit, "sum over the stages that are not done")
