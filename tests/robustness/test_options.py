"""Whatever an option is given, every verb ends in time, with exit code 0, 1 or 2 and one line, and takes no odd number."""

from __future__ import annotations

from typing import Any

import pytest
from click_tree import commands
from robustness import endings, options, places
from robustness.endings import Ended
from robustness.options import Odd
from robustness.places import Place
from robustness.tally import Tally, draw, wanted

SHARE = 100


def all_pairs(place: Place) -> list[tuple[Any, Odd]]:
    """Returns every case, each with its stratum: verb, parameter."""
    return [((one.verb, one.name), one) for one in options.every(place)]


def attempt(place: Place, tally: Tally, cases: list[Odd], *, command: bool = False) -> list[str]:
    """Tries cases, counts them, and returns a line for each that failed."""
    keys = []
    for one in cases:
        key = (" ".join(places.verb_of(one.verb)), one.name, one.verb, one.kind)
        keys.append(key)
        if key in tally.before:
            continue
        if command:
            found = endings.as_command(one.words, endings.environment(place.root.with_name("cache")), place.root)
        else:
            found = endings.in_process(one.words)
        tally.add(key, wrong(one, found), command=command)
        place.restore()
    return tally.failures(keys)


def wrong(one: Odd, found: Ended) -> str:
    """Returns what is wrong with an ending; empty if nothing is."""
    many = one.verb.startswith(("table", "report", "card"))
    failure = endings.wrong(found, 10**6 if many else 4 if found.code == 0 else 1)
    if failure or found.code != 0:
        return failure
    if one.refused:
        return f"silent: taken: {found.out[:100]!r}"
    return f"silent: no word about it: {found.out[:100]!r}" if one.told and not found.err else ""


def test_every_verb_has_a_line_and_each_ends_as_it_should(place: Place) -> None:
    assert {" ".join(places.verb_of(name)) for name in places.LINES} == set(dict(commands()))
    for verb in places.LINES:
        found = endings.in_process(place.words(verb))
        assert (found.failure, found.code) == ("", places.REFUSED.get(verb, 0)), (verb, found)
        place.restore()


def test_a_share_of_all_values_ends_well(place: Place, tally: Tally) -> None:
    failures = attempt(place, tally, draw(all_pairs(place), SHARE))
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_values_end_well(place: Place, tally: Tally) -> None:
    cases = draw(all_pairs(place), wanted(0.19) + wanted(0.015))
    light = [one for one in cases if not places.LINES[one.verb].slow][: wanted(0.015)]
    chosen = set(map(id, light))
    failures = attempt(place, tally, [one for one in cases if id(one) not in chosen])
    failures += attempt(place, tally, light, command=True)
    assert not failures, "\n".join(failures)
