"""imports

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
    op.create_table(
        "import_jobs",
        sa.Column("id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("owner_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("halls", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("runs", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rows_done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rows_total", sa.Integer(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("file_key", sa.String(), nullable=True),
        sa.Column("file_bytes", sa.BigInteger(), nullable=True),
        sa.Column("file_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("applies", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("faults", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.CheckConstraint(
            "(state = 'failed') = (failure IS NOT NULL)", name=op.f("ck_import_jobs_failed_for_a_reason")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (lease_until IS NOT NULL)", name=op.f("ck_import_jobs_running_on_a_lease")
        ),
        sa.CheckConstraint(
            "(state IN ('queued', 'running', 'checked')) = (file_key IS NOT NULL)",
            name=op.f("ck_import_jobs_unfinished_with_a_file"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'checked', 'done', 'failed', 'cancelled', 'expired')",
            name=op.f("ck_import_jobs_state_is_known"),
        ),
        sa.CheckConstraint("applies OR runs <= 3", name=op.f("ck_import_jobs_few_runs")),
        sa.ForeignKeyConstraint(["owner_id"], ["staff.id"], name=op.f("fk_import_jobs_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_jobs")),
    )
    op.create_index("ix_import_jobs_owner", "import_jobs", ["owner_id", "id"], unique=False)
    op.create_index(
        "ix_import_jobs_unfinished",
        "import_jobs",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_import_jobs_unfinished",
        table_name="import_jobs",
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.drop_index("ix_import_jobs_owner", table_name="import_jobs")
    op.drop_table("import_jobs")
