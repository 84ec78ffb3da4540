"""Every test of the Python door has a place of its own: no caches of the user, no way to the hub, no key of a judge."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_places(own_places: None) -> None:
    pass
