"""POST to an address that somebody outside chose: never into a private network, never for long, never elsewhere."""

import socket
import ssl
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpcore2
import httpx2

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Iterable[str]]

ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"))

# What is no host of the public internet, by IANA's registries of special-purpose addresses (RFC 6890 and its updates).
_SPECIAL: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to this very machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT; the metadata of some clouds
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public address that is a cloud's own inside it
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",
        "2001::/23",  # Teredo, ORCHID and others that lead elsewhere
        "2001:db8::/32",
        "2002::/16",  # 6to4: leads to the IPv4 address within
        "3fff::/20",
    )
)
_GLOBAL_V6 = ip_network(
    "2000::/3"
)  # all that is given out; loopback, link-local, unique local and multicast lie outside
_NAT64 = ip_network("64:ff9b::/96")  # leads to the IPv4 address within, and is how a network without IPv4 reaches any

MOST_BYTES = 64 * 1024
SHOWN_CHARACTERS = 1000


@dataclass(frozen=True)
class Answer:
    """What the other side said: its status, and the beginning of its text, fit to be stored and shown.

    `retry_after_s` is how long it asks to be left alone, where it says that in seconds. `body` is as much as was read, as it came.
    """

    status: int
    text: str
    retry_after_s: float | None = None
    body: bytes = field(default=b"", compare=False, repr=False)


class Unreachable(Exception):
    """There is no answer. `reason` is a word that stays; `arrived` tells whether the request may be there all the same."""

    def __init__(self, reason: str, *, arrived: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.arrived = arrived


class Outward:
    """Posts to foreign addresses over connections of their own.

    A name is resolved once; where any of its addresses is private (and in none of the `permitted` networks) nothing is
    sent, else the connection goes to exactly one of the addresses that were looked at. Redirects are answers like any
    other, proxies of the environment are not used. From the first connection to the last byte it takes `total_s` at
    most; resolving a name takes as long as the system's resolver lets it.
    """

    def __init__(
        self,
        *,
        permitted: Sequence[Network] = (),
        total_s: float = 10.0,
        trust: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._permitted = permitted
        self.total_s = total_s
        self._given_trust = trust
        self._resolve = resolve or _resolve

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return self._given_trust or httpcore2.default_ssl_context()  # reads hundreds of certificates

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send the body, and return the answer or raise Unreachable."""
        target = httpx2.URL(url)
        host = target.raw_host.decode("ascii")
        port = target.port or (443 if target.scheme == "https" else 80)
        addresses = self._checked(host, port)
        own = {"Host": target.netloc.decode("ascii"), "Content-Length": str(len(body)), "Accept-Encoding": "identity"}
        origin = httpcore2.Origin(target.raw_scheme, target.raw_host, port)
        request = httpcore2.Request(
            "POST",
            httpcore2.URL(scheme=target.raw_scheme, host=target.raw_host, port=port, target=target.raw_path),
            headers=[(name, value) for name, value in (own | dict(headers) | {"Connection": "close"}).items()],
            content=body,
        )
        trust = self._trust if target.scheme == "https" else None
        line = _Line(addresses, time.monotonic() + self.total_s)
        with httpcore2.HTTPConnection(origin, ssl_context=trust, network_backend=line) as connection:
            try:
                return _read(connection.handle_request(request))
            except _TooSlow:
                raise Unreachable("too_slow", arrived=line.is_open) from None
            except _TooMuch:
                raise Unreachable("answer_too_large", arrived=True) from None
            except httpcore2.ConnectTimeout:
                raise Unreachable("too_slow") from None
            except httpcore2.ConnectError as error:
                raise Unreachable("bad_certificate" if _is_of_tls(error) else "no_connection") from None
            except httpcore2.TimeoutException:
                raise Unreachable("too_slow", arrived=True) from None
            except (httpcore2.NetworkError, httpcore2.ProtocolError):
                raise Unreachable("broken_off", arrived=True) from None

    def _checked(self, host: str, port: int) -> list[Address]:
        try:
            found = [_address(text) for text in self._resolve(host, port)]
        except (OSError, UnicodeError):
            raise Unreachable("unknown_name") from None
        if not found:
            raise Unreachable("unknown_name")
        if not all(is_public(address) or self._permits(address) for address in found):
            raise Unreachable("private_address")
        return found

    def _permits(self, address: Address) -> bool:
        return any(address in network for network in self._permitted)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet's, and does not lead to another that is none."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or (IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_V6:
            return False
    return not any(address in network for network in _SPECIAL)


def literal(host: str) -> Address | None:
    """Return the address that a host of a URL spells, in brackets or not; None where it is a name."""
    try:
        return _address(host.strip("[]"))
    except ValueError:
        return None


def _address(text: str) -> Address:
    return ip_address(text.partition("%")[0])  # the zone of a link-local address


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


class _TooSlow(Exception):
    pass


class _TooMuch(Exception):
    pass


class _Line(httpcore2.NetworkBackend):
    """Connects to addresses that were looked at, whatever it is asked to connect to."""

    def __init__(self, addresses: Sequence[Address], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._backend = httpcore2.SyncBackend()
        self.is_open = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        *others, last = self._addresses
        for address in others:
            try:
                # Half of what is left: one address that does not answer must not use up the time of the next.
                return self._connected(address, port, _left(self._deadline) / 2)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._connected(last, port, _left(self._deadline))

    def _connected(self, address: Address, port: int, timeout: float) -> httpcore2.NetworkStream:
        stream = self._backend.connect_tcp(str(address), port, timeout=timeout, socket_options=())
        return _Stream(stream, self)

    def left(self) -> float:
        return _left(self._deadline)


class _Stream(httpcore2.NetworkStream):
    """A connection that ends with the time it has: what trickles in byte by byte does not prolong it."""

    def __init__(self, stream: httpcore2.NetworkStream, line: _Line) -> None:
        self._stream = stream
        self._line = line
        self._taken = 0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, timeout=self._line.left())
        self._taken += len(data)
        if self._taken > 2 * MOST_BYTES:  # a flood of heads: of a body no more is read than MOST_BYTES
            raise _TooMuch
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._line.is_open = True
        self._stream.write(buffer, timeout=self._line.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._line.left()), self._line)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _TooSlow
    return left


def _is_of_tls(error: BaseException) -> bool:
    return isinstance(error.__cause__ or error.__context__, ssl.SSLError)


def _read(response: httpcore2.Response) -> Answer:
    """Read as much of the answer as is looked at; the status stands, whatever becomes of the rest."""
    taken = bytearray()
    with suppress(_TooSlow, _TooMuch, httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError):
        for chunk in response.iter_stream():
            taken += chunk
            if len(taken) >= MOST_BYTES:
                break
    return Answer(response.status, cleaned(bytes(taken)), _retry_after(response), bytes(taken))


def _retry_after(response: httpcore2.Response) -> float | None:
    said = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
    return float(said) if said.isdigit() and len(said) < 9 else None


def cleaned(raw: bytes) -> str:
    """Return the beginning of foreign bytes as text that can be stored and shown."""
    return storable(raw[: 4 * SHOWN_CHARACTERS].decode(errors="replace"))[:SHOWN_CHARACTERS]


def storable(text: str) -> str:
    """Return foreign text without what a database or a terminal does not take: control characters, halves of pairs."""
    return "".join(each for each in text if each in "\n\t" or unicodedata.category(each)[0] != "C")
