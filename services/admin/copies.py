"""Admin's own copy of which halls there are, as catalog says: accounts are for no others."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.admin.errors import HallsUnknown
from services.admin.models import Hall


def keep_hall(session: Session, hall_id: str) -> None:
    """Remember that there is this hall. Halls are closed, and never deleted."""
    session.execute(insert(Hall).values(id=hall_id).on_conflict_do_nothing())


def require_halls(session: Session, hall_ids: Iterable[str]) -> None:
    """Raise HallsUnknown where admin has never heard of one of the halls."""
    asked = set(hall_ids)
    if unknown := asked.difference(session.scalars(select(Hall.id).where(Hall.id.in_(asked)))):
        raise HallsUnknown(halls=", ".join(sorted(unknown)))
