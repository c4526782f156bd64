"""Files in a folder and in S3: whole or not at all, found by their keys, and gone when they are deleted."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.common import store as stores
from libs.common.errors import Unavailable
from libs.common.store import PART_BYTES, Store, check_url
from tests.common.receiver import nobody
from tests.common.s3 import Bucket, a_bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with a_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store((tmp_path / "a folder").as_uri())
    request.getfixturevalue("bucket")
    return Store("s3://files/below")


def a_file(folder: Path, content: bytes) -> Path:
    path = folder / "given"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("size", [0, 1, PART_BYTES + 1, 3 * PART_BYTES])
def test_what_was_put_is_got_whole(store: Store, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)

    assert store.put("exports/a/1.xlsx", a_file(tmp_path, content)) == size
    stored = store.get("exports/a/1.xlsx")

    assert stored is not None
    assert stored.size == size
    assert b"".join(stored.pieces) == content


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.get("exports/a/1.xlsx") is None
    assert store.keys("exports") == []
    store.delete(["exports/a/1.xlsx"])


def test_keys_are_those_below_a_prefix_until_they_are_deleted(store: Store, tmp_path: Path) -> None:
    for key in ("exports/a/1.xlsx", "exports/b/1.xlsx", "others/1"):
        store.put(key, a_file(tmp_path, b"x"))

    assert sorted(store.keys("exports")) == ["exports/a/1.xlsx", "exports/b/1.xlsx"]
    store.delete(["exports/a/1.xlsx", "exports/none"])
    assert store.keys("exports") == ["exports/b/1.xlsx"]


def test_a_large_file_goes_to_s3_in_parts(bucket: Bucket, tmp_path: Path) -> None:
    Store("s3://files/below").put("one", a_file(tmp_path, os.urandom(2 * PART_BYTES + 5)))

    assert sorted(bucket.part_sizes) == [5, PART_BYTES, PART_BYTES]
    assert list(bucket.objects) == ["below/one"]


def test_what_a_killed_writer_left_in_a_folder_goes_after_a_day(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    store = Store(folder.as_uri())
    store.put("one", a_file(tmp_path, b"x"))
    for name, age in (("two#1", stores.ABANDONED_S + 60), ("three#1", 60)):
        (folder / name).write_bytes(b"part")
        os.utime(folder / name, (time.time() - age,) * 2)

    assert store.sweep() == 1
    assert sorted(path.name for path in folder.iterdir()) == ["one", "three#1"]
    assert store.keys("") == ["one"]


@pytest.mark.parametrize("url", ["", "/a/folder", "file:relative", "file://host/a", "file:///", "s3://", "http://a/b"])
def test_what_is_no_place_for_files_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no place for files"):
        check_url(url)


def test_a_store_that_is_away_says_so_soon(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Left to itself the library tries for three minutes, each time: longer than this test may take."""
    with nobody() as port:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{port}")
        away = Store("s3://files/below")

        for ask in (
            lambda: away.put("one", a_file(tmp_path, b"x")),
            lambda: away.get("one"),
            lambda: away.keys("one"),
            lambda: away.delete(["one"]),
        ):
            with pytest.raises(Unavailable):
                ask()
