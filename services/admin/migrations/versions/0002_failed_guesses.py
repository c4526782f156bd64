"""failed guesses by name and address

`failed_sign_ins`, which counted by name alone, stays for processes of the release before. A later migration drops it.

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
        "failed_guesses",
        sa.Column("name_hash", sa.LargeBinary(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name_hash", "address", name=op.f("pk_failed_guesses")),
    )
    op.create_index("ix_failed_guesses_since", "failed_guesses", ["since"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_failed_guesses_since", table_name="failed_guesses")
    op.drop_table("failed_guesses")
