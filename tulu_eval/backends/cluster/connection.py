"""This process's connection to a Ray cluster, which Ray keeps one of in a process: opened silently, closed without remains."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import secrets
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from tulu_eval.backends.cluster.own_folder import OwnFolder
from tulu_eval.errors import PreflightError

LOCAL = "ray"
"""The cluster of this machine alone, which lives as long as the run."""

CONNECT_SECONDS = 5.0
"""How long a cluster's address may take to answer; Ray itself tries for a minute."""

STORE_BYTES = 100_000_000
"""Memory for Ray's objects in a cluster of our own: shares of requests and answers, which are gone when they are read."""

_opened: list[OwnFolder | None] = []
"""The connection that this module opened, if it did: the folder of a cluster of our own, ``None`` for another's cluster."""


def check(cluster: str) -> None:
    """Raises PreflightError if the package is missing or a value of ``--cluster`` is no address; connects to nothing."""
    if importlib.util.find_spec("ray") is None:
        raise PreflightError("--cluster needs the package ray: pip install 'tulu-eval[ray]'")
    if cluster.startswith("ray://"):
        raise PreflightError(
            f"--cluster {cluster} is Ray Client's address, which moves every sample through a proxy; "
            "run this on a node of the cluster with --cluster HOST:6379"
        )
    if cluster != LOCAL and not re.fullmatch(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", cluster):
        raise PreflightError(
            f"--cluster must be {LOCAL}, for a cluster of its own, or HOST:PORT of a running one, not {cluster!r}"
        )


def connect(cluster: str) -> None:
    """Connects to a cluster, or starts one; a program that is connected already keeps its connection.

    Nothing of Ray's logs or progress gets to the terminal, unless other packages' messages are shown too (``-vv``).

    Raises:
        PreflightError: If there is no such cluster, this machine is none of its nodes, or its versions are others.
    """
    check(cluster)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    _silence()  # after the import, which shows Ray's log on the terminal
    if ray.is_initialized():
        return
    how: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.CRITICAL}
    if cluster == LOCAL:
        # Else Ray kills an engine where 95 % of the machine's memory are used, whoever uses it.
        os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
        _bring_token()
        folder = OwnFolder()
        _opened.append(folder)
        how |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_temp_dir": str(folder.of_ray),
        }
    else:
        _check_there(cluster)
        _opened.append(None)
        how |= {"address": cluster}
    # It prints on stdout that a worker died, whatever ``log_to_driver`` says (ray 2.60, ``_private/worker.py``).
    ray._private.worker.listen_error_messages = lambda *_: None
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**how)
        # Ray's own handler prints a stack; what it would end dies with this process by itself.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own kinds
        disconnect()
        raise PreflightError(f"--cluster {cluster}: {_cause(error)}") from error
    except BaseException:
        disconnect()
        raise


def _bring_token() -> None:
    """Makes a token for a cluster of our own, unless the user has one: Ray would write one into ``~/.ray``, and leave it there.

    It stays for the process, since Ray's own code reads it once; whoever may read this process's environment may run as it.
    """
    told = any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if not told and not Path(os.path.expanduser("~/.ray/auth_token")).exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def disconnect() -> None:
    """Closes the connection if :func:`connect` opened it, and ends a cluster of our own with all its processes."""
    while _opened:
        import ray

        ray.shutdown()
        folder = _opened.pop()
        if folder is not None:
            folder.remove()


def _silence() -> None:
    """Keeps Ray's own log from the terminal; its cluster's logs stay in files on the nodes."""
    log = logging.getLogger("ray")
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        log.setLevel(logging.CRITICAL)
        log.propagate = False
        log.handlers = [logging.NullHandler()]


def _check_there(cluster: str) -> None:
    host, _, port = cluster.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PreflightError(
            f"--cluster {cluster}: nothing answers there ({error}); Ray's own command 'ray start' prints the address"
        ) from error


def _cause(error: Exception) -> str:
    """Returns one line about a connection that failed, from the first lines of Ray's message."""
    text = " ".join(str(error).split())
    if "path length" in text:  # of sockets, which Ray makes in it
        return (
            "the folder for temporary files has too long a path for Ray; set the variable TMPDIR to a shorter one, such as /tmp"
        )
    if "Version mismatch" in text:
        return f"the cluster has other versions than this machine: {text}"[:400]
    if "node" in text.lower() and ("raylet" in text.lower() or "address" in text.lower()):
        return (
            f"this machine is no node of it, or its token is another one; Ray's own command 'ray start' makes it one ({text})"[
                :400
            ]
        )
    return (text or type(error).__name__)[:400]
