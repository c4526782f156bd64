"""The secrets of the distributed run: who gets which, and that none is ever written over."""

import json
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy import registry
from deploy.env_files import read
from deploy.keys import Keys
from deploy.names import SERVICE_NAMES, Refusal
from deploy.secret_files import Addresses, write
from deploy.servers.folders import PrivateFolder

ADDRESSES = Addresses("postgres:5432", "redis:6379", "rabbitmq:5672")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "secrets", ADDRESSES)
    return tmp_path / "secrets"


def test_secrets_can_be_read_by_their_owner_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_service_starts_with_its_own_file_alone(folder: Path, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in read(folder / f"{service}.env").items():
        monkeypatch.setenv(name, value)

    settings = registry.one(service).settings.load()

    assert settings.mode == "distributed"
    assert settings.database_url.get_secret_value().startswith(f"postgresql+psycopg://hallpass_{service}:")


def test_only_admin_and_its_worker_can_sign_staff_tokens(folder: Path) -> None:
    private = {path.name for path in folder.iterdir() if '"d":' in path.read_text()}

    assert private == {"admin.env", "worker.env"}


def test_a_service_gets_no_key_that_it_does_not_need(folder: Path) -> None:
    def holders(word: str) -> set[str]:
        return {path.name for path in folder.iterdir() if word in path.read_text()}

    assert holders("USER_TOKEN_KEYS") == {"booking.env", "notify.env", "worker.env"}
    assert holders("BOOKING_DATA_KEYS") == holders("HASH_KEY") == {"booking.env", "worker.env"}
    assert holders("ADMIN_DATA_KEYS") == {"admin.env", "worker.env"}
    assert holders("NOTIFY_DATA_KEYS") == {"notify.env", "worker.env"}
    assert holders("SUPERUSER") == {"migrate.env"}
    assert holders("CATALOG_DATABASE_URL") == {"catalog.env", "migrate.env", "worker.env"}


def test_what_one_service_sealed_no_other_can_open(folder: Path) -> None:
    worker = read(folder / "worker.env")

    assert worker["HALLPASS_ADMIN_DATA_KEYS"] != worker["HALLPASS_BOOKING_DATA_KEYS"]


def test_the_keys_of_a_release_before_gain_what_is_new_once(tmp_path: Path) -> None:
    place = PrivateFolder(tmp_path)
    later = ("admin_data_keys", "notify_data_keys")
    old = {name: value for name, value in asdict(Keys.fresh()).items() if name not in later}
    place.write("keys.json", json.dumps(old))

    first, second = (Keys.of(place, with_data=True) for _ in range(2))

    assert first == second
    assert all(getattr(first, name) for name in later)
    assert asdict(first) == old | {name: getattr(first, name) for name in later}


def test_what_is_there_is_never_written_over(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    write(folder, ADDRESSES)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("lost", ["worker.env", "booking.env", "postgres.env", "rabbitmq.env"])
def test_a_file_that_was_lost_comes_back_as_it_was(folder: Path, lost: str) -> None:
    before = (folder / lost).read_text()
    (folder / lost).unlink()

    write(folder, ADDRESSES)

    assert (folder / lost).read_text() == before


def test_a_signing_key_that_is_lost_is_not_replaced_by_one_that_nobody_believes(folder: Path) -> None:
    (folder / "admin.env").unlink()
    (folder / "worker.env").unlink()

    with pytest.raises(Refusal, match=r"put admin\.env back"):
        write(folder, ADDRESSES)

    assert not (folder / "admin.env").exists()
