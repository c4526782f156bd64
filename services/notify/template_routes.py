"""What staff do with the words of notices: read, try, change and reset them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, StringConstraints

from libs.common.errors import Language
from libs.common.etags import IfMatch
from libs.common.inputs import OneLine
from libs.common.web import Now, Schema, Tx
from libs.contracts.principals import HallStaff
from services.notify import templates, texts
from services.notify.halls import KnownHallOrNone
from services.notify.templates import Shown, Source, Wording
from services.notify.texts import NoticeKind

router = APIRouter(prefix="/staff/notice-templates", tags=["templates"])

TitleText = Annotated[str, StringConstraints(min_length=1, max_length=200), OneLine]
BodyText = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$")]


class TitleIn(Schema):
    zh: TitleText
    en: TitleText


class BodyIn(Schema):
    zh: BodyText
    en: BodyText


class TemplateIn(Schema):
    """Text with `{fact}`, and `{?fact}…{/fact}` around what is said only where there is one; a brace is written twice."""

    title: TitleIn
    body: BodyIn

    def wording(self) -> Wording:
        return Wording(title_zh=self.title.zh, body_zh=self.body.zh, title_en=self.title.en, body_en=self.body.en)


class InBoth(BaseModel):
    zh: str
    en: str


class TemplateOut(BaseModel):
    """What notices of a kind say. `source`: whose words they are. `facts`: what they may name."""

    kind: NoticeKind
    title: InBoth
    body: InBoth
    source: Source
    facts: list[str]
    changed_at: datetime | None


class TemplatesOut(BaseModel):
    items: list[TemplateOut]


class Said(BaseModel):
    title: InBoth
    body: InBoth


class Preview(Said):
    """What a notice would say on sample facts, with all that it may tell; `others`: what else, where it tells less."""

    others: list[Said]


@router.get("")
def list_templates(session: Tx, staff: HallStaff, hall_id: KnownHallOrNone) -> TemplatesOut:
    """What notices of every kind say in a hall; without `hall_id`, wherever a hall says nothing of its own."""
    return TemplatesOut(items=[_out(shown) for shown in templates.listed(session, staff, hall_id)])


@router.get("/{kind}")
def get_template(
    session: Tx, staff: HallStaff, kind: NoticeKind, response: Response, hall_id: KnownHallOrNone
) -> TemplateOut:
    return _answer(templates.get(session, staff, kind, hall_id), response)


@router.put("/{kind}")
def put_template(
    session: Tx,
    staff: HallStaff,
    now: Now,
    kind: NoticeKind,
    body: TemplateIn,
    response: Response,
    hall_id: KnownHallOrNone,
    if_match: IfMatch = None,
) -> TemplateOut:
    """Let notices of this kind say something else, in one hall or (super admin) wherever a hall says nothing of its own."""
    changed = templates.put(session, staff, kind, hall_id, body.wording(), if_match=if_match, now=now)
    return _answer(changed, response)


@router.delete("/{kind}", status_code=204)
def reset_template(
    session: Tx, staff: HallStaff, kind: NoticeKind, hall_id: KnownHallOrNone, if_match: IfMatch = None
) -> None:
    """Take back what was written here: what stands behind it is said again."""
    templates.reset(session, staff, kind, hall_id, if_match=if_match)


@router.post("/{kind}/preview")
def preview_template(staff: HallStaff, kind: NoticeKind, body: TemplateIn) -> Preview:
    """Try words on sample facts; nothing is changed."""
    first, *others = [_said(tried) for tried in templates.preview(kind, body.wording())]
    return Preview(title=first.title, body=first.body, others=others)


def _said(tried: dict[Language, tuple[str, str]]) -> Said:
    (title_zh, body_zh), (title_en, body_en) = tried["zh"], tried["en"]
    return Said(title=InBoth(zh=title_zh, en=title_en), body=InBoth(zh=body_zh, en=body_en))


def _answer(shown: Shown, response: Response) -> TemplateOut:
    response.headers["ETag"] = shown.etag
    return _out(shown)


def _out(shown: Shown) -> TemplateOut:
    said = shown.wording
    return TemplateOut(
        kind=shown.kind,
        title=InBoth(zh=said.title_zh, en=said.title_en),
        body=InBoth(zh=said.body_zh, en=said.body_en),
        source=shown.source,
        facts=sorted(texts.facts_of(shown.kind)),
        changed_at=shown.changed_at,
    )
