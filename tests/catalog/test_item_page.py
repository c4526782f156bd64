"""The item page as everybody reloads it: kept for a moment, never stale where it would matter."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import time_machine
from prometheus_client import REGISTRY
from sqlalchemy import create_engine, make_url, text, update

from libs.common import edge, kept
from libs.common.kept import FRESH_S, LIFETIME_S
from libs.common.service import Runtime
from libs.common.web import create_app
from services.catalog.models import Item
from tests.catalog.builders import (
    API,
    MORNING,
    STAFF,
    a_category,
    a_day,
    a_hall,
    an_item,
    day_url,
    fill,
    in_days,
    queries_of,
    refused,
    shown,
    stat,
)
from tests.conftest import Cluster
from tests.world import World, eventually


def url_of(item: Any) -> str:
    return f"{API}/items/{item['id']}"


def page_of(world: World, item: Any) -> Any:
    return shown(world.client.get(url_of(item)))


def elsewhere(world: World) -> Runtime:
    """Return another process's view of catalog, as far as one can be had here."""
    runtime = world.runtimes["catalog"]
    return Runtime.build(runtime.service, runtime.settings)


def edit_elsewhere(world: World, item: Any, **columns: Any) -> None:
    other = elsewhere(world)
    with other.db.transaction() as session:
        session.execute(update(Item).where(Item.id == item["id"]).values(columns))
    other.close()


async def ask_at_once(world: World, url: str, *, readers: int) -> list[httpx2.Response]:
    transport = httpx2.ASGITransport(world.gateway)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await asyncio.gather(*(client.get(url) for _ in range(readers)))


# --- how often it is made -------------------------------------------------------------------------------------------


def test_fifty_readers_at_once_cost_the_queries_of_one(world: World) -> None:
    item = an_item(world, a_hall(world))
    a_day(world, item, in_days(1))
    answers: list[httpx2.Response] = []

    started = time.monotonic()
    queries = queries_of(world, lambda: answers.extend(asyncio.run(ask_at_once(world, url_of(item), readers=50))))
    took = time.monotonic() - started

    assert [answer.status_code for answer in answers] == [200] * 50
    assert len({answer.content for answer in answers}) == 1
    assert 4 <= queries <= 4 * (1 + took // FRESH_S)  # a slow machine has it made again, as it should


def test_what_another_process_changed_is_seen_within_the_lifetime(world: World) -> None:
    item = an_item(world, a_hall(world))
    page_of(world, item)

    edit_elsewhere(world, item, title="换证")
    time.sleep(LIFETIME_S)  # the promise itself: nothing that is older is shown

    assert page_of(world, item)["title"] == "换证"


def test_what_another_process_hid_is_gone_within_the_lifetime(world: World) -> None:
    item = an_item(world, a_hall(world))
    page_of(world, item)

    edit_elsewhere(world, item, status="draft")
    time.sleep(LIFETIME_S)

    refused(world.client.get(url_of(item)), 404, "not_found")


def test_that_it_was_not_found_is_not_kept(world: World) -> None:
    item = an_item(world, a_hall(world), status="draft")
    refused(world.client.get(url_of(item)), 404, "not_found")

    edit_elsewhere(world, item, status="open")

    assert page_of(world, item)["id"] == item["id"]


# --- edits of this process ------------------------------------------------------------------------------------------


def hides_the_item(world: World, item: Any) -> None:
    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json={"status": "draft"}, headers=world.staff()))


def closes_the_item(world: World, item: Any) -> None:
    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json={"status": "closed"}, headers=world.staff()))


def closes_the_hall(world: World, item: Any) -> None:
    shown(world.client.patch(f"{STAFF}/halls/{item['hall']['id']}", json={"status": "closed"}, headers=world.staff()))


@pytest.mark.parametrize("hide", [hides_the_item, closes_the_item, closes_the_hall])
def test_what_staff_hide_is_gone_at_once(world: World, hide: Callable[[World, Any], None]) -> None:
    item = an_item(world, a_hall(world))
    page_of(world, item)

    hide(world, item)

    refused(world.client.get(url_of(item)), 404, "not_found")


def test_staff_see_their_own_edits_at_once(world: World) -> None:
    category = a_category(world)
    item = an_item(world, a_hall(world), category_id=category["id"])
    day = a_day(world, item, in_days(1))
    staff = world.staff()
    page_of(world, item)

    shown(world.client.patch(f"{STAFF}/items/{item['id']}", json={"title": "换证"}, headers=staff))
    assert page_of(world, item)["title"] == "换证"

    shown(world.client.patch(f"{STAFF}/halls/{item['hall']['id']}", json={"name": "新厅"}, headers=staff))
    assert page_of(world, item)["hall"]["name"] == "新厅"

    shown(world.client.patch(f"{STAFF}/categories/{category['id']}", json={"name": "出入境"}, headers=staff))
    assert page_of(world, item)["category"]["name"] == "出入境"

    noted = {"note": "带照片", "slots": [MORNING]}
    shown(world.client.put(day_url(item, in_days(1)), json=noted, headers=staff | {"If-Match": day["etag"]}))
    assert page_of(world, item)["days"][0]["note"] == "带照片"

    filling = {"periods": [MORNING], "from": in_days(2).isoformat(), "to": in_days(3).isoformat()}
    shown(fill(world, item, **filling, holidays="ignore"))
    assert len(page_of(world, item)["days"]) == 3


# --- the clock ------------------------------------------------------------------------------------------------------


def test_everybody_sees_that_booking_opens_in_the_millisecond_in_which_it_does(world: World) -> None:
    opens = datetime(2027, 3, 8, 1, 0, tzinfo=UTC)  # 9:00 at the hall
    with time_machine.travel(opens - timedelta(days=1), tick=False):
        item = an_item(world, a_hall(world), rules={"opens_days_before": 2, "opens_at": "09:00"})
        a_day(world, item, datetime(2027, 3, 10, tzinfo=UTC).date(), MORNING)
        a_day(world, item, datetime(2027, 3, 11, tzinfo=UTC).date(), MORNING)

    def states_at(instant: datetime) -> set[tuple[str, ...]]:
        with time_machine.travel(instant, tick=False):
            answers = asyncio.run(ask_at_once(world, url_of(item), readers=20))
        return {tuple(slot["state"] for day in shown(answer)["days"] for slot in day["slots"]) for answer in answers}

    assert states_at(opens - timedelta(milliseconds=1)) == {("not_yet", "not_yet")}
    assert states_at(opens) == {("bookable", "not_yet")}


# --- ETag -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("having", ["{}", "W/{}", '"other", {}', '"other",W/{} , "x"', "*", '"a,b", {}'])
def test_who_has_it_already_is_not_sent_it_again(world: World, having: str) -> None:
    item = an_item(world, a_hall(world))
    etag = world.client.get(url_of(item)).headers["etag"]

    same = world.client.get(url_of(item), headers={"If-None-Match": having.format(etag)})

    assert (same.status_code, same.content) == (304, b"")
    assert (same.headers["etag"], same.headers["cache-control"]) == (etag, "no-cache")
    assert "content-type" not in same.headers


def test_if_none_match_may_come_in_several_lines(world: World) -> None:
    item = an_item(world, a_hall(world))
    etag = world.client.get(url_of(item)).headers["etag"]

    same = world.client.get(url_of(item), headers=[("If-None-Match", etag), ("If-None-Match", '"other"')])

    assert same.status_code == 304


@pytest.mark.parametrize("having", ['"other"', 'W/"other"', "", "nonsense"])
def test_who_has_something_else_is_sent_it(world: World, having: str) -> None:
    item = an_item(world, a_hall(world))

    answer = world.client.get(url_of(item), headers={"If-None-Match": having})

    assert shown(answer)["id"] == item["id"]
    assert answer.headers["cache-control"] == "no-cache"
    assert not answer.headers["etag"].startswith("W/")


def test_the_etag_is_of_the_content(world: World) -> None:
    item = an_item(world, a_hall(world))
    [slot] = a_day(world, item, in_days(1))["slots"]
    etag = world.client.get(url_of(item)).headers["etag"]
    other = elsewhere(world)
    transport = httpx2.ASGITransport(create_app(other))

    async def ask() -> str:
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.get(url_of(item))).headers["etag"]

    assert asyncio.run(ask()) == etag
    other.close()
    stat(world, slot, item, taken=1)
    changed = eventually(
        lambda: (
            (answer := world.client.get(url_of(item), headers={"If-None-Match": etag})).status_code == 200
            and answer.headers["etag"]
        )
    )
    assert changed != etag


# --- what stays as it was -------------------------------------------------------------------------------------------


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_database_that_hangs_is_told_before_the_request_is_given_up_and_nothing_old_is_shown(
    world: World, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = an_item(world, a_hall(world))
    page_of(world, item)
    database = world.runtimes["catalog"].db.engine.url.database
    engine = create_engine(make_url(cluster.postgres.superuser_url()).set(database=database))

    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE catalog.items IN ACCESS EXCLUSIVE MODE"))
        time.sleep(LIFETIME_S)
        with monkeypatch.context() as patch:
            patch.setattr(kept, "PATIENCE_S", 2.0)  # as it is outside of tests
            patch.setattr(edge, "PATIENCE_S", 3600.0)  # it would answer the same, but not before its time
            params = refused(world.client.get(url_of(item)), 503, "unavailable")
        still_waiting = connection.scalar(text(WAITING))
    engine.dispose()

    assert params == {}
    assert still_waiting == 1, "it was not PostgreSQL that gave up"
    assert page_of(world, item)["id"] == item["id"]


def test_later_days_are_kept_like_the_first(world: World) -> None:
    item = an_item(world, a_hall(world))
    a_day(world, item, in_days(1))
    a_day(world, item, in_days(2))

    answer = world.client.get(url_of(item), params={"from": in_days(2).isoformat()})
    same = world.client.get(
        url_of(item), params={"from": in_days(2).isoformat()}, headers={"If-None-Match": answer.headers["etag"]}
    )

    assert [day["date"] for day in shown(answer)["days"]] == [in_days(2).isoformat()]
    assert (same.status_code, same.content) == (304, b"")


def test_what_was_refused_is_refused(world: World) -> None:
    item = an_item(world, a_hall(world))
    client, english = world.client, {"Accept-Language": "en"}

    faults = refused(client.get(f"{url_of(item)}?form=1"), 422, "invalid")["faults"]
    assert faults == [{"field": "query.form", "reason": "unknown_parameter", "detail": "没有此参数"}]
    refused(client.get(f"{url_of(item)}?from=tomorrow"), 422, "invalid")
    refused(client.get(url_of(item), headers={"If-None-Match": "x" * 501}), 422, "invalid")
    refused(client.post(url_of(item)), 405, "method_not_allowed")
    refused(client.get(f"{API}/items/nonsense"), 404, "not_found")
    unknown = client.get(f"{API}/items/00000000-0000-7000-8000-000000000000", headers=english)
    refused(unknown, 404, "not_found")
    assert unknown.json()["detail"] == "There is nothing here under this address."
    assert unknown.json()["request_id"] == unknown.headers["x-request-id"]


def test_an_id_in_capitals_names_the_same_item(world: World) -> None:
    item = an_item(world, a_hall(world))

    assert shown(world.client.get(f"{API}/items/{item['id'].upper()}"))["id"] == item["id"]


def test_it_counts_under_its_route(world: World) -> None:
    item = an_item(world, a_hall(world))
    labels = {"service": "catalog", "method": "GET", "route": "/items/{item_id}"}

    def counted(status: str) -> float:
        return REGISTRY.get_sample_value("hallpass_http_requests_total", labels | {"status": status}) or 0

    before = {status: counted(status) for status in ("200", "304", "404")}
    etag = world.client.get(url_of(item)).headers["etag"]
    world.client.get(url_of(item), headers={"If-None-Match": etag})
    world.client.get(f"{API}/items/00000000-0000-7000-8000-000000000000")

    assert {status: counted(status) for status in before} == {status: one + 1 for status, one in before.items()}


def test_its_document_says_what_it_takes_and_answers(world: World) -> None:
    document = world.client.get(f"{API}/openapi.json").json()
    operation = document["paths"][f"{API}/items/{{item_id}}"]["get"]

    assert [parameter["name"] for parameter in operation["parameters"]] == ["item_id", "from", "If-None-Match"]
    assert set(operation["responses"]) == {"200", "304", "4XX", "503"} | {"422"} & set(operation["responses"])
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/PublicItem"}
