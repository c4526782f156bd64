"""Templates: named days and named weeks, of one hall or for all, from which days are filled."""

from collections.abc import Iterable
from datetime import time
from typing import Any, Unpack

from sqlalchemy import select
from sqlalchemy.orm import Session

from libs.common.errors import NotFound
from libs.common.ids import new_id
from libs.common.pages import Key, fetch
from libs.contracts import audit
from libs.contracts.principals import Role, Staff
from services.catalog import changes, edits, errors, halls, policy
from services.catalog.day_schemas import PeriodIn
from services.catalog.models import Template
from services.catalog.policy import Part, Period, Plan
from services.catalog.template_schemas import TemplateIn, TemplatePatch


def listed(
    session: Session, staff: Staff, *, hall_id: str | None, limit: int, cursor: str | None
) -> tuple[list[Template], str | None]:
    """Return the templates of the staff's halls and those for all halls; with `hall_id`, those this hall can use."""
    query = select(Template).where(_is_visible(staff))
    if hall_id is not None:
        query = query.where((Template.hall_id == hall_id) | Template.hall_id.is_(None))
    keys = [Key(Template.name, str), Key(Template.id, "id")]
    return fetch(session, query, keys=keys, limit=limit, cursor=cursor)


def get(session: Session, staff: Staff, template_id: str) -> Template:
    """Return a template that the staff may see, or raise NotFound."""
    found = session.scalar(select(Template).where(Template.id == template_id, _is_visible(staff)))
    if found is None:
        raise NotFound
    return found


def plan_for(session: Session, template_id: str, *, hall_id: str) -> Plan:
    """Return the plan of a template that this hall can use, or raise TemplateForeign."""
    found = session.scalar(
        select(Template).where(Template.id == template_id, (Template.hall_id == hall_id) | Template.hall_id.is_(None))
    )
    if found is None:
        raise errors.TemplateForeign
    parts = found.week or [{"weekdays": policy.EVERY_DAY, "periods": found.periods}]
    return Plan(
        parts=tuple(Part(frozenset(part["weekdays"]), tuple(map(_period, part["periods"]))) for part in parts),
        observes=found.holidays == "observe",
        makeup_as=found.makeup_as,
    )


def create(session: Session, staff: Staff, data: TemplateIn) -> Template:
    """Make a template, or raise NameTaken where its hall (or all halls) has one of the name."""
    _check_scope(session, staff, data.hall_id)
    _check(data)
    columns = data.model_dump(mode="json")
    columns |= {"periods": columns["periods"] or [], "week": columns["week"] or []}
    template = Template(id=new_id(), version=1, **columns)
    session.add(template)
    with changes.names_unique():
        session.flush()
    _audit(session, staff, "template.created", template, after=columns)
    return template


def edit(session: Session, staff: Staff, template_id: str, data: TemplatePatch, *, if_match: str | None) -> Template:
    """Change what differs. Days that were filled from it stay as they are."""
    template = _locked(session, staff, template_id)
    edits.require(session, if_match, template)
    wanted = changes.given(data)
    _check(data)
    if "periods" in wanted:
        wanted["week"] = []
    elif "week" in wanted:
        wanted["periods"] = []
    changed = changes.apply(template, wanted)
    if changed is None:
        return template
    with changes.names_unique():
        session.flush()
    before, after = changed
    edits.note(session, staff, template, before=before, after=after)
    _audit(session, staff, "template.edited", template, before=before, after=after)
    return template


def delete(session: Session, staff: Staff, template_id: str, *, if_match: str | None) -> None:
    """Delete a template. Days that were filled from it stay as they are."""
    template = _locked(session, staff, template_id)
    edits.require(session, if_match, template)
    session.delete(template)
    session.flush()
    _audit(session, staff, "template.deleted", template, before=_shown(template))


def _shown(template: Template) -> dict[str, Any]:
    names = ("name", "periods", "week", "holidays", "makeup_as")
    return {name: getattr(template, name) for name in names}


def as_json(period: Period) -> dict[str, Any]:
    """Return a period as JSON holds it."""
    return {
        "start": period.start.strftime("%H:%M"),
        "end": period.end.strftime("%H:%M"),
        "capacity": period.capacity,
    }


def _is_visible(staff: Staff) -> Any:
    return staff.sees(Template.hall_id) | Template.hall_id.is_(None)


def _locked(session: Session, staff: Staff, template_id: str) -> Template:
    found = session.scalar(select(Template).where(Template.id == template_id, _is_visible(staff)).with_for_update())
    if found is None:
        raise NotFound
    _check_scope(session, staff, found.hall_id)
    return found


def _check_scope(session: Session, staff: Staff, hall_id: str | None) -> None:
    if hall_id is not None:
        halls.get(session, staff, hall_id)
    elif staff.role != Role.SUPER_ADMIN:
        raise errors.GlobalTemplate


def _check(data: TemplateIn | TemplatePatch) -> None:
    if data.periods:
        policy.check_periods(_bounds(data.periods), field="periods")
    if data.week:
        policy.check_week([(part.weekdays, _bounds(part.periods)) for part in data.week])


def _bounds(periods: Iterable[PeriodIn]) -> list[tuple[time, time]]:
    return [(period.start, period.end) for period in periods]


def _period(kept: dict[str, Any]) -> Period:
    return Period(
        start=time.fromisoformat(kept["start"]), end=time.fromisoformat(kept["end"]), capacity=kept["capacity"]
    )


def _audit(session: Session, staff: Staff, action: str, template: Template, **details: Unpack[audit.Details]) -> None:
    audit.record(
        session, staff, action, object_type="template", object_id=template.id, hall_id=template.hall_id, **details
    )
