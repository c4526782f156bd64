"""Uploads: files that users send ahead of a booking, the references that they answer with, and what becomes of both.

A reference is sealed and names user, item and field, so that a booking is checked without asking anything. What no join
has within a day is swept.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from libs.common.crypto import Sealer, SealError
from libs.common.errors import NotFound, TooMany
from libs.common.ids import new_id
from libs.contracts.answers import Attached
from libs.contracts.catalog import MEGABYTE, UPLOADS, FormField, ItemStatus
from services.booking import contents, users
from services.booking.asks import Booking
from services.booking.contents import Content
from services.booking.errors import UploadTooLarge, UserDisabled
from services.booking.files import Files
from services.booking.models import Item, JoinFile, Upload

CAN_BE_USED = timedelta(hours=24)
KEPT = CAN_BE_USED + timedelta(hours=1)  # no booking that was let in by a reference finds its file swept
MOST_UNUSED = 30
LONGEST_REFERENCE = 2000
LONGEST_NAME = 80
AT_ONCE = 200


def field_for(session: Session, user_id: str, item_id: str, key: str, *, now: datetime) -> FormField:
    """Return the field that the user wants to answer with a file, or raise why they can't."""
    if users.get(session, user_id).disabled_at is not None:
        raise UserDisabled
    item = session.get(Item, item_id)
    if item is None or item.status in (ItemStatus.DRAFT, ItemStatus.CLOSED):
        raise NotFound
    fields = [field for field in map(FormField.model_validate, item.form) if field.key == key and field.type in UPLOADS]
    if not fields:
        raise NotFound
    unused = select(func.count()).where(Upload.user_id == user_id, Upload.expires_at > now, ~_is_used())
    if (session.scalar(unused) or 0) >= MOST_UNUSED:
        raise TooMany(retry_after_s=int(CAN_BE_USED.total_seconds()))
    return fields[0]


def checked(files: Files, field: FormField, data: bytes) -> Content:
    """Return what may be kept of these bytes, or raise UploadUnfit or UploadTooLarge."""
    most = most_bytes(files, field)
    if len(data) > most:
        raise UploadTooLarge(max_bytes=most)
    return contents.checked(data, field.type, most_pixels=files.most_pixels)


def most_bytes(files: Files, field: FormField) -> int:
    """Return how large a file may be for a field."""
    return files.most_bytes if field.max is None else min(files.most_bytes, int(field.max) * MEGABYTE)


def record(
    session: Session, *, user_id: str, item_id: str, field: FormField, name: str, content: Content, now: datetime
) -> Upload:
    """Note an upload, before its file is stored: what is not noted would never be swept."""
    upload = Upload(
        id=new_id(),
        user_id=user_id,
        item_id=item_id,
        field=field.key,
        name=_named(name, content),
        media_type=content.media_type,
        bytes=len(content.data),
        created_at=now,
        expires_at=now + KEPT,
    )
    session.add(upload)
    session.flush()
    return upload


def _named(name: str, content: Content) -> str:
    """Return a name that is safe on every machine, and ends as what the file is."""
    stem = PurePath(name.replace("\\", "/")).stem
    kept = "".join(char for char in stem if char.isprintable() and char not in '<>:"/|?*').strip(" .")
    return f"{kept[:LONGEST_NAME] or 'file'}{contents.SUFFIXES[content.media_type]}"


# --- references ---


def reference(sealer: Sealer, upload: Upload) -> str:
    """Return what is put as the answer: only this user, for this field of this item, can use it, and for a day."""
    said = {
        "upload_id": upload.id,
        "name": upload.name,
        "media_type": upload.media_type,
        "bytes": upload.bytes,
        "until": upload.created_at + CAN_BE_USED,
    }
    sealed = sealer.seal(to_json(said), about=_about(upload.user_id, upload.item_id, upload.field))
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def opened(sealer: Sealer, asked: Booking, item_id: str, keys: Collection[str]) -> list[dict[str, Any]]:
    """Return the answers of each attendee with the references under these keys opened; what is none stays as it is."""
    return [
        answers | {key: _opened(sealer, asked, item_id, key, answers[key]) for key in keys if key in answers}
        for answers in asked.attendees
    ]


def _opened(sealer: Sealer, asked: Booking, item_id: str, key: str, said: Any) -> Any:
    if not isinstance(said, str) or not 0 < len(said) <= LONGEST_REFERENCE:
        return said
    try:
        sealed = urlsafe_b64decode(said + "=" * (-len(said) % 4))
        found = from_json(sealer.open(sealed, about=_about(asked.user_id, item_id, key)))
    except (SealError, ValueError, IndexError):
        return said  # the validator says that it is no upload
    until = datetime.fromisoformat(found.pop("until"))
    return Attached(**found, is_current=asked.now < until)


def _about(user_id: str, item_id: str, field: str) -> str:
    return f"upload:{user_id}:{item_id}:{field}"


# --- reading and sweeping ---


def of_join(session: Session, join_id: str, field: str) -> Upload:
    """Return the upload that a join has as its answer to a field, or raise NotFound."""
    found = session.scalar(
        select(Upload)
        .join(JoinFile, JoinFile.upload_id == Upload.id)
        .where(JoinFile.join_id == join_id, JoinFile.field == field)
    )
    if found is None:
        raise NotFound
    return found


def sweep(session: Session, files: Files, *, now: datetime) -> int:
    """Delete some of the uploads that no join has and that can't be used any more; return how many."""
    due = session.scalars(
        select(Upload.id).where(Upload.expires_at <= now, ~_is_used()).limit(AT_ONCE).with_for_update(skip_locked=True)
    ).all()
    # First the files: whatever is interrupted here is found again by its row.
    files.delete(due)
    session.execute(delete(Upload).where(Upload.id.in_(due)))
    return len(due)


def let_go(session: Session, user_id: str, join_ids: list[str], *, now: datetime) -> None:
    """Take the user's files from these joins, and let the next sweep delete all that they have sent."""
    session.execute(delete(JoinFile).where(JoinFile.join_id.in_(join_ids)))
    session.execute(update(Upload).where(Upload.user_id == user_id).values(name="", expires_at=now))


def _is_used() -> ColumnElement[bool]:
    return exists().where(JoinFile.upload_id == Upload.id)
