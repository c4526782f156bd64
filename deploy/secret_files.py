"""`make secrets`: one file of environment variables for each process of the distributed run, holding what that one needs."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from deploy import env_files
from deploy.env_files import Variables
from deploy.keys import Keys
from deploy.names import SERVICE_NAMES, Refusal
from libs.common.crypto import random_key
from libs.common.tokens import public_part

DATABASE = "hallpass"
USER = "hallpass"


@dataclass(frozen=True)
class Addresses:
    """Where the servers listen, as host:port."""

    postgres: str
    redis: str
    rabbitmq: str


@dataclass(frozen=True)
class Secrets:
    """Every secret of an installation."""

    superuser_password: str
    redis_password: str
    rabbitmq_password: str
    keys: Keys
    grafana_password: str = field(default_factory=lambda: random_key(24))  # nobody else has to know it

    @classmethod
    def fresh(cls) -> Self:
        return cls(random_key(24), random_key(24), random_key(24), Keys.fresh())


def write(folder: Path, addresses: Addresses) -> int:
    """Write the files that are missing, in agreement with those that are there, and never touch the latter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = {path.name: env_files.read(path) for path in folder.glob("*.env")}
        wanted = files(_in_agreement(there), addresses)
        missing = {name: variables for name, variables in wanted.items() if name not in there}
        for name, variables in missing.items():
            _write(folder / name, variables)
    except OSError as error:
        raise Refusal(f"The folder {folder} can't be used for secrets: {error.strerror}.") from None
    print(f"Written to {folder}: {', '.join(sorted(missing)) or 'nothing, all files were there'}.")
    return 0


def files(secrets: Secrets, addresses: Addresses) -> dict[str, Variables]:
    """Return the variables of each file by its name."""
    keys = secrets.keys
    redis = {"HALLPASS_REDIS_URL": f"redis://:{secrets.redis_password}@{addresses.redis}/0"}
    broker = {"HALLPASS_BROKER_URL": f"amqp://{USER}:{secrets.rabbitmq_password}@{addresses.rabbitmq}/%2F"}
    databases = {
        name: {
            f"HALLPASS_{name.upper()}_DATABASE_URL": _database_url(
                f"hallpass_{name}", keys.database_passwords[name], addresses, DATABASE
            )
        }
        for name in SERVICE_NAMES
    }
    all_databases = {name: url for each in databases.values() for name, url in each.items()}
    verify = {"HALLPASS_STAFF_TOKEN_KEYS": _json([public_part(key) for key in keys.staff_token_keys])}
    sign = {
        "HALLPASS_ADMIN_STAFF_TOKEN_KEYS": _json(keys.staff_token_keys),
        "HALLPASS_ADMIN_DATA_KEYS": _json(keys.admin_data_keys),
    }
    users = {"HALLPASS_USER_TOKEN_KEYS": _json(keys.user_token_keys)}
    personal = {
        "HALLPASS_BOOKING_DATA_KEYS": _json(keys.data_keys),
        "HALLPASS_BOOKING_HASH_KEY": keys.hash_key,
    }
    addresses_of_users = {"HALLPASS_NOTIFY_DATA_KEYS": _json(keys.notify_data_keys)}
    superuser = _database_url("postgres", secrets.superuser_password, addresses, "postgres")
    own = {
        "catalog": verify,
        "booking": verify | users | personal,
        "notify": verify | users | addresses_of_users,
        "admin": sign,
    }
    return {
        "postgres.env": {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": secrets.superuser_password},
        "redis.env": {"REDIS_PASSWORD": secrets.redis_password},
        "rabbitmq.env": {"RABBITMQ_DEFAULT_USER": USER, "RABBITMQ_DEFAULT_PASS": secrets.rabbitmq_password},
        "migrate.env": {"HALLPASS_SUPERUSER_DATABASE_URL": superuser, **all_databases},
        **{f"{name}.env": {**databases[name], **redis, **broker, **own[name]} for name in SERVICE_NAMES},
        "worker.env": {**all_databases, **redis, **broker, **verify, **sign, **users, **personal, **addresses_of_users},
        "beat.env": redis,
        "grafana.env": {"GF_SECURITY_ADMIN_PASSWORD": secrets.grafana_password},
    }


def _in_agreement(there: dict[str, Variables]) -> Secrets:
    """Return secrets that agree with the files that are there; what no file holds is fresh."""
    found: Variables = {}
    for variables in there.values():
        for name, value in variables.items():
            if name != "HALLPASS_STAFF_TOKEN_KEYS":
                found.setdefault(name, value)
    fresh = Secrets.fresh()
    secrets = replace(
        fresh,
        superuser_password=_password(found, "HALLPASS_SUPERUSER_DATABASE_URL", "POSTGRES_PASSWORD")
        or fresh.superuser_password,
        redis_password=_password(found, "HALLPASS_REDIS_URL", "REDIS_PASSWORD") or fresh.redis_password,
        rabbitmq_password=_password(found, "HALLPASS_BROKER_URL", "RABBITMQ_DEFAULT_PASS") or fresh.rabbitmq_password,
        keys=_keys(found, fresh.keys),
    )
    _check_public_halves(there, secrets)
    return secrets


def _keys(found: Variables, fresh: Keys) -> Keys:
    passwords = {name: _password(found, f"HALLPASS_{name.upper()}_DATABASE_URL") for name in SERVICE_NAMES}
    return Keys(
        staff_token_keys=_parsed(found, "HALLPASS_ADMIN_STAFF_TOKEN_KEYS") or fresh.staff_token_keys,
        user_token_keys=_parsed(found, "HALLPASS_USER_TOKEN_KEYS") or fresh.user_token_keys,
        data_keys=_parsed(found, "HALLPASS_BOOKING_DATA_KEYS") or fresh.data_keys,
        admin_data_keys=_parsed(found, "HALLPASS_ADMIN_DATA_KEYS") or fresh.admin_data_keys,
        notify_data_keys=_parsed(found, "HALLPASS_NOTIFY_DATA_KEYS") or fresh.notify_data_keys,
        hash_key=found.get("HALLPASS_BOOKING_HASH_KEY") or fresh.hash_key,
        database_passwords={name: word or fresh.database_passwords[name] for name, word in passwords.items()},
    )


def _check_public_halves(there: dict[str, Variables], secrets: Secrets) -> None:
    ours = {key["x"] for key in secrets.keys.staff_token_keys}
    for file, variables in there.items():
        if any(key.get("x") not in ours for key in _parsed(variables, "HALLPASS_STAFF_TOKEN_KEYS")):
            raise Refusal(
                f"{file} verifies staff tokens by a key that no file signs with: put admin.env back, "
                "or remove the whole folder to begin anew."
            )


def _parsed(variables: Variables, name: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(variables.get(name) or "[]")
    except ValueError:
        raise Refusal(f"{name} in the folder of secrets is not valid JSON: put the right file back.") from None
    return found


def _password(found: Variables, url: str, name: str = "") -> str | None:
    return found.get(name) or urlsplit(found.get(url, "")).password


def _database_url(login: str, password: str, addresses: Addresses, database: str) -> str:
    return f"postgresql+psycopg://{login}:{password}@{addresses.postgres}/{database}"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _write(path: Path, variables: Variables) -> None:
    """Make the file whole or not at all, and never in place of another."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(env_files.render(variables))
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
