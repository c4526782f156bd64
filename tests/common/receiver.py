"""An HTTP server that takes what is posted to it and behaves as a test wants: answers, dawdles, breaks off, floods."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.world import eventually


@dataclass(frozen=True)
class Posted:
    """One request as it arrived; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[["Exchange", Posted], None]


@dataclass
class Exchange:
    """What a behaviour does with one request."""

    handler: BaseHTTPRequestHandler
    over: threading.Event

    def answer(self, status: int, text: str | bytes = "", **headers: str) -> None:
        body = text.encode() if isinstance(text, str) else text
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def hang(self) -> None:
        """Say nothing until the test is over."""
        self.over.wait()

    def break_off(self) -> None:
        """Close the connection without an answer."""
        self.handler.close_connection = True

    def trickle(self, every_s: float = 0.05) -> None:
        """Send an endless head, one byte after another."""
        self.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._until_closed(b"a", every_s)

    def flood(self, kind: bytes) -> None:
        """Send an endless body, or an endless number of provisional heads."""
        if kind == b"body":
            self.handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
            self._until_closed(b"x" * 65536, 0)
        else:
            self._until_closed(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100, 0)

    def _until_closed(self, piece: bytes, every_s: float) -> None:
        try:
            while not self.over.wait(every_s):
                self.handler.wfile.write(piece)
        except OSError:
            self.handler.close_connection = True


def ok(exchange: Exchange, _: Posted) -> None:
    exchange.answer(200, "ok")


@dataclass
class Receiver:
    """Where it listens, what came, and what it does with what comes next."""

    behaviour: Behaviour = ok
    address: str = ""
    posted: list[Posted] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def wait_for(self, count: int, *, timeout_s: float = 30) -> list[Posted]:
        """Return what was posted, as soon as there is so much of it."""
        eventually(lambda: len(self.posted) >= count, timeout_s=timeout_s)
        return list(self.posted)


@contextmanager
def nobody() -> Iterator[int]:
    """Keep a port of this machine on which nobody listens, nor can begin to, while the block runs."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]


@contextmanager
def receiver(
    behaviour: Behaviour = ok, *, certificate: Path | None = None, host: str = "127.0.0.1"
) -> Iterator[Receiver]:
    """Run a receiver on a free port, with TLS where it is given a certificate with its key."""
    found = Receiver(behaviour)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted = Posted(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            found.posted.append(posted)
            found.behaviour(Exchange(self, found.over), posted)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    found.address = f"{scheme}://{host}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield found
    finally:
        found.over.set()
        server.shutdown()
        server.server_close()
