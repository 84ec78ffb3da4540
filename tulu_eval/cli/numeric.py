"""Numbers as options take them: plain decimal digits, finite. Python's own ``int`` and ``float`` take much more.

``int("１２")`` is 12 (full-width digits), ``int("1_0")`` is 10, ``float("nan")`` passes every comparison that is to refuse it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import click

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


class _Whole(click.types.IntParamType):
    """A whole number of at most 18 digits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        if isinstance(value, str) and not _WHOLE.fullmatch(value.strip()):
            self.fail(f"{value[:40]!r} is not a whole number of at most 18 digits.", param, ctx)
        return super().convert(value, param, ctx)


class _Number(click.types.FloatParamType):
    """A finite number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        if isinstance(value, str) and not (_NUMBER.fullmatch(value.strip()) and math.isfinite(float(value))):
            self.fail(f"{value[:40]!r} is not a number.", param, ctx)
        return super().convert(value, param, ctx)


WHOLE = _Whole()
NUMBER = _Number()


class WholeRange(click.IntRange):
    """A whole number between bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        return super().convert(WHOLE.convert(value, param, ctx), param, ctx)


class NumberRange(click.FloatRange):
    """A finite number between bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        return super().convert(NUMBER.convert(value, param, ctx), param, ctx)
