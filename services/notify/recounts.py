"""Recounts: all stats counted again from the record of joins, by night or when staff ask, one at a time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import and_, delete, func, null, or_, select, text, true, union, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.orm import Session

from libs.common import pages
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.errors import Conflict, NotFound, Texts
from libs.common.ids import new_id
from libs.common.logs import logger
from libs.contracts.principals import Staff
from services.notify import metrics, stats, totals
from services.notify.models import DayStat, HourStat, JoinRecord, Recount, SlotStat

log = logger(__name__)

SILENT = timedelta(minutes=5)  # no part of a count takes so long: whoever ran it is gone
KEPT = timedelta(days=90)
MOST_SHOWN = 200
NEWEST_FIRST = (
    pages.Key(Recount.asked_at, datetime, descending=True),
    pages.Key(Recount.id, "id", descending=True),
)


class RecountUnderWay(Conflict):
    code = "recount_under_way"
    texts = Texts(en="A recount that you asked for is not done yet.", zh="您发起的重新统计尚未完成")


class NothingToRecount(Conflict):
    code = "nothing_to_recount"
    texts = Texts(
        en="Your account is for no hall: there is nothing to recount.",
        zh="您的账号未关联任何服务厅，无可重新统计的数据",
    )


@dataclass(frozen=True)
class Part:
    """What is counted at once: a hall's day, or slots of which nobody knows where they belong."""

    hall_id: str | None
    day: date | None
    slot_ids: list[str]


def ask(session: Session, asked_by: str | None, halls: list[str] | None, *, now: datetime) -> Recount:
    """Ask for a recount of these halls, or of all (None); raise RecountUnderWay where one of the asker's is not done.

    Of no hall there is none: everybody would see it as theirs.
    """
    if halls == []:
        raise NothingToRecount
    wanted = insert(Recount).values(
        id=new_id(),
        asked_by=asked_by,
        halls=halls,
        state="queued",
        asked_at=now,
        slots=0,
        days=0,
        differing=0,
        differences=[],
    )
    made = session.scalars(wanted.on_conflict_do_nothing().returning(Recount)).first()
    if made is None:
        raise RecountUnderWay
    return made


def seen(session: Session, staff: Staff, recount_id: str) -> Recount:
    """Return a recount within the scope of the account, or raise NotFound."""
    found = session.scalars(select(Recount).where(Recount.id == recount_id, _within(staff))).first()
    if found is None:
        raise NotFound
    return found


def page_of(session: Session, staff: Staff, *, limit: int, cursor: str | None) -> tuple[list[Recount], str | None]:
    """Return a page of the recounts of one's halls (super admin: all of them), newest first."""
    return pages.fetch(session, select(Recount).where(_within(staff)), keys=NEWEST_FIRST, limit=limit, cursor=cursor)


def _within(staff: Staff) -> Any:
    if staff.halls is None:
        return true()
    return and_(func.cardinality(Recount.halls) > 0, Recount.halls.contained_by(sorted(staff.halls)))


def run_all(db: Database) -> dict[str, int]:
    """Do the recounts that wait, one after another, unless somebody is doing one; return what they found."""
    done: Counter[str] = Counter(recounts=0, slots=0, days=0, differing=0)
    while (begun := db.run(_begin)) is not None:
        recount_id, halls = begun
        done["recounts"] += 1
        for part in db.run(partial(_parts, halls=halls)):
            for count in (_count_slots, _count_totals):
                done.update(db.run(partial(count, recount_id=recount_id, part=part)))
        db.run(partial(_end, recount_id=recount_id))
    return dict(done)


def _begin(session: Session) -> tuple[str, list[str] | None] | None:
    """Take the recount that has waited longest, or return None where none waits or one runs."""
    now = utcnow()
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('notify.recounts', 0))"))
    running = session.scalars(select(Recount).where(Recount.state == "running")).first()
    if running is not None and running.seen_at is not None and running.seen_at > now - SILENT:
        return None
    wanted = (
        running
        or session.scalars(
            select(Recount).where(Recount.state == "queued").order_by(Recount.asked_at, Recount.id).limit(1)
        ).first()
    )
    if wanted is None:
        return None
    wanted.state, wanted.seen_at = "running", now
    wanted.slots = wanted.days = wanted.differing = 0
    wanted.differences = []
    return wanted.id, wanted.halls


def _parts(session: Session, halls: list[str] | None) -> list[Part]:
    """Return all that there is to count, by day."""
    slots = select(SlotStat.slot_id, SlotStat.hall_id, SlotStat.day)
    counted = or_(*(getattr(SlotStat, name) != 0 for name in totals.STATES))
    here = [
        slots.where(SlotStat.hall_id.is_not(None)),
        slots.where(SlotStat.hall_id.is_(None), counted),
        select(JoinRecord.slot_id, JoinRecord.hall_id, JoinRecord.day).where(
            ~select(SlotStat.slot_id)
            .where(SlotStat.slot_id == JoinRecord.slot_id, SlotStat.hall_id.is_not(None))
            .exists()
        ),
        select(null(), DayStat.hall_id, DayStat.day),
        select(null(), HourStat.hall_id, HourStat.day),
    ]
    found = union(*here).subquery()
    slot_id, hall_id, day = found.c
    ids = func.array_agg(aggregate_order_by(slot_id, slot_id.asc())).filter(slot_id.is_not(None))
    query = select(hall_id, day, ids).group_by(hall_id, day).order_by(day, hall_id)
    if halls is not None:
        query = query.where(hall_id.in_(halls))
    return [Part(hall, on, list(slot_ids or ())) for hall, on, slot_ids in session.execute(query)]


def _count_slots(session: Session, recount_id: str, part: Part) -> dict[str, int]:
    """Count the slots of one part again, and put right what differs."""
    found = [
        {"kind": "slot", "slot_id": one.slot_id, **_differing(asdict(one.was), asdict(one.counted))}
        for one in stats.recount(session, part.slot_ids, now=utcnow())
    ]
    return _note(session, recount_id, found, slots=len(part.slot_ids))


def _count_totals(session: Session, recount_id: str, part: Part) -> dict[str, int]:
    """Sum up the slots of one part again, and put right what differs.

    In a transaction of its own: totals by day are locked before those by hour, and the slots' may have locked both.
    """
    if part.hall_id is None or part.day is None:
        return {}
    found = [_of_total(one) for one in totals.recount(session, part.hall_id, part.day)]
    return _note(session, recount_id, found, days=1)


def _note(
    session: Session, recount_id: str, found: list[dict[str, Any]], *, slots: int = 0, days: int = 0
) -> dict[str, int]:
    for difference in found:
        metrics.DIFFERENCES.labels("notify", difference["kind"]).inc()
    row = session.scalars(select(Recount).where(Recount.id == recount_id).with_for_update()).one()
    row.seen_at = utcnow()
    row.slots += slots
    row.days += days
    row.differing += len(found)
    shown = found[: MOST_SHOWN - len(row.differences)]
    row.differences = [*row.differences, *shown]
    for difference in shown:
        log.warning("stat put right", **difference)
    return {"slots": slots, "days": days, "differing": len(found)}


def _of_total(one: totals.Difference) -> dict[str, Any]:
    day, hall_id, item_id, *hour = one.key
    named = {"day": day.isoformat(), "hall_id": hall_id, "item_id": item_id}
    kind: dict[str, Any] = {"kind": "hour", "hour": hour[0]} if hour else {"kind": "day"}
    return kind | named | _differing(one.was, one.counted)


def _differing(was: dict[str, int], counted: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return what was kept and what was counted, of the numbers that differ alone."""
    names = [name for name in counted if counted[name] != was[name]]
    return {"was": {name: was[name] for name in names}, "counted": {name: counted[name] for name in names}}


def _end(session: Session, recount_id: str) -> None:
    session.execute(update(Recount).where(Recount.id == recount_id).values(state="done", ended_at=utcnow()))


def sweep(session: Session, *, now: datetime) -> int:
    """Forget recounts that ended long enough ago; return how many."""
    gone: Iterable[str] = session.scalars(delete(Recount).where(Recount.ended_at < now - KEPT).returning(Recount.id))
    return len(list(gone))
