"""halls of deliveries that were queued before they had one

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FIRST = "00000000-0000-0000-0000-000000000000"
# Each notice is looked up by its id: joined, all notices were read for every piece.
_FILL = sa.text("""
    WITH piece AS (
        SELECT id FROM deliveries
        WHERE id > CAST(:after AS uuid) AND notice_id IS NOT NULL AND hall_id IS NULL
        ORDER BY id
        LIMIT 1000
        FOR UPDATE
    ), filled AS (
        UPDATE deliveries SET hall_id = (SELECT notices.hall_id FROM notices WHERE notices.id = deliveries.notice_id)
        WHERE id IN (SELECT id FROM piece)
    )
    SELECT id::text FROM piece ORDER BY id DESC LIMIT 1
""")


def upgrade() -> None:
    # In pieces, each a transaction of its own: there can be millions, and the release that runs beside this one sends meanwhile.
    with op.get_context().autocommit_block():
        after: str | None = _FIRST
        while after is not None:
            after = op.get_bind().scalar(_FILL, {"after": after})


def downgrade() -> None:
    pass
