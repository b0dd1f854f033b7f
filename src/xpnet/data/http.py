"""One HTTP request with the standard library: bounded in memory and time, with proxies, silent about addresses.

`requests` reads the whole bodies of redirects, `urllib3` reads a chunk's first line however long it is, and both may
log addresses. `http.client` limits every line to 65,536 bytes and the headers to a hundred of them, and logs nothing.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib
import os
import socket
import ssl
import time
import urllib.request
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from xpnet.data.download import DownloadError, PassingFault

MAX_REDIRECTS = 5

_PIECE = 1 << 16
_PASSING = (TimeoutError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


class Request:
    """A request for a file.

    Parameters
    ----------
    url : str
        An http or https address. A user name and password in it are sent only to that host.
    connect_timeout, read_timeout, deadline : float
        Seconds to connect, between two pieces, and for everything.
    """

    def __init__(self, url: str, connect_timeout: float, read_timeout: float, deadline: float) -> None:
        self.url = url
        self.connect_timeout, self.read_timeout = connect_timeout, read_timeout
        self.seconds, self.end = deadline, time.monotonic() + deadline
        self.connection: http.client.HTTPConnection | None = None
        self.response: http.client.HTTPResponse | None = None
        self.socket: socket.socket | None = None

    def read(self, size: int) -> bytes:
        """Return the file, which must have ``size`` bytes; for 0, only check that the server has it.

        Raises
        ------
        PassingFault
            If another attempt may succeed.
        DownloadError
            If not.
        """
        what = "no connection"
        try:
            response = self._open()
            what = "broke off in the middle"
            return self._body(response, size) if size else b""
        except TimeoutError:
            raise PassingFault(
                "no answer in time" if what == "no connection" else "stopped sending in the middle"
            ) from None
        except http.client.IncompleteRead as error:
            raise PassingFault(f"{what}: {reason(error)}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, DownloadError):
                raise
            passing = isinstance(error, _PASSING)
            raise (PassingFault if passing else DownloadError)(f"{what}: {reason(error)}") from None
        finally:
            self._close()

    def cancel(self) -> None:
        """Shut the connection down from another thread, which ends every wait on it."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def _open(self) -> http.client.HTTPResponse:
        """Send the request, and follow redirects without reading their bodies."""
        url = self.url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(url)
            where = response.getheader("Location")
            if response.status not in (301, 302, 303, 307, 308) or where is None:
                break
            self._close()
            url = urljoin(url, where)
        else:
            raise DownloadError(f"TooManyRedirects: more than {MAX_REDIRECTS}")
        if response.status == 200:
            return response
        kind = PassingFault if response.status == 429 or response.status >= 500 else DownloadError
        raise kind(f"HTTP status {response.status}")

    def _ask(self, url: str) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DownloadError("no connection: not an address of http or https")
        # Ask for the file without compression: a .gz file that is unpacked in transit would have another hash.
        headers = {"Accept-Encoding": "identity", "User-Agent": "xpnet", "Connection": "close"}
        if parts.username is not None:
            headers["Authorization"] = _basic(parts)
        path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*") + (
            f"?{quote(parts.query, safe='/%:=&?~+!$,;@()*[]')}" if parts.query else ""
        )
        connection, target = self._connect(parts, path, headers)
        self.connection = connection
        connection.connect()
        self.socket = connection.sock  # kept here, since the connection drops it when it is about to close
        self.socket.settimeout(self.read_timeout)
        connection.request("GET", target, headers=headers)
        self.response = connection.getresponse()
        return self.response

    def _connect(
        self, parts: SplitResult, path: str, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, str]:
        """Return a connection to the host, or to the environment's proxy, and the target to request from it."""
        host, port = str(parts.hostname), parts.port
        timeout = self.connect_timeout
        proxy = _proxy(parts.scheme, host)
        if parts.scheme == "https":
            if proxy is None:
                return http.client.HTTPSConnection(host, port, timeout=timeout, context=_tls()), path
            tunnel = http.client.HTTPSConnection(str(proxy.hostname), proxy.port or 80, timeout=timeout, context=_tls())
            tunnel.set_tunnel(host, port or 443, _proxy_headers(proxy))
            return tunnel, path
        if proxy is None:
            return http.client.HTTPConnection(host, port, timeout=timeout), path
        headers |= _proxy_headers(proxy)
        where = f"[{host}]" if ":" in host else host
        return http.client.HTTPConnection(str(proxy.hostname), proxy.port or 80, timeout=timeout), (
            f"http://{where}{f':{port}' if port else ''}{path}"
        )

    def _body(self, response: http.client.HTTPResponse, size: int) -> bytes:
        """Read the bytes as sent, whatever encoding the server declares."""
        body = bytearray()
        while piece := response.read(min(_PIECE, size + 1 - len(body))):
            body += piece
            if len(body) > size:
                raise DownloadError(f"sends more than the {size} bytes that the file has")
            if time.monotonic() > self.end:
                raise DownloadError(f"took more than {self.seconds:g} s")
        # The standard library treats the end of the connection as the end of the file.
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if len(body) < size:
            raise DownloadError(f"sends {len(body)} bytes, and the file has {size}")
        return bytes(body)

    def _close(self) -> None:
        for held in (self.response, self.connection, self.socket):
            if held is not None:
                with contextlib.suppress(OSError):
                    held.close()


def reason(error: BaseException) -> str:
    """Return the kind of an error, with the system's message if that cannot quote an address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{type(error).__name__}: {error.verify_message}"
    words = error.strerror if isinstance(error, OSError) and error.errno is not None else None
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _tls() -> ssl.SSLContext:
    """Return the context that verifies certificates, by the user's own file, or certifi's if that is installed."""
    own = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if own and os.path.isfile(own):
        return ssl.create_default_context(cafile=own)
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):  # Python on macOS may come without certificates
        certifi: Any = importlib.import_module("certifi")
        context.load_verify_locations(certifi.where())
    return context


def _proxy(scheme: str, host: str) -> SplitResult | None:
    """Return the environment's proxy for a host."""
    address = urllib.request.getproxies().get(scheme) or urllib.request.getproxies().get("all")
    if not address or urllib.request.proxy_bypass(host):
        return None
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise DownloadError("no connection: the proxy that the environment names is not one of http")
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    return {"Proxy-Authorization": _basic(proxy)} if proxy.username is not None else {}


def _basic(parts: SplitResult) -> str:
    """Return the authorization header for the user name and password of an address."""
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
