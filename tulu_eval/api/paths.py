"""What the door takes as a path."""

from __future__ import annotations

from os import PathLike

AnyPath = str | PathLike[str]
