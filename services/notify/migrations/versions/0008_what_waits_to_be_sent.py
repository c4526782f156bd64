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


def downgrade() -> None:
    op.drop_index("ix_ended_waits_ended_at", table_name="ended_waits")
    op.drop_table("ended_waits")
