"""What staff see of deliveries: those of their halls, with answers and without addresses."""

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import generate_latest
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.contracts.principals import Role, Staff
from services.notify import delivery_lists, notices
from services.notify.delivery_lists import Filter
from services.notify.texts import NoticeKind
from tests.notify.builders import a_party, a_slot, hear
from tests.notify.reaching import MakeWorld, Town, a_town


@pytest.fixture
def town(make_world: MakeWorld) -> Iterator[Town]:
    with a_town(make_world) as town:
        yield town


def test_staff_see_what_became_of_a_notice(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    join = town.tell(user)
    town.mail.next = ["550"]

    town.carry("email")

    [found] = town.deliveries(join_id=join.id)
    assert (found["kind"], found["channel"], found["user_id"]) == ("booked", "email", user)
    assert (found["state"], found["attempts"], found["possibly_twice"]) == ("failed", 1, False)
    assert found["answer"] == "550 no: …"
    assert found["ended_at"] is not None


def test_a_hall_admin_sees_the_deliveries_of_their_halls_alone(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    here, elsewhere = town.tell(user), town.tell(user)
    admin = town.world.staff(Role.HALL_ADMIN, [here.slot.hall_id])

    assert [one["join_id"] for one in town.deliveries(admin)] == [here.id]
    assert town.deliveries(admin, join_id=elsewhere.id) == []
    assert len(town.deliveries(user_id=user)) == 2


FULL_ELSEWHERE = """
    INSERT INTO notices (id, user_id, hall_id, kind, action_id, people, params, happened_at)
    SELECT gen_random_uuid(), gen_random_uuid(), :hall_id, 'booked', n::text, 1, '{}', now()
    FROM generate_series(1, 5000) n;
    INSERT INTO deliveries (id, notice_id, channel, target, state, due_at, request_id, queued_at, ended_at)
    SELECT gen_random_uuid(), id, 'email', '', 'sent', now(), '', now(), now()
    FROM notices WHERE hall_id = :hall_id"""
ROWS_READ = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables WHERE relname IN ('deliveries', 'notices')"


@pytest.mark.parametrize(
    "wanted", [Filter(), Filter(state="failed"), Filter(channel="sms")], ids=["all", "state", "channel"]
)
def test_what_a_small_hall_has_is_found_without_reading_what_others_have(town: Town, wanted: Filter) -> None:
    user, elsewhere, db = new_id(), new_id(), town.world.runtimes["notify"].db
    town.confirm_email(user)
    here = town.tell(user)
    with db.transaction() as session:
        for statement in FULL_ELSEWHERE.split(";"):
            session.execute(text(statement), {"hall_id": elsewhere})
    with db.transaction() as session:
        session.execute(text("ANALYZE notices, deliveries"))

    with db.transaction() as session:
        halls = frozenset({here.slot.hall_id})
        admin = Staff(id=new_id(), name="lin", role=Role.HALL_ADMIN, halls=halls, session_id=new_id())
        before = session.scalar(text(ROWS_READ))
        found, _ = delivery_lists.page_of(session, admin, wanted, limit=20, cursor=None)
        read = session.scalar(text(ROWS_READ)) - before

    assert read < 20
    assert [notice.join_id for _, notice in found] == ([here.id] if wanted == Filter() else [])


def test_what_a_party_was_told_is_found_by_each_of_its_joins(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    party = a_party(3, a_slot(), user_id=user)
    action = new_id()
    hear(town.world, *(join.booked(action=action) for join in party))

    found = [town.deliveries(join_id=join.id) for join in party]

    assert [len(each) for each in found] == [1, 1, 1]
    assert len({each[0]["id"] for each in found}) == 1


@pytest.mark.parametrize("join_id", [new_id(), None], ids=["of a join", "of none"])
def test_deliveries_of_notices_of_every_kind_are_shown(town: Town, join_id: str | None) -> None:
    user = new_id()
    town.confirm_email(user)
    about: dict[str, Any] = {"user_id": user, "hall_id": None, "join_id": join_id, "party_id": join_id, "people": 1}
    told = [
        about | {"id": new_id(), "kind": kind.value, "action_id": new_id(), "params": {}, "happened_at": utcnow()}
        for kind in NoticeKind
    ]
    with town.world.runtimes["notify"].db.transaction() as session:
        notices.write(session, told)

    found = town.deliveries()

    assert sorted(one["kind"] for one in found) == sorted(NoticeKind)
    assert {one["join_id"] for one in found} == {join_id}


def test_deliveries_are_filtered_by_channel_and_state(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.map_wechat()
    town.allow(user)
    town.tell(user)
    town.carry("wechat")

    assert [one["channel"] for one in town.deliveries(state="sent")] == ["wechat"]
    assert [one["state"] for one in town.deliveries(channel="email")] == ["queued"]
    assert town.deliveries(notice_id=new_id()) == []


def test_metrics_tell_how_deliveries_end_and_how_many_wait(town: Town) -> None:
    user = new_id()
    town.confirm_email(user)
    town.tell(user)
    notify = town.world.runtimes["notify"]
    notify.service.loops(notify)  # as the process that carries them does

    def value(line: str) -> float:
        found = [text for text in generate_latest().decode().splitlines() if text.startswith(line)]
        return float(found[0].split()[-1]) if found else 0.0

    pending = 'hallpass_deliveries_pending{channel="email",service="notify"}'
    sent = 'hallpass_deliveries_total{channel="email",result="sent",service="notify"}'
    before = value(sent)
    assert value(pending) == 1

    town.carry("email")

    assert (value(pending), value(sent) - before) == (0, 1)
