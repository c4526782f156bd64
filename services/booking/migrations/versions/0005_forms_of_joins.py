"""the forms that joins were made with

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "item_forms",
        sa.Column("item_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("form", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("item_id", "version", name=op.f("pk_item_forms")),
    )
    # By a trigger: every form that a join can be made with is kept, also by the release that runs beside this one.
    op.execute("""
        CREATE FUNCTION keep_item_form() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
        BEGIN
            INSERT INTO item_forms (item_id, version, form) VALUES (NEW.id, NEW.form_version, NEW.form)
            ON CONFLICT DO NOTHING;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER keep_item_form AFTER INSERT OR UPDATE OF form, form_version ON items
        FOR EACH ROW EXECUTE FUNCTION keep_item_form()
    """)
    # Earlier forms of these items are not known here.
    op.execute("""
        INSERT INTO item_forms (item_id, version, form)
        SELECT id, form_version, form FROM items
        ON CONFLICT DO NOTHING
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_item_form ON items")
    op.execute("DROP FUNCTION keep_item_form()")
    op.drop_table("item_forms")
