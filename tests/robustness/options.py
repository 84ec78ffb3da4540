"""Every option and argument of every verb with hostile values, taken from click's own tree of commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import click
from click_tree import commands
from robustness import mutations
from robustness.places import LINES, Place, verb_of

NUMERIC = (click.types.IntParamType, click.types.FloatParamType)
WRITTEN = ("output", "write", "cache")
"""Parameters that name an output."""

NOT_NUMBERS = ("nan", "-inf", "", "١", "１２", "0x10", "1_000", "1e999", "None", "1.5.2", "1,5", "9" * 5000)
NUMBERS = (*NOT_NUMBERS, "-1", "0", "-0", "+1", " 1 ", "1e308", "1" + "0" * 30, "5e-324", "1.5", "--", "999999999999999999")

TEXTS = (
    "",
    " ",
    mutations.HOSTILE.replace("\0", ""),
    "../x",
    "../../../etc/passwd",
    "-",
    "--",
    "-x",
    "--json",
    "x" * 5000,
    "y" * 100_000,
    "ü",
    "\udcff",
    "%s%n",
    "{x}",
    "$(id)",
    "=",
    "=x",
    "gsm8k=",
    "gsm8k={missing}",
    "a=b=c",
    "@",
    "a@b@c",
    "a/b@main",
    "/",
    ".",
    "~",
    "NaN",
    "1",
    "0/0",
    "1/0",
    "2/1",
    "١/٢",
    "1/" + "9" * 30,
    "1/2/3",
    "http://",
    "http://[::1",
    "http://127.0.0.1:0/v1",
    "http://127.0.0.1:99999/v1",
    "http://127.0.0.1:9/v1",
    "file:///etc/passwd",
    "http://user:pw@127.0.0.1:9/",
    "2026-02-30",
    "0000-00-00",
    "9999-12-31",
    "٢٠٢٦-١١-٢٩",
    "1,2,3",
    "nan,1",
    "-1,1",
    "1e999,1",
    "learning_rate=nan",
    "x=[",
    "auto",
    "AUTO",
    "None",
    "null",
    "{}",
    "\u202e\u2066x",
    "\ufeffgsm8k",
)
"""Names, choices, addresses, days, parts and pairs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Odd:
    """A command line with one hostile value.

    Attributes:
        verb: The name of its line.
        name: The option or argument.
        kind: What it was given.
        words: All of it.
        refused: Whether it must not be taken.
        told: Whether it must be refused or named on stderr: an input that is not there, or is no file or folder.
    """

    verb: str
    name: str
    kind: str
    words: list[str]
    refused: bool
    told: bool


def every(place: Place) -> Iterator[Odd]:
    """Yields every parameter of every verb with every hostile value of its kind."""
    tree = dict(commands())
    for verb in LINES:
        for parameter in tree[" ".join(verb_of(verb))].params:
            yield from _of_parameter(place, verb, parameter)


def _of_parameter(place: Place, verb: str, parameter: click.Parameter) -> Iterator[Odd]:
    line = LINES[verb]
    number = isinstance(parameter.type, NUMERIC)
    for kind, value in _values(place, parameter):
        refused = (number and value in NOT_NUMBERS) or (isinstance(parameter.type, click.Choice) and kind != "text 'auto'")
        told = kind.startswith("path, no input") and isinstance(parameter.type, click.Path) and parameter.name not in WRITTEN
        if isinstance(parameter, click.Argument):
            yield Odd(verb, parameter.human_readable_name, kind, place.words(verb, first=value), refused, told)
            continue
        option = max(parameter.opts, key=len)
        given = next((name for name in parameter.opts if name in line.options), "")
        values = [value, *("tulu-2-13b" for _ in range(parameter.nargs - 1))]
        if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
            yield Odd(verb, option, kind, place.words(verb, given, (f"{option}={value}",)), refused=True, told=True)
            continue
        yield Odd(verb, option, kind, place.words(verb, given, (option, *values)), refused, told)
        if parameter.multiple:
            more = (option, value, option, value)
            yield Odd(verb, option, f"{kind}, twice", place.words(verb, given, more), refused, told)


def _values(place: Place, parameter: click.Parameter) -> Iterator[tuple[str, str]]:
    """Yields hostile values, each with its kind."""
    if isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count):
        yield from ((f"flag {value!r}", value) for value in ("", "x", "1"))
    elif isinstance(parameter.type, NUMERIC):
        yield from ((f"number {value[:30]!r}", value) for value in NUMBERS)
    elif isinstance(parameter.type, click.Choice):
        known = {str(one) for one in parameter.type.choices}
        yield from ((f"text {value[:30]!r}", value) for value in TEXTS if value not in known)
    elif isinstance(parameter.type, click.Path):
        yield from ((f"path, {kind}", value) for kind, value in place.bad.items())
    else:
        texts = [text.replace("{missing}", f"{place.root}/missing") for text in TEXTS]
        yield from ((f"text {value[:30]!r}{len(value)}", value) for value in texts)
        yield from ((f"path, {kind}", value) for kind, value in place.bad.items())
