"""An engine's process as its parent sees it: start, messages, end, and why it failed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import Any

from tulu_eval import files
from tulu_eval.backends.vllm.messages import Failed, Finished, Ready, Scored, Spec
from tulu_eval.backends.vllm.worker import GRACE_SECONDS
from tulu_eval.errors import DataError, EngineError

CLOSE_SECONDS = 15.0
"""How long an engine may take to end by itself before its process group is killed."""

LOG_BYTES = 1 << 24
"""Most bytes of a log that are searched, from its end; an engine that fails while it starts writes some hundred kB."""

_RAISED = re.compile(r"(?<![\w.])((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)): (.+)")
"""An exception's name and text; it begins where a word does, else a long word would be tried from each of its letters."""


class EngineProcess:
    """One engine's process, which leads a process group of its own; ``variables`` are its environment."""

    def __init__(self, spec: Spec, variables: dict[str, str]) -> None:
        self.connection, theirs = Pipe()
        self._log = tempfile.NamedTemporaryFile(prefix="tulu-eval-vllm-", suffix=".log", delete=False)  # noqa: SIM115
        code = "from tulu_eval.backends.vllm.worker import main; main()"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-c", code, str(theirs.fileno()), str(os.getpid())],
                env=variables,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.send(spec)

    def ready(self) -> dict[str, str]:
        """Waits until the engine is loaded and returns what it says of itself; raises EngineError if it did not start."""
        message = self.receive()
        if not isinstance(message, Ready):
            raise EngineError(f"vLLM did not start: {message}")
        attention = re.search(r"Using (?:AttentionBackendEnum\.)?([A-Z0-9_]+) (?:attention )?backend", self._read_log())
        return {"attention": attention.group(1) if attention else "chosen by vLLM", **message.facts}

    def send(self, message: object) -> None:
        """Sends a message; a process that is gone is found out by who waits for its answer."""
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, seconds: float | None = None) -> Any:
        """Returns the next message.

        Raises:
            EngineError: The process is gone, says that its engine is, or says nothing for ``seconds``.
        """
        try:
            if not self.connection.poll(seconds):
                raise EngineError(f"vLLM did not answer within {seconds:.0f} s (log: {self._log.name})")
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise EngineError(f"vLLM's engine process ended: {self._ending()} (log: {self._log.name})") from None
        if isinstance(message, Failed):
            raise EngineError(f"vLLM failed: {explain(message.cause, self._read_log())} (log: {self._log.name})")
        return message

    def end(self) -> None:
        """Waits for the process, told to end before, and takes away what is left of its group, and its log."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        self.kill()
        Path(self._log.name).unlink(missing_ok=True)

    def kill(self) -> None:
        """Ends the process and everything that it started, by force where asking does not help; its log stays."""
        patience = time.monotonic() + GRACE_SECONDS
        self._signal(signal.SIGTERM)
        while self._signal(0) and time.monotonic() < patience:
            self._process.poll()
            time.sleep(0.05)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self.connection.close()
        self._log.close()

    def _signal(self, number: int) -> bool:
        """Sends a signal to the whole group; returns whether it has a process left."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _ending(self) -> str:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}{', as the system does when memory runs out' if code == -signal.SIGKILL else ''}"
        return explain(f"exit code {code}", self._read_log())

    def _read_log(self) -> str:
        return read_log(Path(self._log.name))


def incoming(engines: Sequence[EngineProcess]) -> Iterator[tuple[EngineProcess, Finished | Scored]]:
    """Yields what engines sent, waiting for at least one message."""
    ready = wait([engine.connection for engine in engines])
    for engine in engines:
        if engine.connection in ready:
            yield engine, engine.receive()


def read_log(path: Path) -> str:
    """Returns the last :data:`LOG_BYTES` of what a child wrote; empty where there is no log."""
    try:
        with files.open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return (file.read(LOG_BYTES) or b"").decode("utf-8", "replace")
    except (OSError, DataError):
        return ""


def explain(cause: str, log: str) -> str:
    """Returns the root cause that a log gives for a failure, or the failure's own line where it gives none.

    vLLM reports that its engine core failed, while the reason stands in the engine core's own traceback.
    """
    lines = _RAISED.findall(log)
    hints = [f"{kind}: {said}" for kind, said in lines if "EngineDead" not in kind and "Engine core" not in said]
    vague = "EngineDead" in cause or "Engine core" in cause or cause.startswith("exit code")
    return " ".join(hints[-1].split())[:500] if vague and hints else cause
