"""Exports: who may ask for what, how they run, and how their files are fetched and go."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyotp
import pytest
import time_machine
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy import serve
from libs.common import ratelimit
from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.principals import Right, Role
from services.admin import export_jobs, jobs, sources
from tests.admin.builders import PASSWORD, actions, an_account, change, set_factor, signed_in, trail
from tests.admin.exporting import (
    EXPORTS,
    a_world_that_answers,
    an_exporter,
    ask,
    asked,
    do,
    exported,
    fetched,
    fill,
    link,
    records,
    seen,
    sheets,
)
from tests.booking import builders as booking
from tests.booking.builders import IN_CHINESE, a_slot, booked, code_of, revoke, user_id
from tests.common.s3 import a_bucket
from tests.conftest import Cluster
from tests.world import World, bearer, eventually

LEASE = timedelta(seconds=60)


@pytest.fixture
def served(cluster: Cluster) -> Iterator[World]:
    """A world whose services a run can read."""
    with a_world_that_answers(cluster) as world:
        yield world


def files(world: World) -> list[str]:
    keys: list[str] = world.runtimes["admin"].resources.store.keys("exports")
    return keys


# --- asking -----------------------------------------------------------------------------------------------------------


def test_an_export_waits_runs_and_is_done(world: World) -> None:
    who = an_exporter(world)
    world.settle()

    export_id = asked(world, who, "audit")
    waiting = seen(world, who, export_id)
    do(world, "export")
    done = seen(world, who, export_id)

    assert (waiting["state"], waiting["runs"], waiting["file"]) == ("queued", 0, None)
    assert (done["state"], done["runs"]) == ("done", 1)
    assert done["rows_done"] == done["rows_total"] == len(records(sheets(fetched(world, who, export_id))["操作日志"]))
    assert done["file"]["bytes"] == len(fetched(world, who, export_id))


def test_one_has_few_unfinished_exports(world: World) -> None:
    who = an_exporter(world)
    other = an_exporter(world, "chen")
    first, *_ = (asked(world, who) for _ in range(3))

    refused = ask(world, who)

    assert code_of(refused) == (409, "too_many_exports")
    assert refused.json()["params"] == {"most": 3}
    asked(world, other)
    world.client.post(f"{EXPORTS}/{first}/cancel", headers=who)
    asked(world, who)


def test_three_requests_at_once_are_no_way_around_it(world: World) -> None:
    who = an_exporter(world)
    for _ in range(2):
        asked(world, who)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(world, who).status_code, range(4)))

    assert sorted(answers) == [202, 409, 409, 409]


@pytest.mark.parametrize("kind", ["joins", "stats", "audit"])
def test_a_hall_of_others_is_not_there(world: World, kind: str) -> None:
    who = an_exporter(world, role=Role.HALL_ADMIN, halls=[new_id()])

    assert code_of(ask(world, who, kind, filter={"hall_id": new_id()})) == (404, "not_found")


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("joins", "2026-12-02", "2026-12-01"),
        ("stats", "2026-12-02", "2026-12-01"),
        ("audit", "2026-12-02T00:00:00Z", "2026-12-01T00:00:00Z"),
    ],
)
def test_an_export_of_a_range_that_ends_before_it_begins_is_refused(
    world: World, kind: str, first: str, last: str
) -> None:
    who = an_exporter(world)

    assert code_of(ask(world, who, kind, filter={"from": first, "to": last})) == (422, "range_unfit")
    assert ask(world, who, kind, filter={"from": last, "to": first}).status_code == 202


def test_exports_are_for_their_owner_alone(world: World) -> None:
    who, other = an_exporter(world), an_exporter(world, "chen")
    export_id = asked(world, who)
    do(world, "export")

    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/links")):
        answer = world.client.request(method, f"{EXPORTS}/{export_id}{path}", headers=other)
        assert code_of(answer) == (404, "not_found")
    assert world.client.get(EXPORTS, headers=other).json()["items"] == []
    assert [one["id"] for one in world.client.get(EXPORTS, headers=who).json()["items"]] == [export_id]


def test_an_export_by_person_is_one_search_however_many_items_it_has(cluster: Cluster) -> None:
    with a_world_that_answers(cluster, person_rate="2/hour") as world:
        for number in range(4):
            place = a_slot(world)
            place.change_item(title=f"事项{number}")
            booked(world, world.user(f"user{number}"), place.slot_id, "王小明")
        booking.do(world, "find")
        who = an_exporter(world)

        content = exported(world, who, "joins", filter={"person": "王小明"})
        search = world.client.get("/api/booking/staff/joins?person=王小明", headers=who)
        again = ask(world, who, "joins", filter={"person": "王小明"})
        too_often = ask(world, who, "users", filter={"q": "王小明"})

        assert [row["行数"] for row in records(sheets(content)["项目"])] == [1, 1, 1, 1]
        assert (search.status_code, again.status_code) == (200, 202)
        assert code_of(too_often) == (429, "too_many_requests")
        assert ask(world, who, "joins").status_code == 202


# --- in clear ---------------------------------------------------------------------------------------------------------


def test_in_clear_takes_a_reason_and_the_password(world: World) -> None:
    who = an_exporter(world)

    unread = [{"reason": reason, "password": PASSWORD} for reason in ("x", "\u200b\u200b")]
    for given in ({}, {"reason": "核对名单"}, {"password": PASSWORD}, *unread):
        assert code_of(ask(world, who, "joins", unmasked=True, **given)) == (422, "invalid")
    assert world.client.get(EXPORTS, headers=who).json()["items"] == []


def test_a_wrong_password_asks_for_nothing_and_counts_as_a_failed_sign_in(world: World) -> None:
    who = an_exporter(world)

    wrong = [ask(world, who, "joins", unmasked=True, reason="核对名单", password="not the password") for _ in range(5)]
    locked = ask(world, who, "joins", unmasked=True, reason="核对名单", password=PASSWORD)

    assert {code_of(answer) for answer in wrong} == {(422, "wrong_password")}
    assert code_of(locked) == (429, "account_locked")
    assert world.client.get(EXPORTS, headers=who).json()["items"] == []


def test_in_clear_takes_a_code_of_an_account_with_a_second_factor(world: World) -> None:
    an_account(world, "lin", role=Role.SUPER_ADMIN)
    secret, on = set_factor(world, signed_in(world)["headers"])
    who = bearer(on["token"])
    clear = {"unmasked": True, "reason": "核对名单", "password": PASSWORD}
    code = pyotp.TOTP(secret).at(utcnow() + timedelta(seconds=30))  # that of now was used up

    without = ask(world, who, "joins", **clear)
    wrong = ask(world, who, "joins", **clear, code="12345")
    right = ask(world, who, "joins", **clear, code=code)
    again = ask(world, who, "joins", **clear, code=code)

    assert [code_of(answer) for answer in (without, wrong, again)] == [
        (422, "code_missing"),
        (422, "wrong_code"),
        (422, "wrong_code"),
    ]
    assert right.status_code == 202
    assert len(world.client.get(EXPORTS, headers=who).json()["items"]) == 1


def test_in_clear_takes_the_right(world: World) -> None:
    who = an_exporter(world, role=Role.HALL_ADMIN)

    refused = ask(world, who, "users", unmasked=True, reason="核对名单", password=PASSWORD)

    assert code_of(refused) == (403, "right_missing")
    assert refused.json()["params"] == {"right": "export_unmasked"}


def test_who_was_given_the_right_may_ask_in_clear_until_it_is_taken_back(world: World) -> None:
    account = an_account(world, "lin", rights=[Right.EXPORT_UNMASKED])
    who = signed_in(world, "lin")["headers"]
    clear = {"unmasked": True, "reason": "核对名单", "password": PASSWORD}

    allowed = ask(world, who, "users", **clear)
    change(world, account, rights=[])
    refused = ask(world, signed_in(world, "lin")["headers"], "users", **clear)

    assert allowed.status_code == 202
    assert code_of(refused) == (403, "right_missing")


def test_phone_numbers_are_masked_unless_asked_otherwise(served: World) -> None:
    user = served.user("first")
    served.client.patch("/api/booking/me", json={"phone": "13800138000"}, headers=user)
    who = an_exporter(served)

    [masked] = records(sheets(exported(served, who, "users"))["用户"])
    clear = {"unmasked": True, "reason": "核对名单", "password": PASSWORD}
    [readable] = records(sheets(exported(served, who, "users", **clear))["用户"])

    assert masked["手机号"] == "138******00"
    assert readable["手机号"] == "13800138000"
    assert [record["reason"] for record in trail(served, action="export.asked")] == ["核对名单", ""]
    assert PASSWORD not in str(trail(served))


# --- the trail --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "search"), [("users", "q"), ("joins", "q"), ("joins", "person")])
def test_everything_about_an_export_is_audited_and_no_name_that_was_searched_for(
    served: World, kind: str, search: str
) -> None:
    who = an_exporter(served)
    export_id = asked(served, who, kind, filter={search: "林小满"})
    do(served, "export")
    fetched(served, who, export_id)
    with time_machine.travel(utcnow() + timedelta(hours=25)):
        do(served, "sweep_exports")

    assert actions(served, object_id=export_id) == ["export.asked", "export.done", "export.fetched", "export.expired"]
    assert "林小满" not in str(trail(served))
    assert seen(served, who, export_id)["wanted"]["filter"] == {}
    assert trail(served, object_id=export_id)[-1]["after"]["searched"] is True


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_what_waits_can_be_cancelled_and_never_runs(world: World) -> None:
    who = an_exporter(world)
    export_id = asked(world, who)

    cancelled = world.client.post(f"{EXPORTS}/{export_id}/cancel", headers=who)
    runs = do(world, "export")

    assert cancelled.json()["state"] == "cancelled"
    assert runs == 0
    assert code_of(world.client.post(f"{EXPORTS}/{export_id}/cancel", headers=who)) == (409, "export_over")
    assert code_of(world.client.post(f"{EXPORTS}/{export_id}/links", headers=who)) == (409, "export_not_done")


def test_a_run_that_is_cancelled_stops_and_leaves_no_file(cluster: Cluster) -> None:
    with (
        serve.listen("127.0.0.1", 0) as listening,
        cluster.world(booking_url=f"http://127.0.0.1:{listening.getsockname()[1]}", export_lease_s=1) as world,
    ):
        who, place = an_exporter(world), a_slot(world)
        fill(world, user_id(world, world.user("first")), place.slot_id, 2_000)
        export_id = asked(world, who, "joins")
        answering: Any = world
        answering.gateway = held = OnePage(world.gateway, "/api/booking/staff/feed/joins")
        with world.serve(listening):
            worker = threading.Thread(target=do, args=(world, "export"), daemon=True)
            worker.start()
            eventually(lambda: seen(world, who, export_id)["rows_done"] > 0)

            world.client.post(f"{EXPORTS}/{export_id}/cancel", headers=who)
            eventually(lambda: f"lease-{export_id}" not in {thread.name for thread in threading.enumerate()})
            held.more.set()
            worker.join()

        found = seen(world, who, export_id)
        assert (found["state"], found["file"]) == ("cancelled", None)
        assert found["rows_done"] < found["rows_total"] == 2_000
        assert held.asked == 2, "it has read on"
        assert files(world) == []


class OnePage:
    """An app that answers a path once, and the other times when there is to be more."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path
        self.asked = 0
        self.more = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == self._path:
            self.asked += 1
            if self.asked > 1:
                await asyncio.to_thread(self.more.wait, 60)
        await self._app(scope, receive, send)


def test_a_run_that_waits_for_a_service_is_cancelled_as_soon(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PAUSES_S", (3600.0,))
    world: World = make_world(booking_url="http://127.0.0.1:1", export_lease_s=1)
    who = an_exporter(world)
    export_id = asked(world, who, "joins")
    worker = threading.Thread(target=do, args=(world, "export"), daemon=True)
    worker.start()
    eventually(lambda: seen(world, who, export_id)["state"] == "running")

    world.client.post(f"{EXPORTS}/{export_id}/cancel", headers=who)
    worker.join(200)

    assert not worker.is_alive(), "it waits for the service"
    assert seen(world, who, export_id)["state"] == "cancelled"


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_link_opens_the_file_for_five_minutes_again_and_again(world: World) -> None:
    who = an_exporter(world)
    export_id = asked(world, who)
    do(world, "export")
    url = link(world, who, export_id)

    assert world.client.get(url).content == world.client.get(url).content != b""
    with time_machine.travel(utcnow() + timedelta(minutes=6)):
        assert code_of(world.client.get(url)) == (403, "link_expired")


def test_a_new_link_voids_the_one_before(world: World) -> None:
    who = an_exporter(world)
    export_id = asked(world, who)
    do(world, "export")
    before, after = link(world, who, export_id), link(world, who, export_id)

    assert code_of(world.client.get(before)) == (403, "link_expired")
    assert world.client.get(after).status_code == 200
    assert code_of(world.client.get(f"{after}x")) == (403, "link_expired")
    assert code_of(world.client.get(after.replace(export_id, new_id()))) == (403, "link_expired")


def test_every_file_has_a_name_of_its_own(world: World) -> None:
    who = an_exporter(world)
    names = set()
    for export_id in (asked(world, who), asked(world, who)):
        do(world, "export")
        answer = world.client.get(link(world, who, export_id))
        name = unquote(answer.headers["Content-Disposition"].removeprefix("attachment; filename*=UTF-8''"))
        assert name == seen(world, who, export_id)["file"]["name"]
        assert name.startswith("操作日志-")
        assert name.endswith(".xlsx")
        assert answer.headers["Cache-Control"] == "private, no-store"
        names.add(name)

    assert len(names) == 2


def test_a_file_is_deleted_after_a_day(world: World) -> None:
    who = an_exporter(world)
    export_id = asked(world, who)
    do(world, "export")
    with time_machine.travel(utcnow() + timedelta(hours=23)):
        assert do(world, "sweep_exports")["expired"] == 0
    assert len(files(world)) == 1

    with time_machine.travel(utcnow() + timedelta(hours=24, minutes=1)):
        headers = signed_in(world, "lin")["headers"]
        assert code_of(world.client.post(f"{EXPORTS}/{export_id}/links", headers=headers)) == (409, "export_not_done")
        assert do(world, "sweep_exports")["expired"] == 1

    assert seen(world, who, export_id)["state"] == "expired"
    assert files(world) == []


def test_files_may_lie_in_s3(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        world: World = make_world(exports_url="s3://files/here")
        who = an_exporter(world)

        content = exported(world, who, "audit")

        assert list(bucket.objects.values()) == [content]
        with time_machine.travel(utcnow() + timedelta(hours=25)):
            assert do(world, "sweep_exports")["expired"] == 1
        assert bucket.objects == {}


def test_what_a_killed_writer_left_in_the_folder_goes(world: World, tmp_path: Path) -> None:
    who = an_exporter(world)
    asked(world, who)
    do(world, "export")
    store = world.runtimes["admin"].resources.store
    part = tmp_path / "part"
    part.write_bytes(b"PK")
    lost = f"exports/{new_id()}/1.xlsx"
    store.put(lost, part)

    assert do(world, "sweep_exports")["orphans"] == 1
    assert lost not in files(world)
    assert len(files(world)) == 1


def test_jobs_are_forgotten_after_a_month(world: World) -> None:
    who = an_exporter(world)
    asked(world, who)
    do(world, "export")
    with time_machine.travel(utcnow() + timedelta(days=31)):
        do(world, "sweep_exports")
        assert do(world, "upkeep")["exports"] == 1
    assert world.client.get(EXPORTS, headers=who).json()["items"] == []


# --- whoever asked is no longer who they were ---------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [{"halls": [new_id()]}, {"role": "super_admin", "halls": []}, {"disabled": True}])
def test_an_export_is_for_who_its_owner_was_when_they_asked(world: World, wish: dict[str, Any]) -> None:
    account = an_account(world)
    who = signed_in(world)["headers"]
    finished = asked(world, who)
    do(world, "export")
    url = link(world, who, finished)
    waiting = asked(world, who)

    change(world, account, **wish)
    do(world, "export")

    assert code_of(world.client.get(url)) == (403, "rights_changed")
    change(world, account, disabled=False)
    again = signed_in(world)["headers"]
    failed = seen(world, again, waiting)
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "rights_changed")
    if "disabled" not in wish:
        assert code_of(world.client.post(f"{EXPORTS}/{finished}/links", headers=again)) == (403, "rights_changed")


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_service_that_is_away_is_asked_again_and_in_the_end_named(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PAUSES_S", (0.01,))
    world: World = make_world(booking_url="http://127.0.0.1:1")
    who = an_exporter(world)
    export_id = asked(world, who, "joins")

    states = []
    for _ in range(3):
        do(world, "export")
        states.append(seen(world, who, export_id)["state"])

    assert states == ["queued", "queued", "failed"]
    assert seen(world, who, export_id)["failure"] == {
        "code": "source_away",
        "detail": "The service that has the data did not answer.",
    }
    assert seen(world, who | IN_CHINESE, export_id)["failure"]["detail"] == "数据所在的服务没有响应，请稍后重试"
    assert do(world, "export") == 0
    assert actions(world, object_id=export_id) == ["export.asked", "export.failed"]


def test_an_export_whose_service_is_away_keeps_no_other_waiting(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PAUSES_S", (0.01,))
    world: World = make_world(booking_url="http://127.0.0.1:1")
    who = an_exporter(world)
    first, second = asked(world, who, "joins"), asked(world, who, "audit")

    do(world, "export")
    do(world, "export")

    assert [seen(world, who, one)["state"] for one in (first, second)] == ["queued", "done"]


def test_an_export_is_taken_in_while_redis_is_away(make_world: Any) -> None:
    world: World = make_world(redis_url="redis://127.0.0.1:1")
    who = an_exporter(world)

    export_id = asked(world, who)

    do(world, "export")
    assert seen(world, who, export_id)["state"] == "done"


def test_an_export_is_taken_in_while_redis_hangs(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "PATIENCE_S", 0.1)  # as it is outside of tests
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world: World = make_world(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}")
        who = an_exporter(world)

        assert ask(world, who).status_code == 202  # and not 503, as the edge would answer


def test_the_job_of_a_lost_worker_runs_again_and_after_three_it_fails(world: World) -> None:
    who = an_exporter(world)
    export_id = asked(world, who)
    admin = world.runtimes["admin"]
    now = utcnow()
    seen_states = []

    for lost in range(1, 4):
        claimed = now + LEASE * 2 * lost
        with admin.db.transaction() as session:
            run = export_jobs.claim(session, lease=LEASE, now=claimed)
        assert run is not None
        assert run.number == lost
        with time_machine.travel(claimed + LEASE * 1.5):
            do(world, "sweep_exports")
            seen_states.append(seen_soon(world, export_id))

    assert seen_states == [("queued", 1, None), ("queued", 2, None), ("failed", 3, "worker_lost")]
    with time_machine.travel(now + LEASE * 100):
        assert admin.db.run(lambda session: export_jobs.claim(session, lease=LEASE, now=utcnow())) is None


def seen_soon(world: World, export_id: str) -> tuple[str, int, str | None]:
    """Return state, runs and failure, signed in at this moment."""
    found = seen(world, signed_in(world)["headers"], export_id)
    return found["state"], found["runs"], found["failure"] and found["failure"]["code"]


def test_a_run_that_was_thought_dead_publishes_nothing(world: World) -> None:
    who = an_exporter(world)
    export_id = asked(world, who)
    admin = world.runtimes["admin"]
    dead = admin.db.run(lambda session: export_jobs.claim(session, lease=LEASE, now=utcnow() - 2 * LEASE))
    assert dead is not None

    do(world, "export")
    late = admin.db.run(lambda session: export_jobs.finish(session, dead, rows=7, size=7, now=utcnow()))
    kept = admin.db.run(lambda session: jobs.renew(session, dead, rows_done=7, rows_total=7, lease=LEASE, now=utcnow()))
    failed = admin.db.run(lambda session: export_jobs.give_back(session, dead, "x", for_good=True, now=utcnow()))

    assert (late, kept, failed) == (False, False, False)
    found = seen(world, who, export_id)
    assert (found["state"], found["runs"]) == ("done", 2)
    assert found["rows_done"] != 7
    assert files(world) == [f"exports/{export_id}/2.xlsx"]


# --- the scope --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["joins", "users", "stats", "audit"])
def test_nothing_of_another_hall_changes_the_export_of_a_hall_admin(served: World, kind: str) -> None:
    mine = a_slot(served)
    asked_for = {"filter": {"object_type": "join"}} if kind == "audit" else {}  # and not who has exported what
    [ours] = booked(served, served.user("first"), mine.slot_id, "张三")
    revoke(served, ours["id"])
    served.settle()
    who = an_exporter(served, role=Role.HALL_ADMIN, halls=[mine.hall_id])
    before = sheets(exported(served, who, kind, **asked_for))

    other = a_slot(served)
    [join] = booked(served, served.user("second"), other.slot_id, "李四")
    served.client.post(f"/api/booking/staff/joins/{join['id']}/revoke", json={"reason": "检修"}, headers=served.staff())
    served.settle()

    assert sheets(exported(served, who, kind, **asked_for)) == before
    if kind != "audit":
        assert "李四" not in str(before)
        assert len(records(next(iter(before.values())))) == 1


# --- many rows --------------------------------------------------------------------------------------------------------


def test_many_joins_take_little_memory(served: World) -> None:
    """With the services in the same process, which are measured, too. bench/ has a million."""
    rows = 10_000
    place = a_slot(served)
    fill(served, user_id(served, served.user("first")), place.slot_id, rows, {"name": "王小明", "note": "长" * 200})
    who = an_exporter(served)
    export_id = asked(served, who, "joins")

    with Memory() as memory:
        do(served, "export")

    found = seen(served, who, export_id)
    assert (found["state"], found["rows_done"], found["rows_total"]) == ("done", rows, rows)
    assert memory.grown_mb < 100, memory.grown_mb


class Memory:
    """The most that this process has grown by while the block runs."""

    def __enter__(self) -> "Memory":
        self._over = threading.Event()
        self._first = self._most = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1])

    @property
    def grown_mb(self) -> float:
        return (self._most - self._first) / 1024
