"""The page of one item as bytes: everybody reloads it when booking opens, so each process keeps it for a moment."""

import hashlib
from dataclasses import dataclass
from datetime import date, datetime

from libs.common import etags, lean
from libs.common.db import Database
from libs.common.ids import parse_id
from libs.common.kept import Kept, Made
from libs.common.service import Runtime
from services.catalog import browse, policy
from services.catalog.item_schemas import PublicItem

LONGEST_HEADER = 500  # of If-None-Match, as the ordinary route has it


@dataclass(frozen=True)
class Page:
    """What is answered: the whole, or that the caller has it already."""

    etag: str
    whole: lean.Answer
    unchanged: lean.Answer

    def for_who_has(self, if_none_match: str | None) -> lean.Answer:
        return self.unchanged if etags.none_match(if_none_match, self.etag) else self.whole


class ItemPages(Kept[tuple[str, date | None], Page]):
    """The pages that this process keeps, by item and the date they start from."""


async def get(runtime: Runtime, item_id: str, *, first: date | None = None) -> Page:
    """Return the page of a visible item, as it was a moment ago at most, or raise NotFound."""
    pages: ItemPages = runtime.resources.item_pages
    return await pages.get((item_id, first), lambda now: _make(runtime.db, item_id, first, now))


async def from_memory(request: lean.Request) -> lean.Answer | None:
    """Answer the plain request for an item; whatever has parameters, or is no id, is for the ordinary route."""
    item_id = parse_id(request.path["item_id"])
    if_none_match = request.header(b"if-none-match")
    if request.query or item_id is None or len(if_none_match or "") > LONGEST_HEADER:
        return None
    page = await get(request.runtime, item_id)
    return page.for_who_has(if_none_match)


def _make(db: Database, item_id: str, first: date | None, now: datetime) -> Made[Page]:
    with db.transaction() as session:
        item = browse.item(session, item_id, first=first, now=now)
    content = item.model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    page = Page(etag, lean.Answer(200, content, headers=headers), lean.Answer(304, headers=headers))
    return Made(page, size=len(content), since=now, until=_until(item, now))


def _until(item: PublicItem, now: datetime) -> datetime:
    """Return the first instant from which the page is another by the time alone: a slot's state, or today."""
    changes = [
        policy.next_change(item.rules, starts_at=slot.starts_at, ends_at=slot.ends_at, opens_at=slot.opens_at, now=now)
        for day in item.days
        for slot in day.slots
    ]
    return min([at for at in changes if at is not None] + [policy.midnight(item.hall.timezone, now)])
