"""Prepare a database cluster: one database, and for each service a login that owns one schema; then migrate."""

from sqlalchemy import Connection, create_engine, make_url, text

from deploy import registry
from libs.common import migrations

DATABASE = "hallpass"


def login_of(service: str) -> str:
    return f"hallpass_{service}"


def login_url(superuser_url: str, service: str, password: str, *, database: str = DATABASE) -> str:
    """Return the URL under which a service signs in to the cluster that the superuser URL names."""
    url = make_url(superuser_url).set(username=login_of(service), password=password, database=database)
    return url.render_as_string(hide_password=False)


def create(superuser_url: str, passwords: dict[str, str], *, database: str = DATABASE) -> None:
    """Make database, logins and schemas where they are missing, and set the passwords. May be repeated."""
    server = create_engine(superuser_url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        if not connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": database}):
            connection.execute(text(f'CREATE DATABASE "{database}"'))
        for service in registry.every():
            _login(connection, service.name, passwords[service.name])
    server.dispose()
    inside = create_engine(make_url(superuser_url).set(database=database), isolation_level="AUTOCOMMIT")
    with inside.connect() as connection:
        connection.execute(text("REVOKE ALL ON SCHEMA public FROM PUBLIC"))
        connection.execute(text(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC'))
        for service in registry.every():
            login = login_of(service.name)
            connection.execute(text(f'GRANT CONNECT ON DATABASE "{database}" TO {login}'))
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {service.name} AUTHORIZATION {login}"))
    inside.dispose()


def _login(connection: Connection, service: str, password: str) -> None:
    login = login_of(service)
    if not connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :login"), {"login": login}):
        connection.execute(text(f"CREATE ROLE {login} LOGIN"))
    # Roles, passwords and settings can't be bound parameters; the password is ours and holds no quote.
    if not password.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"the database password of {service} may hold letters, digits, - and _ only")
    connection.execute(text(f"ALTER ROLE {login} PASSWORD '{password}'"))
    connection.execute(text(f"ALTER ROLE {login} SET search_path = {service}"))
    connection.execute(text(f"ALTER ROLE {login} SET statement_timeout = '15s'"))
    connection.execute(text(f"ALTER ROLE {login} SET idle_in_transaction_session_timeout = '60s'"))
    connection.execute(text(f"ALTER ROLE {login} SET timezone = 'UTC'"))


def migrate(urls: dict[str, str]) -> None:
    """Bring each service's schema to its newest revision, under the service's own login."""
    for service in registry.every():
        migrations.upgrade(service.migrations, urls[service.name])
