"""halls and items that are closed

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("halls", sa.Column("is_open", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.add_column("items", sa.Column("is_served", sa.Boolean(), server_default=sa.text("true"), nullable=False))


def downgrade() -> None:
    op.drop_column("items", "is_served")
    op.drop_column("halls", "is_open")
