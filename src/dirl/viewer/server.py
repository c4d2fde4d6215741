"""The viewer's server: a few GET routes of the standard library's HTTP server, on loopback.

Every account of the machine can reach loopback, so each request must include a secret, the token. The printed
address includes it. The answer to that address stores it in a cookie, so links do not need it.

No part of a request becomes a path. Assets are in memory by name, and everything else has a number in the
data that was opened when the server started.
"""

import ipaddress
import secrets
import socket
import sys
from hmac import compare_digest
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dirl.core.errors import ConfigError, DirlError
from dirl.viewer.routes import Answer, respond
from dirl.viewer.scene import Scene

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# The only style that OpenSeadragon adds to the page itself. A browser test fails when it changes.
OPENSEADRAGON_RULE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
HEADERS = {
    # The page may load only from this server, runs only the shipped scripts, and cannot be in a frame.
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {OPENSEADRAGON_RULE}; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Another slide may be served at the same address an hour later.
    "Cache-Control": "no-store",
}
IDLE_S = 60
NO_TOKEN = b"open the full address that `dirl view` printed, with its token\n"


class Viewer(ThreadingHTTPServer):
    """A server for a scene; `serve_forever` runs it.

    Port 0 chooses a free one. An address that cannot be bound raises a `ConfigError`.

    Attributes
    ----------
    token
        The secret, new for every server.
    cookie
        Name of the cookie with the token. Each server has its own, since cookies do not depend on the port.
    """

    daemon_threads = True
    # Number of connections that may wait. A browser opens six at once, and a class has many browsers.
    request_queue_size = 128

    def __init__(self, scene: Scene, host: str = "127.0.0.1", port: int = 0) -> None:
        self.scene = scene
        self.token, self.cookie = secrets.token_urlsafe(24), f"dirl-{secrets.token_hex(4)}"
        self.assets = read_assets()
        self.host = host
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = f"cannot listen there ({error})"
            where, remedy = f"{host}, port {port}", "give another --port, or 0 for a free one"
            raise ConfigError(reason, where=where, remedy=remedy) from error

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """Address on this machine, without the token."""
        host = "localhost" if self.host in {"0.0.0.0", "::", ""} else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def url(self) -> str:
        """Address for a browser on this machine, with the token."""
        return f"{self.address}?token={self.token}"

    def is_secret(self, given: str) -> bool:
        """Whether it is the token. The time does not depend on the number of right characters."""
        return compare_digest(given.encode(), self.token.encode())

    def server_bind(self) -> None:
        """Bind without a look-up of the machine's name, which can take seconds."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def server_close(self) -> None:
        """Close the address and the scene."""
        super().server_close()
        self.scene.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore browsers that leave before an answer is complete."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Viewer
    server_version = "dirl"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    # An answer is sent in two parts. Otherwise the second waits until the browser confirms the first: 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a request, or send an error."""
        if not is_allowed_host(self.headers.get("Host", ""), self.server.host):
            # A page of another site may have made its name point to this machine.
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, ("text/plain", b"not served under this name\n"))
        try:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            if self.server.is_secret(query.get("token", [""])[0]):
                return self._let_in()
            if not self.server.is_secret(self._cookie()):
                return self._send(HTTPStatus.FORBIDDEN, ("text/plain; charset=utf-8", NO_TOKEN))
            answer = self.server.assets.get(parts.path) or respond(self.server.scene, parts.path, query)
        except DirlError as error:
            text = f"{error}\n".encode()
            return self._send(HTTPStatus.INTERNAL_SERVER_ERROR, ("text/plain; charset=utf-8", text))
        except (ValueError, IndexError, KeyError):
            answer = None
        if answer is None:
            return self._send(HTTPStatus.NOT_FOUND, ("text/plain", b"not found\n"))
        return self._send(HTTPStatus.OK, answer)

    def refuse(self) -> None:
        """Refuse all methods except GET."""
        self.close_connection = True  # the body of the request is not read
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, ("text/plain", b"only GET\n"), Allow="GET")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, since one slide causes thousands of requests."""

    def _let_in(self) -> None:
        """Store the token in a cookie, and redirect to the address without it. The part after # is kept."""
        cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Lax"
        headers = {"Location": "/", "Set-Cookie": cookie}
        self._send(HTTPStatus.SEE_OTHER, ("text/plain", b""), **headers)

    def _cookie(self) -> str:
        try:
            held = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return "" if held is None else held.value

    def _send(self, status: HTTPStatus, answer: Answer, **headers: str) -> None:
        kind, body = answer
        self.send_response(status)
        for name, value in (HEADERS | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def read_assets() -> dict[str, Answer]:
    """Files of the page by the path of their request."""
    assets = {}
    root = files("dirl.viewer") / "static"
    for folder, prefix in ((root, "/"), (root / "vendor", "/vendor/")):
        for file in folder.iterdir():
            kind = TYPES.get(f".{file.name.rpartition('.')[2]}")
            if kind is not None:
                assets[prefix + file.name] = (kind, file.read_bytes())
    assets["/"] = assets["/index.html"]
    return assets


def is_allowed_host(header: str, bound: str) -> bool:
    """Whether a request's Host header names this server. The port is ignored, since a tunnel may change it.

    A page of another site can make its own name point to this machine, and the browser would then send its
    requests. This is not possible with a numeric address or ``localhost``.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
        if name in {"localhost", bound.lower()}:
            return bool(name)
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
