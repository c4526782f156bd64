"""Sign-ins that were ended before their tokens expire: each service keeps its own copy, fed by events."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from libs.common.db import CommonBase


class EndedSignIn(CommonBase):
    """Tokens of this account whose version is below `version` are void."""

    __tablename__ = "ended_sign_ins"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]


def end(session: Session, account_id: str, *, below: int) -> None:
    """Void the tokens of an account below a version; an older word than the last changes nothing."""
    statement = insert(EndedSignIn).values(account_id=account_id, version=below)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id"],
            set_={"version": statement.excluded.version},
            where=EndedSignIn.version < statement.excluded.version,
        )
    )


def ended_below(session: Session, account_id: str) -> int:
    """Return the version below which the tokens of an account are void, 0 where none are."""
    return session.scalar(select(EndedSignIn.version).where(EndedSignIn.account_id == account_id)) or 0


def all_ended(session: Session, account_ids: Collection[str]) -> dict[str, int]:
    """Return the versions below which tokens are void, of those of these accounts that have any."""
    wanted = EndedSignIn.account_id.in_(account_ids)
    return {row.account_id: row.version for row in session.scalars(select(EndedSignIn).where(wanted))}
