"""WeChat subscription messages: one grant, one message, and what becomes of each whatever WeChat does."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from libs.common import wechat
from libs.common.ids import new_id
from services.notify.models import Delivery, ProviderToken, Recipient
from tests.notify.builders import hear, rows
from tests.notify.pigeons import sender
from tests.notify.reaching import PATIENCE_S, SILENCE_S, TEMPLATE, MakeWorld, Town, a_town
from tests.world import World

LATER = timedelta(minutes=10)


@pytest.fixture
def town(make_world: MakeWorld) -> Iterator[Town]:
    with a_town(make_world) as town:
        town.map_wechat()
        yield town


def test_a_notice_goes_to_a_user_who_allowed_it(town: Town) -> None:
    user = new_id()
    assert town.allow(user).json()["grants"] == {TEMPLATE: 1}
    join = town.tell(user)

    town.carry("wechat")

    [message] = town.wechat.received
    assert message == {
        "touser": f"openid-{user}",
        "template_id": TEMPLATE,
        "page": f"pages/join/join?id={join.id}",
        "lang": "zh_CN",
        "data": {
            "thing1": {"value": "护照办理"},
            "time2": {"value": "2026年11月3日 09:00"},
            "thing3": {"value": "天河政务中心，1人"},
        },
    }
    found = town.delivery(user, "wechat")
    assert (found["state"], found["provider_id"], found["possibly_twice"]) == ("sent", "1", False)
    assert town.grants(user) == {TEMPLATE: 0}


def test_one_grant_is_one_message(town: Town) -> None:
    user = new_id()
    town.allow(user)
    town.allow(user)

    for _ in range(4):
        town.tell(user)
        town.carry("wechat")

    assert len(town.wechat.received) == 2
    assert town.states() == [("sent", False)] * 2, "without a grant nothing is queued"


def test_two_notices_at_once_share_no_grant(town: Town) -> None:
    user = new_id()
    town.allow(user)
    town.tell(user)
    town.tell(user)

    town.carry("wechat")

    assert len(town.wechat.received) == 1
    assert town.states() == [("failed", False), ("sent", False)]
    assert {one["answer"] for one in town.deliveries(state="failed")} == {"no grant left"}


@pytest.mark.parametrize("kind", ["cancelled", "checked_in"])
def test_a_kind_without_template_and_a_user_without_openid_get_nothing(town: Town, kind: str) -> None:
    user = new_id()
    town.allow(user)
    join = town.tell(new_id())
    hear(town.world, join.cancelled() if kind == "cancelled" else join.checked_in())

    assert town.carry("wechat") == 0
    assert rows(town.world, Delivery) == []


def test_a_report_that_is_repeated_counts_once(town: Town) -> None:
    user = new_id()
    town.wechat.codes["code"] = "openid"
    body = {"code": "code", "accepted": [TEMPLATE]}

    first, second = (town.ask("POST", "grants", user, body) for _ in range(2))

    assert (first.status_code, second.json()["code"]) == (201, "wechat_code_refused")
    assert town.grants(user) == {TEMPLATE: 1}


def test_a_template_that_nobody_uses_is_refused_before_the_code_is_spent(town: Town) -> None:
    user = new_id()
    town.wechat.codes["code"] = "openid"

    answer = town.ask("POST", "grants", user, {"code": "code", "accepted": ["tmpl-other"]})

    assert answer.json()["code"] == "template_unknown"
    assert "code" in town.wechat.codes


def test_an_openid_is_sealed(town: Town) -> None:
    user = new_id()
    town.allow(user, openid="o-secret")

    [row] = rows(town.world, Recipient, user_id=user)

    assert b"o-secret" not in row["openid_sealed"]


# --- what WeChat answers ---


@pytest.mark.parametrize(
    ("faults", "state", "twice", "attempts", "received", "grants"),
    [
        ([43101], "failed", False, 1, 0, 0),
        ([40003], "failed", False, 1, 0, 1),
        ([40037], "failed", False, 1, 0, 1),
        ([47003], "failed", False, 1, 0, 1),
        ([41030], "failed", False, 1, 0, 1),
        ([-1], "sent", False, 2, 1, 0),
        ([45009], "sent", False, 2, 1, 0),
        (["500"], "sent", False, 2, 1, 0),
        (["cut"], "sent", True, 2, 1, 0),
        (["hang"], "sent", True, 2, 1, 0),
        (["garbage"], "failed", True, 2, 1, 0),  # the second is refused: the one grant was used by the first
        (["drop"], "failed", True, 2, 1, 0),
        (["hang after"], "failed", True, 2, 1, 0),
        (["twice"], "sent", False, 1, 1, 0),
        ([-1, -1, -1], "sent", False, 4, 1, 0),
        (["hang", "hang"], "failed", True, 2, 0, 0),
    ],
)
def test_every_message_ends_in_the_right_state(
    town: Town, faults: list[Any], state: str, twice: bool, attempts: int, received: int, grants: int
) -> None:
    user = new_id()
    town.allow(user)
    town.tell(user)
    town.wechat.next = list(faults)
    patience_s = SILENCE_S if {"hang", "hang after"} & set(faults) else PATIENCE_S

    town.carry("wechat", patience_s=patience_s)
    for hours in range(4):
        town.carry("wechat", later=LATER + timedelta(hours=hours), patience_s=patience_s)

    found = town.delivery(user, "wechat")
    assert (found["state"], found["possibly_twice"], found["attempts"]) == (state, twice, attempts)
    assert len(town.wechat.received) == received
    assert town.grants(user) == {TEMPLATE: grants}


def test_who_refuses_loses_all_grants_that_we_counted(town: Town) -> None:
    user = new_id()
    for _ in range(3):
        town.allow(user)
    town.wechat.grants.clear()  # taken back in the settings of WeChat
    town.tell(user)

    town.carry("wechat")

    assert town.delivery(user, "wechat")["answer"].startswith("43101")
    assert town.grants(user) == {TEMPLATE: 0}


def test_an_answer_shown_to_staff_names_no_openid(town: Town) -> None:
    user = new_id()
    town.allow(user, openid="o-secret")
    town.tell(user)
    town.wechat.next = [40003]

    town.carry("wechat")

    assert "o-secret" not in str(town.deliveries())


def test_a_message_that_was_taken_once_does_not_spoil_the_next_answer(town: Town) -> None:
    """An answer that comes twice is not taken for the answer to the next message."""
    users = [new_id() for _ in range(4)]
    for user in users:
        town.allow(user)
        town.tell(user)
    town.wechat.next = ["twice", 47003, "twice", ""]

    town.carry("wechat")
    town.carry("wechat", later=LATER)

    answers = [town.delivery(user, "wechat") for user in users]
    delivered = {user for user, one in zip(users, answers, strict=True) if one["state"] == "sent"}
    assert {f"openid-{user}" for user in delivered} == set(town.wechat.to)
    assert len(town.wechat.to) == len(set(town.wechat.to)) == 3


# --- the token ---


def test_a_token_is_fetched_once_for_many_messages(town: Town) -> None:
    for _ in range(5):
        user = new_id()
        town.allow(user)
        town.tell(user)

    town.carry("wechat")

    assert len(town.wechat.received) == 5
    assert len(town.wechat.token_calls) == 1


def test_a_token_that_expires_in_between_is_fetched_once_more(town: Town) -> None:
    users = [new_id() for _ in range(3)]
    for user in users:
        town.allow(user)
        town.tell(user)
        town.carry("wechat")
        town.wechat.expire_token()

    assert len(town.wechat.received) == 3
    assert town.states() == [("sent", False)] * 3
    assert {one["attempts"] for one in town.deliveries()} == {1}
    assert len(town.wechat.token_calls) == 3


def test_a_token_that_wechat_gives_again_although_it_refuses_it_is_asked_for_anew(town: Town) -> None:
    user = new_id()
    town.allow(user)
    town.tell(user)
    town.wechat.next = [40001]

    town.carry("wechat")

    assert town.delivery(user, "wechat")["state"] == "sent"
    assert [bool(call["force_refresh"]) for call in town.wechat.token_calls] == [False, False, True]


def test_processes_that_need_a_token_at_the_same_time_fetch_one(town: Town) -> None:
    users = [new_id() for _ in range(6)]
    for user in users:
        town.allow(user)
        town.tell(user)
    town.wechat.token_delay_s = 0.3
    processes = [sender(town.world, town.channel("wechat")) for _ in users]
    taken = [process.take() for process in processes]

    def carry(index: int) -> None:
        mine = taken[index]
        assert mine is not None
        processes[index].carry(mine)

    threads = [threading.Thread(target=carry, args=(index,)) for index in range(len(users))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert town.states() == [("sent", False)] * len(users)
    assert len(town.wechat.token_calls) == 1


def test_without_a_token_nothing_is_sent_and_the_grant_is_kept(make_world: MakeWorld) -> None:
    with a_town(make_world) as town:
        town.map_wechat()
        user = new_id()
        town.allow(user)
        town.tell(user)
        town.wechat.token_delay_s = 30

        town.carry("wechat", patience_s=0.5)

        found = town.delivery(user, "wechat")
        assert (found["state"], found["possibly_twice"]) == ("queued", False)
        assert found["answer"].startswith("no token")
        assert town.grants(user) == {TEMPLATE: 1}


@pytest.mark.parametrize(
    "token", ["a\ud800b", "a\0b", "a\r\nb", "x" * 5000], ids=["half a pair", "NUL", "a line", "long"]
)
def test_a_token_that_can_be_none_is_not_used_and_nothing_counts_as_sent(town: Town, token: str) -> None:
    user = new_id()
    town.allow(user)
    town.tell(user)
    town.wechat.put_token(token)

    town.carry("wechat")

    found = town.delivery(user, "wechat")
    assert (found["state"], found["possibly_twice"], found["attempts"]) == ("queued", False, 1)
    assert "no token" in found["answer"]
    assert town.grants(user) == {TEMPLATE: 1}


def test_a_token_is_sealed(town: Town) -> None:
    user = new_id()
    town.allow(user)
    town.tell(user)
    town.carry("wechat")

    [row] = rows(town.world, ProviderToken)

    assert b"token-1" not in row["sealed"]


# --- templates ---


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"thing1": "{phone}"}, "unknown_fact"),
        ({"time2": "{when}"}, "unfit"),
        ({"phrase1": "{start}"}, "unfit"),
        ({"number1": "{people}"}, "unfit"),
        ({"thing1": "{item"}, "stray_brace"),
    ],
)
def test_what_wechat_would_refuse_is_refused_at_once(town: Town, values: dict[str, str], reason: str) -> None:
    problem = town.map_wechat(values=values).json()

    assert problem["code"] == "template_faulty"
    assert problem["params"]["faults"][0]["reason"] == reason


@pytest.mark.parametrize(
    ("kind", "differing", "field"),
    [
        ("announcement", {"values": {"thing1": "{title}", "date2": "{date}"}, "page": ""}, "values.date2"),
        ("announcement", {"values": {"thing1": "{title}"}}, "page"),
        ("waiting_offered", {"values": {"thing1": "{item}"}}, "page"),
        ("slot_changed", {"values": {"time1": "{date} {start}", "date2": "{left}"}, "page": ""}, "values.date2"),
    ],
)
def test_what_notices_of_the_kind_have_not_is_refused(town: Town, kind: str, differing: Any, field: str) -> None:
    problem = town.map_wechat(kind, **differing).json()

    assert problem["code"] == "template_faulty"
    assert [fault["field"] for fault in problem["params"]["faults"]] == [field]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("waiting_offered", {"time1": "{until}", "date2": "{until}"}),
        ("cooling_off", {"time1": "{date} {start}", "date2": "{again_date}"}),
        ("moved", {"time1": "{date} {start}", "time2": "{left_date} {left_start}"}),
    ],
)
def test_keywords_for_times_take_every_time_that_a_notice_tells(town: Town, kind: str, values: dict[str, str]) -> None:
    answer = town.map_wechat(kind, values=values, page="")

    assert answer.status_code == 200, answer.text


def test_a_keyword_that_there_is_not_is_refused(town: Town) -> None:
    assert town.map_wechat(values={"text1": "{item}"}).status_code == 422


def test_the_client_learns_which_templates_to_ask_for(town: Town) -> None:
    town.map_wechat("moved", "tmpl-moved")

    found = town.world.client.get("/api/notify/channels").json()["items"]

    assert found == [
        {"name": "wechat", "templates": {"booked": TEMPLATE, "moved": "tmpl-moved"}},
        {"name": "email", "templates": {}},
    ]


def test_an_installation_without_settings_offers_nothing(world: World) -> None:
    assert world.client.get("/api/notify/channels").json() == {"items": []}


@pytest.mark.parametrize(
    ("keyword", "text", "said"),
    [
        ("thing1", "天河政务中心" * 4, "天河政务中心天河政务中心天河政务中心天…"),
        ("thing1", "a\nb\x07c", "a b c"),
        ("thing2", "👍" * 15, "👍" * 9 + "…"),
        ("name1", "欧阳" * 6, "欧阳" * 4 + "欧…"),
        ("name1", "Ann " * 4, "Ann Ann Ann Ann"),
        ("phrase1", "预约成功了啊", "预约成功了"),
        ("number1", "12.5", "12.5"),
        ("character_string1", "A1-" * 20, ("A1-" * 20)[:32]),
        ("character_string1", f"{'A' * 31} B1", "A" * 31),
        ("date1", "2026年11月3日", "2026年11月3日"),
        ("time1", "2026年11月3日 09:00~10:00", "2026年11月3日 09:00~10:00"),
    ],
)
def test_a_value_is_cut_to_what_its_keyword_takes(keyword: str, text: str, said: str) -> None:
    assert wechat.value(keyword, text) == said


@pytest.mark.parametrize(
    ("keyword", "text"),
    [("thing1", " \n"), ("number1", "9" * 33), ("phrase1", "ok"), ("letter1", "a1"), ("time1", "soon")],
)
def test_a_value_that_fits_no_way_is_refused(keyword: str, text: str) -> None:
    with pytest.raises(ValueError, match=keyword.rstrip("1")):
        wechat.value(keyword, text)
