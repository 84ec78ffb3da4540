"""Requests per second through the client of servers, beside HTTP packages that are installed.

    python benchmarks/endpoint.py --requests 3000 --rounds 3

A server in a process of its own answers each request on the loopback at once, with 400 bytes; each client keeps 64 requests of
700 token ids in flight and parses the answers. Prints one Markdown row per client: requests/s in each round, the median, and
the client's CPU time per request. A machine that does something else meanwhile shows in the spread.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CLIENTS = 64
TIMEOUT = 60.0
BODY: dict[str, Any] = {"model": "m", "max_tokens": 512, "temperature": 0.0, "prompt": list(range(700))}
CHOICE = {"index": 0, "text": "So the answer is 18. " * 12, "finish_reason": "stop"}
ANSWER = json.dumps({"model": "m", "choices": [CHOICE], "usage": {"prompt_tokens": 700, "completion_tokens": 80}}).encode()
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


class Instant(asyncio.Protocol):
    """Answers every request as soon as its body is there."""

    def connection_made(self, transport: Any) -> None:  # noqa: D102 - as asyncio calls it
        self.transport, self.read = transport, b""

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self.read += data
        while (end := self.read.find(b"\r\n\r\n")) >= 0:
            length = self.read[:end].lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            if len(self.read) < end + 4 + int(length or 0):
                return
            self.read = self.read[end + 4 + int(length or 0) :]
            self.transport.write(REPLY)


def serve() -> None:
    """Serves until the process is ended; prints the port first."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0, backlog=256)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


def tulu_eval(url: str, requests: int) -> None:
    """Asks over the package's own client."""
    from tulu_eval.endpoint.client import Attempt, Client
    from tulu_eval.endpoint.wire import Connection

    client, done = Client(url, "sk-benchmark-0123456789", concurrency=CLIENTS, timeout=TIMEOUT), list[int]()

    def send(connection: Connection, _: int) -> Attempt[int]:
        return Attempt(len(client.reader.read(connection.request("POST", "/completions", BODY))), "answered")  # type: ignore[arg-type]

    client.ask(range(requests), send, done.append)
    if len(done) != requests:
        raise SystemExit("requests were lost")


def in_threads(ask: Callable[[int], Any], requests: int) -> None:
    """Asks from as many threads as there are requests in flight."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(requests)))


def urllib3(url: str, requests: int) -> None:
    """Asks over urllib3, in threads."""
    import urllib3

    limit = urllib3.Timeout(total=TIMEOUT)
    with urllib3.PoolManager(maxsize=CLIENTS, retries=False, timeout=limit) as pool:
        in_threads(lambda _: pool.request("POST", f"{url}/completions", json=BODY, redirect=False).json(), requests)


def httpx2(url: str, requests: int) -> None:
    """Asks over httpx2, in threads."""
    import httpx2

    limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    with httpx2.Client(limits=limits, timeout=TIMEOUT, trust_env=False) as client:
        in_threads(lambda _: client.post(f"{url}/completions", json=BODY).json(), requests)


def aiohttp(url: str, requests: int) -> None:
    """Asks over aiohttp, in one event loop."""
    import aiohttp

    async def run() -> None:
        left = iter(range(requests))
        connector, limit = aiohttp.TCPConnector(limit=CLIENTS), aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:

            async def work() -> None:
                for _ in left:
                    async with session.post(f"{url}/completions", json=BODY, allow_redirects=False) as reply:
                        json.loads(await reply.read())

            await asyncio.gather(*(work() for _ in range(CLIENTS)))

    asyncio.run(run())


def main() -> None:
    """Asks over each client in turn, round by round, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    port = int((server.stdout or sys.stdin).readline())
    try:
        compare(f"http://127.0.0.1:{port}/v1", given.requests, given.rounds)
    finally:
        server.terminate()
        server.wait()


def compare(url: str, requests: int, rounds: int) -> None:
    """Asks a server over each client in turn, and prints the table."""
    clients = [one for one in (tulu_eval, urllib3, httpx2, aiohttp) if importlib.util.find_spec(one.__name__)]
    rates: dict[str, list[float]] = {one.__name__: [] for one in clients}
    spent = dict.fromkeys(rates, 0.0)
    for _ in range(rounds):
        for one in clients:
            began, cpu = time.perf_counter(), time.process_time()
            one(url, requests)
            rates[one.__name__].append(requests / (time.perf_counter() - began))
            spent[one.__name__] += time.process_time() - cpu
    print("| client | requests/s, each round | median | CPU per request, µs |\n|---|---|---|---|")
    for name, found in rates.items():
        each = " ".join(f"{rate:,.0f}" for rate in found)
        cost = 1e6 * spent[name] / (rounds * requests)
        print(f"| {name} | {each} | {statistics.median(found):,.0f} | {cost:,.0f} |")


if __name__ == "__main__":
    main()
