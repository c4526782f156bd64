"""Posting to addresses that somebody outside chose: where it never goes, and how long it takes at most."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libs.common.clock import utcnow
from libs.common.outward import Answer, Outward, Unreachable, cleaned, is_public
from tests.common.receiver import Behaviour, Exchange, Posted, Receiver, nobody, receiver
from tests.world import eventually

LOOPBACK = [ip_network("127.0.0.0/8")]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_no_host_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "100.63.255.255", "172.32.0.1", "223.5.5.5", "::ffff:8.8.8.8", "64:ff9b::808:808", "2400:3200::1"],
)
def test_a_host_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.fixture
def here() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def reason_of(outward: Outward, url: str) -> tuple[str, bool]:
    with pytest.raises(Unreachable) as refused:
        outward.post(url, b"{}", {})
    return refused.value.reason, refused.value.arrived


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
    ],
)
def test_nothing_is_sent_to_a_private_address_however_it_is_spelled(here: Receiver, host: str) -> None:
    reason, arrived = reason_of(Outward(), f"http://{host}:{here.port}/")

    assert (reason, arrived) == ("private_address", False)
    assert here.posted == []


def test_one_private_address_among_those_of_a_name_is_enough(here: Receiver) -> None:
    outward = Outward(resolve=lambda host, port: ["8.8.8.8", "127.0.0.1"])

    assert reason_of(outward, f"http://hooks.example:{here.port}/") == ("private_address", False)
    assert here.posted == []


def test_a_name_that_means_another_address_the_next_time_is_asked_once(here: Receiver) -> None:
    with receiver(host="127.0.0.2") as private:
        answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
        outward = Outward(permitted=[ip_network("127.0.0.1/32")], resolve=lambda host, port: next(answers))

        outward.post(f"http://hooks.example:{here.port}/first", b"{}", {})
        again = reason_of(outward, f"http://hooks.example:{private.port}/second")

    assert [posted.path for posted in here.posted] == ["/first"]
    assert again == ("private_address", False)
    assert private.posted == []


def test_a_permitted_network_is_reached_and_nothing_beside_it(here: Receiver) -> None:
    outward = Outward(permitted=LOOPBACK, total_s=60)

    answer = outward.post(f"{here.address}/hook?a=1", b'{"a": 1}', {"Content-Type": "application/json"})

    assert answer == Answer(200, "ok")
    [posted] = here.posted
    assert (posted.path, posted.body) == ("/hook?a=1", b'{"a": 1}')
    assert posted.headers["host"] == here.address.removeprefix("http://")
    assert reason_of(outward, "http://10.0.0.1/") == ("private_address", False)


def test_the_next_address_is_tried_where_one_does_not_answer(here: Receiver) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.9", "127.0.0.1"]  # nobody listens on the first

    outward = Outward(permitted=LOOPBACK, total_s=60, resolve=resolve)

    assert outward.post(f"http://two.example:{here.port}/", b"", {}).status == 200


def test_a_redirect_is_an_answer_and_not_followed(here: Receiver) -> None:
    with receiver(lambda exchange, _: exchange.answer(307, Location=f"{here.address}/elsewhere")) as first:
        answer = Outward(permitted=LOOPBACK, total_s=60).post(f"{first.address}/", b"{}", {})

    assert answer.status == 307
    assert here.posted == []


def test_proxies_of_the_environment_are_passed_by(here: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        Outward(permitted=LOOPBACK, total_s=60).post(f"{here.address}/", b"{}", {})

    assert (len(here.posted), proxy.posted) == (1, [])


def a_hanging(exchange: Exchange, _: Posted) -> None:
    exchange.hang()


def a_trickling(exchange: Exchange, _: Posted) -> None:
    exchange.trickle()


def a_closing(exchange: Exchange, _: Posted) -> None:
    exchange.break_off()


def a_flood_of_heads(exchange: Exchange, _: Posted) -> None:
    exchange.flood(b"heads")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (a_hanging, "too_slow"),
        (a_trickling, "too_slow"),
        (a_closing, "broken_off"),
        (a_flood_of_heads, "answer_too_large"),
    ],
)
def test_who_gives_no_answer_is_left_in_time_and_may_have_the_request(behaviour: Behaviour, reason: str) -> None:
    outward = Outward(permitted=LOOPBACK, total_s=0.5 if reason == "too_slow" else 60)

    with receiver(behaviour) as slow:
        # Again, where a busy machine has used up the half second before there was a connection.
        eventually(lambda: reason_of(outward, f"{slow.address}/") == (reason, True))


def test_of_an_endless_answer_the_beginning_is_read() -> None:
    with receiver(lambda exchange, _: exchange.flood(b"body")) as huge:
        answer = Outward(permitted=LOOPBACK, total_s=60).post(f"{huge.address}/", b"{}", {})

    assert answer == Answer(200, "x" * 1000)


def test_where_nobody_listens_nothing_has_arrived() -> None:
    outward = Outward(permitted=LOOPBACK, total_s=60)

    with nobody() as port:
        assert reason_of(outward, f"http://127.0.0.1:{port}/") == ("no_connection", False)
    assert reason_of(Outward(), "http://no-such-name.invalid/") == ("unknown_name", False)


def test_how_long_to_wait_is_read_where_it_is_said_in_seconds() -> None:
    asked = iter(["120", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 30])
    with receiver(lambda exchange, _: exchange.answer(429, Retry_After=next(asked))) as busy:
        outward = Outward(permitted=LOOPBACK, total_s=60)
        answers = [outward.post(f"{busy.address}/", b"{}", {}) for _ in range(3)]

    assert [answer.retry_after_s for answer in answers] == [120.0, None, None]


def test_text_of_answers_is_fit_to_be_stored_and_shown() -> None:
    assert cleaned(b"a\x00b\x1b[31mc\xff\nd") == "ab[31mc�\nd"
    assert cleaned("界".encode() * 2000) == "界" * 1000


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate of hooks.example with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utcnow() - timedelta(days=1))
        .not_valid_after(utcnow() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path: Path = tmp_path_factory.mktemp("tls") / "hooks.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    return path


def test_a_certificate_has_to_be_of_the_name_although_an_address_is_connected_to(certificate: Path) -> None:
    trust = ssl.create_default_context(cafile=str(certificate))
    outward = Outward(permitted=LOOPBACK, total_s=60, trust=trust, resolve=lambda host, port: ["127.0.0.1"])
    with receiver(certificate=certificate) as secure:
        answer = outward.post(f"https://hooks.example:{secure.port}/", b"{}", {})
        other = reason_of(outward, f"https://other.example:{secure.port}/")
        untrusted = reason_of(Outward(permitted=LOOPBACK, total_s=60), f"{secure.address}/")

    assert answer.status == 200
    assert (other, untrusted) == (("bad_certificate", False), ("bad_certificate", False))
    assert len(secure.posted) == 1


def test_who_never_shakes_hands_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}/"

        assert reason_of(Outward(permitted=LOOPBACK, total_s=0.5), address) == ("too_slow", False)
