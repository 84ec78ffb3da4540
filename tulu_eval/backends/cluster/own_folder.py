"""The folder of a cluster of our own: removed when the cluster ends, and by the next one where its program was killed.

Ray's own processes end within a second of their driver. A folder is that of a dead driver if it is this user's, has our name,
and has a lock file that nobody locks: the kernel gives up a lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "tulu-eval-ray-"

LOCK = "driver.lock"


class OwnFolder:
    """A new folder in the system's folder for temporary files, which no other user can read; removes those of dead drivers.

    Attributes:
        path: The folder.
    """

    def __init__(self) -> None:
        _clear()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        new = self.path / "new.lock"
        self._lock = new.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        new.rename(self.path / LOCK)  # from here on others see it, and it is locked

    @property
    def of_ray(self) -> Path:
        """Returns the folder for Ray, which opens it to all users."""
        return self.path / "ray"

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _clear() -> None:
    """Removes the folders of drivers that are dead."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # as of a folder that another process removes now, or whose lock is taken
            there = folder.lstat()
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if there.st_uid == os.getuid() and not folder.is_symlink():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
