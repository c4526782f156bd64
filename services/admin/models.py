"""The tables of admin."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, MetaData, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from libs.common.db import NAMING, TYPE_MAP, Uuid
from libs.contracts.principals import Right, Role
from services.admin.policy import ExportState, ImportState


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPE_MAP


class StaffAccount(Base):
    """A member of staff. `username` is stored in lower case, so that it is unique however it is typed.

    `rights` are those given beside what the role brings. `version` counts all changes (ETag); tokens signed below `token_version` are void.
    """

    __tablename__ = "staff"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str]
    role: Mapped[str]
    rights: Mapped[list[str]] = mapped_column(ARRAY(String), server_default=text("'{}'"))
    must_change_password: Mapped[bool]
    token_version: Mapped[int] = mapped_column(server_default=text("1"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("username = lower(username)", name="username_is_lower_case"),
        CheckConstraint(f"role IN ({', '.join(repr(role.value) for role in Role)})", name="role_is_known"),
        CheckConstraint(
            f"rights <@ ARRAY[{', '.join(repr(right.value) for right in Right)}]::varchar[]", name="rights_are_known"
        ),
    )


class StaffHall(Base):
    """A hall that a hall admin or verifier is for. Super admins have no rows."""

    __tablename__ = "staff_halls"

    staff_id: Mapped[str] = mapped_column(Uuid, ForeignKey("staff.id"), primary_key=True)
    hall_id: Mapped[str] = mapped_column(Uuid, primary_key=True)


class Hall(Base):
    """A hall that catalog has told of."""

    __tablename__ = "halls"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)


class StaffSession(Base):
    """One sign-in on one device. Its refresh token changes with every use; only hashes (SHA-256) are kept.

    `seed` makes the next refresh token out of the one before, so that a repeated request gets the same answer.
    """

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    staff_id: Mapped[str] = mapped_column(Uuid, ForeignKey("staff.id"), index=True)
    seed: Mapped[bytes]
    token_hash: Mapped[bytes]
    previous_hash: Mapped[bytes | None]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    address: Mapped[str]
    user_agent: Mapped[str]


class SecondFactor(Base):
    """The secret of the app that makes an account's codes, encrypted. It counts once it is confirmed.

    Codes of `last_step` and of steps before it are used up.
    """

    __tablename__ = "second_factors"

    staff_id: Mapped[str] = mapped_column(Uuid, ForeignKey("staff.id"), primary_key=True)
    secret: Mapped[bytes]
    last_step: Mapped[int]
    made_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """A code, as its hash, that signs in once in place of one of the app."""

    __tablename__ = "recovery_codes"

    staff_id: Mapped[str] = mapped_column(Uuid, ForeignKey("staff.id"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(primary_key=True)


class FailedGuesses(Base):
    """How many guesses at the password of a name failed `since` then, whether or not an account has that name.

    From one address, or (empty) from all of them. The name is kept as a hash: people type passwords into the wrong
    field.
    """

    __tablename__ = "failed_guesses"

    name_hash: Mapped[bytes] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    since: Mapped[datetime] = mapped_column(index=True)
    locked_until: Mapped[datetime | None]


class Job:
    """Work that somebody asked for, as who they were then (`role`, `halls`; null: all halls), and that a worker carries out.

    `runs` counts how often it was begun, and is the fencing token of the run that has it: whoever writes to the job while
    it is `running` names the run, and the answer to one that lost its lease is that there is no such job.
    """

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    owner_id: Mapped[str] = mapped_column(Uuid, ForeignKey("staff.id"))
    role: Mapped[str]
    halls: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    kind: Mapped[str]
    request_id: Mapped[str]
    state: Mapped[str]
    runs: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime | None]
    rows_done: Mapped[int] = mapped_column(server_default=text("0"))
    rows_total: Mapped[int | None]
    failure: Mapped[str | None]
    asked_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    file_key: Mapped[str | None]
    file_bytes: Mapped[int | None] = mapped_column(BigInteger)
    file_until: Mapped[datetime | None]


def _job_rules(table: str, states: type[StrEnum]) -> tuple[CheckConstraint | Index, ...]:
    return (
        CheckConstraint(f"state IN ({', '.join(repr(state.value) for state in states)})", name="state_is_known"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="running_on_a_lease"),
        CheckConstraint("(state = 'failed') = (failure IS NOT NULL)", name="failed_for_a_reason"),
        Index(f"ix_{table}_owner", "owner_id", "id"),
        Index(f"ix_{table}_unfinished", "id", postgresql_where=text("state IN ('queued', 'running')")),
    )


class ExportJob(Job, Base):
    """An export; its file is what came of it."""

    __tablename__ = "export_jobs"

    wanted: Mapped[dict[str, Any]]
    unmasked: Mapped[bool]
    reason: Mapped[str]
    link_hash: Mapped[bytes | None]
    link_until: Mapped[datetime | None]

    __table_args__ = (
        *_job_rules("export_jobs", ExportState),
        CheckConstraint("(state = 'done') = (file_key IS NOT NULL)", name="done_with_a_file"),
        CheckConstraint("runs <= 3", name="few_runs"),
    )


class ImportJob(Job, Base):
    """An import; its file is what somebody sent. It is only looked at until they say that it `applies`.

    `faults` are the first of `faults_total`.
    """

    __tablename__ = "import_jobs"

    file_name: Mapped[str]
    language: Mapped[str]
    applies: Mapped[bool] = mapped_column(server_default=text("false"))
    faults: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    faults_total: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (
        *_job_rules("import_jobs", ImportState),
        CheckConstraint(
            "(state IN ('queued', 'running', 'checked')) = (file_key IS NOT NULL)", name="unfinished_with_a_file"
        ),
        CheckConstraint("applies OR runs <= 3", name="few_runs"),
    )


class AuditRecord(Base):
    """What somebody with rights did, in any service. `id` is the record's own id, made where it happened."""

    __tablename__ = "audit_records"

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    service: Mapped[str]
    actor_id: Mapped[str]
    actor_name: Mapped[str]
    action: Mapped[str]
    object_type: Mapped[str]
    object_id: Mapped[str]
    hall_id: Mapped[str | None]
    reason: Mapped[str]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    happened_at: Mapped[datetime]

    __table_args__ = (
        Index("ix_audit_records_newest", "happened_at", "id"),
        Index("ix_audit_records_hall", "hall_id", "happened_at", "id"),
        Index("ix_audit_records_actor", "actor_id", "happened_at", "id"),
        Index("ix_audit_records_object", "object_id", "happened_at", "id"),
    )


class ErasedObject(Base):
    """A user who was erased, or one of their joins: no late record about it keeps values or a reason."""

    __tablename__ = "erased_objects"

    object_id: Mapped[str] = mapped_column(primary_key=True)
