"""Which template of the mini-program carries notices of a kind, and what stands in each of its keywords.

Always in Chinese: the keywords of a template are, and WeChat takes dates in no other form.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, Unpack

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import etags, wechat
from libs.common.errors import NotFound, Stale
from libs.contracts import audit
from libs.contracts.principals import Staff
from services.notify import texts, wording
from services.notify.channel import Told
from services.notify.errors import TemplateFaulty
from services.notify.models import WeChatTemplate
from services.notify.texts import NoticeKind

OF_PAGE = frozenset({"join_id", "party_id", "notice_id"})
OF_PAGE_WITHOUT_JOIN = frozenset({"notice_id"})
FIRST_TAG = '"none"'


class Mapping(Protocol):
    """What staff say of a kind."""

    template_id: str
    page: str
    values: dict[str, str]


def message(template: WeChatTemplate, told: Told) -> dict[str, Any]:
    """Return the message that carries a notice, but for its addressee; ValueError names the keyword that takes no such text."""
    facts = texts.words(told.params, people=told.people, language="zh")
    ids = {"join_id": told.join_id or "", "party_id": told.party_id or "", "notice_id": told.id}
    data = {}
    for keyword, text in template.values.items():
        try:
            data[keyword] = {"value": wechat.value(keyword, wording.render(wording.parse(text), facts, "zh"))}
        except ValueError:
            raise ValueError(keyword) from None
    page = wording.render(wording.parse(template.page), ids, "zh")
    return {"template_id": template.template_id, "lang": "zh_CN", "data": data} | ({"page": page} if page else {})


def all_of_them(session: Session) -> Sequence[WeChatTemplate]:
    return session.scalars(select(WeChatTemplate).order_by(WeChatTemplate.kind)).all()


def get(session: Session, kind: NoticeKind) -> WeChatTemplate:
    """Return the template of a kind, or raise NotFound."""
    row = session.get(WeChatTemplate, kind.value)
    if row is None:
        raise NotFound
    return row


def put(
    session: Session, staff: Staff, kind: NoticeKind, mapping: Mapping, *, if_match: str | None, now: datetime
) -> WeChatTemplate:
    """Let notices of a kind go out by this template. Raises TemplateFaulty, and Stale for a tag that is not the present."""
    _check(kind, mapping)
    row = _locked(session, kind, if_match)
    wanted = {"template_id": mapping.template_id, "page": mapping.page, "values": mapping.values}
    before = None if row is None else {name: getattr(row, name) for name in wanted}
    if row is None:
        made = insert(WeChatTemplate).values(kind=kind.value, version=1, changed_at=now, **wanted)
        if session.scalar(made.on_conflict_do_nothing().returning(WeChatTemplate.kind)) is None:
            raise Stale  # somebody else was first, in this moment
    elif before != wanted:
        for name, said in (wanted | {"version": row.version + 1, "changed_at": now}).items():
            setattr(row, name, said)
        session.flush()
    if before != wanted:
        _audit(session, staff, "wechat_template.changed", kind, before=before, after=wanted)
    return get(session, kind)


def remove(session: Session, staff: Staff, kind: NoticeKind, *, if_match: str | None) -> None:
    """Let notices of a kind go out by WeChat no more."""
    row = _locked(session, kind, if_match)
    if row is None:
        raise NotFound
    session.execute(delete(WeChatTemplate).where(WeChatTemplate.kind == kind.value))
    before = {"template_id": row.template_id, "page": row.page, "values": row.values}
    _audit(session, staff, "wechat_template.removed", kind, before=before)


def tag(row: WeChatTemplate | None) -> str:
    return FIRST_TAG if row is None else f'"{row.kind}.{row.version}"'


def _locked(session: Session, kind: NoticeKind, if_match: str | None) -> WeChatTemplate | None:
    row = session.scalar(select(WeChatTemplate).where(WeChatTemplate.kind == kind).with_for_update())
    if if_match is not None and not etags.matches(if_match, tag(row)):
        raise Stale
    return row


def _check(kind: NoticeKind, mapping: Mapping) -> None:
    """Raise TemplateFaulty with everything that is wrong, as far as sample facts show it."""
    samples = texts.samples_of(kind, "zh")
    faults: list[dict[str, str]] = []
    for keyword, text in mapping.values.items():
        try:
            template = wording.parse(text, known=texts.facts_of(kind))
            for facts in samples:
                said = wording.render(template, facts, "zh")
                wechat.value(keyword, said)
        except wording.Faulty as fault:
            faults.append({"field": f"values.{keyword}", "reason": fault.reason, "said": fault.said})
        except ValueError:
            faults.append({"field": f"values.{keyword}", "reason": "unfit", "said": said})
    try:
        wording.parse(mapping.page, known=OF_PAGE_WITHOUT_JOIN if kind in texts.ABOUT_NO_JOIN else OF_PAGE)
    except wording.Faulty as fault:
        faults.append({"field": "page", "reason": fault.reason, "said": fault.said})
    if faults:
        raise TemplateFaulty(faults=faults)


def _audit(session: Session, staff: Staff, action: str, kind: NoticeKind, **details: Unpack[audit.Details]) -> None:
    audit.record(session, staff, action, object_type="wechat_template", object_id=kind.value, **details)
