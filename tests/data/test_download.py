"""Downloads: a server misbehaves in every way that servers and networks do, and every wait ends."""

import logging
import os
import re
import socket
import stat
import threading
import time
import traceback
import tracemalloc
from pathlib import Path

import pytest

from xpnet.data import DownloadError, download, fetch_mnist, mnist

FIRST = "train-images-idx3-ubyte.gz"

# The behaviour of a mirror, the number of requests to it, and the cause in the error.
FAULTS = {
    "403": (1, "HTTP status 403"),
    "404": (1, "HTTP status 404"),
    "429": (3, "HTTP status 429"),
    "500": (3, "HTTP status 500"),
    "503": (3, "HTTP status 503"),
    "stall": (3, "no answer in time"),
    "stall_midway": (3, "stopped sending in the middle"),
    "reset": (3, "broke off in the middle"),
    "truncated": (3, "broke off in the middle"),
    "hang_up": (3, "no connection: RemoteDisconnected"),
    "silently_short": (1, r"sends \d+ bytes, and the file has \d+"),
    "html": (1, r"sends 46 bytes, and the file has \d+"),
    "long_html": (1, r"sends more than the \d+ bytes"),
    "wrong": (1, "another SHA-256"),
    "packed_again": (1, "sends more than"),
    "endless": (1, "sends more than"),
    "loop": (6, "TooManyRedirects"),
}


@pytest.fixture
def mirrors(web, online, monkeypatch):
    def use(*addresses):
        bases = tuple(base if "/" in base else web.mirror(base) for base in addresses)
        monkeypatch.setattr(download, "MIRRORS", bases)
        return bases

    return use


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_complete(folder, contents):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_followed_by_the_next_mirror(kind, web, mirrors, little_mnist, tmp_path):
    mirrors(kind, "good")
    assert fetch_mnist(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    assert_complete(tmp_path / "new" / "folder", little_mnist)
    asked_for_the_first = sum(hit == f"/{kind}/{FIRST}" for hit in web.hits)
    assert asked_for_the_first == FAULTS[kind][0]


@pytest.mark.slow
def test_the_error_lists_every_mirror_and_every_way_out(mirrors, little_mnist, tmp_path):
    bases = mirrors(*FAULTS)
    with pytest.raises(DownloadError) as caught:
        fetch_mnist(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"cannot fetch {FIRST}:"
    assert len(lines) == len(FAULTS) + 2
    for line, base, (_, cause) in zip(lines[1:-1], bases, FAULTS.values(), strict=True):
        assert re.fullmatch(f"  {re.escape(base + FIRST)}: .*{cause}.*", line)
    for way_out in (str(tmp_path), "data_dir", "XPNET_DATA_DIR", "XPNET_MNIST_URL", "dataset='digits'"):
        assert way_out in lines[-1]
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["flaky503", "flaky429"])
def test_what_passes_is_tried_again(kind, web, mirrors, little_mnist, tmp_path):
    mirrors(kind, "good")
    fetch_mnist(tmp_path)
    assert_complete(tmp_path, little_mnist)
    assert web.count("good") == 0
    assert web.count(kind) == 2 * len(little_mnist)


@pytest.mark.parametrize("kind", ["good", "encoded", "moved"])
def test_what_is_no_fault(kind, web, mirrors, little_mnist, tmp_path):
    mirrors(kind, "404")
    fetch_mnist(tmp_path)
    assert_complete(tmp_path, little_mnist)
    assert web.count("404") == 0


def test_the_waits_between_tries_grow(web, mirrors, little_mnist, tmp_path, monkeypatch):
    mirrors("503")
    monkeypatch.setattr(download, "BACK_OFF", 0.5)
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    with pytest.raises(DownloadError, match="503"):
        fetch_mnist(tmp_path)
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize("kind", ["trickle", "trickle_headers"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(kind, web, mirrors, little_mnist, tmp_path, monkeypatch):
    mirrors(kind)
    monkeypatch.setattr(download, "FILE_DEADLINE", 0.5)
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"took more than 0\.5 s"):
        fetch_mnist(tmp_path)
    assert time.monotonic() - start < 60
    assert web.count(kind) == 1
    assert names(tmp_path) == []


def test_a_name_that_is_looked_up_for_ever_is_given_up(mirrors, little_mnist, tmp_path, monkeypatch):
    released = threading.Event()

    def look_up(*args, **kwargs):
        released.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    mirrors("http://mirror.invalid/")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(download, "FILE_DEADLINE", 0.3)
    try:
        with pytest.raises(DownloadError, match=r"took more than 0\.3 s"):
            fetch_mnist(tmp_path)
    finally:
        released.set()


def test_refusals_and_unknown_names_are_not_tried_again(mirrors, little_mnist, tmp_path, monkeypatch):
    def look_up(host, *args, **kwargs):
        looked_up.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    looked_up = []
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    mirrors(f"http://127.0.0.1:{port}/", "good")
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    fetch_mnist(tmp_path / "a")
    assert waits == []
    mirrors("http://mirror.invalid/")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(DownloadError, match=r"no connection: gaierror: .*not known"):
        fetch_mnist(tmp_path / "b")
    assert looked_up == ["mirror.invalid"]


@pytest.mark.parametrize(
    "address",
    ["http://[::1/", f"http://{'a' * 70}.invalid/", "just/a/path/", "nothing://a/", "http:///", "file:///tmp/"],
)
def test_addresses_that_are_none_are_followed_by_the_next(address, web, mirrors, little_mnist, tmp_path):
    mirrors(address, "good")
    fetch_mnist(tmp_path)
    assert_complete(tmp_path, little_mnist)


def test_a_mirror_that_does_not_answer_is_asked_last_for_the_other_files(web, mirrors, little_mnist, tmp_path):
    mirrors("stall", "good")
    fetch_mnist(tmp_path)
    assert web.count("stall") == download.ATTEMPTS
    assert web.count("good") == len(little_mnist)


def test_the_users_own_mirror_comes_first(web, mirrors, little_mnist, tmp_path, monkeypatch):
    mirrors("404")
    monkeypatch.setenv("XPNET_MNIST_URL", web.mirror("good").rstrip("/"))
    fetch_mnist(tmp_path / "a")
    assert web.count("404") == 0
    monkeypatch.setenv("XPNET_MNIST_URL", web.mirror("403"))
    mirrors("good")
    fetch_mnist(tmp_path / "b")
    assert [hit.split("/")[1] for hit in web.hits[4:]] == ["403", "good"] * 4


def test_the_mirrors_are_the_two_that_publish_mnist():
    assert download.mirrors() == (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )


def test_a_password_in_an_address_is_not_shown(mirrors, little_mnist, tmp_path, web, monkeypatch):
    monkeypatch.setenv("XPNET_MNIST_URL", web.mirror("404").replace("//", "//me:secret@"))
    with pytest.raises(DownloadError) as caught:
        fetch_mnist(tmp_path)
    assert "secret" not in str(caught.value)
    assert web.address in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "endless_status",
        "endless_header",
        "endless_headers",
        pytest.param("endless_interim", marks=pytest.mark.thorough),
        "endless_chunk",
        "endless_chunks",
        pytest.param("endless_trailers", marks=pytest.mark.thorough),
        "endless_redirect",
        "huge_location",
        "odd_location",
        "file_location",
    ],
)
def test_whatever_has_no_end_takes_little_memory_and_the_next_mirror_is_asked(
    kind, web, mirrors, little_mnist, tmp_path, monkeypatch
):
    bases = mirrors(kind, "good")
    monkeypatch.setattr(download, "FILE_DEADLINE", 8.0)
    published = mnist.MNIST_FILES[FIRST]
    tracemalloc.start()
    try:
        contents, _ = download.fetch(FIRST, published.size, published.sha256, bases, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert contents == little_mnist[FIRST]
    assert web.count("good") == 1


SECRET_MIRRORS = [
    "http://me:hunter2@{host}/404/",
    "http://hunter2@{host}/404",
    "http://{host}/404/?token=hunter2",
    "http://{host}/404/#hunter2",
    "http://{host}/hunter2/404/x/",
    "http://{host}/stall_midway/?hunter2=1&",
    "http://me:hun/ter2@{host}/404/",
    "http://me:hunter2@mirror.invalid/",
    "http://{host}:hunter2/404/",
    "http://me:hunter2#{host}@{host}/",
    "http://{host}/404/;hunter2@{host}/",
    "http://[hunter2]/",
    "http://[::1@hunter2/",
    "http://me:hunter2 @{host}/404/",
    "http://me:hunter2@{host}\t/404/",
    "http://me:hünter2-hunter2@{host}/404/",
    "https://me:hunter2@{host}/404/",
    "me:hunter2@{host}/404/",
    "hunter2",
    "ftp://me:hunter2@{host}/",
    "//me:hunter2@{host}/404/",
    "http://{host}/secret_location/",
    "http://{host}/odd_location/",
    "http://{host}/file_location/",
]
SECRET_PROXIES = [
    "http://me:hunter2@127.0.0.1:9",
    "http://me:hunter2@mirror.invalid:80",
    "http://me:hunter2@{host}",
    "http://me:hunter2@127.0.0.1:port",
    "http://me:hunter2@[::1",
    "http://me:hun/ter2@127.0.0.1:9",
    "socks5://me:hunter2@127.0.0.1:9",
    "me:hunter2@127.0.0.1:9",
    "hunter2",
    "http://hunter2@",
    "http://me:hunter2@127.0.0.1:99999",
]


def assert_told_without_secrets(call, folder, caplog, capfd):
    """Look at the message, at the traceback with all that it came from, at all logs, all output and all files."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DownloadError) as caught:
        call()
    told = "".join(traceback.format_exception(caught.value, limit=0)) + repr(caught.value)
    written = "".join(str(path) + path.read_text("latin-1") for path in folder.rglob("*") if path.is_file())
    out = capfd.readouterr()
    for text in (told, caplog.text, out.out, out.err, written):
        assert not re.search("hunter2|hun/ter2|ter2|h%C3%BCnter2|hünter2|aHVudGVyM", text), text


@pytest.mark.parametrize("address", SECRET_MIRRORS)
def test_no_secret_of_a_mirror_is_told(address, web, mirrors, little_mnist, tmp_path, monkeypatch, caplog, capfd):
    mirrors("404")
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    monkeypatch.setenv("XPNET_MNIST_URL", address.format(host=web.address.removeprefix("http://")))
    assert_told_without_secrets(lambda: fetch_mnist(tmp_path), tmp_path, caplog, capfd)


@pytest.mark.parametrize("address", SECRET_PROXIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_secret_of_a_proxy_is_told(
    address, scheme, web, mirrors, little_mnist, tmp_path, monkeypatch, caplog, capfd
):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, address.format(host=web.address.removeprefix("http://")))
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    mirrors(f"{scheme}://mirror.invalid/404/")
    assert_told_without_secrets(lambda: fetch_mnist(tmp_path), tmp_path, caplog, capfd)


def test_proxies_of_the_environment_are_asked(web, mirrors, little_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", web.address)
    mirrors("http://mirror.invalid/good/")
    fetch_mnist(tmp_path)
    assert_complete(tmp_path, little_mnist)
    assert web.hits == [f"http://mirror.invalid/good/{name}" for name in little_mnist]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_ordinary_permissions(mask, mode, mirrors, little_mnist, tmp_path):
    if os.name != "posix":
        pytest.skip("permissions are those of POSIX")
    mirrors("good")
    before = os.umask(mask)
    try:
        fetch_mnist(tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_the_hash_is_checked_before_the_file_takes_its_place(web, mirrors, little_mnist, tmp_path, monkeypatch):
    mirrors("wrong", "truncated", "html", "encoded")
    placed = []
    replace = os.replace

    def watch(source, target):
        placed.append(Path(source).read_bytes())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    fetch_mnist(tmp_path)
    assert placed == list(little_mnist.values())


def test_what_killed_downloads_have_left_is_swept_when_it_is_old(mirrors, little_mnist, tmp_path):
    mirrors("good")
    for name, age in ((".a.xpnet-tmp", 7200), (".b.xpnet-tmp", 60)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    fetch_mnist(tmp_path)
    assert names(tmp_path) == sorted([".b.xpnet-tmp", *little_mnist])


def test_every_wait_has_an_end():
    for seconds in (download.CONNECT_TIMEOUT, download.READ_TIMEOUT, download.FILE_DEADLINE, download.PROBE_DEADLINE):
        assert 0 < seconds <= 300
    assert download.PROBE_DEADLINE <= 10


def test_nothing_is_printed_or_logged_by_default(mirrors, little_mnist, tmp_path, capsys, caplog):
    mirrors("good")
    with caplog.at_level(logging.WARNING):
        fetch_mnist(tmp_path)
    assert caplog.records == []
    assert capsys.readouterr() == ("", "")
