"""Whatever the files of a verb hold, and whatever a server says, it ends in time, in one line, and writes nothing by halves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from robustness import endings, hostile_server, inputs, places
from robustness.hostile_server import HostileServer, Said
from robustness.inputs import Input
from robustness.places import Place
from robustness.tally import Tally, draw, wanted

FILES, MODELS, SERVERS = (40, 0.1), (20, 0.12), (20, 0.05)
"""Cases that every run of the tests tries, and the share of all that ``make fuzz`` tries."""

ASKED = {
    "run": (
        "run",
        "gsm8k",
        "-m",
        "{model}",
        "--protocol",
        "custom",
        "--data",
        "{rows}",
        "--limit",
        "2",
        "-o",
        "{root}/o",
        "-q",
        "--backend",
        "openai",
        "--base-url",
        "{url}",
        "--served-name",
        "m",
        "--timeout",
        "2",
        "--prompts",
    ),
    "judge": (
        "judge",
        "{alpaca}",
        "--judge",
        "m",
        "--judge-url",
        "{url}",
        "--data",
        "{data}",
        "--gamed",
        "{gamed}",
        "--partial",
        "--yes",
        "-q",
        "--cache",
        "{root}/answers.jsonl",
        "--timeout",
        "2",
        "--limit",
        "2",
        "--method",
    ),
}
"""Lines that ask a server, each but for its last word."""
LAST = {"run": ("chat", "text", "tokens"), "judge": ("logprobs", "text")}


def attempt(place: Place, tally: Tally, chosen: list[Input], *, command: bool = False) -> list[str]:
    """Tries each, counts it, and returns a line for each that failed."""
    keys = []
    for one in chosen:
        verb = " ".join(places.verb_of(one.verb))
        key = (verb, f"{{{one.name}}} {one.file} of {one.verb}", one.field, one.kind)
        keys.append(key)
        if key in tally.before:
            continue
        words = inputs.words(place, one)
        if command:
            found = endings.as_command(words, endings.environment(place.root.with_name("cache")), place.root)
        else:
            found = endings.in_process(words)
        tally.add(key, endings.wrong(found, 3 if found.code == 0 else 1), command=command)
        place.restore()
    return tally.failures(keys)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


def ask(place: Place, server: HostileServer, tally: Tally, chosen: list[tuple[str, str, Said]]) -> list[str]:
    """Tries each answer of a server, counts it, and returns a line for each that failed."""
    keys = []
    for verb, last, said in chosen:
        key = (verb, f"a server, {last}", said.field, said.kind)
        keys.append(key)
        if key in tally.before:
            continue
        server.said = said
        words = [word.format(**place.names, url=server.url) for word in (*ASKED[verb], last)]
        found = endings.in_process(words)
        failure = endings.wrong(found, 4)
        if not failure and said.broken and found.code == 0:
            failure = f"silent: exit code 0: {found.out[:100]!r}"
        tally.add(key, failure)
        place.restore()
    return tally.failures(keys)


def of_files(place: Place) -> list[tuple[Any, Input]]:
    return [((one.verb, one.name, one.kind.rstrip("0123456789")), one) for one in inputs.of_files(place)]


def of_models(place: Place) -> list[tuple[Any, Input]]:
    return [((one.verb, one.file, one.kind.rstrip("0123456789")), one) for one in inputs.of_model(place)]


def of_servers() -> list[tuple[Any, tuple[str, str, Said]]]:
    return [
        ((verb, said.field, said.kind), (verb, last, said))
        for said in hostile_server.every()
        for verb in ASKED
        for last in LAST[verb]
    ]


def test_a_good_server_is_answered(place: Place, server: HostileServer) -> None:
    for verb in ASKED:
        words = [word.format(**place.names, url=server.url) for word in (*ASKED[verb], LAST[verb][0])]
        found = endings.in_process(words)
        assert (found.code, found.failure) == (0, ""), found


def test_a_share_of_all_files_ends_well(place: Place, tally: Tally) -> None:
    failures = attempt(place, tally, draw(of_files(place), FILES[0]))
    assert not failures, "\n".join(failures)


def test_a_share_of_all_models_ends_well(place: Place, tally: Tally) -> None:
    failures = attempt(place, tally, draw(of_models(place), MODELS[0]))
    assert not failures, "\n".join(failures)


def test_a_share_of_all_answers_ends_well(place: Place, server: HostileServer, tally: Tally) -> None:
    failures = ask(place, server, tally, draw(of_servers(), SERVERS[0]))
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_files_end_well(place: Place, tally: Tally) -> None:
    chosen = draw(of_files(place), wanted(FILES[1]))
    light = [one for one in chosen if not places.LINES[one.verb].slow][: wanted(0.01)]
    some = set(map(id, light))
    failures = attempt(place, tally, [one for one in chosen if id(one) not in some])
    failures += attempt(place, tally, light, command=True)
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_models_end_well(place: Place, tally: Tally) -> None:
    chosen = draw(of_models(place), wanted(MODELS[1]))
    few = wanted(0.0015)
    failures = attempt(place, tally, chosen[few:])
    failures += attempt(place, tally, chosen[:few], command=True)
    assert not failures, "\n".join(failures)


@pytest.mark.fuzz
@pytest.mark.timeout(24 * 3600)
def test_all_answers_end_well(place: Place, server: HostileServer, tally: Tally) -> None:
    failures = ask(place, server, tally, draw(of_servers(), wanted(SERVERS[1])))
    assert not failures, "\n".join(failures)
