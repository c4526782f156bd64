"""faults of imports are counted

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
    op.add_column("import_jobs", sa.Column("faults_total", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE import_jobs SET faults_total = jsonb_array_length(faults) WHERE state = 'failed'")


def downgrade() -> None:
    op.drop_column("import_jobs", "faults_total")
