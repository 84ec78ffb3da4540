"""Programs in containers: what podman or docker is asked for, by a stand-in; and what programs can do in a real one."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tulu_eval.errors import PreflightError
from tulu_eval.sandbox import Execution, Limits, check_sandbox, containers, programs, run_programs

IMAGE = f"localhost/tulu-eval-test-{secrets.token_hex(8)}"
"""Its own in each process: removing an image by force ends all its containers, those of another run of these tests too."""

TOOL = next((path for name in containers.TOOLS if (path := shutil.which(name))), None)

STAND_IN = """#!/bin/sh
echo "$@" | head -c 1500 >> "{folder}/asked"
echo >> "{folder}/asked"
if [ "$1" = kill ]; then
  kill -9 "$(cat "{folder}/$2")"
  exit
fi
echo $$ > "{folder}/$3"
while [ "$1" != -s ]; do shift; done
exec {python} "$@"
"""
"""Does what podman does as far as this project can tell, without a container: the driver runs here."""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = tmp_path / "podman"
    tool.write_text(STAND_IN.format(folder=tmp_path, python=sys.executable))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_what_the_tool_is_asked_for(stand_in: Path) -> None:
    limits = Limits(seconds=2, memory=1 << 28, processes=3, scratch=1 << 20)
    ends = ["pass", "1/0", "x = bytearray(1 << 30)", "import os; os.kill(os.getpid(), 11)"]
    found = list(run_programs(ends, limits, Execution(image="an-image:1", workers=1)))
    assert [one.ending for one in found] == ["passed", "failed", "memory", "killed"]
    asked = (stand_in / "asked").read_text()
    for words in (
        "--network none", "--read-only", "--cap-drop ALL", "--user 65534:65534", "no-new-privileges", "--pids-limit 4",
        f"--memory {3 * (1 << 28) + (1 << 20)} --memory-swap {3 * (1 << 28) + (1 << 20)}", "--pull never", "--rm",
        "--timeout 100",
        "--tmpfs /tulu-eval-scratch:rw,size=1048576,mode=1777 --workdir /tulu-eval-scratch",
        "--entrypoint python3", "an-image:1 -s -P -c",
    ):  # fmt: skip
        assert words in asked
    names = [line.split()[2] for line in asked.splitlines() if line.startswith("run --name")]
    assert len(set(names)) == 4  # each program has a container of its own


def test_a_container_that_does_not_end_is_killed(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PATIENCE", 1)
    monkeypatch.setattr(containers, "GRACE", 0.2)
    (found,) = run_programs(["import time; time.sleep(600)"], Limits(seconds=1), Execution(image="x"))
    assert (found.ending, found.why) == ("timed_out", "did not end in 1 s")
    name = (stand_in / "asked").read_text().split()[2]
    assert f"kill {name}" in (stand_in / "asked").read_text()


def test_words_of_the_client_after_the_report_change_nothing(stand_in: Path) -> None:
    tool = stand_in / "podman"
    tool.write_text(tool.read_text().replace("exec ", "").replace("echo $$ >", "echo warning\necho $$ >") + "echo more\n")
    found = list(run_programs(["pass", "1/0"], Limits(), Execution(image="x")))
    assert [one.ending for one in found] == ["passed", "failed"]


def test_bad_images_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreflightError, match=r"are two ways to run programs: give one$"):
        check_sandbox(Execution(unsafe=True, image="x"))
    tool = tmp_path / "docker"
    tool.write_text("#!/bin/sh\necho 'Error: x: image not known' >&2; exit 125\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError, match=r"--sandbox-image '--privileged' is no name of an image$"):
        check_sandbox(Execution(image="--privileged"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    if TOOL is None:
        with pytest.raises(
            PreflightError, match=r"no sandbox can be made here \(Error: x: image not known\): the image has to be"
        ):
            check_sandbox(Execution(image="x"))
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError, match=r"--sandbox-image x needs podman or docker, and neither is installed$"):
        check_sandbox(Execution(image="x"))


def _files() -> Iterator[tuple[Path, str]]:
    """The Python that runs here with its standard library and shared libraries, and where they stand in the image."""
    python = Path(sys.executable).resolve()
    yield python, "usr/local/bin/python3"
    library = Path(os.__file__).parent
    for path in library.rglob("*"):
        inside = path.relative_to(library)
        if path.is_file() and not {"site-packages", "test", "__pycache__", "idlelib"} & set(inside.parts):
            yield path, f"usr/local/lib/{library.name}/{inside}"
    linked = subprocess.run(["ldd", python], capture_output=True, text=True, check=True).stdout
    extra = Path("/lib").glob("*-linux-gnu/lib[cmz].so.[16]")
    for found in {*(Path(word) for word in linked.split() if word.startswith("/")), *extra}:
        yield found, f"lib64/{found.name}" if found.name.startswith("ld-") else f"usr/lib/{found.name}"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Execution]:
    """Programs run in containers of an image that has this Python and nothing else; skips where no container starts."""
    if TOOL is None:
        pytest.skip("neither podman nor docker is installed")
    path = tmp_path_factory.mktemp("image") / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("tmp", "proc", "dev", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for source, inside in _files():
            content = source.read_bytes()
            entry = tarfile.TarInfo(inside)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    made = subprocess.run([TOOL, "import", path, IMAGE], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no image can be made here: {made.stderr.strip()[-200:]}")
    execution = Execution(image=IMAGE)
    try:
        check_sandbox(execution)
    except PreflightError as error:
        pytest.skip(str(error))
    yield execution
    subprocess.run([TOOL, "rmi", "--force", IMAGE], capture_output=True, check=False)


def test_how_programs_end_in_a_container(image: Execution) -> None:
    ends = {
        "x = 1\nassert x == 1": "passed",
        "assert 1 == 2, 'no'": "failed",
        "x = bytearray(1 << 30)": "memory",
        "import os; os.kill(os.getpid(), 11)": "killed",
        "while True: pass": "timed_out",
        "import os; os._exit(0)": "failed",
        "import os\nif not os." + "fork(): os._exit(0)": "passed",
    }
    found = list(run_programs(ends, Limits(seconds=1), image))
    assert [one.ending for one in found] == list(ends.values())


def test_what_a_container_has(image: Execution) -> None:
    asked = {
        "os.getuid()": "65534",
        "os.uname().nodename": "'sandbox'",
        "os.path.exists('/etc/passwd') and len(open('/etc/passwd').read().splitlines()) > 3": "False",
        "[name for name in os.environ if 'TOKEN' in name]": "[]",
        "(os.getcwd(), os.listdir('.'))": "('/tulu-eval-scratch', [])",
    }
    found = run_programs([f"import os; raise ValueError(repr({one}))" for one in asked], Limits(), image)
    assert [one.why.removeprefix("ValueError: ") for one in found] == list(asked.values())
    reach = [
        "import socket; socket.create_connection(('192.0.2.1', 80), 2)",
        "open('/usr/x', 'w')",
        "for n in range(9): open(str(n), 'w').write('x' * 4_000_000)",
        "import threading, time; [threading.Thread(target=time.sleep, args=(3,)).start() for _ in range(9)]",
    ]
    whys = [one.why for one in run_programs(reach, Limits(), image)]
    for why, words in zip(
        whys, ("unreachable", "Read-only file system", "No space left", "can't start new thread"), strict=True
    ):
        assert words in why


def test_no_container_is_left(image: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PATIENCE", 1)
    assert [one.ending for one in run_programs(["import time; time.sleep(600)"] * 2, Limits(seconds=2), image)] == [
        "timed_out"
    ] * 2
    assert TOOL is not None
    listed = subprocess.run(
        [TOOL, "ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == []
