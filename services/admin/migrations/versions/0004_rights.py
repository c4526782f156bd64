"""rights

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "staff", sa.Column("rights", postgresql.ARRAY(sa.String()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_staff_rights_are_known"),
        "staff",
        "rights <@ ARRAY['export_unmasked', 'override_check_in', 'manage_staff']::varchar[]",
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_staff_rights_are_known"), "staff", type_="check")
    op.drop_column("staff", "rights")
