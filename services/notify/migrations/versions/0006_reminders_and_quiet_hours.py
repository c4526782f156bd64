"""reminders and quiet hours

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "halls",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("quiet_hours", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_halls")),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("hall_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("reminders", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
    )
    op.add_column(
        "join_records", sa.Column("definition_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("join_records", sa.Column("next_reminder_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_join_records_only_awaited_reminded"),
        "join_records",
        "next_reminder_at IS NULL OR status = 'booked' AND checked_in_at IS NULL",
    )
    op.create_index(
        "ix_join_records_next_reminder_at",
        "join_records",
        ["next_reminder_at"],
        unique=False,
        postgresql_where=sa.text("next_reminder_at IS NOT NULL"),
    )
    op.add_column("slot_stats", sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("slot_stats", sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("slot_stats", sa.Column("is_open", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("slot_stats", sa.Column("status_since", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.alter_column("notices", "join_id", existing_type=sa.UUID(as_uuid=False), nullable=True)
    op.alter_column("notices", "party_id", existing_type=sa.UUID(as_uuid=False), nullable=True)
    op.add_column("announcements", sa.Column("tell", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("announcements", sa.Column("readers", sa.Integer(), nullable=True))
    op.add_column("announcements", sa.Column("is_told", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.execute("UPDATE announcements SET is_told = true WHERE status = 'published' AND publish_at <= now()")
    op.create_table(
        "readers",
        sa.Column("announcement_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.UUID(as_uuid=False), nullable=False),
        sa.ForeignKeyConstraint(
            ["announcement_id"],
            ["announcements.id"],
            name=op.f("fk_readers_announcement_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("announcement_id", "user_id", name=op.f("pk_readers")),
    )


def downgrade() -> None:
    op.drop_table("readers")
    op.drop_column("announcements", "is_told")
    op.drop_column("announcements", "readers")
    op.drop_column("announcements", "tell")
    op.execute("DELETE FROM notices WHERE join_id IS NULL")
    op.alter_column("notices", "party_id", existing_type=sa.UUID(as_uuid=False), nullable=False)
    op.alter_column("notices", "join_id", existing_type=sa.UUID(as_uuid=False), nullable=False)
    op.drop_column("slot_stats", "status_since")
    op.drop_column("slot_stats", "is_open")
    op.drop_column("slot_stats", "ends_at")
    op.drop_column("slot_stats", "starts_at")
    op.drop_index(
        "ix_join_records_next_reminder_at",
        table_name="join_records",
        postgresql_where=sa.text("next_reminder_at IS NOT NULL"),
    )
    op.drop_constraint(op.f("ck_join_records_only_awaited_reminded"), "join_records")
    op.drop_column("join_records", "next_reminder_at")
    op.drop_column("join_records", "definition_version")
    op.drop_table("items")
    op.drop_table("halls")
