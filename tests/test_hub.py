"""The hub, against a server of the tests' own on loopback: a download, a gate, a missing model, a broken server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

COMMIT = "c" * 40


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does for ``org/tiny``, refuses the rest in the hub's ways."""

    folder: ClassVar[Path]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "org/gated" in path:
            self.reply(403, b'{"error":"gated"}', {"X-Error-Code": "GatedRepo"})
        elif "org/broken" in path:
            self.reply(500, b"oops", {})
        elif path.startswith("/org/tiny/resolve/"):
            self.file(path.rpartition("/")[2])
        elif path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
            entries = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40} for file in self.files()
            ]
            self.reply(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
        elif path in ("/api/models/org/tiny", "/api/models/org/tiny/revision/main", f"/api/models/org/tiny/revision/{COMMIT}"):
            siblings = [
                {"rfilename": file.name, "size": file.stat().st_size, "blobId": "0" * 40, **self.lfs(file)}
                for file in self.files()
            ]
            counts = {"parameters": {"F32": 1000}, "total": 1000}
            info = {"id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "siblings": siblings, "safetensors": counts}
            self.reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        elif "/revision/" in path and "org/tiny" in path:
            self.reply(404, b'{"error":"no"}', {"X-Error-Code": "RevisionNotFound"})
        else:
            self.reply(404, b'{"error":"no"}', {"X-Error-Code": "RepoNotFound"})

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    def lfs(self, file: Path) -> dict[str, object]:
        if file.suffix != ".safetensors":
            return {}
        data = file.read_bytes()
        return {"lfs": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 100}}

    def file(self, name: str) -> None:
        path = self.folder / name
        if not path.is_file():
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = path.read_bytes()
        etag = hashlib.sha256(data).hexdigest()
        self.reply(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"'})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def endpoint(llama3_like: Path) -> Iterator[str]:
    FakeHub.folder = llama3_like
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def run(endpoint: str, tmp_path: Path, model: str, rows: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["run", "gsm8k", "-m", model, "--protocol", "custom", "--data", str(rows), "--limit", "2", "--json", *more]
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "XDG_CACHE_HOME": str(tmp_path), "HF_TOKEN": "hf_secret"}
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return subprocess.run(
        [sys.executable, "-m", "tulu_eval", *words],
        capture_output=True, text=True, timeout=300, check=False, env={**environment, **own}, cwd=tmp_path,
    )  # fmt: skip


def test_a_model_is_planned_from_its_small_files_and_then_downloaded(endpoint: str, rows: Path, tmp_path: Path) -> None:
    dry = run(endpoint, tmp_path, "org/tiny", rows, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    (plan,) = json.loads(dry.stdout)
    assert plan["revision"] == COMMIT
    assert plan["download_bytes"] == (FakeHub.folder / "model.safetensors").stat().st_size
    assert not list((tmp_path / "hf").rglob("*.safetensors")), "a dry run downloads no weight"
    done = run(endpoint, tmp_path, "org/tiny@main", rows)
    assert done.returncode == 0, done.stderr
    manifest = (tmp_path / json.loads(done.stdout)[0]["folder"] / "manifest.json").read_text()
    assert json.loads(manifest)["model"]["revision"] == COMMIT
    assert "hf_secret" not in done.stdout + done.stderr + manifest
    offline = run("http://127.0.0.1:9", tmp_path, "org/tiny", rows)
    assert offline.returncode == 0, offline.stderr
    assert json.loads(offline.stdout) == json.loads(done.stdout), "the same run: its weights are hashed alike from the cache"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/gated", "org/gated is gated: accept its licence on its page and log in with 'hf auth login'"),
        ("org/none", "the hub has no public repository org/none; if it is private, log in with 'hf auth login'"),
        ("org/tiny@v9", "org/tiny has no revision 'v9'"),
        ("org/broken", "the hub is unreachable and org/broken is not in the local cache"),
    ],
)
def test_refusals_are_one_line(endpoint: str, rows: Path, tmp_path: Path, model: str, message: str) -> None:
    done = run(endpoint, tmp_path, model, rows)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "hf_secret" not in done.stderr
