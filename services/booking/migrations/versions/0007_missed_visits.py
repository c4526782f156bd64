"""what missed visits lead to, and that they are forgiven

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "halls",
        sa.Column("missed_policy", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column("joins", sa.Column("forgiven_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_joins_missed",
        "joins",
        ["user_id", "hall_id"],
        unique=False,
        postgresql_where=sa.text("status = 'booked' AND missed_at IS NOT NULL AND forgiven_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_joins_missed", table_name="joins")
    op.drop_column("joins", "forgiven_at")
    op.drop_column("halls", "missed_policy")
