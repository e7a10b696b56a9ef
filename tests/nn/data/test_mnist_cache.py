"""The cache of MNIST, with processes, a server on this machine and kills instead of stand-ins for them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn.data.mnist import DOWNLOADING, MNIST_SHA256
from tests.helpers.idx_files import idx_bytes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is about POSIX's signals and locks")


RANDOM = np.random.default_rng(0)
#: Small files that pass for MNIST's.
FILES = {
    f"{half}-{kind}": idx_bytes(array)
    for half, n in (("train", 300), ("t10k", 200))
    for kind, array in (
        ("images-idx3-ubyte", RANDOM.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
        ("labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8)),
    )
}
assert FILES.keys() == MNIST_SHA256.keys()

#: What each process runs: MNIST's hashes and mirrors are those of this test.
PROGRAM = """
import json, sys
from pathlib import Path
import pooch
from nn.data import load_data, mnist
said = json.loads(sys.argv[1])
mnist.MNIST_SHA256, mnist.MNIST_MIRRORS = said["hashes"], said["mirrors"]
pooch.os_cache = lambda project: Path(said["cache"]) / project
exec(said["before"])
try:
    data = load_data("mnist", progress=False)
    print(json.dumps({"rows": len(data.train), "sum": int(data.train.x.sum())}))
except ValueError as error:
    print(json.dumps({"error": str(error)}))
"""


class Mirror(ThreadingHTTPServer):
    """Sends the files, each slowly, or half of one and then nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.seconds = 0.0
        self.stalls = threading.Event()
        self.stalled = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.strip("/").removesuffix(".gz")
        self.server.asked.append(name)
        content = gzip.compress(FILES[name], mtime=0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.stalls.is_set():
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.stalled.set()
            time.sleep(60)
        time.sleep(self.server.seconds)
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def start(cache: Path, mirror: str, before: str = "") -> subprocess.Popen[str]:
    said = {
        "hashes": {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
        "mirrors": [mirror],
        "cache": str(cache),
        "before": before,
    }
    environment = {name: value for name, value in os.environ.items() if name != "XPNET_DATA"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(said)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=120)
    found: dict[str, Any] = json.loads(output)
    return found


GOOD = {"rows": 300, "sum": int(np.frombuffer(FILES["train-images-idx3-ubyte"][16:], np.uint8).sum())}


def test_processes_that_begin_together_share_one_download(tmp_path: Path, mirror: Mirror) -> None:
    mirror.seconds = 0.3
    assert [told(process) for process in [start(tmp_path, mirror.url) for _ in range(3)]] == [GOOD] * 3
    assert sorted(mirror.asked) == sorted(FILES)
    assert {path.name: path.read_bytes() for path in (tmp_path / "xpnet" / "mnist").iterdir()} == FILES


def test_a_killed_download_leaves_nothing_that_is_taken_for_a_file(tmp_path: Path, mirror: Mirror) -> None:
    cache = tmp_path / "xpnet" / "mnist"
    mirror.stalls.set()
    process = start(tmp_path, mirror.url)
    assert mirror.stalled.wait(60)
    while not any(path.stat().st_size for path in cache.glob(f"{DOWNLOADING}*/*")):
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert [path.name[: len(DOWNLOADING)] for path in cache.iterdir()] == [DOWNLOADING]
    mirror.stalls.clear()
    assert told(start(tmp_path, mirror.url)) == GOOD
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == FILES


def test_a_file_that_cannot_be_opened_for_a_moment_is_kept(tmp_path: Path, mirror: Mirror) -> None:
    """The process has as many files open as it may."""
    assert told(start(tmp_path, mirror.url)) == GOOD
    mirror.asked.clear()
    full = "import resource; load_data('mnist'); resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))"
    error = told(start(tmp_path, mirror.url, full))["error"]
    assert "train-images-idx3-ubyte cannot be read (Too many open files); check the file" in error
    assert mirror.asked == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "xpnet" / "mnist").iterdir()} == FILES


def test_a_damaged_file_is_replaced_by_a_good_one_and_stays_where_there_is_none(tmp_path: Path, mirror: Mirror) -> None:
    cache = tmp_path / "xpnet" / "mnist"
    assert told(start(tmp_path, mirror.url)) == GOOD
    damaged = FILES["train-images-idx3-ubyte"][:-1]
    (cache / "train-images-idx3-ubyte").write_bytes(damaged)
    mirror.asked.clear()
    nobody = "http://127.0.0.1:9/"
    error = told(start(tmp_path, nobody))["error"]
    assert error.startswith(f"MNIST could not be downloaded to {cache} (127.0.0.1: no connection); ")
    assert error.endswith("or use --data digits, which needs no download")
    assert len(error.replace(str(cache), "")) < 300
    assert error.isprintable()
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == FILES | {"train-images-idx3-ubyte": damaged}
    assert told(start(tmp_path, mirror.url)) == GOOD
    assert mirror.asked == ["train-images-idx3-ubyte"]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == FILES
