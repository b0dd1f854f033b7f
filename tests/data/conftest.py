"""A web server that misbehaves on demand, and a small MNIST for it to serve."""

import gzip
import hashlib
import os
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest

from xpnet.data import cache, download, encode_idx, mnist


class Handler(BaseHTTPRequestHandler):
    """Serves /<behaviour>/<file>, also for an absolute address, as proxies receive it."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.web.hits.append(self.path)
        kind, name = urlsplit(self.path).path.strip("/").split("/")
        body = self.server.web.contents.get(name, b"")
        try:
            if kind.isdigit():
                self.answer(b"no", int(kind))
            elif kind.startswith("flaky"):
                again = self.server.web.hits.count(self.path) > 1
                self.answer(body) if again else self.answer(b"later", int(kind.removeprefix("flaky")))
            else:
                getattr(self, kind)(body)
        except OSError:
            pass

    def answer(self, body, status=200, length=None, **headers):
        self.send_response(status)
        if length != 0:
            self.send_header("Content-Length", str(length or len(body)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def good(self, body):
        self.answer(body)

    def html(self, body):
        self.answer(b"<html>Please log in to use this network</html>", Content_Type="text/html")

    def long_html(self, body):
        self.answer(b"<p>Please log in</p>" * 5000, Content_Type="text/html")

    def wrong(self, body):
        self.answer(bytes(len(body)))

    def encoded(self, body):
        self.answer(body, Content_Encoding="gzip")

    def packed_again(self, body):
        self.answer(gzip.compress(body), Content_Encoding="gzip")

    def truncated(self, body):
        self.answer(body[: len(body) // 2], length=len(body))

    def silently_short(self, body):
        self.answer(body[: len(body) // 2], length=0)

    def reset(self, body):
        self.answer(body[: len(body) // 2], length=len(body))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def hang_up(self, body):
        self.connection.shutdown(socket.SHUT_RDWR)

    def stall(self, body):
        self.server.web.released.wait(30)

    def stall_midway(self, body):
        self.answer(body[: len(body) // 2], length=len(body))
        self.server.web.released.wait(30)

    def trickle(self, body):
        self.answer(b"", length=len(body))
        for at in range(len(body)):
            self.wfile.write(body[at : at + 1])
            if self.server.web.released.wait(0.05):
                return

    def trickle_headers(self, body):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.server.web.released.wait(0.05):
            self.wfile.write(b"X")

    def endless(self, body):
        self.answer(b"", length=0)
        while not self.server.web.released.is_set():
            self.wfile.write(bytes(1 << 16))

    def for_ever(self, start, piece):
        self.wfile.write(start)
        while not self.server.web.released.is_set():
            self.wfile.write(piece)

    def endless_status(self, body):
        self.for_ever(b"HTTP/1.1 200 ", b"O" * 9999)

    def endless_header(self, body):
        self.for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 9999)

    def endless_headers(self, body):
        self.for_ever(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 9999 + b"\r\n")

    def endless_interim(self, body):
        self.for_ever(b"", b"HTTP/1.1 100 Continue\r\nX: x\r\n\r\n" * 99)

    def endless_chunk(self, body):
        self.for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 9999)

    def endless_chunks(self, body):
        self.for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 999)

    def endless_trailers(self, body):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body)
        self.for_ever(head + body + b"\r\n0\r\n", b"X: " + b"x" * 9999 + b"\r\n")

    def endless_redirect(self, body):
        self.for_ever(b"HTTP/1.1 302 Found\r\nLocation: /404/x\r\n\r\n", b"x" * 9999)

    def huge_location(self, body):
        self.answer(b"", 302, Location="/404/" + "x" * 60_000)

    def odd_location(self, body):
        self.answer(b"", 302, Location="http://me:hunter2@[::1")

    def secret_location(self, body):
        self.answer(b"", 302, Location=f"{self.server.web.address}/404/x?token=hunter2".replace("//", "//me:hunter2@"))

    def file_location(self, body):
        self.answer(b"", 302, Location="file:///etc/passwd?hunter2")

    def loop(self, body):
        self.answer(b"", 302, Location=self.path)

    def moved(self, body):
        self.answer(b"", 302, Location=self.path.replace("/moved/", "/good/"))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Stay silent, because clients in these tests often hang up."""


class Web:
    """The tests' view of the server."""

    def __init__(self, address):
        self.address = address
        self.contents = {}
        self.hits = []
        self.released = threading.Event()

    def mirror(self, kind):
        return f"{self.address}/{kind}/"

    def count(self, kind):
        return sum(f"/{kind}/" in hit for hit in self.hits)


@pytest.fixture
def web():
    server = Server(("127.0.0.1", 0), Handler)
    server.web = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.web
    server.web.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def size_and_hash(data):
    return len(data), hashlib.sha256(data).hexdigest()


@pytest.fixture
def little_mnist(web, monkeypatch):
    """Replace the MNIST files by four small ones, which the server has too; return their contents by name."""
    rng = np.random.default_rng(7)
    arrays = [
        rng.integers(0, 256, (23, 6, 5), dtype=np.uint8),
        rng.integers(0, 10, 23, dtype=np.uint8),
        rng.integers(0, 256, (11, 6, 5), dtype=np.uint8),
        rng.integers(0, 10, 11, dtype=np.uint8),
    ]
    contents = {
        name: gzip.compress(encode_idx(array), mtime=0) for name, array in zip(mnist.MNIST_FILES, arrays, strict=True)
    }
    files = {
        name: cache.Published(*size_and_hash(data), *size_and_hash(gzip.decompress(data)))
        for name, data in contents.items()
    }
    monkeypatch.setattr(mnist, "MNIST_FILES", files)
    web.contents = contents
    return contents


@pytest.fixture
def online(monkeypatch):
    """Allow connections to this machine, with short time-outs; each test sets its mirrors."""
    monkeypatch.delenv("XPNET_OFFLINE")
    monkeypatch.setattr(download, "MIRRORS", ())
    monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)  # soon, but not too soon for a busy machine
    monkeypatch.setattr(download, "BACK_OFF", 0.01)


@pytest.fixture
def no_sockets(monkeypatch):
    """Make it an error to open a connection or to look up a name."""

    def refuse(*args, **kwargs):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XPNET_DATA_DIR", raising=False)
