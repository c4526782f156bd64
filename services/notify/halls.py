"""Halls that a request names in its query: those alone of which notify has heard."""

from typing import Annotated

from fastapi import Depends

from libs.common.web import Id, Tx
from services.notify import copies


def _known(session: Tx, hall_id: Id) -> str:
    copies.require_hall(session, hall_id)
    return hall_id


def _known_or_none(session: Tx, hall_id: Id | None = None) -> str | None:
    return None if hall_id is None else _known(session, hall_id)


KnownHall = Annotated[str, Depends(_known)]
KnownHallOrNone = Annotated[str | None, Depends(_known_or_none)]
