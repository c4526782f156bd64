"""Servers that behave as WeChat and mail servers document, and misbehave as a test says."""

import base64
import json
import socket
import socketserver
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from libs.common import wechat

HANG_S = 60.0


class WeChatServer:
    """WeChat, with one mini-program. `next` holds what is done to the next messages, one after another:

    an errcode; "hang" and "hang after" (silence, the message not sent or sent); "drop" (sent, and the line cut instead of
    an answer); "cut" (the line cut, not sent); "500"; "garbage" (sent, and no JSON answered); "twice" (answered twice).
    """

    def __init__(self) -> None:
        self.codes: dict[str, str] = {}
        self.grants: Counter[tuple[str, str]] = Counter()
        self.received: list[dict[str, Any]] = []
        self.next: list[int | str] = []
        self.token_calls: list[dict[str, Any]] = []
        self.token_delay_s = 0.0
        self.message_delay_s = 0.0
        self._tokens = ["token-1"]
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.templates = {"tmpl-booked", "tmpl-moved"}

    def expire_token(self) -> None:
        """Let the token expire before its time, as when somebody else asks for another."""
        with self._lock:
            self._tokens = [f"token-{len(self.token_calls) + 2}"]

    def put_token(self, token: str) -> None:
        """Let this be the token from now on."""
        with self._lock:
            self._tokens = [token]

    def openid_of(self, message_id: str) -> str:
        """Return whom a message went to that was taken under this id."""
        found: str = self.received[int(message_id) - 1]["touser"]
        return found

    @property
    def to(self) -> list[str]:
        return [message["touser"] for message in self.received]

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve while the block runs; yield the address."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

            def do_GET(self) -> None:
                self._answer(fake.session(_query(self.path)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.startswith("/cgi-bin/stable_token"):
                    self._answer(fake.token(body))
                    return
                time.sleep(fake.message_delay_s / 2)
                answer, fault = fake.message(_query(self.path).get("access_token", ""), body)
                time.sleep(fake.message_delay_s / 2)
                if fault in ("hang", "hang after"):
                    fake._stopping.wait(HANG_S)
                if fault in ("drop", "cut", "hang", "hang after"):
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self._answer(answer, 500 if fault == "500" else 200, garbage=fault == "garbage")
                if fault == "twice":
                    self._answer(answer)

            def _answer(self, answer: dict[str, Any], status: int = 200, *, garbage: bool = False) -> None:
                content = b"<html>" if garbage else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            self._stopping.set()
            server.shutdown()
            server.server_close()

    def session(self, query: dict[str, str]) -> dict[str, Any]:
        """jscode2session: a code is good once."""
        if query.get("secret") != "a-wechat-secret":
            return _refusal(40125)
        openid = self.codes.pop(query["js_code"], None)
        return _refusal(40029) if openid is None else {"openid": openid, "session_key": "never let out"}

    def token(self, body: dict[str, Any]) -> dict[str, Any]:
        """stable_token: the same one again and again, unless another is asked for."""
        time.sleep(self.token_delay_s)
        with self._lock:
            self.token_calls.append(body)
            if body.get("force_refresh"):
                self._tokens = [f"token-{len(self.token_calls) + 2}"]
            return {"access_token": self._tokens[-1], "expires_in": 7200}

    def message(self, token: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """subscribe/send: one grant, one message."""
        with self._lock:
            if token not in self._tokens:
                return _refusal(42001), ""
            fault = self.next.pop(0) if self.next else ""
            if isinstance(fault, int):
                return _refusal(fault), ""
            if fault in ("hang", "cut", "500"):
                return {}, fault
            if body["template_id"] not in self.templates:
                return _refusal(40037), fault
            for keyword, field in body["data"].items():
                if not _is_fit(keyword, field["value"]):
                    return _refusal(47003, f"argument invalid! data.{keyword}.value is invalid"), fault
            grant = (body["touser"], body["template_id"])
            if not self.grants[grant]:
                return _refusal(43101, "user refuse to accept the msg"), fault
            self.grants[grant] -= 1
            self.received.append(body)
            return {"errcode": 0, "errmsg": "ok", "msgid": len(self.received)}, fault


def _is_fit(keyword: str, value: str) -> bool:
    try:
        return wechat.value(keyword, value) == value
    except (ValueError, KeyError):
        return False


def _query(path: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}


def _refusal(errcode: int, said: str = "refused") -> dict[str, Any]:
    return {"errcode": errcode, "errmsg": f"{said} rid: 6a1b-77"}


class MailServer:
    """A mail server. `next` holds what is done to the next mails, one after another:

    "550", "451" (at the recipient), "552", "452" (at the content), "hang" (not taken), "hang after" and "drop" (taken, and
    no answer), "garbage" (taken, and no SMTP answered), "twice" (answered twice). With `tls` it offers STARTTLS or, where that is
    `from_the_start`, speaks nothing else.
    """

    def __init__(
        self, *, login: tuple[str, str] | None = None, tls: ssl.SSLContext | None = None, from_the_start: bool = False
    ) -> None:
        self.next: list[str] = []
        self.refusal = "no: {to}"  # what it says to a recipient that it does not take
        self.received: list[EmailMessage] = []
        self.recipients: dict[str, list[str]] = defaultdict(list)  # by Message-ID, as the envelope says
        self.conversations = 0
        self.login = login
        self.tls = tls
        self.from_the_start = from_the_start
        self.were_encrypted: list[bool] = []
        self._stopping = threading.Event()

    @contextmanager
    def running(self) -> Iterator[int]:
        """Serve while the block runs; yield the port."""
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                fake.conversations += 1
                _Conversation(fake, self.connection).over()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            self._stopping.set()
            server.shutdown()
            server.server_close()

    def hang(self) -> None:
        self._stopping.wait(HANG_S)


class _Conversation:
    def __init__(self, server: MailServer, line: socket.socket) -> None:
        self._server = server
        self._line = line
        self._file = line.makefile("rb")
        self._encrypted = False

    def over(self) -> None:
        fault, to = "", ""
        try:
            if self._server.tls is not None and self._server.from_the_start:
                self._encrypt(self._server.tls)
            self._say("220 ready")
            while command := self._file.readline().decode().strip():
                verb = command.upper()
                if verb.startswith("EHLO"):
                    self._greet()
                elif verb == "STARTTLS" and self._server.tls is not None:
                    self._say("220 go on")
                    self._encrypt(self._server.tls)
                elif verb.startswith("AUTH PLAIN"):
                    self._sign_in(command)
                elif verb.startswith("MAIL"):
                    fault = self._server.next.pop(0) if self._server.next else ""
                    self._say("250 ok")
                elif verb.startswith("RCPT"):
                    to = command.partition("<")[2].partition(">")[0]
                    self._say(f"{fault} {self._server.refusal.format(to=to)}" if fault in ("550", "451") else "250 ok")
                elif verb == "DATA":
                    if not self._take(fault, to):
                        return
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    self._say("502 what?")
        except OSError:
            return

    def _encrypt(self, tls: ssl.SSLContext) -> None:
        self._line = tls.wrap_socket(self._line, server_side=True)
        self._file, self._encrypted = self._line.makefile("rb"), True

    def _greet(self) -> None:
        offers = ["mail.test"]
        offers += ["STARTTLS"] if self._server.tls and not self._encrypted else []
        offers += ["AUTH PLAIN"] if self._server.login else []
        for offer in offers[:-1]:
            self._say(f"250-{offer}")
        self._say(f"250 {offers[-1]}")

    def _sign_in(self, command: str) -> None:

        said = base64.b64decode(command.split()[2]).decode().split("\0")
        self._say("235 welcome" if tuple(said[1:]) == self._server.login else "535 wrong")

    def _take(self, fault: str, to: str) -> bool:
        self._say("354 go on")
        lines = []
        while (line := self._file.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        if fault == "hang":
            self._server.hang()
            return False
        if fault in ("552", "452"):
            self._say(f"{fault} too much for {to}")
            return True
        message = message_from_bytes(b"".join(lines), policy=default)
        assert isinstance(message, EmailMessage)
        self._server.recipients[str(message["Message-ID"])].append(to)
        self._server.received.append(message)
        self._server.were_encrypted.append(self._encrypted)
        if fault == "hang after":
            self._server.hang()
        if fault in ("drop", "hang after"):
            self._line.shutdown(socket.SHUT_RDWR)
            return False
        self._say("taken!" if fault == "garbage" else "250 queued as 4Fx7")
        if fault == "twice":
            self._say("250 queued as 4Fx7")
        return True

    def _say(self, said: str) -> None:
        self._line.sendall(f"{said}\r\n".encode())
