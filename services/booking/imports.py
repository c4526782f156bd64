"""Imports of joins: every row gets a place, or none does where one of them has a fault.

All is decided before a lock is taken, so that a slot's row is held for some statements only; what has changed meanwhile is
found by the guards that stand behind every booking.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sqlalchemy import insert, or_, select
from sqlalchemy.orm import Session

from libs.common import outbox
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, Language, TooMany
from libs.common.ids import new_id, parse_id
from libs.common.inputs import Date
from libs.common.ratelimit import RateLimiter
from libs.common.web import Schema
from libs.contracts import audit, imports
from libs.contracts.booking import JoinBooked, SlotTaken
from libs.contracts.catalog import Clock, FieldType, FormField
from libs.contracts.imports import JOINS, Cell, Faults, ImportIn, ImportOut, RowIn
from libs.contracts.principals import Staff
from services.booking import claims, errors, events, forms, inventory, joins, offers, policy, users
from services.booking.claims import Person, Wanted
from services.booking.forms import Answers
from services.booking.models import Hall, Import, Item, Join, Slot, User
from services.booking.offers import Offered
from services.booking.policy import Held

_NUMBERED = frozenset({FieldType.NUMBER})
_LISTED = frozenset({FieldType.CHECKBOX, FieldType.REGION})
_BETWEEN = r"、,，;；/\s"  # what stands between the entries of a cell
_SWITCHES = {"是": True, "否": False}


@dataclass(frozen=True)
class Attendee:
    """A row that can be booked: the slot, the join it will be, and what is known of the attendee."""

    row: RowIn
    offered: Offered
    join_id: str
    answers: Answers
    wanted: list[Wanted]


@dataclass
class Clashes:
    """How often an account is told, by imports that fail, who is booked already: numbers that are shown masked are not to be
    found out by trying. `met`: this import tells it.
    """

    limiter: RateLimiter
    rate: str
    staff_id: str
    met: bool = False

    def require(self) -> None:
        """Raise TooMany where the account has been told often enough."""
        self.limiter.require(self.rate, "clashes", self.staff_id)

    def count(self) -> None:
        if self.met:
            self.limiter.hit(self.rate, "clashes", self.staff_id)


def apply(
    session: Session,
    sealer: Sealer,
    staff: Staff,
    data: ImportIn,
    clashes: Clashes,
    *,
    language: Language,
    now: datetime,
) -> ImportOut:
    """Book a place for every row; or, where a row has a fault, raise ImportFaulty with all faults. A dry run only looks."""
    if not data.dry_run:
        done = imports.begin(session, Import, staff, data, now=now)
        if done is not None:
            return done
    faults = Faults(language)
    faults.of_foreign_sheets(data, (JOINS,))
    attendees = _attendees(session, sealer, staff, faults.rows(data, JOINS), faults, now=now)
    _note_twins(attendees, faults)
    if not faults.found and not data.dry_run:
        _book(session, sealer, staff, data, attendees, faults, clashes, now=now)
    clashes.count()
    return imports.outcome(session, data, faults)


# --- deciding -------------------------------------------------------------------------------------------------------


class _Period(Schema):
    """When the slot is that a row names."""

    date: Date
    start: Clock
    end: Clock


def _attendees(
    session: Session, sealer: Sealer, staff: Staff, rows: list[RowIn], faults: Faults, *, now: datetime
) -> list[Attendee]:
    asked: list[tuple[RowIn, str, str, _Period | None]] = []
    for row in rows:
        fields = faults.fields(row, JOINS)
        hall, title = (str(fields.pop(name, "")) for name in ("hall", "title"))  # 2027 is a number to Excel
        asked.append((row, hall, title, faults.parsed(row, JOINS, _Period, fields)))
    known = _Offers(
        session,
        staff,
        halls={hall for _, hall, _, _ in asked},
        titles={title for _, _, title, _ in asked},
        dates={period.date for _, _, _, period in asked if period is not None},
    )
    taken: Counter[str] = Counter()
    found = []
    for row, hall, title, period in asked:
        try:
            item = known.item(hall, title)
        except HallpassError as error:
            _refuse(row, error, faults)  # a cell that is empty has a fault already
            continue
        answers = _answers(row, known.form_of(item), faults)
        if period is None:
            continue
        try:
            here = known.slot(item, period)
            _may_book(here, taken[here.slot.id], now=now)
        except HallpassError as error:
            _refuse(row, error, faults)
            continue
        taken[here.slot.id] += 1
        if answers is not None:
            person = Person(new_id(), 1, answers.all)
            wanted = claims.wanted(sealer, here.slot, known.form_of(item), [person])
            found.append(Attendee(row, here, person.join_id, answers, wanted))
    return found


def _refuse(row: RowIn, error: HallpassError, faults: Faults) -> None:
    """Note in the column that it is about why a row can't be booked."""
    column = "start"
    if isinstance(error, (errors.HallUnknown, errors.HallAmbiguous)):
        column = "hall"
    elif isinstance(error, (errors.ItemUnknown, errors.ItemAmbiguous, errors.ItemNotOpen)):
        column = "title"
    faults.refused(row, JOINS.header_of(column), error)


def _may_book(offered: Offered, taken: int, *, now: datetime) -> None:
    """Raise the first rule of booking that the row breaks; `taken` places go to rows before it."""
    left = None if offered.left is None else max(0, offered.left - taken)
    policy.may_book(offered.offer, Held(), people=1, left=left, user_is_disabled=False, now=now)


def _answers(row: RowIn, form: list[FormField], faults: Faults) -> Answers | None:
    """Return what a row answers to the form; None, with each fault noted, where the answers do not fit it."""
    fixed = [column.header for column in JOINS.columns]
    headers = imports.numbered([*fixed, *(field.label.strip() for field in form)])[len(fixed) :]
    given: dict[str, Any] = {}
    for field, header in zip(form, headers, strict=True):
        if (cell := row.values.get(header, "")) != "":
            given[field.key] = _answer(field, cell)
    unknown = row.values.keys() - {*fixed, *headers}
    for header in unknown:
        faults.add(row, header, "unknown_field", errors.FAULTS["unknown_field"].render(faults.language, {}))
    try:
        [checked] = forms.check_all(form, [given])
    except errors.FormInvalid as error:
        header_of = {field.key: header for field, header in zip(form, headers, strict=True)}
        for fault in error.params["faults"]:
            detail = errors.FAULTS[fault["reason"]].render(faults.language, {})
            faults.add(row, header_of[fault["field"]], fault["reason"], detail)
        return None
    return None if unknown else checked


def _answer(field: FormField, cell: Cell) -> Any:
    """Return what a cell holds as an answer to the field: as exports write it, so that imports read it."""
    if field.type == FieldType.SWITCH:
        return _SWITCHES.get(cell, cell) if isinstance(cell, str) else cell
    if field.type in _LISTED:
        return _listed(str(cell), field.options)
    if field.options:
        return {option.strip(): option for option in field.options}.get(str(cell), cell)
    if field.type in _NUMBERED or isinstance(cell, (str, bool)):
        return cell
    return str(cell)


def _listed(text: str, options: list[str]) -> list[str]:
    """Return the entries of a cell: options, the longest first, whatever they hold, and what stands between separators."""
    known = {option.strip(): option for option in options}
    if text in known:
        return [known[text]]
    whole = "|".join(re.escape(option) for option in sorted(known, key=len, reverse=True))
    entry = rf"(?:{whole})(?=[{_BETWEEN}]|$)|[^{_BETWEEN}]+" if known else rf"[^{_BETWEEN}]+"
    return [known.get(found, found) for found in re.findall(entry, text)]


class _Offers:
    """The items that rows name, with their slots on the dates that rows name, within the staff's scope."""

    def __init__(self, session: Session, staff: Staff, halls: set[str], titles: set[str], dates: set[date]) -> None:
        ids = {known for text in halls if (known := parse_id(text))}
        self._halls: defaultdict[str, list[Hall]] = defaultdict(list)
        for hall in session.scalars(
            select(Hall).where(or_(Hall.name.in_(halls), Hall.id.in_(ids)), staff.sees(Hall.id))
        ):
            self._halls[hall.name].append(hall)
            self._halls[hall.id] = [hall]
        hall_ids = {hall.id for found in self._halls.values() for hall in found}
        self._items: defaultdict[tuple[str, str], list[Item]] = defaultdict(list)
        self._forms: dict[str, list[FormField]] = {}
        for item in session.scalars(select(Item).where(Item.hall_id.in_(hall_ids), Item.title.in_(titles))):
            self._items[item.hall_id, item.title].append(item)
            self._forms[item.id] = [FormField.model_validate(field) for field in item.form]
        self._slots: dict[tuple[str, date, time, time], Offered] = {}
        named = offers.rows().where(Slot.item_id.in_(self._forms), Slot.date.in_(dates), Slot.deleted.is_(False))
        for slot, item, hall in session.execute(named):
            self._slots[item.id, slot.date, slot.start, slot.end] = Offered(slot, item, hall)

    def item(self, hall_text: str, title: str) -> Item:
        """Return the item that is meant, or raise which of hall and item there is not, or not only once."""
        hall = _only(self._halls.get(parse_id(hall_text) or hall_text), errors.HallUnknown, errors.HallAmbiguous)
        found: Item = _only(self._items.get((hall.id, title)), errors.ItemUnknown, errors.ItemAmbiguous)
        return found

    def form_of(self, item: Item) -> list[FormField]:
        return self._forms[item.id]

    def slot(self, item: Item, period: _Period) -> Offered:
        """Return the slot of the item, or raise SlotNotFound."""
        found = self._slots.get((item.id, period.date, period.start, period.end))
        if found is None:
            raise errors.SlotNotFound
        return found


def _only(found: list[Any] | None, unknown: type[HallpassError], ambiguous: type[HallpassError]) -> Any:
    if not found:
        raise unknown
    if len(found) > 1:
        raise ambiguous
    return found[0]


def _note_twins(attendees: Iterable[Attendee], faults: Faults) -> None:
    """Note who stands in two rows. Who is booked already is told by applying alone: a dry run could be repeated unseen."""
    above: set[claims.Key] = set()
    for attendee in attendees:
        for claim in attendee.wanted:
            if claim.key in above:
                _refuse_claim(attendee, claim, faults)
            above.add(claim.key)


def _refuse_claim(attendee: Attendee, claim: Wanted, faults: Faults) -> None:
    faults.refused(attendee.row, claim.field.label, errors.BookedAlready(scope=claim.field.unique))


# --- booking --------------------------------------------------------------------------------------------------------


def _book(
    session: Session,
    sealer: Sealer,
    staff: Staff,
    data: ImportIn,
    attendees: list[Attendee],
    faults: Faults,
    clashes: Clashes,
    *,
    now: datetime,
) -> None:
    """Take the places, then write the joins; what others have already, or since it was decided, is noted."""
    _note_the_claimed(session, attendees, faults, clashes)
    if faults.found:
        return
    made = [(attendee, _join(sealer, new_id(), attendee, now)) for attendee in attendees]
    taken = _take(session, attendees, faults, now=now)
    _claim(session, attendees, faults, clashes)
    if faults.found:
        return
    session.execute(
        insert(User),
        [{"id": join.user_id, "provider": users.IMPORTED, "openid": join.id, "created_at": now} for _, join in made],
    )
    session.execute(insert(Join), [_columns(join) for _, join in made])
    booked = [(join, attendee.offered, taken[join.slot_id]) for attendee, join in made]
    outbox.record(session, *events.of_action(JoinBooked, booked))
    for hall_id, people in Counter(join.hall_id for _, join in made).items():
        audit.record(
            session,
            staff,
            "joins.imported",
            object_type="import",
            object_id=data.id,
            hall_id=hall_id,
            after={"joins": people},
        )


def _note_the_claimed(session: Session, attendees: list[Attendee], faults: Faults, clashes: Clashes) -> None:
    """Note who is booked already; or that the account has been told so too often, and nothing else."""
    wanted = {claim.key: (attendee, claim) for attendee in attendees for claim in attendee.wanted}
    if not wanted:
        return
    try:
        clashes.require()
    except TooMany:
        faults.whole(JOINS, errors.ClashesTooMany())
        return
    held = claims.taken(session, wanted)
    for key, (attendee, claim) in wanted.items():
        if key in held:
            _refuse_claim(attendee, claim, faults)
            clashes.met = True


def _take(session: Session, attendees: list[Attendee], faults: Faults, *, now: datetime) -> dict[str, SlotTaken]:
    people = Counter(attendee.offered.slot.id for attendee in attendees)
    taken = {}
    for slot_id in sorted(people):  # slots are locked in ascending order everywhere
        found = inventory.take(session, slot_id, people[slot_id], holder=None)
        if found is None:
            refusal = _refusal_of(session, slot_id, now=now)
            for attendee in attendees:
                if attendee.offered.slot.id == slot_id:
                    _refuse(attendee.row, refusal, faults)
        else:
            taken[slot_id] = found
    return taken


def _refusal_of(session: Session, slot_id: str, *, now: datetime) -> HallpassError:
    """Return why a slot does not take the rows that it would have taken a moment ago."""
    now_there = offers.of_joins(session, {slot_id})[slot_id]
    if now_there.slot.deleted:
        return errors.SlotNotFound()
    try:
        _may_book(now_there, 0, now=now)
    except HallpassError as refused:
        return refused
    return errors.SlotFull(left=now_there.left or 0, people=1)


def _claim(session: Session, attendees: list[Attendee], faults: Faults, clashes: Clashes) -> None:
    wanted = {claim.key: (attendee, claim) for attendee in attendees for claim in attendee.wanted}
    for key in sorted(wanted):  # rows are written in one order everywhere
        attendee, claim = wanted[key]
        try:
            claims.hold(session, [claim])
        except errors.PersonAlreadyJoined:
            _refuse_claim(attendee, claim, faults)
            clashes.met = True


def _join(sealer: Sealer, user_id: str, attendee: Attendee, now: datetime) -> Join:
    """Return the join of an attendee, a party of one with a user of its own: who is erased takes nobody along."""
    return joins.made(
        sealer,
        attendee.offered,
        join_id=attendee.join_id,
        party_id=new_id(),
        user_id=user_id,
        answers=attendee.answers,
        now=now,
    )


def _columns(join: Join) -> dict[str, Any]:
    return {name: value for name, value in vars(join).items() if name in Join.__table__.columns}
