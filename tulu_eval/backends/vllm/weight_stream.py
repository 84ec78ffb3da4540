"""Weights on their way from a trainer to an engine's worker without a GPU: tensor after tensor through a Unix socket.

vLLM 0.32 moves weights between processes with CUDA IPC or NCCL, which need GPUs (``distributed/weight_transfer``). A socket
needs nothing, its bytes can be counted, none of them gets to a disk, and each end sees at once when the other one is gone.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any

from tulu_eval.errors import EngineError

STREAM = "tulu-eval-stream"
"""Its name for vLLM's ``WeightTransferConfig``."""

TRANSFER_SECONDS = 120.0
"""How long an end waits for the other to go on with a tensor, or the trainer for an answer of the engine."""


class WeightSender:
    """The trainer's end; one engine connects to it.

    Raises:
        EngineError: If no socket can be made.

    Attributes:
        address: Path of the socket, in a folder that nobody else can enter.
        sent: Bytes that the system took from this end so far.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tulu-eval-weights-")
        self.address = str(Path(self._folder.name) / "socket")
        self.sent = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(TRANSFER_SECONDS)
        self._connection: socket.socket | None = None
        try:
            self._listener.bind(self.address)
        except OSError as error:  # a path of a socket has room for about 100 letters
            self.close()
            raise EngineError(f"no socket can be made at {self.address}: {error}; set TMPDIR to a shorter path") from error
        self._listener.listen(1)

    def accept(self) -> None:
        """Takes the engine's connection, and the socket's name away; raises EngineError if none comes in time."""
        try:
            self._connection, _ = self._listener.accept()
        except TimeoutError:
            raise EngineError(f"vLLM did not connect to the trainer within {TRANSFER_SECONDS:.0f} s") from None
        self._connection.settimeout(TRANSFER_SECONDS)
        self._listener.close()
        self._folder.cleanup()  # so that a killed trainer leaves nothing behind

    def send(self, tensor: Any) -> bool:
        """Sends a tensor's bytes; returns whether the engine still listens.

        Raises:
            EngineError: The engine took none of them for too long.
        """
        assert self._connection is not None  # noqa: S101 - accept comes first
        left = _memory(tensor)
        try:
            while left:
                taken = self._connection.send(left)
                self.sent += taken
                left = left[taken:]
        except TimeoutError:
            raise EngineError(f"vLLM took no weights for {TRANSFER_SECONDS:.0f} s") from None
        except OSError:  # the engine's answer, or its end, has the cause
            return False
        return True

    def close(self) -> None:
        """Closes the socket."""
        for end in (self._connection, self._listener):
            if end is not None:
                end.close()
        self._folder.cleanup()


def connect(address: str) -> socket.socket:
    """Returns the engine's end."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(TRANSFER_SECONDS)
    connection.connect(address)
    return connection


def fill(tensor: Any, connection: socket.socket) -> None:
    """Fills a tensor with the next bytes; raises ConnectionError if the trainer is gone, TimeoutError if it says nothing."""
    left = _memory(tensor)
    while left:
        came = connection.recv_into(left)
        if not came:
            raise ConnectionError("the trainer closed the connection in the middle of its weights")
        left = left[came:]


def _memory(tensor: Any) -> memoryview:
    """Returns the memory of a contiguous tensor of the CPU."""
    import torch

    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
