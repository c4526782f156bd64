"""The tables of catalog: halls, categories, items, days, slots and the templates that fill days."""

from datetime import date, datetime, time
from typing import Any

from sqlalchemy import CheckConstraint, ColumnElement, ForeignKey, Index, MetaData, and_, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from libs.common.db import NAMING, TYPE_MAP, Uuid
from libs.contracts.catalog import SlotStatus
from libs.contracts.imports import ImportRecord


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPE_MAP


class Hall(Base):
    """A place with an address; items belong to it by id, never by name. `quiet_hours` holds QuietHours as JSON, or null."""

    __tablename__ = "halls"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str]
    address: Mapped[str]
    lat: Mapped[float | None]
    lng: Mapped[float | None]
    opening: Mapped[str]
    phone: Mapped[str]
    cover: Mapped[str]
    intro: Mapped[str]
    order: Mapped[int]
    timezone: Mapped[str]
    quiet_hours: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    status: Mapped[str]
    missed_policy: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    version: Mapped[int]

    __table_args__ = (
        CheckConstraint("status IN ('open', 'closed')", name="known_status"),
        CheckConstraint("(lat IS NULL) = (lng IS NULL)", name="whole_position"),
        Index("ix_halls_order", "order", "id"),
    )


class Category(Base):
    """A group of items for browsing."""

    __tablename__ = "categories"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str]
    order: Mapped[int]
    version: Mapped[int]

    __table_args__ = (Index("uq_categories_name", "name", unique=True),)


class Item(Base):
    """Something a hall offers for booking. `form` holds FormFields, `rules` Rules, `reminders` minutes, as JSON."""

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid, ForeignKey("halls.id"))
    category_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("categories.id"), index=True)
    title: Mapped[str]
    cover: Mapped[str]
    content: Mapped[str]
    status: Mapped[str]
    order: Mapped[int]
    recommended: Mapped[bool]
    form: Mapped[list[Any]]
    form_version: Mapped[int]
    rules: Mapped[dict[str, Any]]
    reminders: Mapped[list[Any]] = mapped_column(server_default=text("'[1440, 60]'"))
    version: Mapped[int]

    __table_args__ = (
        CheckConstraint("status IN ('draft', 'open', 'stopped', 'closed')", name="known_status"),
        Index("ix_items_hall", "hall_id", "order", "id"),
        Index("ix_items_order", "order", "id"),
    )


class Day(Base):
    """One date of an item. The row's lock orders all edits of the day; `version` counts them."""

    __tablename__ = "days"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str] = mapped_column(Uuid, ForeignKey("items.id"))
    date: Mapped[date]
    note: Mapped[str]
    version: Mapped[int]

    __table_args__ = (Index("uq_days_item_date", "item_id", "date", unique=True),)


class Slot(Base):
    """A period of a day. A deleted slot stays as a tombstone, so that its version goes on growing.

    `status` is staff's word about this slot alone; `closure_id` names what closes its date, if anything does.
    `capacity` is what the operator asked (null: no limit). `taken` is booking's count as of `slot_version`, with the
    places that are held or waited for; `booked`, `cancelled`, `revoked`, `checked_in` and `missed` are notify's counts as of
    `stat_version`.
    """

    __tablename__ = "slots"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str] = mapped_column(Uuid, ForeignKey("items.id"))
    hall_id: Mapped[str] = mapped_column(Uuid, ForeignKey("halls.id"))
    date: Mapped[date]
    start: Mapped[time]
    end: Mapped[time]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    status: Mapped[str]
    closure_id: Mapped[str | None] = mapped_column(
        Uuid, ForeignKey("closures.id", deferrable=True, initially="DEFERRED")
    )
    capacity: Mapped[int | None]
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    taken: Mapped[int] = mapped_column(server_default=text("0"))
    slot_version: Mapped[int] = mapped_column(server_default=text("0"))
    booked: Mapped[int] = mapped_column(server_default=text("0"))
    cancelled: Mapped[int] = mapped_column(server_default=text("0"))
    revoked: Mapped[int] = mapped_column(server_default=text("0"))
    checked_in: Mapped[int] = mapped_column(server_default=text("0"))
    missed: Mapped[int] = mapped_column(server_default=text("0"))
    stat_version: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (
        CheckConstraint("status IN ('open', 'closed')", name="known_status"),
        CheckConstraint("starts_at < ends_at", name="ends_after_start"),
        CheckConstraint("capacity >= 0", name="capacity_not_negative"),
        Index("ix_slots_item_date", "item_id", "date", "start", postgresql_where=text("NOT deleted")),
        Index("ix_slots_hall_date", "hall_id", "date", postgresql_where=text("NOT deleted AND status = 'open'")),
        Index("ix_slots_closure", "closure_id", postgresql_where=text("closure_id IS NOT NULL")),
        Index("ix_slots_hall_ends", "hall_id", "ends_at", postgresql_where=text("NOT deleted AND taken > 0")),
    )

    @hybrid_property
    def is_open(self) -> bool:
        """Whether it is offered as far as its day tells: open by itself, and nothing closes its date."""
        return self.status == SlotStatus.OPEN and self.closure_id is None and not self.deleted

    @is_open.inplace.expression
    @classmethod
    def _is_open(cls) -> ColumnElement[bool]:
        return and_(cls.status == SlotStatus.OPEN, cls.closure_id.is_(None), ~cls.deleted)

    @property
    def had_joins(self) -> bool:
        """Whether anybody ever booked it, as far as the stat tells."""
        return bool(self.booked + self.cancelled + self.revoked + self.checked_in + self.missed)


class Edit(Base):
    """What one edit changed of something that has versions (a hall, a day, a template ...): each field as it was and as it is in the `version` it made."""

    __tablename__ = "edits"

    object_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    staff_name: Mapped[str | None]
    edited_at: Mapped[datetime] = mapped_column(index=True)
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]


class Template(Base):
    """A named set of periods, or a whole week of them, that fills days: of one hall, or (no hall) for all of them.

    `week` lists parts {weekdays, periods}; where it is empty, `periods` are those of every weekday. `holidays` says whether
    the calendar is observed, `makeup_as` which weekday a make-up workday is like.
    """

    __tablename__ = "templates"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("halls.id"))
    name: Mapped[str]
    periods: Mapped[list[Any]]
    week: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    holidays: Mapped[str] = mapped_column(server_default="observe")
    makeup_as: Mapped[int] = mapped_column(server_default=text("1"))
    version: Mapped[int]

    __table_args__ = (
        CheckConstraint("holidays IN ('observe', 'ignore')", name="known_holidays"),
        CheckConstraint("makeup_as BETWEEN 1 AND 7", name="makeup_as_a_weekday"),
        Index("uq_templates_hall_name", "hall_id", "name", unique=True, postgresql_where=text("hall_id IS NOT NULL")),
        Index("uq_templates_global_name", "name", unique=True, postgresql_where=text("hall_id IS NULL")),
    )


class SpecialDay(Base):
    """A date that staff say is a day off or a workday, whatever the calendar says: for one hall, or (no hall) for all."""

    __tablename__ = "special_days"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("halls.id"))
    date: Mapped[date]
    kind: Mapped[str]
    name: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))

    __table_args__ = (
        CheckConstraint("kind IN ('day_off', 'workday')", name="known_kind"),
        Index("uq_special_days_hall_date", "hall_id", "date", unique=True, postgresql_nulls_not_distinct=True),
    )


class Closure(Base):
    """The dates, both included, on which a hall (no item) or an item of it is closed, and the reason that users are told."""

    __tablename__ = "closures"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid, ForeignKey("halls.id"))
    item_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("items.id"))
    first: Mapped[date]
    last: Mapped[date]
    reason: Mapped[str]
    version: Mapped[int]

    __table_args__ = (
        CheckConstraint("first <= last", name="ends_after_start"),
        Index("ix_closures_hall_last", "hall_id", "last"),
    )


class Import(ImportRecord, Base):
    """An import of halls, or of items with slots."""

    __tablename__ = "imports"
