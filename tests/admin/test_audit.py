"""The audit trail: what staff did, in every service, once each, and no secrets in it."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from libs.common import outbox
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.common.outbox import OutboxRow
from libs.contracts import audit
from libs.contracts.admin import AuditRecorded
from libs.contracts.booking import UserErased
from libs.contracts.principals import Role, Staff
from services.admin.handlers import consumer
from tests.admin.builders import (
    PASSWORD,
    actions,
    an_account,
    change,
    fail_to_sign_in,
    refresh,
    sign_in,
    signed_in,
    trail,
)
from tests.admin.exporting import an_exporter, ask, do
from tests.admin.importing import sent, workbook
from tests.world import World

HALL, OTHER_HALL = "0198f000-0000-7000-8000-00000000000a", "0198f000-0000-7000-8000-00000000000b"
NOON = datetime(2026, 11, 2, 4, tzinfo=UTC)


def somebody(name: str = "Wu") -> Staff:
    return Staff(id=new_id(), name=name, role=Role.SUPER_ADMIN, halls=None, session_id="")


def recorded(world: World, service: str = "booking", action: str = "slot.revoked", **about: Any) -> None:
    """Let a service record an action as it does in its own transaction."""
    with world.runtimes[service].db.transaction() as session:
        audit.record(
            session,
            about.pop("staff", somebody()),
            action,
            object_type=about.pop("object_type", "slot"),
            object_id=about.pop("object_id", new_id()),
            **about,
        )


def delivered(world: World, *, at: datetime, action: str = "slot.revoked", hall_id: str | None = None) -> Message:
    """Deliver a record that was made at a certain instant."""
    fact = AuditRecorded(
        version=1,
        audit_id=new_id(),
        actor_id=new_id(),
        actor_name="Wu",
        action=action,
        object_type="slot",
        object_id=new_id(),
        hall_id=hall_id,
        happened_at=at,
    )
    message = Message(
        id=new_id(),
        type=fact.type,
        source="booking",
        subject=fact.subject,
        time=at,
        version=1,
        data=fact.model_dump(mode="json"),
    )
    consumer.receive(world.runtimes["admin"].db, message)
    return message


def test_what_another_service_records_is_shown_whole(world: World) -> None:
    staff, slot = somebody("Wu"), new_id()
    recorded(
        world, staff=staff, object_id=slot, hall_id=HALL, reason="burst pipe", before={"taken": 3}, after={"taken": 0}
    )

    record = trail(world)[0]

    assert datetime.fromisoformat(record.pop("happened_at")).tzinfo is not None
    assert record.pop("id")
    assert record == {
        "service": "booking",
        "actor_id": staff.id,
        "actor_name": "Wu",
        "action": "slot.revoked",
        "object_type": "slot",
        "object_id": slot,
        "hall_id": HALL,
        "reason": "burst pipe",
        "before": {"taken": 3},
        "after": {"taken": 0},
    }


def test_what_staff_do_with_their_accounts_is_in_the_trail(world: World) -> None:
    account = an_account(world)
    fail_to_sign_in(world, times=5)
    change(world, account, reset_password=True)
    password = change(world, account, reset_password=True)["password"]
    me = signed_in(world, "lin", password)
    world.client.post(
        "/api/admin/me/password", json={"current": password, "new": "ten-green-lanterns"}, headers=me["headers"]
    )
    again = signed_in(world, "lin", "ten-green-lanterns")
    world.client.post("/api/admin/sessions/sign-out-everywhere", headers=again["headers"])
    last = signed_in(world, "lin", "ten-green-lanterns")
    world.client.delete("/api/admin/sessions/current", headers=last["headers"])
    change(world, account, disabled=True)

    assert actions(world) == [
        "staff.created",
        *["staff.sign_in_failed"] * 5,
        "staff.locked_out",
        "staff.password_reset",
        "staff.password_reset",
        "staff.signed_in",
        "staff.password_changed",
        "staff.signed_in",
        "staff.signed_out_everywhere",
        "staff.signed_in",
        "staff.signed_out",
        "staff.changed",
    ]


def test_a_failed_sign_in_under_a_name_that_nobody_has_is_nobodys(world: World) -> None:
    fail_to_sign_in(world, "nobody", times=6)

    assert trail(world) == []


def test_a_record_that_is_delivered_twice_is_kept_once(world: World) -> None:
    message = delivered(world, at=NOON)

    consumer.receive(world.runtimes["admin"].db, message)
    consumer.receive(world.runtimes["admin"].db, message.model_copy(update={"id": new_id(), "replayed": True}))

    assert len(trail(world)) == 1


def test_a_record_that_is_published_twice_is_kept_once(world: World) -> None:
    recorded(world)
    trail(world)
    with world.runtimes["booking"].db.transaction() as session:
        session.execute(update(OutboxRow).values(published_at=None))

    assert len(trail(world)) == 1


def test_the_newest_comes_first_page_by_page(world: World) -> None:
    for minute in (1, 3, 2, 2):
        delivered(world, at=NOON + timedelta(minutes=minute), action=f"minute.{minute}")
    headers = world.staff()

    first = world.client.get("/api/admin/audit", params={"limit": 2}, headers=headers).json()
    delivered(world, at=NOON + timedelta(minutes=9), action="minute.9")
    second = world.client.get(
        "/api/admin/audit", params={"limit": 2, "cursor": first["next_cursor"]}, headers=headers
    ).json()

    assert [record["action"] for record in first["items"]] == ["minute.3", "minute.2"]
    assert [record["action"] for record in second["items"]] == ["minute.2", "minute.1"]
    assert second["next_cursor"] is None


def test_records_are_found_by_who_what_where_and_when(world: World) -> None:
    wu, slot = somebody("Wu Ming"), new_id()
    recorded(world, action="slot.revoked", staff=wu, object_id=slot, hall_id=HALL)
    recorded(world, action="slot.restored", hall_id=OTHER_HALL)
    recorded(world, "notify", action="announcement.changed", object_type="announcement")

    assert actions(world, actor=wu.id) == ["slot.revoked"]
    assert actions(world, actor="wu m") == ["slot.revoked"]
    assert actions(world, actor="%") == []
    assert actions(world, action="slot.restored") == ["slot.restored"]
    assert sorted(actions(world, action="slot.")) == ["slot.restored", "slot.revoked"]
    assert actions(world, object_type="announcement") == ["announcement.changed"]
    assert actions(world, object_id=slot) == ["slot.revoked"]
    assert actions(world, hall_id=OTHER_HALL) == ["slot.restored"]
    assert actions(world, object_type="slot", hall_id=HALL, action="announcement") == []


def test_a_span_of_time_holds_its_beginning_and_not_its_end(world: World) -> None:
    for minute in (0, 1, 2):
        delivered(world, at=NOON + timedelta(minutes=minute), action=f"minute.{minute}")

    found = actions(world, **{"from": "2026-11-02T12:00:00+08:00", "to": "2026-11-02T04:02:00Z"})

    assert found == ["minute.0", "minute.1"]


def test_a_hall_admin_sees_what_was_done_in_their_own_halls(world: World) -> None:
    for hall in (HALL, OTHER_HALL, None):
        delivered(world, at=NOON, hall_id=hall)
    headers = world.staff(Role.HALL_ADMIN, [HALL])

    own = trail(world, headers)
    foreign = trail(world, headers, hall_id=OTHER_HALL)

    assert [record["hall_id"] for record in own] == [HALL]
    assert foreign == []


def test_what_is_done_by_and_to_accounts_for_one_hall_is_in_its_trail(world: World) -> None:
    an_account(world, "lin", halls=[HALL])
    boss = world.staff(Role.HALL_ADMIN, [HALL])
    lin = signed_in(world, "lin")["headers"]
    assert ask(world, lin, "audit").status_code == 202
    do(world, "export")
    verifier = an_account(world, "wei", role=Role.VERIFIER, halls=[HALL])
    change(world, verifier, reset_password=True)
    change(world, verifier, halls=[HALL, OTHER_HALL])
    change(world, verifier, halls=[OTHER_HALL])

    assert actions(world, headers=boss) == [
        "staff.created",
        "export.asked",
        "export.done",
        "staff.created",
        "staff.password_reset",
        "staff.changed",
    ]
    assert actions(world, headers=world.staff(Role.HALL_ADMIN, [OTHER_HALL])) == ["staff.changed"]


@pytest.mark.parametrize("kind", ["export", "import"])
def test_a_job_for_several_halls_is_in_the_trail_of_each_and_tells_none_of_the_others(world: World, kind: str) -> None:
    lin = an_exporter(world, role=Role.HALL_ADMIN, halls=[HALL, OTHER_HALL])
    if kind == "export":
        assert ask(world, lin, "audit", filter={"object_id": OTHER_HALL}).status_code == 202
    else:
        sent(world, lin, "items", workbook(别的=[["名称"]]))
    do(world, kind)

    def told(headers: dict[str, str]) -> list[tuple[str, str | None, set[str]]]:
        found = reversed(trail(world, headers, action=f"{kind}."))
        return [(one["action"], one["hall_id"], set(one["after"])) for one in found]

    asked_for, ended = f"{kind}.asked", "export.done" if kind == "export" else "import.failed"
    of_one = {"kind", "unmasked"} if kind == "export" else {"kind"}
    of_end = set() if kind == "export" else {"failure"}
    for hall in (HALL, OTHER_HALL):
        assert told(world.staff(Role.HALL_ADMIN, [hall])) == [(asked_for, hall, of_one), (ended, hall, of_end)]
    assert told(world.staff(Role.HALL_ADMIN, [new_id()])) == []
    whole = {action: names for action, hall, names in told(world.staff()) if hall is None}
    assert whole[asked_for] > of_one
    assert whole[ended] >= of_end | {"runs"}
    assert OTHER_HALL not in str(trail(world, world.staff(Role.HALL_ADMIN, [HALL]), action=f"{kind}."))


def test_a_verifier_sees_no_trail(world: World) -> None:
    answer = world.client.get("/api/admin/audit", headers=world.staff(Role.VERIFIER, [HALL]))

    assert (answer.status_code, answer.json()["code"]) == (403, "role_forbids")


WRONG_QUERIES = [
    "from=yesterday",
    "from=2026-11-02T12:00:00",
    "to=99999999999999999999",
    "to=1e400",
    "hall_id=x",
    "actor=%00",
    "action=" + "x" * 101,
    "from=2026-11-02T12:00:00Z&to=2026-11-02T11:59:59Z",
    "limit=101",
    "cursor=bnVsbA",
    "cursor=WyIyMDI2LTExLTAyVDA0OjAwOjAwIiwiMSJd",
]


def test_a_trail_asked_for_wrongly_is_refused(world: World) -> None:
    answers = [world.client.get(f"/api/admin/audit?{query}", headers=world.staff()) for query in WRONG_QUERIES]

    assert {answer.status_code for answer in answers} == {422}


EDGES_OF_TIME = ["0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "2026-01-01T00:00:60Z"]


def test_an_instant_at_the_edge_of_time_is_no_error_of_ours(world: World) -> None:
    queries = [f"{name}={instant}" for name in ("from", "to") for instant in EDGES_OF_TIME]

    answers = [world.client.get(f"/api/admin/audit?{query}", headers=world.staff()) for query in queries]

    assert {answer.status_code for answer in answers} <= {200, 422}


def test_neither_passwords_nor_tokens_are_in_audit_events_database_or_logs(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    account = an_account(world)
    first = signed_in(world)
    second = refresh(world, first["refresh_token"]).json()
    sign_in(world, "lin", "guessed-by-mistake")
    sign_in(world, "typed-in-the-wrong-field", "guessed-by-mistake")
    chosen = world.client.post(
        "/api/admin/me/password", json={"current": PASSWORD, "new": "ten-green-lanterns"}, headers=first["headers"]
    ).json()
    random = change(world, account, reset_password=True)["password"]
    shown = str(trail(world))

    kept = [shown, caplog.text, *capfd.readouterr()]
    with world.runtimes["admin"].db.transaction() as session:
        kept += [str(row) for row in session.scalars(select(OutboxRow.data))]
        for table in ("staff", "sessions", "failed_guesses", "audit_records", "bus_queue", "inbox"):
            kept += [str(row) for row in session.execute(text(f"SELECT t::text FROM {table} t"))]
    secrets = [PASSWORD, "ten-green-lanterns", "guessed-by-mistake", "typed-in-the-wrong-field", random]
    secrets += [first["token"], second["token"], chosen["token"]]
    secrets += [token["refresh_token"].partition(".")[2] for token in (first, second)]
    assert len(kept) > 10
    assert [secret for secret in secrets if any(secret in text_ for text_ in kept)] == []


def test_what_is_on_record_about_an_erased_user_keeps_neither_values_nor_reasons_whenever_it_comes(
    world: World,
) -> None:
    user, join, other = new_id(), new_id(), new_id()
    what: dict[str, Any] = {
        "hall_id": HALL,
        "reason": "Mr Wu called",
        "before": {"status": "booked"},
        "after": {"status": "revoked"},
    }
    recorded(world, object_id=join, **what)
    recorded(world, object_id=other, **what)
    world.settle()

    with world.runtimes["booking"].db.transaction() as session:
        outbox.record(session, UserErased(version=1, user_id=user, join_ids=[join]))
    world.settle()
    recorded(world, action="user.disabled", object_id=user, **what)
    recorded(world, action="user.erased", object_id=user, reason="asked for it")
    world.settle()

    kept = {(row["action"], row["object_id"]): (row["reason"], row["before"], row["after"]) for row in trail(world)}
    assert kept == {
        ("slot.revoked", join): ("", None, None),
        ("slot.revoked", other): (what["reason"], what["before"], what["after"]),
        ("user.disabled", user): ("", None, None),
        ("user.erased", user): ("asked for it", None, None),
    }
