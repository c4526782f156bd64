"""What goes on while a part is away, and what comes when it is back."""

import time
from collections.abc import Callable

import httpx2
import pytest

from deploy.demo import play
from deploy.native import Native
from libs.common.ids import new_id
from tests.distributed.conftest import Outage
from tests.distributed.town import Town, at_once
from tests.world import eventually

pytestmark = [
    pytest.mark.xdist_group("distributed"),
    pytest.mark.usefixtures("all_is_well_again"),
]


def test_a_day_plays_through_nginx_and_over_rabbitmq(native: Native) -> None:
    told: list[str] = []

    play(native.address, username="admin", password=native.first_password, say=told.append)

    assert "5 places before, 2 now" in "\n".join(told)
    assert "Only 2 places are left" in "\n".join(told)


def test_what_is_booked_while_rabbitmq_is_away_is_told_and_counted_once(town: Town, outage: Outage) -> None:
    slot = town.slot(capacity=300)
    users = town.users(200)
    outage.of("rabbitmq")

    joins = at_once([lambda user=user: town.book(user, slot) for user in users])  # type: ignore[misc]  # mypy cannot infer it

    assert town.remaining(slot) == 300
    assert town.health()["status"] == "degraded"
    assert "RabbitMQ does not answer" in town.health()["parts"]["booking"]["detail"]

    outage.ends()

    eventually(lambda: town.remaining(slot) == 100, timeout_s=60)
    eventually(lambda: town.booked_by_stats(slot) == 200)
    told = at_once([lambda user=user: town.told(user) for user in users])  # type: ignore[misc]  # mypy cannot infer it
    assert told == [[("booked", join)] for join in joins]


def test_booking_goes_on_without_catalog(town: Town, outage: Outage) -> None:
    slot, user = town.slot(), town.user()
    outage.of("catalog", "catalog-events")

    join = town.book(user, slot)

    assert town.get("catalog/halls").status_code == 502
    eventually(lambda: town.told(user) == [("booked", join)])
    outage.ends()
    eventually(lambda: town.remaining(slot) == slot.capacity - 1)


def test_booking_goes_on_without_notify_and_notices_come_later(town: Town, outage: Outage) -> None:
    slot, user = town.slot(), town.user()
    outage.of("notify", "notify-events")

    join = town.book(user, slot)

    assert town.get("notify/notices", user).status_code == 502
    outage.ends()
    eventually(lambda: town.told(user) == [("booked", join)])
    eventually(lambda: town.remaining(slot) == slot.capacity - 1)


def test_who_signed_in_goes_on_without_admin(town: Town, outage: Outage) -> None:
    slot, user = town.slot(), town.user()
    outage.of("admin", "admin-events")

    join = town.book(user, slot)
    revoked = town.post(f"booking/staff/joins/{join}/revoke", town.staff, {"reason": "设备检修"})

    assert revoked.status_code == 200
    eventually(lambda: ("revoked", join) in town.told(user))
    outage.ends()
    eventually(lambda: join in town.get("admin/audit", town.staff, object_id=join).text)


def test_everything_but_rate_limits_goes_on_without_redis(native: Native, town: Town, outage: Outage) -> None:
    slot = town.slot()
    outage.of("redis")
    request_id = f"without-redis-{new_id()}"

    user = town.user()
    join = town.book(user, slot, request_id)

    eventually(lambda: town.told(user) == [("booked", join)])
    eventually(lambda: town.remaining(slot) == slot.capacity - 1)
    assert town.get("booking/joins", user).status_code == 200
    for service in ("catalog", "booking", "notify", "admin"):
        ready = town.http.get(f"http://127.0.0.1:{native[service].port}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["parts"]["redis"]["status"] == "degraded"
        assert "Redis does not answer" in ready.json()["parts"]["redis"]["detail"]


def test_without_postgres_everybody_is_asked_to_come_back_and_nothing_needs_a_restart(
    native: Native, town: Town, outage: Outage
) -> None:
    slot, user = town.slot(), town.user()
    services = ("catalog", "booking", "notify", "admin")
    ours = [name for service in services for name in (service, f"{service}-events")]
    pids = {name: native[name].pid for name in ours}
    outage.of("postgres")
    asks: dict[str, Callable[[], httpx2.Response]] = {
        "catalog": lambda: town.get("catalog/halls", {"Accept-Language": "en"}),
        "booking": lambda: town.ask_for_a_place(user, slot, key="over-the-outage"),
        "notify": lambda: town.get("notify/notices", user),
        "admin": lambda: town.get("admin/me", town.staff),
    }

    for service, ask in asks.items():
        began = time.monotonic()
        answer = ask()
        assert time.monotonic() - began < 4, f"{service} gave the request up, after five seconds"
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), service
        assert int(answer.headers["retry-after"]) >= 1
        ready = town.http.get(f"http://127.0.0.1:{native[service].port}/readyz")
        assert ready.status_code == 503
        assert ready.json()["parts"]["database"]["status"] == "down"

    outage.ends()

    assert town.ask_for_a_place(user, slot, key="over-the-outage").status_code == 201
    assert [ask().is_success for ask in asks.values()] == [True] * 4
    eventually(lambda: len(town.told(user)) == 1)
    eventually(lambda: town.remaining(slot) == slot.capacity - 1)
    assert {name: native[name].pid for name in ours} == pids


def test_a_stopped_service_is_told_as_such_and_found_again(town: Town, outage: Outage) -> None:
    outage.of("booking")

    eventually(lambda: town.health()["parts"]["booking"]["status"] == "down")
    assert town.health()["status"] == "degraded"
    outage.ends()
    eventually(town.is_well)
    assert town.user()
