"""The type of a path in the public functions."""

from __future__ import annotations

from os import PathLike

AnyPath = str | PathLike[str]
