"""reminders and quiet hours

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
        "items",
        sa.Column(
            "reminders", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[1440, 60]'"), nullable=False
        ),
    )
    op.add_column("halls", sa.Column("quiet_hours", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    op.drop_column("halls", "quiet_hours")
    op.drop_column("items", "reminders")
