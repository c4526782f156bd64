"""What staff see of deliveries, and the templates of WeChat by which they go out."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from libs.common.etags import IfMatch
from libs.common.pages import CursorText, Limit, Page
from libs.common.web import Id, Now, Schema, Tx
from libs.common.wechat import KEYWORD
from libs.contracts.principals import HallStaff, SuperAdmin
from services.notify import delivery_lists, wechat_templates
from services.notify.delivery_lists import Filter
from services.notify.me_routes import TemplateId
from services.notify.models import WeChatTemplate
from services.notify.outcomes import DeliveryState
from services.notify.texts import NoticeKind

router = APIRouter(prefix="/staff", tags=["deliveries"])

ChannelText = Annotated[str, StringConstraints(max_length=40, pattern=r"^[a-z_]*$")]
Keyword = Annotated[str, StringConstraints(max_length=30, pattern=f"^(?:{KEYWORD.pattern})$")]
ValueText = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
PageText = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9_./?=&{}-]*$")]


class DeliveryOut(BaseModel):
    """One notice by one channel. `answer` is what the provider said last, or why it was not asked.

    `join_id` is null where the notice is about none: an announcement, a wait.
    `possibly_twice`: an answer was lost, and the notice may have arrived twice, or once where it says failed.
    """

    id: str
    notice_id: str
    kind: str
    user_id: str
    join_id: str | None
    hall_id: str | None
    channel: str
    target: str
    state: DeliveryState
    possibly_twice: bool
    attempts: int
    answer: str
    provider_id: str
    queued_at: datetime
    due_at: datetime
    ended_at: datetime | None


@router.get("/deliveries")
def list_deliveries(
    session: Tx,
    staff: HallStaff,
    notice_id: Id | None = None,
    join_id: Id | None = None,
    user_id: Id | None = None,
    hall_id: Id | None = None,
    channel: ChannelText | None = None,
    state: DeliveryState | None = None,
    limit: Limit = 20,
    cursor: CursorText = None,
) -> Page[DeliveryOut]:
    """What became of notices of one's halls (super admin: all), newest first; of a join, also what its party was told."""
    wanted = Filter(
        notice_id=notice_id, join_id=join_id, user_id=user_id, hall_id=hall_id, channel=channel, state=state
    )
    found, next_cursor = delivery_lists.page_of(session, staff, wanted, limit=limit, cursor=cursor)
    items = [DeliveryOut(**delivery_lists.plain(delivery, notice)) for delivery, notice in found]
    return Page(items=items, next_cursor=next_cursor)


class WeChatTemplateIn(Schema):
    """`values`: what stands in each keyword of the template, as text with `{fact}`. `page`: with `{join_id}`, where it leads."""

    template_id: TemplateId
    page: PageText = ""
    values: Annotated[dict[Keyword, ValueText], Field(min_length=1, max_length=10)]


class WeChatTemplateOut(BaseModel):
    kind: NoticeKind
    template_id: str
    page: str
    values: dict[str, str]
    changed_at: datetime


class WeChatTemplatesOut(BaseModel):
    items: list[WeChatTemplateOut]


@router.get("/wechat-templates")
def list_wechat_templates(session: Tx, staff: HallStaff) -> WeChatTemplatesOut:
    """By which of the mini-program's templates notices go out; kinds that are not here don't."""
    return WeChatTemplatesOut(items=[_out(row) for row in wechat_templates.all_of_them(session)])


@router.put("/wechat-templates/{kind}")
def put_wechat_template(
    session: Tx,
    staff: SuperAdmin,
    now: Now,
    kind: NoticeKind,
    body: WeChatTemplateIn,
    response: Response,
    if_match: IfMatch = None,
) -> WeChatTemplateOut:
    row = wechat_templates.put(session, staff, kind, body, if_match=if_match, now=now)
    response.headers["ETag"] = wechat_templates.tag(row)
    return _out(row)


@router.get("/wechat-templates/{kind}")
def get_wechat_template(session: Tx, staff: HallStaff, kind: NoticeKind, response: Response) -> WeChatTemplateOut:
    row = wechat_templates.get(session, kind)
    response.headers["ETag"] = wechat_templates.tag(row)
    return _out(row)


@router.delete("/wechat-templates/{kind}", status_code=204)
def remove_wechat_template(session: Tx, staff: SuperAdmin, kind: NoticeKind, if_match: IfMatch = None) -> None:
    wechat_templates.remove(session, staff, kind, if_match=if_match)


def _out(row: WeChatTemplate) -> WeChatTemplateOut:
    return WeChatTemplateOut.model_validate(row, from_attributes=True)
