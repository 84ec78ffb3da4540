"""What every verb shares: errors in one line, JSON on stdout, names completed by the shell."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from tulu_eval.cli import foreign
from tulu_eval.cli.names import FILE, check_paths
from tulu_eval.errors import UserError, printable, printable_lines, suggest

if TYPE_CHECKING:
    from tulu_eval.store.tally import Tally

registry_option = click.option("--registry", type=FILE, help="TOML file with models and published numbers of your own.")

unsafe_option = click.option(
    "--unsafe-execution", is_flag=True, help="Run programs that the model wrote without a sandbox, with your rights."
)
image_option = click.option(
    "--sandbox-image", metavar="IMAGE", default="",
    help="Run programs that the model wrote in containers of IMAGE, by podman or docker, in place of bubblewrap.",
)  # fmt: skip


def execution_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of how programs that a model wrote are run."""
    return unsafe_option(image_option(command))


class Verbs(click.Group):
    """A group of verbs that ends a user's mistake with one line on stderr and the error's exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = unwrapped(self.help)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:  # noqa: D102
        cmd.help = unwrapped(cmd.help)
        if (call := cmd.callback) is not None:

            @functools.wraps(call)
            def checked(*args: Any, **given: Any) -> Any:
                check_paths(cmd, given)
                return call(*args, **given)

            cmd.callback = checked
        super().add_command(cmd, name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:  # noqa: D102
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            names = self.list_commands(ctx)
            raise click.UsageError(f"no such verb {args[0]!r}.{suggest(args[0], names)}", ctx) from error

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        words = foreign.translated(list(kwargs.pop("args", None) or (args[0] if args else sys.argv[1:])))
        debug = "--debug" in words
        kwargs.update(standalone_mode=False, prog_name="tulu-eval")
        if not sys.stderr.isatty():  # other packages read it when they are imported
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal in Latin-1 or ASCII cannot show is escaped, as in JSON
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            sys.exit(super().main([word for word in words if word != "--debug"], **kwargs) or 0)
        except UserError as error:
            if debug:
                sys.excepthook(type(error), error, error.__traceback__)
            say(f"tulu-eval: {error.command_line}")
            sys.exit(error.exit_code)
        except click.NoSuchOption as error:
            say(f"tulu-eval: {foreign.answer(error)}")
            sys.exit(error.exit_code)
        except click.UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2 on; its message is the verb's whole help
                say(*error.format_message().split("\n"))
                sys.exit(error.exit_code)
            command = error.ctx.command_path if error.ctx else "tulu-eval"
            say(f"tulu-eval: {one_line(error.format_message())} Try '{command} --help'.")
            sys.exit(error.exit_code)
        except click.exceptions.Exit as leave:
            sys.exit(leave.exit_code)
        except (click.Abort, KeyboardInterrupt):
            resumed = words[:1] in (["train"], ["reproduce"]) and "--dry-run" not in words
            say(f"tulu-eval: interrupted{f'; {GOES_ON}' if resumed else ''}")
            sys.exit(130)
        except BrokenPipeError:
            # The reader of our output is gone (``| head``): nothing is wrong, and Python must not complain at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:  # the machine's: a full disk, a folder that may not be entered, a name that is too long
            if debug:
                sys.excepthook(type(error), error, error.__traceback__)
            say(f"tulu-eval: {of_system(error)}")
            sys.exit(2)


GOES_ON = "the same command goes on from the last whole checkpoint, if there is one"


def unwrapped(text: str | None) -> str | None:
    r"""Returns a raw docstring with the two characters ``\b`` as the one by which click leaves a paragraph's lines alone."""
    return text and text.replace("\\b\n", "\b\n")


def of_system(error: OSError) -> str:
    """Returns the operating system's message on one line, after the file that it is about; ``the output`` if it names none."""
    what = error.filename if error.filename is not None else "the output"
    return printable(" ".join(f"{os.fsdecode(what) if isinstance(what, bytes) else what}: {error.strerror or error}".split()))


def say(*lines: str) -> None:
    """Prints lines on stderr, with control characters and line ends escaped; prints nothing if stderr cannot be written.

    A terminal gets them wrapped between words, a pipe or a log each on one line.
    """
    shown = [*map(printable, lines)]
    with contextlib.suppress(OSError, ValueError):  # no terminal, or a closed stderr
        from tulu_eval.reports import layout

        width = os.get_terminal_size(sys.stderr.fileno()).columns
        shown = [layout.message(line, width) for line in shown] if width else shown
    with contextlib.suppress(OSError):
        click.echo("\n".join(shown), err=True)


def one_line(message: str) -> str:
    """Returns a message of click's as one sentence on one line."""
    text = " ".join(message.split())
    return text if text.endswith((".", "?")) else f"{text}."


VERDICTS = {"inconsistent": "red", "consistent": "green", "cannot tell": "yellow"}
"""Colours of verdicts on a terminal."""


def print_text(text: str, *, end: bool = True, exact: bool = False) -> None:
    """Prints a text on stdout, with control characters escaped, since names, prompts and answers may have any.

    Long lines are wrapped at a terminal's width unless the text is to be ``exact``, as a prompt or a file is. ``end`` ends the
    last line.
    """
    from tulu_eval.reports.layout import fitted

    shown = printable_lines(text)
    click.echo(shown if exact else coloured(fitted(shown)), nl=end)


def coloured(text: str) -> str:
    """Returns a text with its verdicts in colour if stdout is a terminal and ``NO_COLOR`` (no-color.org) is not set."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return text
    return re.sub(r"\binconsistent\b|\bconsistent\b|\bcannot tell\b", lambda found: _styled(found[0]), text)


def _styled(verdict: str) -> str:
    return click.style(verdict, fg=VERDICTS[verdict])


def then(*words: object, quiet: bool = False) -> None:
    """Prints the likely next command on stderr, so that pipes stay clean; ``words`` are those after ``tulu-eval``."""
    if not quiet:
        say(f"next: {shlex.join(['tulu-eval', *map(str, words)])}")


def then_verify(folder: Path, *, registry: Path | None = None, quiet: bool = False) -> None:
    """Prints the command that says what a run's number is worth: ``verify``, or ``report`` where nobody published one.

    ``folder`` is the run's, or a file of outputs, whose number is in the table.
    """
    from tulu_eval.registry import load_suite
    from tulu_eval.store.manifest import MANIFEST, read_manifest

    if not (folder / MANIFEST).exists():
        then("table", quiet=quiet)
        return
    manifest, suite = read_manifest(folder), load_suite(registry)
    if not any(cell.protocol in manifest.items for cell in suite.cells(benchmark=manifest.benchmark.name)):
        then("report", "--results", folder.parents[2] if len(folder.parents) > 2 else folder.parent, quiet=quiet)
        return
    known: tuple[object, ...] = ()
    with contextlib.suppress(UserError):
        cells = suite.cells(suite.find(manifest.model.name), manifest.benchmark.name)
        known = tuple(cell for cell in cells if cell.protocol in manifest.items)
    more: list[object] = [] if known else ["--as", "NAME"]
    whole = any({*ids} <= {*manifest.planned} for ids in manifest.items.values())
    more += [] if whole else ["--partial"]
    then("verify", folder, *more, *(["--registry", registry] if registry else []), quiet=quiet)


def then_same(change: str, *, quiet: bool = False) -> None:
    """Prints on stderr that the same command is the likely next one, with a change such as ``without --dry-run``."""
    if not quiet:
        say(f"next: the same command {change}")


FOR_REAL = "without --dry-run"
"""What is changed in a command whose plan was printed."""


def print_json(data: Any) -> None:
    """Prints data as JSON on stdout, with control characters escaped."""
    from tulu_eval.files import json_text

    click.echo(json_text(data, indent=2), nl=False)


class Counted(Protocol):
    """The outcome of ``run`` or of ``merge``."""

    @property
    def folder(self) -> Path:
        """The run's folder."""

    @property
    def tally(self) -> Tally:
        """Counts of its samples."""


def end_with_failures(outcomes: Sequence[Counted], remedy: str) -> None:
    """Ends with exit code 1 if runs have failures, and prints on stderr how many and why, with ``--quiet`` too."""
    failed = [one for one in outcomes if one.tally.failed]
    for one in failed:
        say(f"tulu-eval: {one.folder}: {one.tally.failures}; {remedy}")
    if failed:
        raise click.exceptions.Exit(1)


def on_terminal(quiet: bool = False) -> bool:
    """Returns whether a bar may be drawn: stderr is a terminal, and ``quiet`` is false."""
    return not quiet and sys.stderr.isatty()


def set_up_logging(verbose: int, quiet: bool) -> None:
    """Sets what is logged: this package's warnings; with ``-v`` what it does; with ``-vv`` other packages' messages too.

    Other packages draw bars only if stderr is a terminal and ``quiet`` is false.
    """
    import logging

    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.DEBUG if verbose > 1 else logging.WARNING)
    logging.getLogger("tulu_eval").setLevel(level)
    if quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
