r"""Renders a chat template in a process of its own, started by :mod:`tulu_eval.models.template`.

A template comes with a model, so it is untrusted. Jinja's sandbox keeps it from Python's internals, but not from endless
computation: ``9 ** 9 ** 9`` is one instruction of the interpreter, which no signal or thread can interrupt, and
``'a' * 10 ** 10`` takes the machine's memory. This process has limits of its own, and its parent waits for a limited time.

The environment is that of transformers 5.16 to 5.19 (``utils/chat_template_utils.py``, ``_cached_compile_jinja_template``):
the immutable sandbox, ``trim_blocks`` and ``lstrip_blocks``, ``break`` and ``continue``, ``{% generation %}``, ``tojson``
without HTML escapes, ``raise_exception``, ``strftime_now``. ``tests/models/test_template.py`` holds the two against each
other. The one difference: ``strftime_now`` formats midnight of the given day.

This file is run by its path and imports Jinja and the standard library alone, which takes 0.08 s; transformers takes seconds.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 2 << 30
"""Bytes of address space; a template and 16 million characters of conversations take a tenth of it."""


class Generation(Extension):
    """``{% generation %}``, which marks what the assistant wrote; here its content is written and no mark is kept."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        """Returns the block as a call, which gives it a scope of its own as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


def environment(day: datetime) -> ImmutableSandboxedEnvironment:
    """Returns the environment in which every template is rendered; its ``strftime_now`` formats ``day``."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = day.strftime
    return made


def render(order: dict[str, Any]) -> list[dict[str, str]]:
    """Returns a ``text`` or an ``error`` per conversation.

    Args:
        order: ``source`` of the template, ``variables``, ``date``, ``longest`` text in characters, and ``conversations``, each
            a list of messages and whether to open the assistant's turn.
    """
    try:
        template = environment(datetime.fromisoformat(order["date"])).from_string(order["source"])
    except Exception as error:  # whatever a template makes Jinja raise is this template's error, told by the caller
        return [{"error": told(error)}] * len(order["conversations"])
    answers = []
    for messages, opened in order["conversations"]:
        try:
            pieces, length = [], 0
            for piece in template.generate(
                messages=messages, tools=None, documents=None, add_generation_prompt=opened, **order["variables"]
            ):
                pieces.append(piece)
                length += len(piece)
                if length > order["longest"]:
                    raise OverflowError(f"it writes over {order['longest']:,} characters")
            answers.append({"text": "".join(pieces)})
        except Exception as error:  # as above
            answers.append({"error": told(error)})
    return answers


def told(error: Exception) -> str:
    """Returns an error as one line with its type."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def main() -> None:
    """Reads an order from stdin and writes the answers to stdout, as JSON; the argument is the limit of CPU seconds."""
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit; there the time alone is limited
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    json.dump(render(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
