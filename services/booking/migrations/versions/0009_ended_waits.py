"""only waits that have ended are found by when they did

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_waits_ended", "waits")
    op.create_index(
        "ix_waits_ended", "waits", ["ended_at"], unique=False, postgresql_where=sa.text("ended_at IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("ix_waits_ended", "waits")
    op.create_index("ix_waits_ended", "waits", ["ended_at"])
