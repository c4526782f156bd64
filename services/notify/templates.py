"""Templates: the words of notices as operators edit them, a hall's before the installation's before the built-in ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Unpack

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from libs.common import etags, inputs
from libs.common.errors import Language, Stale
from libs.common.ids import new_id
from libs.contracts import audit
from libs.contracts.principals import Role, RoleForbids, Staff
from services.notify import texts, wording
from services.notify.errors import TemplateFaulty
from services.notify.models import NoticeTemplate
from services.notify.texts import TEXTS, NoticeKind

Source = Literal["hall", "installation", "built_in"]
LONGEST_TITLE, LONGEST_BODY = 100, 2000  # of what comes out; notices lie in inboxes, mails and previews of phones
BUILT_IN_TAG = '"built-in"'


@dataclass(frozen=True)
class Wording:
    """Title and body of notices of one kind, in both languages."""

    title_zh: str
    body_zh: str
    title_en: str
    body_en: str

    def of(self, language: Language) -> tuple[str, str]:
        return (self.title_en, self.body_en) if language == "en" else (self.title_zh, self.body_zh)

    def plain(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(frozen=True)
class Shown:
    """What staff see of a kind in one scope: the wording in force there, whose it is, and the tag of the scope's own."""

    kind: NoticeKind
    wording: Wording
    source: Source
    etag: str
    changed_at: datetime | None


# --- what notices are rendered by ---


class Book:
    """The wordings in force for some halls."""

    def __init__(self, rows: Iterable[NoticeTemplate]) -> None:
        self._own = {(row.hall_id, row.kind): _wording(row) for row in rows}

    def render(
        self, kind: NoticeKind, hall_id: str | None, params: dict[str, Any], *, people: int, language: Language
    ) -> tuple[str, str]:
        """Return title and body of a notice in its reader's language."""
        own = self._own.get((hall_id, kind)) or self._own.get((None, kind)) or built_in(kind)
        return _rendered(own, texts.words(params, people=people, language=language), language)


def book(session: Session, hall_ids: Iterable[str | None]) -> Book:
    """Return the wordings in force for these halls."""
    named = {hall_id for hall_id in hall_ids if hall_id is not None}
    rows = session.scalars(
        select(NoticeTemplate).where(NoticeTemplate.hall_id.is_(None) | NoticeTemplate.hall_id.in_(named))
    )
    return Book(rows)


def built_in(kind: NoticeKind) -> Wording:
    """Return what is said where nobody has written anything else."""
    own = TEXTS[kind]
    return Wording(title_zh=own.title.zh, body_zh=own.body.zh, title_en=own.title.en, body_en=own.body.en)


def _rendered(own: Wording, facts: dict[str, str], language: Language) -> tuple[str, str]:
    title, body = (wording.render(wording.parse(text), facts, language) for text in own.of(language))
    return title, body


# --- what staff do ---


def listed(session: Session, staff: Staff, hall_id: str | None) -> list[Shown]:
    """Return what is in force in a hall, or wherever a hall has nothing of its own, for every kind."""
    rows = _rows(session, staff, hall_id)
    return [_shown(kind, hall_id, rows) for kind in NoticeKind]


def get(session: Session, staff: Staff, kind: NoticeKind, hall_id: str | None) -> Shown:
    return _shown(kind, hall_id, _rows(session, staff, hall_id))


def preview(kind: NoticeKind, own: Wording) -> list[dict[Language, tuple[str, str]]]:
    """Return what notices would say on sample facts, each once, the fullest first; or raise TemplateFaulty."""
    _check(kind, own)
    in_each = [_tried(kind, own, language) for language in _LANGUAGES]
    return [dict(zip(_LANGUAGES, said, strict=True)) for said in dict.fromkeys(zip(*in_each, strict=True))]


def put(
    session: Session,
    staff: Staff,
    kind: NoticeKind,
    hall_id: str | None,
    own: Wording,
    *,
    if_match: str | None,
    now: datetime,
) -> Shown:
    """Let notices of a kind say this, in one hall or wherever a hall says nothing of its own.

    Raises TemplateFaulty; Stale where the caller names a tag that is not the present one.
    """
    _require_scope(staff, hall_id)
    _check(kind, own)
    row = _locked(session, kind, hall_id)
    _require_match(row, if_match)
    if row is None:
        made = insert(NoticeTemplate).values(
            id=new_id(), hall_id=hall_id, kind=kind.value, version=1, changed_at=now, **own.plain()
        )
        if session.scalar(made.on_conflict_do_nothing().returning(NoticeTemplate.id)) is None:
            raise Stale  # somebody else was first, in this moment
        _audit(session, staff, "notice_template.created", kind, hall_id, after=own.plain())
    elif _wording(row) != own:
        before = _wording(row).plain()
        change = update(NoticeTemplate).where(NoticeTemplate.id == row.id)
        session.execute(change.values(version=NoticeTemplate.version + 1, changed_at=now, **own.plain()))
        _audit(session, staff, "notice_template.changed", kind, hall_id, before=before, after=own.plain())
    session.expire_all()
    return get(session, staff, kind, hall_id)


def reset(session: Session, staff: Staff, kind: NoticeKind, hall_id: str | None, *, if_match: str | None) -> None:
    """Take the scope's own words away: a hall says what the installation says then, the installation what is built in."""
    _require_scope(staff, hall_id)
    row = _locked(session, kind, hall_id)
    _require_match(row, if_match)
    if row is not None:
        session.execute(delete(NoticeTemplate).where(NoticeTemplate.id == row.id))
        _audit(session, staff, "notice_template.reset", kind, hall_id, before=_wording(row).plain())


_LANGUAGES: tuple[Language, ...] = ("zh", "en")


def _check(kind: NoticeKind, own: Wording) -> None:
    """Raise TemplateFaulty with everything that is wrong."""
    known = texts.facts_of(kind)
    faults: list[dict[str, str]] = []
    for field, text in own.plain().items():
        try:
            wording.parse(text, known=known)
        except wording.Faulty as fault:
            faults.append({"field": field, "reason": fault.reason, "said": fault.said})
    if not faults:
        faults = [fault for language in _LANGUAGES for fault in _unfit(kind, own, language)]
    if faults:
        raise TemplateFaulty(faults=faults)


def _unfit(kind: NoticeKind, own: Wording, language: Language) -> list[dict[str, str]]:
    tried = _tried(kind, own, language)
    faults = []
    for part, outcomes, longest in zip(
        ("title", "body"), zip(*tried, strict=True), (LONGEST_TITLE, LONGEST_BODY), strict=True
    ):
        if not all(map(inputs.seen, outcomes)):
            faults.append({"field": f"{part}_{language}", "reason": "empty", "said": ""})
        if any(len(said) > longest for said in outcomes):
            faults.append({"field": f"{part}_{language}", "reason": "too_long", "said": str(longest)})
    return faults


def _tried(kind: NoticeKind, own: Wording, language: Language) -> list[tuple[str, str]]:
    return [_rendered(own, facts, language) for facts in texts.samples_of(kind, language)]


def _require_scope(staff: Staff, hall_id: str | None) -> None:
    if hall_id is not None:
        staff.require_hall(hall_id)
    elif staff.role != Role.SUPER_ADMIN:
        raise RoleForbids(role=staff.role)


def _rows(session: Session, staff: Staff, hall_id: str | None) -> dict[tuple[str | None, str], NoticeTemplate]:
    if hall_id is not None:
        staff.require_hall(hall_id)
    query = select(NoticeTemplate).where(
        NoticeTemplate.hall_id.is_(None) | (NoticeTemplate.hall_id == hall_id if hall_id else False)
    )
    return {(row.hall_id, row.kind): row for row in session.scalars(query)}


def _shown(kind: NoticeKind, hall_id: str | None, rows: dict[tuple[str | None, str], NoticeTemplate]) -> Shown:
    own = rows.get((hall_id, kind))
    row = own or rows.get((None, kind))
    if row is None:
        source: Source = "built_in"
    else:
        source = "installation" if row.hall_id is None else "hall"
    return Shown(
        kind=kind,
        wording=built_in(kind) if row is None else _wording(row),
        source=source,
        etag=_tag(own),
        changed_at=None if row is None else row.changed_at,
    )


def _locked(session: Session, kind: NoticeKind, hall_id: str | None) -> NoticeTemplate | None:
    here = NoticeTemplate.hall_id.is_(None) if hall_id is None else NoticeTemplate.hall_id == hall_id
    return session.scalar(select(NoticeTemplate).where(here, NoticeTemplate.kind == kind).with_for_update())


def _require_match(row: NoticeTemplate | None, if_match: str | None) -> None:
    if if_match is not None and not etags.matches(if_match, _tag(row)):
        raise Stale


def _tag(row: NoticeTemplate | None) -> str:
    return BUILT_IN_TAG if row is None else etags.of(row)


def _wording(row: NoticeTemplate) -> Wording:
    return Wording(title_zh=row.title_zh, body_zh=row.body_zh, title_en=row.title_en, body_en=row.body_en)


def _audit(
    session: Session, staff: Staff, action: str, kind: NoticeKind, hall_id: str | None, **details: Unpack[audit.Details]
) -> None:
    audit.record(
        session, staff, action, object_type="notice_template", object_id=kind.value, hall_id=hall_id, **details
    )
