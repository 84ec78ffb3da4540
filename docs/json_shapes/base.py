"""What all shapes share."""

from __future__ import annotations

import msgspec


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a verb prints, or a part of it; has all fields and no others."""
