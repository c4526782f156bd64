"""Imports of halls, and of items with their slots: every row is made, or none where one of them has a fault."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from libs.common.errors import Language
from libs.common.ids import parse_id
from libs.contracts import imports
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.imports import HALLS, ITEMS, SLOTS, Faults, ImportIn, ImportOut, RowIn
from libs.contracts.principals import Role, RoleForbids, Staff
from services.catalog import days, errors, fills, halls, items, policy
from services.catalog.day_schemas import PeriodIn
from services.catalog.hall_schemas import HallIn
from services.catalog.inputs import LAST, Date
from services.catalog.item_schemas import ItemIn
from services.catalog.models import Category, Hall, Import, Item
from services.catalog.policy import Period

# What an item asks of everybody until staff give it a form of its own.
FORM = [
    FormField(key="name", type=FieldType.TEXT, label="姓名", min=2, max=30),
    FormField(key="mobile", type=FieldType.MOBILE, label="手机号"),
]
_RULES = ("party_max", "opens_days_before")


def apply(session: Session, staff: Staff, data: ImportIn, *, language: Language, now: datetime) -> ImportOut:
    """Make what the rows say; or, where a row has a fault, raise ImportFaulty with all faults.

    A dry run does the same work, so that it finds the same faults, and undoes it. Raises RoleForbids for halls by who may
    make none.
    """
    if any(row.sheet == HALLS.title for row in data.rows) and staff.role != Role.SUPER_ADMIN:
        raise RoleForbids(role=staff.role)
    if not data.dry_run:
        done = imports.begin(session, Import, staff, data, now=now)
        if done is not None:
            return done
        # Names are looked up before what bears them is made: one import after the other, or two make the same.
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("imports", 0))))
    faults = Faults(language)
    faults.of_foreign_sheets(data, (HALLS, ITEMS, SLOTS))
    _make_halls(session, staff, faults.rows(data, HALLS), faults)
    made = _make_items(session, staff, faults.rows(data, ITEMS), faults)
    _make_slots(session, staff, faults.rows(data, SLOTS), made, faults)
    return imports.outcome(session, data, faults)


# --- halls ----------------------------------------------------------------------------------------------------------


def _make_halls(session: Session, staff: Staff, rows: list[RowIn], faults: Faults) -> None:
    names = [str(row.values.get(HALLS.header_of("name"))) for row in rows]
    taken: set[Any] = set(session.scalars(select(Hall.name).where(Hall.name.in_(names))))
    for row in rows:
        before = faults.total
        fields = faults.fields(row, HALLS)
        if fields.get("name") in taken:
            faults.refused(row, HALLS.header_of("name"), errors.NameTaken())
        if "timezone" in fields:
            with faults.noting(row, HALLS.header_of("timezone")):
                halls.check_zone(str(fields["timezone"]))
        hall = faults.parsed(row, HALLS, HallIn, fields)
        taken.add(fields.get("name"))
        if hall is not None and faults.total == before:
            halls.create(session, staff, hall)


# --- items ----------------------------------------------------------------------------------------------------------

Named = tuple[str, str]  # an item as rows name it: its hall, and its title


def _make_items(session: Session, staff: Staff, rows: list[RowIn], faults: Faults) -> dict[Named, Item | None]:
    """Return the items by how rows name them; None for one that has a fault."""
    known = _Halls(session, staff, rows, ITEMS.header_of("hall"))
    categories = _categories(session, rows)
    standing = session.execute(select(Item.hall_id, Item.title).where(Item.hall_id.in_(known.ids)))
    taken: set[Any] = {(row.hall_id, row.title) for row in standing}
    made: dict[Named, Item | None] = {}
    for row in rows:
        before = faults.total
        fields = faults.fields(row, ITEMS)
        named = (str(fields.get("hall")), str(fields.get("title")))
        hall = category_id = None
        with faults.noting(row, ITEMS.header_of("hall")):
            hall = known.named(fields["hall"]) if "hall" in fields else None
        with faults.noting(row, ITEMS.header_of("category")):
            category_id = _category_id(categories, fields.get("category"))
        with faults.noting(row, ITEMS.header_of("order")):
            halls.check_order(staff, fields.get("order", LAST), stands=LAST)
        if hall is not None:
            if (hall.id, fields.get("title")) in taken:
                faults.refused(row, ITEMS.header_of("title"), errors.NameTaken())
            taken.add((hall.id, fields.get("title")))
        wanted = _item(row, fields, hall, category_id, faults)
        if wanted is not None and faults.total == before:
            made[named] = items.create(session, staff, wanted, upload_max_bytes=0)  # FORM asks for no files
        made.setdefault(named, None)
    return made


def _item(
    row: RowIn, fields: dict[str, Any], hall: Hall | None, category_id: str | None, faults: Faults
) -> ItemIn | None:
    """Return the item that a row says; None, with each fault noted, where it does not fit."""
    own = {name: value for name, value in fields.items() if name not in ("hall", "category", *_RULES)}
    own |= {
        "category_id": category_id,
        "form": FORM,
        "rules": {name: fields[name] for name in _RULES if name in fields},
    }
    # Without a hall its cell has a fault already, which stays the only one of that cell.
    return faults.parsed(row, ITEMS, ItemIn, own | {"hall_id": hall and hall.id})


def _categories(session: Session, rows: list[RowIn]) -> dict[str, str]:
    names = {str(row.values.get(ITEMS.header_of("category"))) for row in rows}
    found = session.execute(select(Category.name, Category.id).where(Category.name.in_(names)))
    return {row.name: row.id for row in found}


def _category_id(categories: dict[str, str], name: Any) -> str | None:
    if name is None:
        return None
    if str(name) not in categories:
        raise errors.CategoryUnknown
    return categories[str(name)]


class _Halls:
    """The halls that rows name, by name or id, within the staff's scope."""

    def __init__(self, session: Session, staff: Staff, rows: Iterable[RowIn], header: str) -> None:
        texts = {str(row.values.get(header)) for row in rows}
        ids = {known for text in texts if (known := parse_id(text))}
        found = session.scalars(select(Hall).where(or_(Hall.name.in_(texts), Hall.id.in_(ids)), staff.sees(Hall.id)))
        self._by: defaultdict[str, list[Hall]] = defaultdict(list)
        for hall in found:
            self._by[hall.name].append(hall)
            self._by[hall.id] = [hall]
        self.ids = {hall.id for found in self._by.values() for hall in found}

    def named(self, text: Any) -> Hall:
        """Return the one hall that is meant, or raise HallUnknown or HallAmbiguous."""
        found = self._by.get(parse_id(str(text)) or str(text), [])
        if not found:
            raise errors.HallUnknown
        if len(found) > 1:
            raise errors.HallAmbiguous
        return found[0]


# --- slots ----------------------------------------------------------------------------------------------------------

Asked = tuple[RowIn, Period]


class _DayIn(PeriodIn):
    date: Date


def _make_slots(
    session: Session, staff: Staff, rows: list[RowIn], made: dict[Named, Item | None], faults: Faults
) -> None:
    asked: defaultdict[Named, defaultdict[date, list[Asked]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        fields = faults.fields(row, SLOTS)
        is_named = {"hall", "title"} <= fields.keys()
        named = (str(fields.pop("hall", None)), str(fields.pop("title", None)))
        slot = faults.parsed(row, SLOTS, _DayIn, fields)
        if is_named and named not in made:
            faults.refused(row, SLOTS.header_of("title"), errors.ItemNotInFile())
        elif is_named and slot is not None:
            asked[named][slot.date].append((row, Period(slot.start, slot.end, slot.capacity)))
    for named, dates in asked.items():
        item = made[named]
        where = days.place(session, staff, item.id, to_define=True) if item else None
        zone = where.hall.timezone if where else None
        fit = {
            on: [period for _, period in wanted] for on, wanted in dates.items() if _are_fit(zone, on, wanted, faults)
        }
        if where is None:
            continue
        filled = fills.lay_out(session, staff, where, fit, note="", action="days.filled")
        for skipped in filled.skipped:
            for row, _ in dates[skipped.date]:
                faults.refused(row, SLOTS.header_of("date"), errors.DayClosed(name=skipped.name))


def _are_fit(zone: str | None, on: date, wanted: list[Asked], faults: Faults) -> bool:
    """Whether a day can have these slots; what is wrong with which row is noted. Where the item can't be made, no zone is known."""
    before = faults.total
    try:
        policy.check_periods([(period.start, period.end) for _, period in wanted])
    except errors.PeriodsUnfit as error:
        for fault in error.params["faults"]:
            _, _, index = fault["field"].partition(".")
            row, _ = wanted[int(index or 0)]
            column = "end" if fault["reason"] == "end_not_after_start" else "start"
            detail = errors.PERIOD_FAULTS[fault["reason"]].render(faults.language, {})
            faults.add(row, SLOTS.header_of(column), fault["reason"], detail)
    if zone is not None:
        for row, period in wanted:
            with faults.noting(row, SLOTS.header_of("start")):
                days.instants(on, period.start, period.end, zone)
    return faults.total == before
