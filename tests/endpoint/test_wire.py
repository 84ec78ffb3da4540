"""The wire against a server that is slow, endless or broken in every part of an answer, on the loopback."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tulu_eval.endpoint import wire
from tulu_eval.endpoint.replies import retry_after
from tulu_eval.endpoint.url import parse_base_url
from tulu_eval.endpoint.wire import Connection, DroppedError

GOOD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def raw(answers: Callable[[], Iterator[bytes]], pause: float = 0.0, host: str = "127.0.0.1") -> Iterator[str]:
    """Yields the base URL of a server that reads a request and sends pieces, a pause before each but the first."""
    stop = threading.Event()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=64)

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                for number, piece in enumerate(answers()):
                    if number and stop.wait(pause):
                        return
                    connection.sendall(piece)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    try:
        yield f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def asked(url: str, timeout: float = 0.6) -> wire.Reply:
    connection = Connection(parse_base_url(url), "", timeout)
    try:
        return connection.request("POST", "/completions", {"model": "m"})
    finally:
        connection.close()


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def forever(first: bytes, again: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([first], itertools.repeat(again))


ENDLESS = {
    "slow status": (lambda: bytewise(GOOD), 0.05),
    "slow headers": (lambda: itertools.chain([HEAD], bytewise(b"X: " + b"a" * 500)), 0.05),
    "slow body": (lambda: itertools.chain([HEAD + b"Content-Length: 500\r\n\r\n"], bytewise(b"a" * 500)), 0.05),
    "slow chunk size": (lambda: itertools.chain([CHUNKED], bytewise(b"0" * 500)), 0.05),
    "slow chunks": (forever(CHUNKED, b"1\r\na\r\n"), 0.05),
    "slow trailer": (forever(CHUNKED + b"0\r\n", b"X: y\r\n"), 0.05),
    "continue, again and again": (forever(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"), 0.0),
    "a trailer without an end": (forever(CHUNKED + b"0\r\n", b"X: y\r\n" * 100), 0.0),
    "nothing": (lambda: iter([b"", b"late"]), 5.0),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_one_deadline_holds_for_a_whole_exchange(name: str) -> None:
    answers, pause = ENDLESS[name]
    with raw(answers, pause) as url:
        began = time.monotonic()
        with pytest.raises(DroppedError) as caught:
            asked(url)
        took = time.monotonic() - began
    assert caught.value.kind == "timeout"
    assert caught.value.sent
    assert 0.5 < took < 2.5


TOO_MUCH = {
    "headers without an end": forever(HEAD, b"X: y\r\n" * 50),
    "one line without an end": forever(HEAD + b"X: ", b"a" * 10_000),
    "a status line without an end": forever(b"HTTP/1.1 200 ", b"O" * 10_000),
    "a body without an end": forever(HEAD + b"\r\n", b"a" * 10_000),
    "a length of terabytes": forever(HEAD + b"Content-Length: 9999999999999\r\n\r\n", b"a" * 10_000),
    "chunks without an end": forever(CHUNKED, b"2710\r\n" + b"a" * 10_000 + b"\r\n"),
    "a chunk without an end": forever(CHUNKED + b"ffffffffff\r\n", b"a" * 10_000),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_more_than_an_answer_can_be_is_not_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY", 100_000)
    with raw(TOO_MUCH[name]) as url:
        began = time.monotonic()
        with pytest.raises(DroppedError) as caught:
            asked(url, timeout=20.0)
    assert time.monotonic() - began < 10
    assert caught.value.kind in ("half", "connection")


def test_a_slow_tunnel_has_the_same_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw(forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), 0.05) as url:
        monkeypatch.setenv("https_proxy", url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        began = time.monotonic()
        with pytest.raises(DroppedError) as caught:
            asked("https://models.example/v1")
    assert time.monotonic() - began < 2.5
    assert not caught.value.sent


def test_a_silent_tls_server_has_the_same_deadline() -> None:
    with raw(forever(b"", b"\x16"), 0.05) as url:
        began = time.monotonic()
        with pytest.raises(DroppedError):
            asked(url.replace("http:", "https:"))
    assert time.monotonic() - began < 2.5


def test_all_addresses_of_a_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # these fill the queue: nobody is let in any more
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(place)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place)] * 8
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        began = time.monotonic()
        with pytest.raises(DroppedError) as caught:
            asked("http://many.example/v1")
        for one in waiting:
            one.close()
    assert time.monotonic() - began < 2.5
    assert (caught.value.kind, caught.value.sent) == ("connection", False)


def test_a_connection_is_kept_and_one_that_was_closed_is_opened_again() -> None:
    pieces = iter([GOOD, GOOD, GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), GOOD])
    with raw(lambda: iter([next(pieces)])) as url:
        connection = Connection(parse_base_url(url), "", 5.0)
        ports = []
        for _ in range(4):
            assert connection.request("GET", "/models").body == b"{}"
            kept = connection._connection
            ports.append(kept.sock.getsockname()[1] if kept else None)
        connection.close()
    assert ports[0] == ports[1]
    assert ports[2] is None
    assert ports[3] is not None


def test_an_ipv6_address_works() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with raw(lambda: iter([GOOD]), host="::1") as url:
        assert asked(url).body == b"{}"
        assert asked(str(parse_base_url(url))).status == 200


def test_no_broken_answer_is_anything_but_a_reply_or_a_drop() -> None:
    chance = random.Random(5)
    whole = (GOOD, CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", HEAD + b"Retry-After: 5\r\n\r\n{}")
    broken = []
    for _ in range(300):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice((0, 1, 1, 9))] = chance.choice(
                (b"", b"\0", b"\xff", b"-", b"9" * 30, b"9" * 5000, b"\r\n", b": ", b"a" * 70_000, b"chunked")
            )
        broken.append(bytes(data))
    turn = iter(broken)

    def answer() -> Iterator[bytes]:
        return iter([next(turn, GOOD), b""])

    seen = 0
    with raw(answer, pause=0.0) as url:
        for _ in broken:
            with contextlib.suppress(DroppedError):
                assert isinstance(asked(url, timeout=0.05), wire.Reply)
                seen += 1
    assert 0 < seen < len(broken)


def test_retry_after_forms() -> None:
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({}) is None
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    assert 17 < (retry_after({"retry-after": date}) or 0) < 21


@pytest.mark.parametrize(
    "value",
    ["soon", "", "-1", "1e5", "nan", "٣", "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
     "Wed, 21 Oct 2015 07:28:00 +9999999999", "Wed, 21 Oct 2015 07:28:99999999999999 GMT"],
)  # fmt: skip
def test_a_retry_after_that_says_nothing(value: str) -> None:
    assert retry_after({"retry-after": value}) is None
