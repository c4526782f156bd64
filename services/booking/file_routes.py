"""Files that answer forms: sent by users, and shown to who may see the join."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Path, Response, UploadFile
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from libs.common.service import Runtime
from libs.common.web import Id, Now, RuntimeDep
from libs.contracts import audit
from libs.contracts.principals import AnyStaff, CurrentUser, HallStaff, Staff
from services.booking import answers, contents, lists, uploads, walk_ins
from services.booking.errors import FileMasked, JoinNotFound
from services.booking.files import Files
from services.booking.models import Join, Upload
from services.booking.resources import FilesDep, IdempotencyKey, Limited, SealerDep
from services.booking.schemas import FileReasonIn, UploadOut
from services.booking.staff_routes import Unmasking

router = APIRouter(tags=["files"])

_ANY_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in contents.SUFFIXES}}}
_KEY = r"^[a-z][a-z0-9_]{0,39}$"
FieldIn = Annotated[str, Form(pattern=_KEY, description="the key of the image or file field")]
Key = Annotated[str, Path(pattern=_KEY, description="of the image or file field")]


@router.post("/uploads", status_code=201, dependencies=[Limited])
def upload(
    item_id: Annotated[Id, Form()],
    field: FieldIn,
    file: Annotated[UploadFile, File()],
    user: CurrentUser,
    runtime: RuntimeDep,
    files: FilesDep,
    sealer: SealerDep,
    now: Now,
) -> UploadOut:
    """Send a file for an image or a file field ahead of a booking, and answer the field with its `reference`.

    Images are JPEG or PNG, files also PDF, .docx or .xlsx. What a file is goes by its content. A reference is for this
    user and this field of the item, and for a day.
    """
    sent = Sent(user.id, item_id, field, file)
    return _kept(runtime, files, sealer, sent, now=now)


@router.post("/staff/uploads", status_code=201)
def upload_for_walk_in(
    slot_id: Annotated[Id, Form()],
    field: FieldIn,
    file: Annotated[UploadFile, File()],
    key: IdempotencyKey,
    staff: HallStaff,
    runtime: RuntimeDep,
    files: FilesDep,
    sealer: SealerDep,
    now: Now,
) -> UploadOut:
    """Send a file for people at the desk, ahead of their booking and under the Idempotency-Key that it will have.

    The `reference` is good in that booking alone.
    """
    with runtime.db.transaction() as session:
        party = walk_ins.of(session, staff, slot_id, key, now=now)
    return _kept(runtime, files, sealer, Sent(party.user_id, party.item_id, field, file), now=now)


@dataclass(frozen=True)
class Sent:
    """A file for a field of an item, and who will answer with it."""

    user_id: str
    item_id: str
    field: str
    file: UploadFile


def _kept(runtime: Runtime, files: Files, sealer: Sealer, sent: Sent, *, now: datetime) -> UploadOut:
    with runtime.db.transaction() as session:
        asked = uploads.field_for(session, sent.user_id, sent.item_id, sent.field, now=now)
    with files.room():
        data = sent.file.file.read(uploads.most_bytes(files, asked) + 1)
        content = uploads.checked(files, asked, data)
        with runtime.db.transaction() as session:
            made = uploads.record(
                session,
                user_id=sent.user_id,
                item_id=sent.item_id,
                field=asked,
                name=sent.file.filename or "",
                content=content,
                now=now,
            )
            shown = UploadOut(
                reference=uploads.reference(sealer, made),
                name=made.name,
                type=made.media_type,
                bytes=made.bytes,
                until=now + uploads.CAN_BE_USED,
            )
            upload_id = made.id
        files.put(upload_id, content.data)
    return shown


@router.get("/joins/{join_id}/files/{field}", response_class=Response, responses=_ANY_FILE)
def my_file(join_id: Id, field: Key, user: CurrentUser, runtime: RuntimeDep, files: FilesDep) -> Response:
    """A file that the user has answered with."""
    with runtime.db.transaction() as session:
        if lists.one_of_mine(session, user.id, join_id) is None:
            raise JoinNotFound
        found = uploads.of_join(session, join_id, field)
    return _sent(files, found)


@router.get("/staff/joins/{join_id}/files/{field}", response_class=Response, responses=_ANY_FILE)
def staff_file(
    join_id: Id, field: Key, staff: AnyStaff, runtime: RuntimeDep, files: FilesDep, sealer: SealerDep
) -> Response:
    """A file of a join of the staff's halls; one that is sensitive has to be asked for with a reason."""
    with runtime.db.transaction() as session:
        join = _in_scope(session, staff, join_id)
        found = uploads.of_join(session, join_id, field)
        if answers.is_sensitive(sealer, join, answers.forms_of(session, [join.item_id]), field):
            raise FileMasked
    return _sent(files, found)


@router.post(
    "/staff/joins/{join_id}/files/{field}", response_class=Response, responses=_ANY_FILE, dependencies=[Unmasking]
)
def unmask_file(
    join_id: Id, field: Key, body: FileReasonIn, staff: HallStaff, runtime: RuntimeDep, files: FilesDep
) -> Response:
    """A file of a join of the staff's halls, sensitive or not, for a reason. Who looked at it is on record."""
    with runtime.db.transaction() as session:
        join = _in_scope(session, staff, join_id)
        found = uploads.of_join(session, join_id, field)
        audit.record(
            session,
            staff,
            "join.unmasked",
            object_type="join",
            object_id=join_id,
            hall_id=join.hall_id,
            reason=body.reason,
            after={"fields": [field]},
        )
    return _sent(files, found)


def _in_scope(session: Session, staff: Staff, join_id: str) -> Join:
    """Return a join of the staff's halls, or raise JoinNotFound."""
    row = lists.one_of_staff(session, staff.sees(Join.hall_id), Join.id == join_id)
    if row is None:
        raise JoinNotFound
    join: Join = row[0]
    return join


def _sent(files: Files, upload: Upload) -> Response:
    """Send a file so that no browser does anything with it but keep it or show it by itself."""
    with files.room():
        data = files.get(upload.id)
    if data is None:
        raise JoinNotFound
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(upload.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-store",
    }
    return Response(data, media_type=upload.media_type, headers=headers)
