"""E-mail: to confirmed addresses alone, and what becomes of each mail whatever the server does."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from libs.common.ids import new_id
from libs.contracts.booking import UserErased
from services.notify.channels.email import EmailChannel
from services.notify.models import Delivery, Grant, Recipient, Unconfirmed
from tests.common.receiver import nobody
from tests.notify.builders import hear, rows
from tests.notify.pigeons import carry_all
from tests.notify.reaching import PATIENCE_S, SILENCE_S, MakeWorld, Town, a_town
from tests.notify.servers import MailServer

LATER = timedelta(minutes=10)
ADDRESS = "lin@example.com"


@pytest.fixture
def town(make_world: MakeWorld) -> Iterator[Town]:
    with a_town(make_world) as town:
        yield town


def test_a_notice_goes_to_a_confirmed_address(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.tell(user)

    town.carry("email")

    [mail] = town.mail.received
    found = town.delivery(user, "email")
    assert (mail["From"], mail["To"], mail["Subject"]) == ("notices@hallpass.example", ADDRESS, "Booked")
    assert mail.get_content_type() == "text/plain"
    assert "护照办理" in mail.get_content()
    assert mail["Message-ID"] == f"<{found['id']}@hallpass.example>"
    assert (found["state"], found["provider_id"]) == ("sent", "queued as 4Fx7")


@pytest.mark.parametrize(
    "said", ["<LIN@EXAMPLE.COM> is unknown", "user Lin is unknown", "lin=lin@Example.com is unknown"]
)
def test_no_answer_shows_whose_address_it_is(town: Town, said: str) -> None:
    user = new_id()
    town.confirm_email(user)
    town.tell(user)
    town.mail.next, town.mail.refusal = ["550"], said

    town.carry("email")

    answer = town.delivery(user, "email")["answer"]
    assert "lin" not in answer.lower()
    assert answer.endswith("is unknown")


def test_mail_speaks_the_language_that_its_user_chose(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    assert town.ask("PATCH", "me", user, {"language": "zh"}).json()["language"] == "zh"
    town.tell(user)

    town.carry("email")

    assert town.mail.received[0]["Subject"] == "预约成功"


def test_no_part_of_a_notice_can_add_a_header(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    path = "/api/notify/staff/notice-templates/booked"
    body = {"title": {"zh": "{item}", "en": "{item}"}, "body": {"zh": "{item}", "en": "{item}"}}
    assert town.world.client.put(path, json=body, headers=town.world.staff()).status_code == 200
    town.tell(user, item_title="A\r\nBcc: other@example.com\r\n.\r\nMAIL FROM:<x@example.com>")

    town.carry("email")

    [mail] = town.mail.received
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("A Bcc: other@example.com .")
    assert dict(town.mail.recipients)[str(mail["Message-ID"])] == [ADDRESS]


@pytest.mark.parametrize(
    ("faults", "state", "twice", "attempts", "received"),
    [
        (["550"], "failed", False, 1, 0),
        (["552"], "failed", False, 1, 0),
        (["451"], "sent", False, 2, 1),
        (["452"], "sent", False, 2, 1),
        (["hang"], "sent", True, 2, 1),
        (["hang after"], "sent", True, 2, 2),
        (["drop"], "sent", True, 2, 2),
        (["drop", "drop"], "failed", True, 2, 2),
        (["garbage"], "sent", True, 2, 2),
        (["twice"], "sent", False, 1, 1),
    ],
)
def test_every_mail_ends_in_the_right_state(
    town: Town, faults: list[str], state: str, twice: bool, attempts: int, received: int
) -> None:
    user = new_id()
    town.confirm_email(user)
    town.tell(user)
    town.mail.next = list(faults)

    town.carry("email", patience_s=SILENCE_S if faults[0].startswith("hang") else PATIENCE_S)
    town.carry("email", later=LATER)

    found = town.delivery(user, "email")
    assert (found["state"], found["possibly_twice"], found["attempts"]) == (state, twice, attempts)
    assert len(town.mail.received) == received
    assert len({mail["Message-ID"] for mail in town.mail.received}) <= 1, "a second copy is known as one"
    assert ADDRESS not in str(found)


def test_a_server_that_is_away_is_tried_again(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.tell(user)
    known = town.world.runtimes["notify"].resources

    with nobody() as port:
        carry_all(town.world, EmailChannel(replace(known.mail, port=port), known.sealer))

    found = town.delivery(user, "email")
    assert (found["state"], found["possibly_twice"]) == ("queued", False)


def test_a_name_that_is_not_resolved_in_time_holds_nobody(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, found_at_last, look_up = threading.Event(), threading.Event(), socket.getaddrinfo

    def slowly(host: Any, *more: Any, **also: Any) -> Any:
        if host == "localhost":
            found.wait(60)
            found_at_last.set()
        return look_up(host, *more, **also)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)

    with a_town(make_world, smtp_timeout_s=0.5) as town:
        answer = town.ask("PUT", "me/email", new_id(), {"email": ADDRESS})

    assert answer.json()["code"] == "mail_unavailable"
    assert not found_at_last.is_set()
    found.set()


# --- safe lines ---


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS for localhost, by an authority that this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*form))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_goes_over_a_safe_line_and_signed_in(
    make_world: MakeWorld, certified: ssl.SSLContext, security: str
) -> None:
    mail = MailServer(login=("notices", "a-mail-password"), tls=certified, from_the_start=security == "tls")
    settings = {"smtp_security": security, "smtp_user": "notices", "smtp_password": "a-mail-password"}
    with a_town(make_world, mail=mail, **settings) as town:
        user = new_id()
        town.confirm_email(user)
        town.tell(user)

        town.carry("email")

        assert town.delivery(user, "email")["state"] == "sent"
        assert mail.were_encrypted == [True]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_nothing_is_said_over_a_line_that_is_not_safe(
    make_world: MakeWorld, certified: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, security: str, trusted: bool
) -> None:
    mail = MailServer(tls=None if trusted else certified, from_the_start=security == "tls")
    if not trusted:
        monkeypatch.delenv("SSL_CERT_FILE")
    with a_town(make_world, mail=mail, smtp_security=security) as town:
        answer = town.ask("PUT", "me/email", new_id(), {"email": ADDRESS})

        assert answer.json()["code"] == "mail_unavailable"
        assert mail.received == []


# --- addresses ---


def test_an_address_counts_when_its_code_comes_back(town: Town) -> None:
    user = new_id()
    answer = town.ask("PUT", "me/email", user, {"email": ADDRESS})
    assert (answer.json()["email"], answer.json()["unconfirmed_email"]) == (None, ADDRESS)
    town.tell(user)
    assert town.carry("email") == 0

    found = town.ask("POST", "me/email/confirm", user, {"code": town.code()}).json()

    assert (found["email"], found["unconfirmed_email"]) == (ADDRESS, None)
    assert town.ask("POST", "me/email/confirm", user, {"code": town.code()}).json()["code"] == "nothing_to_confirm"


def test_five_wrong_codes_are_too_many(town: Town) -> None:
    user = new_id()
    town.ask("PUT", "me/email", user, {"email": ADDRESS})
    right = town.code()
    wrong = "000000" if right != "000000" else "000001"

    answers = [town.ask("POST", "me/email/confirm", user, {"code": code}).json()["code"] for code in [wrong] * 5]

    assert answers == ["code_wrong"] * 5
    assert town.ask("POST", "me/email/confirm", user, {"code": right}).json()["code"] == "nothing_to_confirm"


def test_a_new_address_leaves_the_old_one_until_it_is_confirmed(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)

    found = town.ask("PUT", "me/email", user, {"email": "new@example.com"}).json()

    assert (found["email"], found["unconfirmed_email"]) == (ADDRESS, "new@example.com")


def test_codes_are_sent_so_often_and_not_more(make_world: MakeWorld) -> None:
    with a_town(make_world, mail_rate="2/hour") as town:
        answers = [town.ask("PUT", "me/email", new_id(), {"email": ADDRESS}).status_code for _ in range(3)]

    assert answers == [202, 202, 429]


@pytest.mark.parametrize("fault", ["550", "451", "hang"])
def test_an_address_that_no_mail_can_be_sent_to_is_told_at_once(make_world: MakeWorld, fault: str) -> None:
    with a_town(make_world, smtp_timeout_s=0.5 if fault == "hang" else PATIENCE_S) as town:
        town.mail.next = [fault]

        answer = town.ask("PUT", "me/email", new_id(), {"email": ADDRESS})

    assert answer.json()["code"] == ("email_unfit" if fault == "550" else "mail_unavailable")


@pytest.mark.parametrize(
    "email",
    [
        "",
        "lin",
        "lin@",
        "a b@example.com",
        "a@example.com\nBcc: b@example.com",
        "a@b,c@d.ef",
        '"a"@b.cd',
        "a@-.cd",
        "=?utf-8?q?other?=@example.com",
    ],
)
def test_what_is_no_address_is_refused(town: Town, email: str) -> None:
    assert town.ask("PUT", "me/email", new_id(), {"email": email}).status_code == 422


def test_an_address_in_a_domain_of_another_script_is_taken_as_dns_spells_it(town: Town) -> None:
    user = new_id()
    town.confirm_email(user, "lin@xn--fsqu00a.xn--fiqs8s")  # 例子.中国
    town.tell(user)

    town.carry("email")

    [mail] = town.mail.received
    assert mail["To"] == "lin@xn--fsqu00a.xn--fiqs8s"


def test_a_removed_address_gets_nothing_and_is_gone(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.tell(user)
    assert town.ask("DELETE", "me/email", user).status_code == 204

    town.carry("email")

    assert town.mail.received == []
    assert town.delivery(user, "email")["answer"] == "nobody to send it to"
    assert rows(town.world, Recipient, user_id=user)[0]["email_sealed"] is None


def test_addresses_are_sealed(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.ask("PUT", "me/email", user, {"email": "new@example.com"})

    [row] = rows(town.world, Recipient, user_id=user)

    [waiting] = rows(town.world, Unconfirmed, user_id=user)
    assert b"example" not in row["email_sealed"] + waiting["sealed"]


def test_a_user_who_chose_gets_what_they_chose(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.map_wechat()
    town.allow(user)
    assert town.ask("PATCH", "me", user, {"choices": {"booked": ["wechat"]}}).json()["choices"] == {
        "booked": ["wechat"]
    }

    town.tell(user)

    assert {row["channel"] for row in rows(town.world, Delivery)} == {"wechat"}


def test_a_channel_is_chosen_once_and_only_where_there_is_one(town: Town) -> None:
    user = new_id()

    twice = town.ask("PATCH", "me", user, {"choices": {"booked": ["email", "wechat", "email"]}})
    off = town.ask("PATCH", "me", user, {"choices": {"moved": ["wechat", "sms"]}})

    assert (twice.status_code, twice.json()["choices"]) == (200, {"booked": ["email", "wechat"]})
    assert (off.status_code, off.json()["code"], off.json()["params"]) == (409, "channel_off", {"channel": "sms"})


def test_channels_that_are_off_say_so(world: Any) -> None:
    town = Town(world)

    for method, path, body in (
        ("PUT", "me/email", {"email": ADDRESS}),
        ("POST", "grants", {"code": "code", "accepted": ["tmpl"]}),
    ):
        assert town.ask(method, path, new_id(), body).json()["code"] == "channel_off"


def test_nothing_is_left_of_a_user_who_is_erased(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.map_wechat()
    town.allow(user)
    town.tell(user)
    hear(town.world, UserErased(version=1, user_id=user, join_ids=[]))

    for model in (Recipient, Grant, Delivery):
        assert rows(town.world, model) == []
    assert town.ask("PUT", "me/email", user, {"email": ADDRESS}).json()["code"] == "unauthenticated"
    assert town.allow(user).json()["code"] == "unauthenticated"
    assert rows(town.world, Recipient) == []
