"""``make fuzz``: all of the harness in two processes, and the table of what was tried.

FUZZ_CASES is how many distinct cases are tried, FUZZ_SEED draws others, FUZZ_TALLY is a folder in which a run that was stopped
is gone on with, FUZZ_JOBS is how many processes share the cases. Further words go to pytest.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from programs import Programs  # noqa: E402 - it lies in the folder above
from robustness import tally  # noqa: E402 - it lies beside this program


def main() -> int:
    """Starts the processes, waits for them, prints the table; returns the exit code."""
    jobs = int(os.environ.get("FUZZ_JOBS", "2"))
    folder = Path(os.environ.get("FUZZ_TALLY") or tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{part + 1}-of-{jobs}.jsonl" for part in range(jobs)]
    start = time.monotonic()
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=line",
        "-m",
        "fuzz",
        str(HERE),
        *sys.argv[1:],
    ]
    with Programs() as programs:
        running = []
        for part, file in enumerate(files):
            with file.with_suffix(".log").open("w") as log:
                env = {**os.environ, "FUZZ_PART": f"{part}/{jobs}", "FUZZ_TALLY": str(file)}
                running.append(programs.start(*words, env=env, stdout=log, stderr=log, cwd=HERE.parent.parent))
        codes = [child.wait() for child in running]
    tried = list({one.key: one for one in tally.read(*files)}.values())
    print(tally.table(tried))
    print(f"{len(tried)} cases, seed {tally.seed()}, {time.monotonic() - start:.0f} s; kept in {folder}")
    for one in tried:
        if one.wrong and not one.wrong.startswith("skipped"):
            print(f"{one.wrong}  <- {' | '.join(one.key)}".encode("ascii", "backslashreplace").decode()[:400])
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
