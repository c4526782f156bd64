"""what waits to be sent

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
    op.create_table(
        "ended_waits",
        sa.Column("wait_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("wait_id", name=op.f("pk_ended_waits")),
    )
    op.create_index("ix_ended_waits_ended_at", "ended_waits", ["ended_at"], unique=False)
    op.add_column("deliveries", sa.Column("is_bulk", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "ix_deliveries_due_first",
        "deliveries",
        ["channel", "due_at", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'sending') AND NOT is_bulk"),
    )
    op.add_column("deliveries", sa.Column("hall_id", sa.UUID(as_uuid=False), nullable=True))
    # By a trigger: what the release that runs beside this one queues is found by its hall, too.
    op.execute("""
        CREATE FUNCTION write_hall_of_delivery() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
        BEGIN
            NEW.hall_id := (SELECT hall_id FROM notices WHERE id = NEW.notice_id);
            RETURN NEW;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER write_hall_of_delivery BEFORE INSERT ON deliveries
        FOR EACH ROW WHEN (NEW.notice_id IS NOT NULL) EXECUTE FUNCTION write_hall_of_delivery()
    """)
    # Empty now, and so made at once: 0009 fills in the halls of deliveries that are there.
    op.create_index(
        "ix_deliveries_hall_id",
        "deliveries",
        ["hall_id", "id"],
        unique=False,
        postgresql_where=sa.text("hall_id IS NOT NULL"),
    )
    op.add_column("readers", sa.Column("hall_id", sa.UUID(as_uuid=False), nullable=True))


def downgrade() -> None:
    op.drop_column("readers", "hall_id")
    op.drop_index("ix_deliveries_hall_id", table_name="deliveries", postgresql_where=sa.text("hall_id IS NOT NULL"))
    op.execute("DROP TRIGGER write_hall_of_delivery ON deliveries")
    op.execute("DROP FUNCTION write_hall_of_delivery()")
    op.drop_column("deliveries", "hall_id")
    op.drop_index(
        "ix_deliveries_due_first",
        table_name="deliveries",
        postgresql_where=sa.text("state IN ('queued', 'sending') AND NOT is_bulk"),
    )
    op.drop_column("deliveries", "is_bulk")
    op.drop_index("ix_ended_waits_ended_at", table_name="ended_waits")
    op.drop_table("ended_waits")
