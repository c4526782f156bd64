"""All that booking keeps of one user: what they take along, by themselves or from the desk."""

from datetime import datetime

from sqlalchemy.orm import Session

from libs.common.crypto import Sealer
from services.booking import lists, views, wait_views
from services.booking.models import User
from services.booking.offers import Offered
from services.booking.wait_schemas import DataOut

# It is a file, and nothing between keeps it.
HEADERS = {"Content-Disposition": 'attachment; filename="hallpass.json"', "Cache-Control": "private, no-store"}


def of(session: Session, sealer: Sealer, user: User, *, now: datetime) -> DataOut:
    """Return all of it, readable."""
    return DataOut(
        user=views.user(sealer, user),
        provider=user.provider,
        created_at=user.created_at,
        joins=[
            views.join(sealer, join, Offered(*place), now=now) for join, *place in lists.all_of_user(session, user.id)
        ],
        waits=wait_views.all_of_user(session, sealer, user.id),
    )
