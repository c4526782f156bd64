"""Files that answer forms: what is taken, who may use and see it, and what becomes of the rest."""

import io
import zipfile
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import pytest
import time_machine
from openpyxl import Workbook
from PIL import Image, ImageCms

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.tasks import perform
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.principals import Role
from services.booking import uploads
from tests.booking.builders import NAME, Headers, Place, a_slot, book, booked, code_of, my_join, recorded, refused
from tests.booking.uploading import A_PDF, an_image, send, sent
from tests.common.s3 import a_bucket
from tests.world import World

PHOTO = FormField(key="photo", type=FieldType.IMAGE, label="照片", required=False)
PAPER = FormField(key="paper", type=FieldType.FILE, label="材料", required=False)
CARD = FormField(key="card", type=FieldType.IMAGE, label="证件照", required=False, sensitive=True)
GPS, ORIENTATION = 0x8825, 0x0112


def a_workbook() -> bytes:
    written = io.BytesIO()
    Workbook().save(written)
    return written.getvalue()


def an_archive(**parts: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return written.getvalue()


def a_png_that_claims(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose head promises so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def a_place(world: World, *form: FormField, **more: Any) -> Place:
    return a_slot(world, form=[NAME, *(form or (PHOTO, PAPER, CARD))], max_per_slot=9, party_max=3, **more)


def faults(answer: httpx2.Response) -> set[tuple[str, str]]:
    assert code_of(answer) == (422, "form_invalid"), answer.text
    return {(fault["field"], fault["reason"]) for fault in answer.json()["params"]["faults"]}


def stored(world: World) -> list[Path]:
    folder = Path(urlsplit(world.runtimes["booking"].settings.uploads_url).path)
    return [path for path in folder.rglob("*") if path.is_file()]


def swept(world: World) -> Any:
    runtime = world.runtimes["booking"]
    return perform(runtime, next(task for task in runtime.service.tasks if task.name == "booking.sweep_uploads"))


# --- what is taken ---


def test_an_image_is_kept_upright_and_without_the_place_where_it_was_taken(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(GPS)[1] = "N"
    data = an_image(size=(60, 40), exif=exif, comment=b"home") + b"<script>alert(1)</script>"
    [join] = booked(world, user, place.slot_id, photo=sent(world, user, place, "photo", data)["reference"])

    fetched = world.client.get(f"/api/booking/joins/{join['id']}/files/photo", headers=user)

    kept = Image.open(io.BytesIO(fetched.content))
    assert (kept.format, kept.size) == ("JPEG", (40, 60))
    assert not kept.getexif()
    assert b"script" not in fetched.content
    assert b"home" not in fetched.content


@pytest.mark.parametrize(
    ("data", "name", "type", "called"),
    [
        (an_image(), "身份证.exe", "image/jpeg", "身份证.jpg"),
        (an_image("PNG"), "../../etc/passwd", "image/png", "passwd.png"),
        (A_PDF, "C:\\temp\\a?.html", "application/pdf", "a.pdf"),
        (a_workbook(), "", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "file.xlsx"),
    ],
    ids=["jpeg", "png", "pdf", "xlsx"],
)
def test_a_file_is_what_it_holds_whatever_it_is_called(
    world: World, data: bytes, name: str, type: str, called: str
) -> None:
    place, user = a_place(world), world.user("wang")

    found = sent(world, user, place, "paper", data, name or "/")

    assert (found["type"], found["name"]) == (type, called)


@pytest.mark.parametrize(
    ("field", "data", "reason"),
    [
        pytest.param("photo", b"GIF89a" + b"\0" * 100, "no_image", id="another kind of image"),
        pytest.param("photo", A_PDF, "no_image", id="no image at all"),
        pytest.param("photo", an_image()[:200], "broken", id="the beginning of one"),
        pytest.param("photo", a_png_that_claims(5_000, 5_001), "too_many_pixels", id="more pixels than are taken"),
        pytest.param("photo", a_png_that_claims(60_000, 60_000), "too_many_pixels", id="a decompression bomb"),
        pytest.param("photo", a_png_that_claims(5_000, 4_999), "broken", id="fewer pixels than it claims"),
        pytest.param("paper", b"<html></html>", "kind_not_taken", id="a page"),
        pytest.param("paper", b"MZ" + b"\0" * 100, "kind_not_taken", id="a program"),
        pytest.param("paper", an_archive(a=b"b"), "broken", id="an archive of anything"),
        pytest.param(
            "paper", an_archive(a=b"\0" * 101 * 1024 * 1024), "too_much_inside", id="an archive that is a bomb"
        ),
        pytest.param(
            "paper",
            an_archive(
                **{"[Content_Types].xml": b"ms-word.document.macroEnabled.main+xml", "word/vbaProject.bin": b"a"}
            ),
            "kind_not_taken",
            id="a document with macros",
        ),
        pytest.param("paper", a_workbook()[:-200], "broken", id="the beginning of a document"),
    ],
)
def test_what_a_file_pretends_to_be_does_not_help_it(world: World, field: str, data: bytes, reason: str) -> None:
    place = a_place(world)

    refusal = refused(lambda who: send(world, who, place, field, data), world.user("wang"))

    assert refusal.kind == (422, "upload_unfit")
    assert refusal.params["reason"] == reason
    assert refusal.english != refusal.chinese
    assert stored(world) == []


def test_a_file_is_as_large_as_the_installation_and_the_field_allow(make_world: Callable[..., World]) -> None:
    world = make_world(upload_max_bytes=2 * 1024 * 1024)
    place = a_place(world, PAPER, FormField(key="small", type=FieldType.FILE, label="小", required=False, max=1))
    user = world.user("wang")

    def of(size: int) -> bytes:
        return A_PDF.ljust(size - 6, b" ") + b"%%EOF\n"

    assert send(world, user, place, "paper", of(2 * 1024 * 1024)).status_code == 201
    assert send(world, user, place, "small", of(1024 * 1024)).status_code == 201
    for field, size in (("paper", 2 * 1024 * 1024), ("small", 1024 * 1024)):
        refusal = refused(lambda who, f=field, s=size: send(world, who, place, f, of(s + 1)), user)  # type: ignore[misc]
        assert (*refusal.kind, refusal.params) == (422, "upload_too_large", {"max_bytes": size})
    assert code_of(send(world, user, place, "paper", of(3 * 1024 * 1024))) == (413, "too_large")
    assert code_of(world.client.patch("/api/booking/me", content=b" " * 1_048_577, headers=user)) == (413, "too_large")


def test_files_are_sent_for_fields_that_ask_for_them(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    disabled = world.user("li")
    who = world.client.get("/api/booking/me", headers=disabled).json()["id"]
    body = {"disabled": True, "reason": "多次失约"}
    world.client.patch(f"/api/booking/staff/users/{who}", json=body, headers=world.staff())

    assert code_of(send(world, user, place, "name", an_image())) == (404, "not_found")
    assert code_of(send(world, user, place, "nothing", an_image())) == (404, "not_found")
    assert code_of(send(world, user, Place(world), "photo", an_image())) == (404, "not_found")
    assert code_of(send(world, disabled, place, "photo", an_image())) == (403, "user_disabled")


def test_nobody_fills_the_store_with_files_that_answer_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_UNUSED", 2)
    place, user = a_place(world), world.user("wang")
    references = [sent(world, user, place, "photo", an_image())["reference"] for _ in range(2)]

    assert code_of(send(world, user, place, "photo", an_image())) == (429, "too_many_requests")

    booked(world, user, place.slot_id, photo=references[0])
    assert send(world, user, place, "photo", an_image()).status_code == 201


# --- answering ---


def test_a_file_answers_a_form_and_is_shown_by_its_name(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    upload = sent(world, user, place, "paper", A_PDF, "户口本.pdf")

    [join] = booked(world, user, place.slot_id, paper=upload["reference"])

    said = join["answers"]["paper"]
    assert (said["name"], said["type"], said["bytes"]) == ("户口本.pdf", "application/pdf", len(A_PDF))
    assert my_join(world, user, join["id"])["answers"]["paper"] == said
    prefill = world.client.get(f"/api/booking/slots/{place.slot_id}/form", headers=user).json()["prefill"]
    assert prefill == {"name": "张三"}


def test_a_reference_is_for_its_user_its_item_and_its_field(world: World) -> None:
    place, other, user = a_place(world), a_place(world), world.user("wang")
    reference = sent(world, user, place, "photo", an_image())["reference"]
    altered = ("B" if reference[40] == "A" else "A").join((reference[:40], reference[41:]))
    wrong = {("photo", "not_an_upload")}

    assert faults(book(world, world.user("li"), place.slot_id, photo=reference)) == wrong
    assert faults(book(world, user, other.slot_id, photo=reference)) == wrong
    assert faults(book(world, user, place.slot_id, card=reference)) == {("card", "not_an_upload")}
    forged = {"upload_id": "x", "name": "a.jpg", "media_type": "image/jpeg", "bytes": 1, "is_current": True}
    for said in (altered, "a", "=", "名", reference * 9, 1, True, ["a"], forged):
        assert faults(book(world, user, place.slot_id, photo=said)) == wrong, said
    assert book(world, user, place.slot_id, photo=reference).status_code == 201


def test_a_required_file_has_to_be_there(world: World) -> None:
    place = a_place(world, PHOTO.model_copy(update={"required": True}))

    assert faults(book(world, world.user("wang"), place.slot_id)) == {("photo", "required")}


def test_a_reference_is_good_for_a_day(world: World) -> None:
    place, user = a_place(world, starts_in=timedelta(days=3)), world.user("wang")
    reference = sent(world, user, place, "photo", an_image())["reference"]

    with time_machine.travel(utcnow() + timedelta(hours=24, seconds=1)):
        assert faults(book(world, world.user("wang"), place.slot_id, photo=reference)) == {("photo", "upload_expired")}


def test_the_same_request_finds_its_success_also_when_its_reference_has_expired(world: World) -> None:
    place, user = a_place(world, starts_in=timedelta(days=3)), world.user("wang")
    reference = sent(world, user, place, "photo", an_image())["reference"]
    first = book(world, user, place.slot_id, key="once", photo=reference)

    with time_machine.travel(utcnow() + timedelta(hours=25)):
        again = book(world, world.user("wang"), place.slot_id, key="once", photo=reference)

    assert again.json() == first.json()


def test_an_image_field_takes_no_file_that_was_sent_before_it_was_one(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    reference = sent(world, user, place, "paper", A_PDF)["reference"]

    place.change_item(form=[NAME, PAPER.model_copy(update={"type": FieldType.IMAGE})], form_version=2)

    assert faults(book(world, user, place.slot_id, paper=reference)) == {("paper", "wrong_type")}


# --- seeing ---


def test_a_file_is_sent_so_that_no_browser_runs_what_is_in_it(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    reference = sent(world, user, place, "paper", A_PDF, "户口本.pdf")["reference"]
    [join] = booked(world, user, place.slot_id, paper=reference)

    answers = [
        world.client.get(f"/api/booking/joins/{join['id']}/files/paper", headers=user),
        world.client.get(
            f"/api/booking/staff/joins/{join['id']}/files/paper",
            headers=world.staff(Role.VERIFIER, [place.hall_id]),
        ),
    ]

    for answer in answers:
        assert answer.content == A_PDF
        assert answer.headers["Content-Type"] == "application/pdf"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert unquote(answer.headers["Content-Disposition"]) == "attachment; filename*=UTF-8''户口本.pdf"


def test_a_file_is_for_who_may_see_the_join(world: World) -> None:
    place, other, user = a_place(world), a_place(world), world.user("wang")
    [join] = booked(world, user, place.slot_id, photo=sent(world, user, place, "photo", an_image())["reference"])
    mine, staffs = (f"/api/booking/{side}/{join['id']}/files" for side in ("joins", "staff/joins"))
    foreign = world.staff(Role.HALL_ADMIN, [other.hall_id])

    assert code_of(world.client.get(f"{mine}/photo", headers=world.user("li"))) == (404, "join_not_found")
    assert code_of(world.client.get(f"{staffs}/photo", headers=foreign)) == (404, "join_not_found")
    assert code_of(world.client.post(f"{staffs}/photo", json={"reason": "核对"}, headers=foreign)) == (
        404,
        "join_not_found",
    )
    assert code_of(world.client.get(f"{mine}/paper", headers=user)) == (404, "not_found")
    assert code_of(world.client.get(f"{mine}/name", headers=user)) == (404, "not_found")


def test_a_sensitive_file_takes_a_reason_that_is_on_record(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    [join] = booked(
        world, user, place.slot_id, card=sent(world, user, place, "card", an_image(), "证.jpg")["reference"]
    )
    staff = world.staff(Role.HALL_ADMIN, [place.hall_id])
    path = f"/api/booking/staff/joins/{join['id']}"

    shown = world.client.get(path, headers=staff).json()
    masked = refused(lambda who: world.client.get(f"{path}/files/card", headers=who), staff)
    clear = world.client.post(f"{path}/files/card", json={"reason": "核对证件"}, headers=staff)

    assert shown["answers"]["card"] == "***"
    assert masked.kind == (403, "file_masked")
    assert clear.headers["Content-Type"] == "image/jpeg"
    assert code_of(
        world.client.post(
            f"{path}/files/card", json={"reason": "核对"}, headers=world.staff(Role.VERIFIER, [place.hall_id])
        )
    ) == (403, "role_forbids")
    [fact] = [one for one in recorded(world, "audit.recorded") if one.data["action"] == "join.unmasked"]
    assert (fact.data["reason"], fact.data["after"]) == ("核对证件", {"fields": ["card"]})


def test_a_file_that_became_sensitive_later_is_masked(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    [join] = booked(world, user, place.slot_id, photo=sent(world, user, place, "photo", an_image())["reference"])

    path = f"/api/booking/staff/joins/{join['id']}/files/photo"

    place.change_item(form=[NAME, PHOTO.model_copy(update={"sensitive": True})], form_version=2)
    made_sensitive = world.client.get(path, headers=world.staff())
    place.change_item(form=[NAME], form_version=3)
    taken_off = world.client.get(path, headers=world.staff())

    assert code_of(made_sensitive) == code_of(taken_off) == (403, "file_masked")


# --- keeping ---


def test_files_lie_encrypted(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    sent(world, user, place, "paper", A_PDF)

    [file] = stored(world)

    assert b"%PDF" not in file.read_bytes()


def test_what_answers_nothing_is_swept_and_the_rest_stays(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    used = sent(world, user, place, "photo", an_image())["reference"]
    sent(world, user, place, "photo", an_image())
    [join] = booked(world, user, place.slot_id, photo=used)

    with time_machine.travel(utcnow() + timedelta(hours=24, minutes=30)):
        early = swept(world)
    with time_machine.travel(utcnow() + timedelta(hours=25, seconds=1)):
        late = swept(world)

    assert (early["uploads"], late["uploads"], len(stored(world))) == (0, 1, 1)
    assert world.client.get(f"/api/booking/joins/{join['id']}/files/photo", headers=user).status_code == 200


def test_the_files_of_who_was_erased_are_swept(world: World) -> None:
    place, user, other = a_place(world), world.user("wang"), world.user("li")
    booked(world, user, place.slot_id, photo=sent(world, user, place, "photo", an_image())["reference"])
    sent(world, user, place, "photo", an_image())
    [kept] = booked(world, other, place.slot_id, photo=sent(world, other, place, "photo", an_image())["reference"])

    assert world.client.delete("/api/booking/me", headers=user).is_success

    assert (swept(world)["uploads"], len(stored(world))) == (2, 1)
    assert world.client.get(f"/api/booking/joins/{kept['id']}/files/photo", headers=other).status_code == 200


def test_a_party_may_share_a_file(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    reference = sent(world, user, place, "photo", an_image())["reference"]
    attendees = [{"answers": {"name": name, "photo": reference}} for name in ("王大年", "王小年")]

    answer = world.client.post(
        "/api/booking/joins",
        json={"slot_id": place.slot_id, "attendees": attendees},
        headers=user | {"Idempotency-Key": "together"},
    )

    assert answer.status_code == 201, answer.text
    for join in answer.json()["joins"]:
        assert world.client.get(f"/api/booking/joins/{join['id']}/files/photo", headers=user).status_code == 200


def test_a_photo_with_more_of_them_behind_it_is_taken_as_what_it_shows(world: World) -> None:
    place, user = a_place(world), world.user("wang")
    written = io.BytesIO()
    Image.new("RGB", (60, 40), "teal").save(
        written, "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40), "red")]
    )

    kept = sent(world, user, place, "photo", written.getvalue())
    [join] = booked(world, user, place.slot_id, photo=kept["reference"])

    fetched = world.client.get(f"/api/booking/joins/{join['id']}/files/photo", headers=user)
    with Image.open(io.BytesIO(fetched.content)) as image:
        assert (kept["type"], image.format, image.size, getattr(image, "n_frames", 1)) == (
            "image/jpeg",
            "JPEG",
            (60, 40),
            1,
        )


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("is_one", [True, False])
def test_nothing_is_hidden_in_the_profile_of_an_image(world: World, kind: str, is_one: bool) -> None:
    place, user = a_place(world), world.user("wang")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if is_one else b""

    kept = sent(world, user, place, "photo", an_image(kind, icc_profile=profile + b"GPS 23.1N"))
    [join] = booked(world, user, place.slot_id, photo=kept["reference"])

    fetched = world.client.get(f"/api/booking/joins/{join['id']}/files/photo", headers=user)
    assert b"GPS 23.1N" not in fetched.content
    with Image.open(io.BytesIO(fetched.content)) as image:
        assert "icc_profile" not in image.info
        red, green, blue = image.convert("RGB").tobytes()[:3]
        assert (red, green, blue) == pytest.approx((0, 128, 128), abs=4)


def test_staff_send_a_file_for_who_stands_at_the_desk(world: World) -> None:
    place = a_place(world, PHOTO.model_copy(update={"required": True}))
    admin = world.staff(Role.HALL_ADMIN, [place.hall_id])

    def photo(key: str, staff: Headers = admin) -> httpx2.Response:
        return world.client.post(
            "/api/booking/staff/uploads",
            data={"slot_id": place.slot_id, "field": "photo"},
            files={"file": ("a.jpg", an_image(), "image/jpeg")},
            headers=staff | {"Idempotency-Key": key},
        )

    def walk_in(key: str, reference: str) -> httpx2.Response:
        body = {"attendees": [{"answers": {"name": "张三", "photo": reference}}]}
        path = f"/api/booking/staff/slots/{place.slot_id}/joins"
        return world.client.post(path, json=body, headers=admin | {"Idempotency-Key": key})

    reference = photo("first").json()["reference"]

    assert code_of(walk_in("second", reference)) == (422, "form_invalid")
    answer = walk_in("first", reference)
    assert answer.status_code == 201, answer.text
    seen = world.client.get(f"/api/booking/staff/joins/{answer.json()['joins'][0]['id']}/files/photo", headers=admin)
    assert seen.headers["content-type"] == "image/jpeg"
    assert photo("third", world.staff(Role.HALL_ADMIN, [new_id()])).status_code == 404


def test_a_form_that_cannot_be_read_is_called_that(world: World) -> None:
    answer = world.client.post(
        "/api/booking/uploads",
        content=b"--wrong",
        headers=world.user("wang") | {"Content-Type": "multipart/form-data; boundary=right"},
    )

    assert code_of(answer) == (400, "bad_form")


def test_a_store_that_is_away_is_said_and_nothing_is_lost(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        world = make_world(uploads_url="s3://files/here")
        place, user = a_place(world), world.user("wang")
        [join] = booked(world, user, place.slot_id, paper=sent(world, user, place, "paper", A_PDF)["reference"])

        bucket.is_away = True

        assert code_of(send(world, user, place, "paper", A_PDF)) == (503, "unavailable")
        path = f"/api/booking/joins/{join['id']}/files/paper"
        assert code_of(world.client.get(path, headers=user)) == (503, "unavailable")

        bucket.is_away = False
        assert world.client.get(path, headers=user).content == A_PDF


def test_files_can_lie_in_s3(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    with a_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        world = make_world(uploads_url="s3://files/here")
        place, user = a_place(world), world.user("wang")
        [join] = booked(world, user, place.slot_id, paper=sent(world, user, place, "paper", A_PDF)["reference"])

        fetched = world.client.get(f"/api/booking/joins/{join['id']}/files/paper", headers=user)

        assert fetched.content == A_PDF
        assert len(bucket.objects) == 1
