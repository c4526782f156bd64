"""people who wait for a full slot, and the places that are held for them

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("slots", sa.Column("held", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("slots", sa.Column("waiting", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_check_constraint(op.f("ck_slots_held_not_negative"), "slots", "held >= 0")
    op.create_check_constraint(op.f("ck_slots_waiting_not_negative"), "slots", "waiting >= 0")
    op.drop_constraint(op.f("ck_slots_not_oversold"), "slots", type_="check")
    op.create_check_constraint(op.f("ck_slots_not_oversold"), "slots", "capacity IS NULL OR taken + held <= capacity")
    op.create_table(
        "waits",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("slot_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("item_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("hall_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("passed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("form_version", sa.Integer(), nullable=False),
        sa.Column("offered_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(), server_default="", nullable=False),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.Column("code", sa.String(), server_default="", nullable=False),
        sa.Column("party_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("people > 0", name=op.f("ck_waits_people")),
        sa.CheckConstraint("(ended_at IS NULL) = (sealed IS NOT NULL)", name=op.f("ck_waits_answers_go_with_the_end")),
        sa.CheckConstraint("(ended_at IS NULL) = (outcome = '')", name=op.f("ck_waits_ends_with_an_outcome")),
        sa.ForeignKeyConstraint(["slot_id"], ["slots.id"], name=op.f("fk_waits_slot_id_slots")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_waits_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waits")),
    )
    op.create_index("uq_waits_slot_position", "waits", ["slot_id", "position"], unique=True)
    op.create_index(
        "uq_waits_one_of_a_user",
        "waits",
        ["slot_id", "user_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("ix_waits_user", "waits", ["user_id", "id"], unique=False)
    op.create_index("ix_waits_ended", "waits", ["ended_at"], unique=False)


def downgrade() -> None:
    op.drop_table("waits")
    op.drop_constraint(op.f("ck_slots_not_oversold"), "slots", type_="check")
    op.create_check_constraint(op.f("ck_slots_not_oversold"), "slots", "capacity IS NULL OR taken <= capacity")
    op.drop_column("slots", "waiting")
    op.drop_column("slots", "held")
