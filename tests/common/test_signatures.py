"""Signatures after the Standard Webhooks specification."""

import base64
from datetime import UTC, datetime

from libs.common import signatures

AT = datetime.fromtimestamp(1731705121, UTC)


def test_the_example_of_the_specification_is_signed_as_it_says() -> None:
    body = b'{"event_type":"ping","data":{"success":true}}'

    made = signatures.headers(["whsec_plJ3nmyCDGBKInavdOK15jsl"], "msg_loFOjxBNrRLzqYUf", body, now=AT)

    assert made == {
        "webhook-id": "msg_loFOjxBNrRLzqYUf",
        "webhook-timestamp": "1731705121",
        "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    }


def test_each_secret_signs() -> None:
    old, new = signatures.new_secret(), signatures.new_secret()

    both = signatures.headers([new, old], "id", b"{}", now=AT)["webhook-signature"].split(" ")

    alone = [signatures.headers([secret], "id", b"{}", now=AT)["webhook-signature"] for secret in (new, old)]
    assert both == alone
    assert both[0] != both[1]


def test_a_secret_is_random_bytes_behind_its_prefix() -> None:
    secret = signatures.new_secret()

    assert signatures.is_secret(secret)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert secret != signatures.new_secret()


def test_what_is_no_secret_is_told() -> None:
    short, bare = "whsec_" + base64.b64encode(b"x" * 23).decode(), base64.b64encode(b"x" * 32).decode()

    assert not any(signatures.is_secret(text) for text in ("", "whsec_", "whsec_!", short, bare, "whsec_" + "é" * 40))
