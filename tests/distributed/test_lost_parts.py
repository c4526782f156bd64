"""What goes on while a part is away, and what comes when it is back."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx2
import pytest

from deploy.demo import play
from deploy.native import Native
from libs.common.ids import new_id
from tests.distributed.conftest import Outage
from tests.distributed.town import Headers, Town, at_once, patiently
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
    eventually(lambda: "RabbitMQ does not answer" in town.health()["parts"]["booking"]["detail"])
    assert town.health()["status"] == "degraded"

    outage.ends()

    eventually(lambda: town.remaining(slot) == 100, timeout_s=120)
    eventually(lambda: town.booked_by_stats(slot) == 200, timeout_s=120)
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
    revoked = patiently(lambda: town.post(f"booking/staff/joins/{join}/revoke", town.staff, {"reason": "设备检修"}))

    assert revoked.status_code == 200
    eventually(lambda: ("revoked", join) in town.told(user))
    outage.ends()
    eventually(lambda: town.found("admin/audit", town.staff, object_id=join)["items"])


def test_everything_but_rate_limits_goes_on_without_redis(native: Native, town: Town, outage: Outage) -> None:
    slot = town.slot()
    outage.of("redis")
    request_id = f"without-redis-{new_id()}"

    user = town.user()
    join = town.book(user, slot, request_id)

    eventually(lambda: town.told(user) == [("booked", join)])
    eventually(lambda: town.remaining(slot) == slot.capacity - 1)
    assert town.found("booking/joins", user)["items"]
    for service in ("catalog", "booking", "notify", "admin"):
        eventually(partial(misses_redis, native, service))  # a part that takes long to say so is called down


def misses_redis(native: Native, service: str) -> bool:
    """Tell whether a service says that Redis is away, and that it goes on without."""
    ready = looked_at(native, service, 200)
    if ready is None:
        return False
    redis = ready["parts"]["redis"]
    return (ready["status"], redis["status"]) == ("degraded",) * 2 and "Redis does not answer" in redis["detail"]


def looked_at(native: Native, service: str, status: int) -> Any:
    """Return what a service says of its parts, None where its answer has another status."""
    answer = httpx2.get(f"http://127.0.0.1:{native[service].port}/readyz", timeout=60, trust_env=False)
    return answer.json() if answer.status_code == status else None


def test_without_postgres_everybody_is_asked_to_come_back_and_nothing_needs_a_restart(
    native: Native, town: Town, outage: Outage
) -> None:
    slot, user = town.slot(), town.user()
    services = ("catalog", "booking", "notify", "admin")
    ours = [name for service in services for name in (service, f"{service}-events")]
    pids = {name: native[name].pid for name in ours}
    outage.of("postgres")
    asks: dict[str, Callable[[Headers], httpx2.Response]] = {
        "catalog": lambda named: town.get("catalog/halls", named | {"Accept-Language": "en"}),
        "booking": lambda named: town.ask_for_a_place(user | named, slot, key="over-the-outage"),
        "notify": lambda named: town.get("notify/notices", user | named),
        "admin": lambda named: town.get("admin/me", town.staff | named),
    }

    def answers_by_itself(service: str) -> bool:
        """Tell whether a request is answered by what became of it, and not because it was given up after five seconds."""
        request_id = f"without-postgres-{new_id()}"
        answer = asks[service]({"X-Request-ID": request_id})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), service
        assert int(answer.headers["retry-after"]) >= 1
        said = native.log(service).read_text().splitlines()
        return not any(request_id in line and "given up" in line for line in said)

    for service in services:
        eventually(partial(answers_by_itself, service))
        ready = eventually(partial(looked_at, native, service, 503))
        assert ready["parts"]["database"]["status"] == "down"

    outage.ends()

    assert patiently(lambda: town.ask_for_a_place(user, slot, key="over-the-outage")).status_code == 201
    assert [patiently(partial(ask, {})).is_success for ask in asks.values()] == [True] * 4
    eventually(lambda: len(town.told(user)) == 1)
    eventually(lambda: town.remaining(slot) == slot.capacity - 1)
    assert {name: native[name].pid for name in ours} == pids


def test_a_stopped_service_is_told_as_such_and_found_again(town: Town, outage: Outage) -> None:
    outage.of("booking")

    eventually(lambda: town.health()["parts"]["booking"]["status"] == "down")
    assert town.health()["status"] == "degraded"
    outage.ends()
    eventually(town.is_well, timeout_s=120)
    assert town.user()
