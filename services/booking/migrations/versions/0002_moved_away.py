"""who moved away from a slot

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moved_away",
        sa.Column("slot_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.UUID(as_uuid=False), nullable=False),
        sa.PrimaryKeyConstraint("slot_id", "user_id", name=op.f("pk_moved_away")),
    )
    # By a trigger: moves of the release that runs beside this one are noted too, and none can be forgotten.
    op.execute("""
        CREATE FUNCTION note_moved_away() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
        BEGIN
            INSERT INTO moved_away (slot_id, user_id) VALUES (OLD.slot_id, OLD.user_id) ON CONFLICT DO NOTHING;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER note_moved_away AFTER UPDATE OF slot_id ON joins
        FOR EACH ROW WHEN (OLD.slot_id IS DISTINCT FROM NEW.slot_id) EXECUTE FUNCTION note_moved_away()
    """)
    # Earlier moves, as far as their events are still here.
    op.execute("""
        INSERT INTO moved_away (slot_id, user_id)
        SELECT (data -> 'left' ->> 'slot_id')::uuid, (data ->> 'user_id')::uuid
        FROM outbox
        WHERE type = 'join.moved'
        ON CONFLICT DO NOTHING
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER note_moved_away ON joins")
    op.execute("DROP FUNCTION note_moved_away()")
    op.drop_table("moved_away")
