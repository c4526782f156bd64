"""Text messages: a number is confirmed by a code, notices go there through a bridge, and no more than the budget allows."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.settings import SettingsError
from libs.contracts.booking import UserErased
from services.notify import sms_budget
from services.notify.channels.sms import template_of
from services.notify.models import Delivery, Recipient, SmsUse, Unconfirmed
from services.notify.outcomes import Later, Outcome, Refused, Sent, Unknown
from services.notify.resources import NotifySettings
from services.notify.sms import Bridge, Sms, number
from services.notify.sms_budget import Budget
from tests.common.receiver import Exchange, Posted, Receiver, nobody, receiver
from tests.notify.builders import a_join, hear, rows, user_headers
from tests.notify.hooking import later, verified
from tests.notify.pigeons import carry_all
from tests.notify.texting import (
    IN_FULL,
    ME,
    PHONE,
    SECRET,
    TEMPLATES,
    a_bridge,
    another_minute,
    asked,
    channel,
    code_in,
    confirmed,
    settings,
)
from tests.world import World, eventually


@pytest.fixture
def bridge() -> Iterator[Receiver]:
    """A bridge that takes every message."""
    with a_bridge() as found:
        yield found


@pytest.fixture
def world(make_world: Callable[..., World], bridge: Receiver) -> World:
    return make_world(**settings(bridge))


# --- numbers ---


def test_a_number_is_confirmed_by_the_code_that_was_sent_there(world: World, bridge: Receiver) -> None:
    user_id = a_join().user_id

    set_answer = asked(world, user_id, "PUT", body={"phone": PHONE})
    [posted] = bridge.posted
    event = verified(posted, SECRET)
    wrong = asked(world, user_id, "POST", "/confirm", {"code": f"{(int(code_in(posted)) + 1) % 10**6:06d}"})
    right = asked(world, user_id, "POST", "/confirm", {"code": code_in(posted)})

    assert set_answer.status_code == 202
    assert (set_answer.json()["phone"], set_answer.json()["unconfirmed_phone"]) == (None, IN_FULL)
    assert event | {"id": None} == {
        "id": None,
        "to": IN_FULL,
        "template": "SMS_1",
        "params": {"code": code_in(posted)},
        "language": "zh",
    }
    assert event["id"] == posted.headers["webhook-id"] == posted.headers["idempotency-key"]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "code_wrong")
    assert (right.json()["phone"], right.json()["unconfirmed_phone"]) == (IN_FULL, None)


def test_a_code_is_good_once_for_a_quarter_of_an_hour_and_five_mistakes(world: World, bridge: Receiver) -> None:
    used, late, guessed = (a_join().user_id for _ in range(3))

    def code_of(user_id: str) -> str:
        assert asked(world, user_id, "PUT", body={"phone": PHONE}).status_code == 202
        another_minute(world)
        return code_in(bridge.posted[-1])

    def confirming(user_id: str, code: str) -> str:
        answer = asked(world, user_id, "POST", "/confirm", {"code": code})
        return "ok" if answer.is_success else str(answer.json()["code"])

    first = code_of(used)
    assert [confirming(used, first), confirming(used, first)] == ["ok", "nothing_to_confirm"]
    second = code_of(late)
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE unconfirmed SET until = now() - interval '1 second'"))
    assert confirming(late, second) == "nothing_to_confirm"
    third = code_of(guessed)
    others = [f"{(int(third) + step) % 10**6:06d}" for step in range(1, 6)]
    assert {confirming(guessed, other) for other in others} == {"code_wrong"}
    assert confirming(guessed, third) == "nothing_to_confirm"


def test_a_number_and_an_address_wait_for_their_codes_beside_each_other(world: World, bridge: Receiver) -> None:
    user_id = a_join().user_id

    asked(world, user_id, "PUT", body={"phone": PHONE})

    assert asked(world, user_id, "POST", "/confirm", {"code": code_in(bridge.posted[0])}).is_success
    code = code_in(bridge.posted[0])
    answer = world.client.post(f"{ME}/email/confirm", json={"code": code}, headers=user_headers(world, user_id))
    assert answer.json()["code"] == "nothing_to_confirm"


def test_numbers_lie_sealed(world: World, bridge: Receiver) -> None:
    join = a_join()
    confirmed(world, bridge, join)
    another_minute(world)
    asked(world, join.user_id, "PUT", body={"phone": "13900139000"})

    kept = str(rows(world, Recipient) + rows(world, Unconfirmed) + rows(world, SmsUse))

    assert "13800138000" not in kept
    assert "13900139000" not in kept


def test_what_is_no_mobile_number_of_the_country_is_refused_and_costs_nothing(world: World, bridge: Receiver) -> None:
    user_id = a_join().user_id

    answers = [
        asked(world, user_id, "PUT", body={"phone": phone})
        for phone in ("010-66668888", "+1 415 555 2671", "12345", "call me", "+882 16 123 456 78")
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "phone_unfit")}
    assert (bridge.posted, rows(world, SmsUse)) == ([], [])
    assert number("+1 650 253 0000", frozenset({"CN", "US"})) == "+16502530000"


def test_a_bridge_that_is_down_is_said_to_be(world: World, bridge: Receiver) -> None:
    user_id = a_join().user_id
    statuses, found = (503, 400), {}
    answers = iter(statuses)
    bridge.behaviour = lambda exchange, _: exchange.answer(next(answers))
    for status in statuses:
        answer = asked(world, user_id, "PUT", body={"phone": PHONE})
        found[status] = (answer.status_code, answer.json()["code"])
        another_minute(world)

    assert found == {503: (503, "sms_unavailable"), 400: (422, "phone_unfit")}


def test_a_removed_number_is_gone(world: World, bridge: Receiver) -> None:
    join = a_join()
    confirmed(world, bridge, join)

    answer = asked(world, join.user_id, "DELETE")
    hear(world, join.booked())

    assert answer.status_code == 204
    assert world.client.get(ME, headers=user_headers(world, join.user_id)).json()["phone"] is None
    assert carry_all(world, channel(world)) == 0


def test_who_is_erased_leaves_no_number(world: World, bridge: Receiver) -> None:
    join = a_join()
    confirmed(world, bridge, join)
    another_minute(world)
    asked(world, join.user_id, "PUT", body={"phone": "13900139000"})
    hear(world, join.booked())

    hear(world, UserErased(version=1, user_id=join.user_id, join_ids=[join.id]))

    assert [rows(world, model) for model in (Recipient, Unconfirmed, Delivery)] == [[]] * 3
    assert {row["user_id"] for row in rows(world, SmsUse)} == {None}
    assert carry_all(world, channel(world)) == 0


def test_erasing_oneself_frees_no_number_from_its_limits(make_world: Callable[..., World], bridge: Receiver) -> None:
    world = make_world(**settings(bridge, sms_per_number=2))
    statuses = []
    for wait in (False, True, True):
        user_id = a_join().user_id
        for _ in range(2):
            if wait:
                another_minute(world)
            statuses.append(asked(world, user_id, "PUT", body={"phone": PHONE}).status_code)
        hear(world, UserErased(version=1, user_id=user_id, join_ids=[]))

    assert statuses == [202, 429, 202, 429, 429, 429]
    assert len(bridge.posted) == 2


def test_without_settings_there_is_no_such_way(make_world: Callable[..., World]) -> None:
    world = make_world()
    answer = asked(world, a_join().user_id, "PUT", body={"phone": PHONE})

    assert (answer.status_code, answer.json()["code"]) == (409, "channel_off")


# --- notices ---


def test_a_notice_goes_to_the_number_by_the_template_of_its_kind_and_language(world: World, bridge: Receiver) -> None:
    chinese, english = a_join(), a_join()
    confirmed(world, bridge, chinese)
    confirmed(world, bridge, english, phone="+86 139 0013 9000", language="en")

    hear(world, chinese.booked(), english.booked())
    assert carry_all(world, channel(world)) == 2

    first, second = (verified(posted, SECRET) for posted in bridge.posted)
    assert (first["to"], first["template"]) == (IN_FULL, "SMS_2")
    assert first["params"] == {
        "hall": "天河政务中心",
        "item": "护照办理",
        "people": "1人",
        "count": "1",
        "when": "2026年11月3日（周二） 09:00-10:00",
        "date": "2026年11月3日",
        "start": "09:00",
        "end": "10:00",
        "reason": "",
    }
    assert (second["to"], second["template"], second["language"]) == ("+8613900139000", "SMS_3", "en")
    assert second["params"]["people"] == "1 person"
    found = rows(world, Delivery, channel="sms")
    assert {(row["state"], row["provider_id"]) for row in found} == {("sent", "biz-1")}
    assert {posted.headers["idempotency-key"] for posted in bridge.posted} == {row["id"] for row in found}


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (r'{"id": "a\u0000b"}', "ab"),
        (r'{"id": "a\ud800b"}', "ab"),
        ('{"note": "' + "x" * 2000 + '", "id": "biz-1"}', "biz-1"),
        (r'{"id": "' + "y" * 700 + '"}', "y" * 500),
    ],
    ids=["NUL", "half a pair", "a long answer", "a long id"],
)
def test_whatever_id_the_bridge_gives_a_message_goes_out_once(
    world: World, bridge: Receiver, answer: str, kept: str
) -> None:
    join = a_join()
    confirmed(world, bridge, join)
    bridge.behaviour = lambda exchange, _: exchange.answer(200, answer)
    hear(world, join.booked())

    for minutes in (0, 5):
        carry_all(world, channel(world), clock=later(timedelta(minutes=minutes)))

    [delivery] = rows(world, Delivery, channel="sms")
    assert (delivery["state"], delivery["provider_id"], delivery["possibly_twice"]) == ("sent", kept, False)
    assert len(bridge.posted) == 1


def test_a_kind_without_a_template_is_not_sent_and_leaves_no_failure(world: World, bridge: Receiver) -> None:
    join = a_join()
    confirmed(world, bridge, join)

    hear(world, join.booked(), join.cancelled())

    assert carry_all(world, channel(world)) == 1
    assert [row["state"] for row in rows(world, Delivery, channel="sms")] == ["sent"]
    assert template_of(TEMPLATES, "revoked", "en") == "SMS_4"
    assert template_of({"booked": {"zh": "SMS_2"}}, "booked", "en") == "SMS_2"


def test_who_wants_no_messages_about_a_kind_gets_none(world: World, bridge: Receiver) -> None:
    join = a_join()
    confirmed(world, bridge, join)
    none: dict[str, Any] = {"choices": {"booked": []}}
    assert world.client.patch(ME, json=none, headers=user_headers(world, join.user_id)).status_code == 200

    hear(world, join.booked(), join.revoked())
    carry_all(world, channel(world))

    assert [json.loads(posted.body)["template"] for posted in bridge.posted] == ["SMS_4"]


def test_a_message_whose_answer_is_lost_goes_out_once_more_under_the_same_id(world: World, bridge: Receiver) -> None:
    join = a_join()
    confirmed(world, bridge, join)
    bridge.behaviour = lambda exchange, _: exchange.break_off()
    hear(world, join.booked())

    for minutes in (0, 5, 10, 60):
        carry_all(world, channel(world), clock=later(timedelta(minutes=minutes)))

    [delivery] = rows(world, Delivery, channel="sms")
    assert (delivery["state"], delivery["possibly_twice"], delivery["attempts"]) == ("failed", True, 2)
    assert [posted.headers["idempotency-key"] for posted in bridge.posted] == [delivery["id"]] * 2


@pytest.mark.parametrize(
    ("behave", "outcome"),
    [
        (lambda exchange, _: exchange.answer(200, '{"id": "biz-1", "more": 1}'), Sent("biz-1")),
        (lambda exchange, _: exchange.answer(202, "accepted"), Sent("")),
        (lambda exchange, _: exchange.answer(200, "[" * 900), Sent("")),
        (lambda exchange, _: exchange.answer(204), Sent("")),
        (lambda exchange, _: exchange.answer(400, "no such template"), Refused("400 no such template")),
        (lambda exchange, _: exchange.answer(302, Location="http://127.0.0.1/"), Refused("302")),
        (
            lambda exchange, _: exchange.answer(403, "13800138000 (138 0013 8000, +8613800138000): 654321 blocked"),
            Refused("403 … (…, …): … blocked"),
        ),
        (lambda exchange, _: exchange.answer(429, "slow", Retry_After="30"), Later("429 slow", after_s=30)),
        (lambda exchange, _: exchange.answer(503), Later("503")),
        (lambda exchange, _: exchange.hang(), Unknown("no answer (too_slow)")),
        (lambda exchange, _: exchange.break_off(), Unknown("no answer (broken_off)")),
        (lambda exchange, _: exchange.flood(b"heads"), Unknown("no answer (answer_too_large)")),
    ],
)
def test_what_the_bridge_answers_decides(behave: Any, outcome: Outcome) -> None:
    message = Sms(id="m1", to=IN_FULL, template="SMS_1", params={"code": "654321", "count": "2"}, language="zh")
    is_silent = outcome == Unknown("no answer (too_slow)")
    with receiver(behave) as found:
        bridge = Bridge(found.address, SECRET, timeout_s=0.5 if is_silent else 60)
        if is_silent:  # again, where a busy machine has used up the half second before there was a connection
            eventually(lambda: bridge.send(message) == outcome)
        else:
            assert bridge.send(message) == outcome


def test_where_no_bridge_listens_nothing_was_sent() -> None:
    message = Sms(id="m1", to=IN_FULL, template="SMS_1", params={}, language="zh")

    with nobody() as port:
        bridge = Bridge(f"http://127.0.0.1:{port}", SECRET, timeout_s=60)
        assert bridge.send(message) == Later("no_connection")


# --- what it may cost ---


def test_a_number_is_sent_one_code_a_minute(world: World, bridge: Receiver) -> None:
    one, other = a_join().user_id, a_join().user_id

    answers = [asked(world, user_id, "PUT", body={"phone": PHONE}) for user_id in (one, one, other)]
    another_minute(world)
    answers.append(asked(world, other, "PUT", body={"phone": PHONE}))

    assert [answer.status_code for answer in answers] == [202, 429, 429, 202]
    assert 1 <= answers[1].json()["params"]["retry_after_s"] <= 60
    assert len(bridge.posted) == 2


@pytest.mark.parametrize(
    ("limit", "at_most", "said"),
    [
        ("sms_per_user", 2, "too many messages to this user within 24 hours"),
        ("sms_per_number", 1, "too many messages to this number within 24 hours"),  # codes, and as many notices
        ("sms_per_day", 2, "too many messages of the installation within 24 hours"),
    ],
)
def test_no_more_goes_out_than_the_budget_allows(
    make_world: Callable[..., World], bridge: Receiver, limit: str, at_most: int, said: str
) -> None:
    world = make_world(**settings(bridge, **{limit: at_most}))
    join = a_join()
    confirmed(world, bridge, join)  # the first

    hear(world, join.booked(), join.revoked())
    carry_all(world, channel(world))
    another_minute(world)
    code = asked(world, join.user_id, "PUT", body={"phone": PHONE})

    states = sorted((row["state"], row["answer"]) for row in rows(world, Delivery, channel="sms"))
    assert states == [("failed", said), ("sent", "")]
    assert code.status_code == 429
    assert len(bridge.posted) == 1
    with world.runtimes["notify"].db.transaction() as session:
        session.execute(text("UPDATE sms_uses SET at = at - interval '24 hours'"))
    assert asked(world, join.user_id, "PUT", body={"phone": PHONE}).status_code == 202


@pytest.mark.parametrize(
    ("behave", "spent"),
    [
        (lambda exchange, _: exchange.answer(503), 0),
        (lambda exchange, _: exchange.answer(400), 0),
        (lambda exchange, _: exchange.break_off(), 1),  # twice, under one id
    ],
)
def test_only_what_may_have_been_sent_is_spent_and_once(
    world: World, bridge: Receiver, behave: Any, spent: int
) -> None:
    join = a_join()
    confirmed(world, bridge, join)
    before = len(rows(world, SmsUse))
    bridge.behaviour = behave
    hear(world, join.booked())

    for minutes in (0, 1, 5):
        carry_all(world, channel(world), clock=later(timedelta(minutes=minutes)))

    assert len(bridge.posted) >= 1
    assert len(rows(world, SmsUse)) == before + spent


def test_a_stranger_who_asks_for_codes_uses_up_nothing_of_whom_a_number_belongs_to(
    make_world: Callable[..., World], bridge: Receiver
) -> None:
    world = make_world(**settings(bridge, sms_per_number=3))
    join, stranger = a_join(), a_join().user_id
    confirmed(world, bridge, join)
    statuses = []
    for _ in range(4):
        another_minute(world)
        statuses.append(asked(world, stranger, "PUT", body={"phone": PHONE}).status_code)
    bridge.posted.clear()

    hear(world, join.booked(), join.revoked())
    carry_all(world, channel(world))

    assert statuses == [202, 202, 429, 429]
    assert {row["state"] for row in rows(world, Delivery, channel="sms")} == {"sent"}
    assert len(bridge.posted) == 2


def test_a_code_that_the_bridge_did_not_take_is_not_spent(world: World, bridge: Receiver) -> None:
    bridge.behaviour = lambda exchange, _: exchange.answer(503)

    assert asked(world, a_join().user_id, "PUT", body={"phone": PHONE}).json()["code"] == "sms_unavailable"

    assert rows(world, SmsUse) == []


def test_the_budget_is_exact_when_many_spend_at_once(world: World) -> None:
    budget = Budget(per_user=100, per_number=100, per_day=7, key=b"key")
    user_id = a_join().user_id
    barrier = threading.Barrier(8)
    allowed: list[bool] = []

    def spend() -> None:
        barrier.wait()
        for _ in range(4):
            with world.runtimes["notify"].db.transaction() as session:
                spent = sms_budget.spend(session, budget, new_id(), user_id, IN_FULL, is_code=False, now=utcnow())
            allowed.append(spent is None)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(allowed), sum(allowed)) == (32, 7)


def test_a_bridge_that_hangs_keeps_few_of_those_who_wait(make_world: Callable[..., World], bridge: Receiver) -> None:
    world = make_world(**settings(bridge, sms_timeout_s=60))
    here = threading.Barrier(9)

    def hold(exchange: Exchange, _: Posted) -> None:
        here.wait(60)
        exchange.answer(200)

    bridge.behaviour = hold
    users = [a_join().user_id for _ in range(9)]
    found: list[int] = []

    def ask(index: int) -> None:
        found.append(asked(world, users[index], "PUT", body={"phone": f"1380013800{index}"}).status_code)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    bridge.wait_for(8)
    one_more = asked(world, users[8], "PUT", body={"phone": "13800138009"})
    here.wait(60)
    for thread in threads:
        thread.join(60)

    assert (one_more.status_code, one_more.json()["code"]) == (503, "sms_unavailable")
    assert found == [202] * 8


# --- settings ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sms_url": "bridge"}, "SMS_URL"),
        ({"sms_secret": "hunter2"}, "SMS_SECRET"),
        ({"sms_templates": {"booked": "SMS_2"}}, "`code`"),
        ({"sms_templates": {"code": "SMS_1", "unheard": "SMS_2"}}, "unheard"),
    ],
)
def test_settings_that_can_not_work_are_refused(world: World, wrong: dict[str, Any], said: str) -> None:
    whole = {"sms_url": "http://bridge:8000/", "sms_secret": SECRET, "sms_templates": TEMPLATES}
    known = world.runtimes["notify"].settings.model_dump()

    with pytest.raises(SettingsError, match=said):
        NotifySettings.load(**known | whole | wrong)
