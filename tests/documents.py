"""The blocks of code in the pages of the documentation, and how each is run.

A comment before a block says what is special about it, and why::

    <!-- stand-in: no GPU here; a scripted engine answers -->
    <!-- dry-run: installs 2 GB -->
    <!-- parsed: starts eight processes on eight GPUs -->
    <!-- exit: 1 -->

``stand-in``: the words are run as they stand, with a made thing in place of what is missing here: an engine that answers from a
script, a made model for one of the hub, a server on this machine. ``dry-run``: with ``--dry-run``, or ``make -n``.
``parsed``: verb and options are read, nothing is run; such a block does not count as executed. ``exit``: the code it ends with.
A ``text`` block behind another is what that prints, or parts of it with ``...`` between; its numbers may be others behind
``<!-- digits: of the machine -->``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import io
import itertools
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import click
from click.testing import CliRunner

from tulu_eval.cli import cli
from tulu_eval.registry import load_suite
from tulu_eval.training import recipes

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

Mode = Literal["as it stands", "stand-in", "dry-run", "parsed"]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[a-z-]+): (?P<why>[^\n]*) -->\n)?^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclasses.dataclass(slots=True)
class Block:
    """A block of code.

    Attributes:
        line: One-based line of its fence.
        why: Reason of its mode; empty for ``as it stands``.
        prints: Parts of what it prints, in their order.
        any_digits: Whether the numbers of what it prints may be others.
    """

    page: str
    line: int
    language: str
    text: str
    mode: Mode = "as it stands"
    why: str = ""
    code: int = 0
    prints: tuple[str, ...] = ()
    any_digits: bool = False

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """Returns the blocks of a page that can be run; a ``text`` block is part of the one before it."""
    text, found = path.read_text(encoding="utf-8"), list[Block]()
    for match in _BLOCK.finditer(text):
        mark, why = match["mark"] or "", match["why"] or ""
        line = text.count("\n", 0, match.start("language")) + 1
        if match["language"].startswith("{"):  # a directive of the site
            continue
        if match["language"] == "text":
            found[-1].prints = tuple(part for part in re.split(r"^\.\.\.\n", match["text"], flags=re.MULTILINE) if part.strip())
            found[-1].any_digits = mark == "digits"
            continue
        block = Block(path.name, line, match["language"], match["text"])
        if mark == "exit":
            block.code = int(why)
        elif mark:
            assert mark in ("stand-in", "dry-run", "parsed"), f"{block.place}: no such mark {mark!r}"
            assert why, f"{block.place}: {mark} without a reason"
            block.mode, block.why = mark, why  # type: ignore[assignment]
        found.append(block)
    return found


def commands(text: str) -> list[str]:
    """Returns the commands of a block of the shell: its lines, a ``\\`` at the end of one joining it to the next."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def shown(text: str, any_digits: bool) -> str:
    """Returns a text as it is compared: on one line, rules of tables of one length."""
    text = re.sub(r"-{3,}", "---", " ".join(text.split()))
    return re.sub(r"\d+(\.\d+)?", "#", text) if any_digits else text


class Reader:
    """Somebody who types a page's blocks, one after the other.

    Args:
        place: The working folder.
        servers: What an address in the page stands for here, by its host.
        stand_ins: Puts made things in place of what is missing here, for a while.
    """

    def __init__(self, place: Path, servers: dict[str, str], stand_ins: Callable[[], AbstractContextManager[Any]]) -> None:
        self.place, self.servers, self.stand_ins = place, servers, stand_ins
        self.names: dict[str, Any] = {"__name__": "page"}

    def read(self, block: Block) -> None:
        """Runs a block; raises AssertionError if it ends otherwise than the page says, or prints something else."""
        with contextlib.nullcontext() if block.mode == "as it stands" else self.stand_ins():
            said = shown(getattr(self, f"_{block.language}")(block), block.any_digits)
        for part in block.prints if block.mode != "dry-run" else ():
            part = shown(part, block.any_digits)
            assert part in said, f"{block.place} prints otherwise:\n{part}\n--- is not in\n{said}"

    def _python(self, block: Block) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.text, block.place, "exec"), self.names)
        return out.getvalue()

    def _toml(self, block: Block) -> str:
        data = tomllib.loads(block.text)
        if "project" in data:
            entries = [entry for group in data["project"]["entry-points"].values() for entry in group.values()]
            assert all(re.fullmatch(r"[\w.]+:\w+", entry) for entry in entries), block.place
            return ""
        if any("base" in table for table in data.values() if isinstance(table, dict)):
            (self.place / "mine.toml").write_text(block.text, encoding="utf-8")
            recipes.load("ppo", "mine.toml")
            return ""
        path = self.place / "ours.toml"
        path.write_text(block.text, encoding="utf-8")
        load_suite(path)
        return ""

    def _bash(self, block: Block) -> str:
        return "".join(self._type(command, block) for command in commands(block.text))

    def _type(self, command: str, block: Block) -> str:
        """Types a command; returns what it prints."""
        words = shlex.split(command, comments=True)
        settings = list(itertools.takewhile(re.compile(r"[A-Z_]+=").match, words))
        words = words[len(settings) :]
        target = words[words.index(">") + 1] if ">" in words else ""
        if words[0] != "tulu-eval":
            return self._other(command, words, block)
        words = [path for word in words[1 : words.index(">") if target else None] for path in self._expanded(word)]
        if block.mode == "parsed":
            parse(words)
            return ""
        with changed(dict(setting.split("=", 1) for setting in settings)):
            words += ["--dry-run"] if block.mode == "dry-run" else []
            done = CliRunner().invoke(cli, words)
        assert done.exit_code == block.code, f"{block.place}: {command}\n{done.output}\n{done.exception!r}"
        if target:
            Path(self.place, target).write_text(done.stdout, encoding="utf-8")
        return str(done.output)

    def _expanded(self, word: str) -> list[str]:
        """Returns what the shell makes of a word, and what stands for an address here."""
        for host, url in self.servers.items():
            word = word.replace(f"http://{host}:8000/v1", url)
        return sorted(glob.glob(word, root_dir=self.place)) or [word] if "*" in word else [word]

    def _other(self, command: str, words: list[str], block: Block) -> str:
        """Types a command of another program."""
        if block.mode in ("dry-run", "parsed"):
            if "tulu_eval" in words:
                parse(words[words.index("tulu_eval") + 1 :])
            command = f"make -n {' '.join(words[1:])}" if words[0] == "make" else f"bash -n -c {shlex.quote(command)}"
        place = ROOT if words[0] == "make" else self.place
        done = subprocess.run(["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == block.code, f"{block.place}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout


def parse(words: list[str]) -> None:
    """Reads verb, arguments and options, as the command line does before it runs anything."""
    group: click.Command = cli
    context, rest = None, words
    while isinstance(group, click.Group):
        context = group.make_context(group.name or "tulu-eval", rest, parent=context, allow_interspersed_args=False)
        rest = [*context._protected_args, *context.args]
        _, command, rest = group.resolve_command(context, rest)
        assert command is not None
        group = command
    group.make_context(group.name, rest, parent=context)


@contextlib.contextmanager
def changed(settings: dict[str, str]) -> Iterator[None]:
    """Sets variables of the environment for a while."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
