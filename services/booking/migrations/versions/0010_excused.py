"""joins that nobody missed because it was closed

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NOT_HERE = "status = 'booked' AND checked_in_at IS NULL AND missed_at IS NULL"


def upgrade() -> None:
    op.add_column("joins", sa.Column("excused", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.drop_index("ix_joins_not_here", table_name="joins")
    op.create_index(
        "ix_joins_not_here",
        "joins",
        ["slot_id"],
        unique=False,
        postgresql_where=sa.text(f"{_NOT_HERE} AND NOT excused"),
    )


def downgrade() -> None:
    op.drop_index("ix_joins_not_here", table_name="joins")
    op.create_index("ix_joins_not_here", "joins", ["slot_id"], unique=False, postgresql_where=sa.text(_NOT_HERE))
    op.drop_column("joins", "excused")
