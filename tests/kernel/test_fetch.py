"""Cells download a file from a local Hub server, through the kernel's program."""

import hashlib
import json
import os
import queue
import signal
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Kernel, processes, wait_until_gone

HEADER = json.dumps({"a": {"dtype": "F32", "shape": [50_000], "data_offsets": [0, 200_000]}}).encode()
CONTENT = struct.pack("<Q", len(HEADER)) + HEADER + os.urandom(200_000)


class Hub(BaseHTTPRequestHandler):
    """Imitates the Hub. Sends half of a file named slow, and then nothing for a long time."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_head()

    def do_GET(self):
        rest = self.send_head()
        half = len(rest) // 2
        self.wfile.write(rest[:half])
        if "slow" in self.path and not self.server.over.is_set():
            self.server.halves.put(half)
            self.server.over.wait(60)
        self.wfile.write(rest[half:])

    def send_head(self):
        denied = "secret" in self.path and self.headers.get("Authorization") != "Bearer right"
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        rest = b"" if denied else CONTENT[start:]
        self.send_response(401 if denied else 206 if start else 200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", "e")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        return rest

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.halves, server.over = queue.Queue(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()


@pytest.fixture(scope="module")
def kernel(server, tmp_path_factory):
    kernel = Kernel()
    folder = tmp_path_factory.mktemp("weights")
    kernel.ok(
        f"""
        use headstart::weights::{{Hub, Pretrained, named}};
        use std::time::Duration;
        let hub = Hub {{
            endpoint: Some("http://127.0.0.1:{server.server_port}".into()),
            shared_cache: None, folder: "{folder}".into(), offline: false, timeout: Duration::from_secs(40),
        }};
        fn wanted(repository: &str) -> headstart::Result<Pretrained> {{
            let mut wanted = named("resnet50.tv_in1k")?.clone();
            wanted.repository = repository.into();
            wanted.sha256 = Some("{hashlib.sha256(CONTENT).hexdigest()}".into());
            Ok(wanted)
        }}
        """
    )
    kernel.weights = folder
    yield kernel
    kernel.stop()


def fetching():
    return [number for number, (_, _, command) in processes().items() if b"fetch-pieces" in command]


def test_a_file_is_fetched_with_a_progress_bar(kernel):
    cell = kernel.run('std::fs::read(hub.fetch(&wanted("owner/name")?)?)?.len()')
    assert cell.value == str(len(CONTENT)), cell.traceback
    assert any("fetching resnet50" in str(shown["data"]) for shown in cell.of_type("display_data"))


def test_a_missing_token_is_reported(kernel):
    cell = kernel.run('hub.fetch(&wanted("owner/secret")?)?')
    assert "set HF_TOKEN to a token that may read owner/secret" in cell.traceback
    kernel.ok('unsafe { std::env::set_var("HF_TOKEN", "right") };')
    assert kernel.ok('hub.fetch(&wanted("owner/secret")?)?.is_file()') == "true"


def test_a_stopped_download_leaves_no_process_and_resumes_later(kernel, server):
    request = kernel.send('let slow = hub.fetch(&wanted("owner/slow")?)?;')
    server.halves.get(timeout=30)
    # The server has sent the first half; the program writes it.
    while not any(path.stat().st_size for path in (kernel.weights / "owner--slow").rglob("*") if path.is_file()):
        time.sleep(0.05)
    began, begin = fetching(), time.monotonic()
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request)
    assert cell.status == "error" and time.monotonic() - begin < 2, cell.traceback
    assert began and not fetching()

    request = kernel.send('let slow = hub.fetch(&wanted("owner/slow")?)?;')
    half = server.halves.get(timeout=30)
    assert half < len(CONTENT) // 2, "the first half was not asked for again"
    server.over.set()
    assert kernel.result(request).status == "ok"
    assert kernel.ok("slow.is_file()") == "true"


def test_a_download_ends_when_the_cells_are_killed(kernel, server):
    server.over.clear()
    request = kernel.send('let slow = hub.fetch(&wanted("owner/slower")?)?;')
    server.halves.get(timeout=30)
    [fetches] = fetching()
    os.kill(processes()[fetches][0], signal.SIGKILL)
    assert kernel.result(request).status == "error"
    wait_until_gone([fetches])
