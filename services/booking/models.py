"""The tables of booking: what it knows of catalog, the inventory, users and their joins."""

from datetime import date, datetime, time
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, MetaData, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from libs.common.db import NAMING, TYPE_MAP, Uuid
from libs.contracts.imports import ImportRecord


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPE_MAP


class Hall(Base):
    """What booking must know of a hall, as catalog last said (at `version`)."""

    __tablename__ = "halls"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str]
    address: Mapped[str]
    timezone: Mapped[str]
    status: Mapped[str]
    missed_policy: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    version: Mapped[int]


class Item(Base):
    """What booking must know of an item, as catalog last said (at `version`)."""

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid)
    title: Mapped[str]
    cover: Mapped[str]
    status: Mapped[str]
    form: Mapped[list[Any]]
    form_version: Mapped[int]
    rules: Mapped[dict[str, Any]]
    version: Mapped[int]


class ItemForm(Base):
    """A form that an item has or had, written by a trigger on items. Joins are shown by the one they were made with."""

    __tablename__ = "item_forms"

    item_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    form: Mapped[list[Any]]


class Slot(Base):
    """The inventory row of a slot: the one place where places are counted.

    `asked` is the capacity the operator wants, `capacity` the one in force: max(asked, taken + held). `held` places are
    offered to people who waited; `waiting` people are in the slot's line, and while there are any, what is free is for
    them. `version` grows with every change of these; `definition_version` is catalog's.
    """

    __tablename__ = "slots"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str] = mapped_column(Uuid)
    hall_id: Mapped[str] = mapped_column(Uuid)
    date: Mapped[date]
    start: Mapped[time]
    end: Mapped[time]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    status: Mapped[str]
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))
    asked: Mapped[int | None]
    capacity: Mapped[int | None]
    taken: Mapped[int] = mapped_column(server_default=text("0"))
    held: Mapped[int] = mapped_column(server_default=text("0"))
    waiting: Mapped[int] = mapped_column(server_default=text("0"))
    version: Mapped[int] = mapped_column(server_default=text("0"))
    definition_version: Mapped[int]

    __table_args__ = (
        CheckConstraint("taken >= 0", name="taken_not_negative"),
        CheckConstraint("held >= 0", name="held_not_negative"),
        CheckConstraint("waiting >= 0", name="waiting_not_negative"),
        CheckConstraint("capacity IS NULL OR taken + held <= capacity", name="not_oversold"),
        CheckConstraint("(asked IS NULL) = (capacity IS NULL)", name="limited_or_not"),
        Index("ix_slots_item_date", "item_id", "date"),
        Index("ix_slots_ends_at", "ends_at"),
    )


class User(Base):
    """A person who books. The row's lock is also the quota lock: one user's claims are decided one after another."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    provider: Mapped[str]
    openid: Mapped[str]
    name: Mapped[str] = mapped_column(server_default="")
    phone_sealed: Mapped[bytes | None]
    phone_digest: Mapped[bytes | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime]

    __table_args__ = (
        Index("uq_users_provider_openid", "provider", "openid", unique=True),
        Index("ix_users_phone_digest", "phone_digest"),
    )


class Join(Base):
    """One attendee's place in a slot. `answers` holds what is not sensitive, `sealed` the encrypted rest."""

    __tablename__ = "joins"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    party_id: Mapped[str] = mapped_column(Uuid)
    user_id: Mapped[str] = mapped_column(Uuid, ForeignKey("users.id"))
    slot_id: Mapped[str] = mapped_column(Uuid, ForeignKey("slots.id"))
    item_id: Mapped[str] = mapped_column(Uuid)
    hall_id: Mapped[str] = mapped_column(Uuid)
    code: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    answers: Mapped[dict[str, Any]]
    sealed: Mapped[bytes | None]
    form_version: Mapped[int] = mapped_column()  # named here, for `made_with` below
    checked_in_at: Mapped[datetime | None]
    missed_at: Mapped[datetime | None]
    forgiven_at: Mapped[datetime | None]  # by staff, that it was missed; goes with `missed_at`
    # Nobody came, and nobody could: slot, item or hall was closed when the slot was over. Then it is not missed.
    excused: Mapped[bool] = mapped_column(server_default=text("false"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    # The form of that version, None where booking never heard of it. Queries that need it say `undefer`.
    made_with: Mapped[list[Any] | None] = column_property(
        select(ItemForm.form)
        .where(ItemForm.item_id == item_id, ItemForm.version == form_version)
        .correlate_except(ItemForm)
        .scalar_subquery(),
        deferred=True,
        raiseload=True,
    )

    __table_args__ = (
        CheckConstraint("status IN ('booked', 'cancelled', 'revoked')", name="known_status"),
        CheckConstraint("checked_in_at IS NULL OR status = 'booked'", name="only_booked_checked_in"),
        Index("uq_joins_code", "code", unique=True),
        Index("ix_joins_user", "user_id", "id"),
        Index("ix_joins_user_item_booked", "user_id", "item_id", postgresql_where=text("status = 'booked'")),
        Index("ix_joins_slot", "slot_id", "id"),
        Index(
            "ix_joins_not_here",  # whom mark_missed looks for, every minute
            "slot_id",
            postgresql_where=text("status = 'booked' AND checked_in_at IS NULL AND missed_at IS NULL AND NOT excused"),
        ),
        Index(
            "ix_joins_missed",  # asked by every booking in a hall with a policy: what counts, of some users
            "user_id",
            "hall_id",
            postgresql_where=text("status = 'booked' AND missed_at IS NOT NULL AND forgiven_at IS NULL"),
        ),
        Index("ix_joins_party", "party_id"),
        Index("ix_joins_hall", "hall_id", "id"),
        Index("ix_joins_item", "item_id", "id"),
    )


class Findable(Base):
    """What the attendee of a join can be found by, as the item's form of `form_version` has it; written after the join.

    `words` are the plain text answers, folded, a line each; `digests` keyed hashes of all that tell one person from another.
    """

    __tablename__ = "findables"

    join_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str] = mapped_column(Uuid)
    form_version: Mapped[int]
    words: Mapped[str]
    digests: Mapped[list[bytes]] = mapped_column(ARRAY(LargeBinary))

    __table_args__ = (
        Index("ix_findables_digests", "digests", postgresql_using="gin"),
        Index("ix_findables_item", "item_id", "form_version"),
    )


class Upload(Base):
    """A file that a user has sent to answer a field of an item with. It goes at `expires_at`, unless a join has it."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[str] = mapped_column(Uuid, ForeignKey("users.id"), index=True)
    item_id: Mapped[str] = mapped_column(Uuid)
    field: Mapped[str]
    name: Mapped[str]
    media_type: Mapped[str]
    bytes: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class JoinFile(Base):
    """The upload that a join has as its answer to a field; the joins of a party may share one."""

    __tablename__ = "join_files"

    join_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(Uuid, ForeignKey("uploads.id"), index=True)


class MovedAway(Base):
    """A user whose join was once for this slot and was moved to another. A trigger on joins writes it.

    Their request for this slot succeeded, so a repetition of it must find its success, also when the slot is full.
    """

    __tablename__ = "moved_away"

    slot_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)


class Claim(Base):
    """An answer that may be booked once in its scope: the booked join that holds it."""

    __tablename__ = "claims"

    item_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    join_id: Mapped[str] = mapped_column(Uuid, index=True)


class Wait(Base):
    """A party that waits for places in a full slot, or waited. Its rows change under the lock of the slot's row alone.

    `position` is its place in the slot's line, `passed` how many smaller parties behind it were served before it. While
    places are held for it, until `offered_until`, it stands in the line no more. `sealed` holds the answers of all
    attendees, encrypted; they go when the wait ends.
    """

    __tablename__ = "waits"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[str] = mapped_column(Uuid, ForeignKey("users.id"))
    slot_id: Mapped[str] = mapped_column(Uuid, ForeignKey("slots.id"))
    item_id: Mapped[str] = mapped_column(Uuid)
    hall_id: Mapped[str] = mapped_column(Uuid)
    people: Mapped[int]
    position: Mapped[int]
    passed: Mapped[int] = mapped_column(server_default=text("0"))
    sealed: Mapped[bytes | None]
    form_version: Mapped[int]
    offered_until: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(server_default="")
    reason: Mapped[str] = mapped_column(server_default="")
    code: Mapped[str] = mapped_column(server_default="")
    party_id: Mapped[str | None] = mapped_column(Uuid)
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("people > 0", name="people"),
        CheckConstraint("(ended_at IS NULL) = (sealed IS NOT NULL)", name="answers_go_with_the_end"),
        CheckConstraint("(ended_at IS NULL) = (outcome = '')", name="ends_with_an_outcome"),
        Index("uq_waits_slot_position", "slot_id", "position", unique=True),
        Index("uq_waits_one_of_a_user", "slot_id", "user_id", unique=True, postgresql_where=text("ended_at IS NULL")),
        Index("ix_waits_user", "user_id", "id"),
        Index("ix_waits_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
    )


class Success(Base):
    """The first success under an Idempotency-Key: what was asked (a digest) and what was answered (encrypted)."""

    __tablename__ = "successes"

    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes]
    answer_sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(index=True)


class Import(ImportRecord, Base):
    """An import of joins."""

    __tablename__ = "imports"
