"""Ends a rank with one line when another rank is lost, and makes SIGTERM work inside a collective.

A rank that waits in a collective for a lost one sees nothing: gloo waits for 30 minutes, and Python runs a signal's handler
only when the collective returns. So each rank writes a beat into torchrun's store every second, on a thread of its own, and
listens to the others' beats. A rank that is alive beats however long it loads or computes.

A rank that was not heard from for the stated time ends the others; after SIGTERM, or after an error of the connection, a few
seconds without a beat are enough. Each says the rank and the step. The run goes on with the same command, or by itself under
``torchrun --max-restarts``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from tulu_eval.errors import EngineError, few

SECONDS = 120.0
"""Time without a beat after which a rank counts as lost, unless the user says otherwise."""

BEAT = 1.0
"""Seconds between two beats."""

SOON = 6.0
"""Seconds without a beat that are enough after SIGTERM, after an error of the connection, or where a rank said that it ends."""

_CONNECTION = re.compile(r"gloo|NCCL|[Cc]onnection (was )?(closed|reset|refused)|Broken pipe|[Tt]imed out|TCPStore|socket")

GO_ON = "the last checkpoint is whole: give the same command again, or use torchrun --max-restarts"


class Watchdog:
    """Listens to the other ranks.

    Args:
        seconds: Time without a beat after which a rank counts as lost.

    Attributes:
        step: The step that this rank is in, counted from 1; 0 before the first.
    """

    def __init__(self, rank: int, world: int, seconds: float) -> None:
        self.step = 0
        self._rank, self._world, self._seconds = rank, world, seconds
        self._heard = dict.fromkeys(range(world), time.monotonic())
        self._said: dict[int, str] = {}
        self._asked = self._over = False
        self._ending = ""

    def start(self) -> None:
        """Starts to beat, to listen and to look for signals."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._wakeup = reader, writer
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._beat, self._judge, self._hear_signals)]
        for thread in self._threads:
            thread.start()

    def begin(self, step: int) -> None:
        """Says that a step begins, counted from 0; before the first it waits until each rank has said where it is."""
        deadline = time.monotonic() + self._seconds
        while not self.step and len(self._said) < self._world - 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.step = step + 1

    def stop(self, said: str) -> None:
        """Ends the watch, and tells the others how this rank ended: ``done`` or ``gone``."""
        self._ending = said
        self._threads[0].join(3 * BEAT)
        self._over = True
        signal.set_wakeup_fd(-1)
        self._wakeup[1].send(b"\0")
        # A thread inside the store when Python ends would abort the program.
        for thread in self._threads:
            thread.join(BEAT)

    def lost(self) -> str:
        """Returns which ranks are lost after an error of the connection; waits for their silence."""
        deadline = time.monotonic() + SOON + BEAT
        while not (found := self._silent(SOON - BEAT)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._line(found)

    def _silent(self, seconds: float) -> list[int]:
        """Returns the other ranks that were not heard from for some seconds, or that said that they end."""
        now = time.monotonic()
        others = [rank for rank in range(self._world) if rank != self._rank and self._word(rank) != "done"]
        limit = {rank: SOON if self._word(rank) == "gone" else seconds for rank in others}
        return [rank for rank in others if now - self._heard[rank] > limit[rank]]

    def _word(self, rank: int) -> str:
        return self._said.get(rank, "").partition(" ")[0]

    def _line(self, ranks: list[int]) -> str:
        names = few([f"rank {rank}{self._host(rank)}" for rank in ranks]) or "another rank"
        if len(ranks) == self._world - 1 > 1:
            names = f"any other rank, nor the store at {os.environ.get('MASTER_ADDR', '')}"
        place = f"step {self.step}" if self.step else "the start, before step 1"
        quiet = max((time.monotonic() - self._heard[rank] for rank in ranks), default=0.0)
        return f"rank {self._rank} ends in {place}: nothing heard from {names} for {quiet:.0f} s; {GO_ON}"

    def _host(self, rank: int) -> str:
        host = self._said.get(rank, "").partition(" ")[2]
        return f" ({host})" if host else ""

    def _judge(self) -> None:
        while not self._over:
            time.sleep(0.2)
            silent = self._silent(min(self._seconds, SOON) if self._asked else self._seconds)
            if silent and not self._over and not self._ending:
                os.write(sys.stderr.fileno(), f"tulu-eval: {self._line(silent)}\n".encode())
                os._exit(EngineError.exit_code)

    def _hear_signals(self) -> None:
        while not self._over:
            numbers = self._wakeup[0].recv(64)
            if signal.SIGTERM in numbers or signal.SIGUSR1 in numbers:
                self._asked = True

    def _beat(self) -> None:
        """Beats and listens; an error or a wait of the store is silence, which another thread judges."""
        beats = 0
        while not self._over:
            with contextlib.suppress(Exception):  # a store that is not there yet, or no more
                store = _store(self._seconds, self._world)
                while not self._over:
                    beats += 1
                    ending = self._ending
                    store.set(str(self._rank), f"{ending or beats} {socket.gethostname()}")
                    if ending:
                        return
                    self._listen(store)
                    time.sleep(BEAT)
            if self._ending:
                return
            time.sleep(BEAT)

    def _listen(self, store: Any) -> None:
        for rank in set(self._heard) - {self._rank}:
            said = store.get(str(rank)).decode() if store.check([str(rank)]) else ""
            if said != self._said.get(rank, ""):
                self._said[rank], self._heard[rank] = said, time.monotonic()


def _store(seconds: float, world: int) -> Any:
    """Returns a connection of its own to the store of torchrun's agent, for this start of the ranks."""
    import torch.distributed as dist

    patience = timedelta(seconds=seconds)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        address, port, world, is_master=False, timeout=patience, wait_for_workers=False
    )
    return dist.PrefixStore(f"beat {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]


@contextlib.contextmanager
def watching(seconds: float) -> Iterator[Watchdog]:
    """Yields this rank's watchdog, which does nothing where there is one rank.

    Raises:
        EngineError: Instead of an error of the connection to another rank; the line names the ranks that are lost.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    watch = Watchdog(rank, world, seconds)
    if world == 1:
        yield watch
        return
    watch.start()
    said = "gone"
    try:
        yield watch
        said = "done"
    except RuntimeError as error:
        if not _CONNECTION.search(str(error)):
            raise
        raise EngineError(watch.lost()) from error
    finally:
        watch.stop(said)
