"""Files as users send them."""

import io
from typing import Any

import httpx2
from PIL import Image

from tests.booking.builders import Headers, Place
from tests.world import World

A_PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"


def an_image(kind: str = "JPEG", *, size: tuple[int, int] = (60, 40), **saved: Any) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, "teal").save(written, kind, **saved)
    return written.getvalue()


def send(world: World, user: Headers, place: Place, field: str, data: bytes, name: str = "a.jpg") -> httpx2.Response:
    return world.client.post(
        "/api/booking/uploads",
        data={"item_id": place.item.item_id, "field": field},
        files={"file": (name, data, "image/jpeg")},
        headers=user,
    )


def sent(world: World, user: Headers, place: Place, field: str, data: bytes, name: str = "a.jpg") -> dict[str, Any]:
    answer = send(world, user, place, field, data, name)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found
