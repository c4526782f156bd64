"""capacity asked

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
    op.add_column("slot_stats", sa.Column("asked", sa.Integer(), nullable=True))
    op.add_column(
        "slot_stats", sa.Column("definition_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("slot_stats", "definition_version")
    op.drop_column("slot_stats", "asked")
