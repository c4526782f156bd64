"""The tables of notify."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, MetaData, SmallInteger, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from libs.common.db import NAMING, TYPE_MAP, Uuid


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPE_MAP


class Hall(Base):
    """What notify must know of a hall, as catalog last said (at `version`; 0: as a join's event said before it)."""

    __tablename__ = "halls"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str]
    timezone: Mapped[str]
    quiet_hours: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    is_open: Mapped[bool] = mapped_column(server_default=text("true"))
    version: Mapped[int] = mapped_column(BigInteger)


class Item(Base):
    """What notify must know of an item, as catalog last said (at `version`; 0: as a join's event said before it)."""

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid)
    title: Mapped[str]
    reminders: Mapped[list[Any]]
    is_served: Mapped[bool] = mapped_column(server_default=text("true"))
    version: Mapped[int] = mapped_column(BigInteger)


class JoinRecord(Base):
    """Notify's own record of one join, as the newest event about it says. `day` is in the hall's zone.

    `starts_at` and `ends_at` are from the slot's definition of `definition_version`, which its user was told of.
    `next_reminder_at` is when its user is to be reminded of it next, null: never again.
    """

    __tablename__ = "join_records"

    join_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    party_id: Mapped[str] = mapped_column(Uuid)
    user_id: Mapped[str] = mapped_column(Uuid)
    slot_id: Mapped[str] = mapped_column(Uuid)
    item_id: Mapped[str] = mapped_column(Uuid)
    hall_id: Mapped[str] = mapped_column(Uuid)
    day: Mapped[date]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    status: Mapped[str]
    booked_at: Mapped[datetime]
    checked_in_at: Mapped[datetime | None]
    missed_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(BigInteger)
    definition_version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    next_reminder_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("status IN ('booked', 'cancelled', 'revoked')", name="status"),
        CheckConstraint(
            "next_reminder_at IS NULL OR status = 'booked' AND checked_in_at IS NULL", name="only_awaited_reminded"
        ),
        Index("ix_join_records_slot_id", "slot_id"),
        Index(
            "ix_join_records_next_reminder_at",
            "next_reminder_at",
            postgresql_where=text("next_reminder_at IS NOT NULL"),
        ),
    )


AWAITED = (JoinRecord.status == "booked", JoinRecord.checked_in_at.is_(None))  # conditions on those who are to come


class SlotStat(Base):
    """How many joins of a slot are in which state, with the newest inventory heard of (`slot_version`).

    `capacity` is the one in force: what the operator `asked` for by catalog's newest definition (`definition_version`),
    but never below `taken`; while no definition was heard (0), what booking last said. Item, hall and day are null
    while nobody is known to have joined: the slot was only defined, or is the one that somebody left. `hour` is that of
    its start in the hall's zone; `changed_by` the transaction that changed the row last.
    `starts_at`, `ends_at` and `is_open` are of that definition, too; it is open or closed since `status_since`.
    """

    __tablename__ = "slot_stats"

    slot_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str | None] = mapped_column(Uuid)
    hall_id: Mapped[str | None] = mapped_column(Uuid)
    day: Mapped[date | None]
    booked: Mapped[int]
    cancelled: Mapped[int]
    revoked: Mapped[int]
    checked_in: Mapped[int]
    missed: Mapped[int]
    taken: Mapped[int]
    capacity: Mapped[int | None]
    slot_version: Mapped[int] = mapped_column(BigInteger)
    asked: Mapped[int | None]
    definition_version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    is_open: Mapped[bool] = mapped_column(server_default=text("true"))
    status_since: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    version: Mapped[int] = mapped_column(BigInteger)
    hour: Mapped[int | None] = mapped_column(SmallInteger)
    lead_minutes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lead_hour: Mapped[int] = mapped_column(server_default=text("0"))
    lead_day: Mapped[int] = mapped_column(server_default=text("0"))
    lead_three_days: Mapped[int] = mapped_column(server_default=text("0"))
    lead_week: Mapped[int] = mapped_column(server_default=text("0"))
    lead_fortnight: Mapped[int] = mapped_column(server_default=text("0"))
    changed_by: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))

    __table_args__ = (
        CheckConstraint("num_nulls(item_id, hall_id, day) IN (0, 3)", name="place"),
        Index("ix_slot_stats_hall_id_day", "hall_id", "day"),
        Index("ix_slot_stats_item_id_day", "item_id", "day"),
    )


class DayStat(Base):
    """The sums of an item's slots of one day (policy.Counts and `totals`): what somebody joined counts.

    `capacity` is that of the slots with a limit, `limited` how many are booked in those.
    """

    __tablename__ = "day_stats"

    day: Mapped[date] = mapped_column(primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    slots: Mapped[int]
    booked: Mapped[int]
    cancelled: Mapped[int]
    revoked: Mapped[int]
    checked_in: Mapped[int]
    missed: Mapped[int]
    limited: Mapped[int]
    capacity: Mapped[int]
    lead_minutes: Mapped[int] = mapped_column(BigInteger)
    lead_hour: Mapped[int]
    lead_day: Mapped[int]
    lead_three_days: Mapped[int]
    lead_week: Mapped[int]
    lead_fortnight: Mapped[int]


class HourStat(Base):
    """The sums of an item's slots that begin in one hour of a day, on the hall's clock."""

    __tablename__ = "hour_stats"

    day: Mapped[date] = mapped_column(primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    item_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hour: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    slots: Mapped[int]
    booked: Mapped[int]
    cancelled: Mapped[int]
    revoked: Mapped[int]
    checked_in: Mapped[int]
    missed: Mapped[int]
    limited: Mapped[int]
    capacity: Mapped[int]


class Recount(Base):
    """A count of stats anew: who asked for it (null: the night), for which halls (null: all), and what it found.

    `differences` holds the first of them, `differing` is how many there were. A run that has said nothing since
    `seen_at` for long enough is begun again.
    """

    __tablename__ = "recounts"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    asked_by: Mapped[str | None] = mapped_column(Uuid)
    halls: Mapped[list[str] | None] = mapped_column(ARRAY(Uuid))
    state: Mapped[str]
    asked_at: Mapped[datetime]
    seen_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    slots: Mapped[int]
    days: Mapped[int]
    differing: Mapped[int]
    differences: Mapped[list[Any]]

    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'done')", name="state"),
        Index("ix_recounts_asked_at", "asked_at"),
        Index("uq_recounts_running", "state", unique=True, postgresql_where=text("state = 'running'")),
        Index("uq_recounts_asked_by", "asked_by", unique=True, postgresql_where=text("state <> 'done'")),
    )


class Notice(Base):
    """A message to one user: a kind and its facts, rendered when it is read.

    It is about one action on their joins, of which it names one, or about an announcement or a wait, and then it names none. `hall_id` is
    null in notices of releases that had no templates of halls, and in announcements to everybody.
    """

    __tablename__ = "notices"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[str] = mapped_column(Uuid)
    hall_id: Mapped[str | None] = mapped_column(Uuid)
    kind: Mapped[str]
    action_id: Mapped[str]
    join_id: Mapped[str | None] = mapped_column(Uuid)
    party_id: Mapped[str | None] = mapped_column(Uuid)
    people: Mapped[int]
    params: Mapped[dict[str, Any]]
    happened_at: Mapped[datetime]
    read_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("user_id", "kind", "action_id"),
        Index("ix_notices_user_id_happened_at", "user_id", "happened_at", "id"),
        Index("ix_notices_unread", "user_id", postgresql_where=text("read_at IS NULL")),
        Index("ix_notices_party_id", "party_id"),
    )


class NoticeTemplate(Base):
    """The operator's own words for notices of one kind, in one hall or (`hall_id` null) wherever a hall has none."""

    __tablename__ = "notice_templates"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str | None] = mapped_column(Uuid)
    kind: Mapped[str]
    title_zh: Mapped[str]
    body_zh: Mapped[str]
    title_en: Mapped[str]
    body_en: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("hall_id", "kind", postgresql_nulls_not_distinct=True),)


class Delivery(Base):
    """A notice, or an event for a webhook, on its way by one channel. `target` is empty where the channel has one addressee for a notice.

    `due_at` is when it is taken up next; while it is being sent, when it counts as lost with its answer. After a lost
    answer it is `possibly_twice` for good. `answer` is what the provider said to the last attempt, or why there was none.
    What `is_bulk` lets all else of its channel go first. `hall_id` is that of its notice, as a trigger writes it.
    """

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    notice_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("notices.id", ondelete="CASCADE"))
    webhook_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_id: Mapped[str | None] = mapped_column(Uuid, ForeignKey("webhook_events.id"))
    hall_id: Mapped[str | None] = mapped_column(Uuid)
    channel: Mapped[str]
    target: Mapped[str]
    state: Mapped[str]
    is_bulk: Mapped[bool] = mapped_column(server_default=text("false"))
    due_at: Mapped[datetime]
    good_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    possibly_twice: Mapped[bool] = mapped_column(server_default=text("false"))
    answer: Mapped[str] = mapped_column(server_default="")
    provider_id: Mapped[str] = mapped_column(server_default="")
    request_id: Mapped[str]
    queued_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("notice_id", "channel", "target"),
        CheckConstraint("state IN ('queued', 'sending', 'sent', 'failed')", name="state"),
        CheckConstraint("(ended_at IS NULL) = (state IN ('queued', 'sending'))", name="ended_at"),
        CheckConstraint(
            "num_nonnulls(webhook_id, event_id) = CASE WHEN notice_id IS NULL THEN 2 ELSE 0 END", name="matter"
        ),
        Index(
            "ix_deliveries_due",
            "channel",
            "due_at",
            postgresql_where=text("state IN ('queued', 'sending')"),
        ),
        Index(
            "ix_deliveries_due_first",
            "channel",
            "due_at",
            "id",
            postgresql_where=text("state IN ('queued', 'sending') AND NOT is_bulk"),
        ),
        Index("ix_deliveries_queued_at", "queued_at"),
        Index("ix_deliveries_hall_id", "hall_id", "id", postgresql_where=text("hall_id IS NOT NULL")),
        Index(
            "ix_deliveries_webhook_due",
            "webhook_id",
            "due_at",
            postgresql_where=text("webhook_id IS NOT NULL AND state IN ('queued', 'sending')"),
        ),
        Index("ix_deliveries_webhook_id", "webhook_id", "id", postgresql_where=text("webhook_id IS NOT NULL")),
        Index("ix_deliveries_event_id", "event_id", postgresql_where=text("event_id IS NOT NULL")),
    )


class Recipient(Base):
    """How a user is reached outside the inbox, as they said themselves; addresses are sealed.

    `choices` holds the channels for each kind of notice about which the user has chosen; for the others, all of them.
    """

    __tablename__ = "recipients"

    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    language: Mapped[str] = mapped_column(server_default="zh")
    choices: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    openid_sealed: Mapped[bytes | None]
    email_sealed: Mapped[bytes | None]
    phone_sealed: Mapped[bytes | None]

    __table_args__ = (CheckConstraint("language IN ('zh', 'en')", name="language"),)


class Unconfirmed(Base):
    """An address of a user that waits for the code that was sent there; both are sealed together."""

    __tablename__ = "unconfirmed"

    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    way: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    until: Mapped[datetime]
    wrong_codes: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (CheckConstraint("way IN ('email', 'phone')", name="way"),)


class SmsUse(Base):
    """A text message, by its own id, that was or may have been sent; the number can be compared, and not read. Of who was erased there is no user."""

    __tablename__ = "sms_uses"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[str | None] = mapped_column(Uuid)
    number_digest: Mapped[bytes]
    is_code: Mapped[bool]
    at: Mapped[datetime]

    __table_args__ = (Index("ix_sms_uses_at", "at"), Index("ix_sms_uses_user_id", "user_id"))


class Grant(Base):
    """How many messages of a WeChat template the user has allowed and not been sent yet."""

    __tablename__ = "grants"

    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    template_id: Mapped[str] = mapped_column(primary_key=True)
    left: Mapped[int]

    __table_args__ = (CheckConstraint('"left" >= 0', name="left"),)


class WeChatTemplate(Base):
    """Which template of the mini-program carries notices of a kind, and what stands in each of its keywords."""

    __tablename__ = "wechat_templates"

    kind: Mapped[str] = mapped_column(primary_key=True)
    template_id: Mapped[str]
    page: Mapped[str]
    values: Mapped[dict[str, Any]]
    version: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime]


class ProviderToken(Base):
    """A token that all processes use together; whoever holds `fetching_until` fetches the next. Sealed."""

    __tablename__ = "provider_tokens"

    name: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes | None]
    good_until: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default=text("0"))
    fetching_until: Mapped[datetime | None]


class ErasedUser(Base):
    """A user who is gone: no late event writes them a notice."""

    __tablename__ = "erased_users"

    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)


class EndedWait(Base):
    """A wait that is over: what was offered to its party is not offered any more."""

    __tablename__ = "ended_waits"

    wait_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    ended_at: Mapped[datetime]

    __table_args__ = (Index("ix_ended_waits_ended_at", "ended_at"),)


class Announcement(Base):
    """News to everybody (`hall_id` null) or to the visitors of one hall, shown from `publish_at` on.

    `tell` says which users are told of it by a notice, as JSON, or null; `readers` is how many they turned out to be, null
    before they are looked for. `is_told`: webhooks know that it is out.
    """

    __tablename__ = "announcements"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str | None] = mapped_column(Uuid)
    title: Mapped[str]
    summary: Mapped[str]
    content: Mapped[str]
    status: Mapped[str]
    order: Mapped[int]
    publish_at: Mapped[datetime | None]
    tell: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    readers: Mapped[int | None]
    is_told: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        CheckConstraint("status IN ('draft', 'published')", name="status"),
        CheckConstraint("status = 'draft' OR publish_at IS NOT NULL", name="publish_at"),
        Index("ix_announcements_hall_id", "hall_id"),
    )


class Webhook(Base):
    """An address of an integrator that is told of events: those of one hall, or (`hall_id` null) of all.

    The secret that was replaced goes on signing until `old_secret_until`. An address that fails is left alone until
    `rest_until`; `failures` counts those in a row, the first of them at `failing_since`. `last_at` is when it was
    called last, and `last_ms` how long that took.
    `version` counts what staff see changed, and not how it fares.
    """

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str | None] = mapped_column(Uuid)
    url: Mapped[str]
    description: Mapped[str]
    events: Mapped[list[Any]]
    status: Mapped[str]
    disabled_reason: Mapped[str | None]
    secret_sealed: Mapped[bytes]
    old_secret_sealed: Mapped[bytes | None]
    old_secret_until: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None]
    rest_until: Mapped[datetime | None]
    last_at: Mapped[datetime | None]
    last_ms: Mapped[int | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        CheckConstraint("status IN ('active', 'disabled')", name="status"),
        CheckConstraint("(status = 'disabled') = (disabled_reason IS NOT NULL)", name="disabled_reason"),
        Index("ix_webhooks_hall_id", "hall_id"),
    )


class WebhookEvent(Base):
    """What webhooks are told, once for all of them: nothing in it says who anybody is."""

    __tablename__ = "webhook_events"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    type: Mapped[str]
    subject: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger)
    time: Mapped[datetime]
    data: Mapped[dict[str, Any]]
    queued_at: Mapped[datetime]

    __table_args__ = (Index("ix_webhook_events_queued_at", "queued_at"),)


class WebhookAttempt(Base):
    """One call of a webhook: what it answered (`status`, and the beginning of the text), or the reason why there is no answer."""

    __tablename__ = "webhook_attempts"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    webhook_id: Mapped[str] = mapped_column(Uuid, ForeignKey("webhooks.id", ondelete="CASCADE"))
    delivery_id: Mapped[str] = mapped_column(Uuid, ForeignKey("deliveries.id", ondelete="CASCADE"))
    number: Mapped[int]
    at: Mapped[datetime]
    duration_ms: Mapped[int]
    status: Mapped[int | None]
    reason: Mapped[str]
    answer: Mapped[str]

    __table_args__ = (
        Index("ix_webhook_attempts_webhook_id", "webhook_id", "id"),
        Index("ix_webhook_attempts_delivery_id", "delivery_id"),
    )


class Reader(Base):
    """A user who is still to be told of an announcement, and the hall of the last slot for which they are to be."""

    __tablename__ = "readers"

    announcement_id: Mapped[str] = mapped_column(
        Uuid, ForeignKey("announcements.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    hall_id: Mapped[str | None] = mapped_column(Uuid)
