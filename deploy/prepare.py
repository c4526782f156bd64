"""What has to be done before a release serves: database, logins, schemas, migrations, the first admin. May be repeated."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError

from deploy import bootstrap
from deploy.names import SERVICE_NAMES, Refusal
from deploy.runtimes import required
from libs.common.clock import utcnow
from libs.common.db import Database
from libs.common.logs import logger
from services.admin import first_admin

log = logger(__name__)
WAIT_S = 60
_LOCK = 0x48414C50  # another than that of a single migration, which is taken within


def prepare(*, password_file: Path | None = None) -> str | None:
    """Make the database ready; return the password of the first admin where this made that account.

    The password is in `password_file` before the account is committed, so that no crash can lose it. Where
    no file keeps it for its owner alone, it goes to a log, and has to be changed.
    """
    superuser = _url("HALLPASS_SUPERUSER_DATABASE_URL")
    urls = {name: _url(f"HALLPASS_{name.upper()}_DATABASE_URL") for name in SERVICE_NAMES}
    database = _one_database(urls)
    _wait_for(superuser)
    with _alone(superuser):
        passwords = {name: url.password or "" for name, url in urls.items()}
        bootstrap.create(_text(superuser), passwords, database=database)
        bootstrap.migrate({name: _text(url) for name, url in urls.items()})
        return _first_admin(_text(urls["admin"]), password_file)


def _first_admin(url: str, password_file: Path | None) -> str | None:
    db = Database(url, name="first-admin", pool_size=1)
    with db.transaction() as session:
        password = first_admin.ensure(session, utcnow(), must_change=password_file is None)
        if password is not None and password_file is not None:
            _write_privately(password_file, password)
    db.close()
    return password


def _write_privately(path: Path, word: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{word}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _url(name: str) -> URL:
    try:
        url = make_url(required(name))
    except ArgumentError:
        raise Refusal(f"{name} is no database URL; `make secrets` writes one") from None
    if url.get_backend_name() != "postgresql":
        raise Refusal(f"{name} does not name a PostgreSQL database; `make secrets` writes one that does")
    return url


def _one_database(urls: dict[str, URL]) -> str:
    for name, url in urls.items():
        variable = f"HALLPASS_{name.upper()}_DATABASE_URL"
        if url.username != bootstrap.login_of(name):
            raise Refusal(f"{variable} has to sign in as {bootstrap.login_of(name)}, each service as itself")
        if not url.password:
            raise Refusal(f"{variable} has no password; `make secrets` writes one")
    names = {url.database for url in urls.values()}
    if len(names) != 1:
        raise Refusal(f"the services' database URLs name different databases: {sorted(str(name) for name in names)}")
    return str(names.pop())


def _wait_for(superuser: URL) -> None:
    engine = create_engine(superuser, connect_args={"connect_timeout": 3})
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            engine.connect().close()
            break
        except OperationalError as error:
            said = str(error.orig).strip().splitlines()[-1]
            if time.monotonic() > deadline or "authentication failed" in said:
                raise Refusal(f"PostgreSQL can't be reached as superuser: {said}") from None
            log.info("waiting for PostgreSQL", said=said)
            time.sleep(0.5)
    engine.dispose()


@contextmanager
def _alone(superuser: URL) -> Iterator[None]:
    """One preparation of a cluster at a time, whoever starts it."""
    engine = create_engine(superuser, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        yield
    engine.dispose()


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
