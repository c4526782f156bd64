"""Whatever is written into a cursor that a list gave out, the list answers, or says that the cursor is none of its own."""

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from deploy import registry
from libs.common.ids import new_id
from tests.admin.builders import signed_in
from tests.booking.waiting import waiting
from tests.border.routes import STAFF, USERS
from tests.border.scene import PERIOD, Caller, Scene
from tests.catalog.builders import a_day, an_item
from tests.common.receiver import Receiver
from tests.notify.reaching import Providers
from tests.world import World

Query = dict[str, Any]

# Every list, with the queries that make it sort differently.
LISTS: dict[str, list[Query]] = {
    "GET /api/catalog/halls": [{}, {"near": "23.1,113.3"}],
    "GET /api/catalog/halls/{hall_id}/days": [{}],
    "GET /api/catalog/halls/{hall_id}/items": [{}],
    "GET /api/catalog/categories": [{}],
    "GET /api/catalog/items": [{}],
    "GET /api/catalog/staff/halls": [{}],
    "GET /api/catalog/staff/categories": [{}],
    "GET /api/catalog/staff/items": [{}],
    "GET /api/catalog/staff/items/{item_id}/days": [{}],
    "GET /api/catalog/staff/templates": [{}],
    "GET /api/catalog/staff/special-days": [{}],
    "GET /api/catalog/staff/closures": [{}],
    "GET /api/booking/joins": [{}, {"day": "today"}],
    "GET /api/booking/waits": [{}],
    "GET /api/booking/staff/slots/{slot_id}/waits": [{}],
    "GET /api/booking/staff/joins": [{}],
    "GET /api/booking/staff/affected": [{"item_id": "the item"}],
    "GET /api/booking/staff/users": [{}],
    "GET /api/booking/staff/slots/{slot_id}/door": [{}],
    "GET /api/booking/staff/feed/joins": [{}],
    "GET /api/booking/staff/feed/items": [{}],
    "GET /api/booking/staff/feed/users": [{}],
    "GET /api/notify/notices": [{}],
    "GET /api/notify/announcements": [{"hall_id": "the hall"}],
    "GET /api/notify/staff/announcements": [{}],
    "GET /api/notify/staff/deliveries": [{}],
    "GET /api/notify/staff/webhooks": [{}],
    "GET /api/notify/staff/webhooks/{webhook_id}/deliveries": [{}],
    "GET /api/notify/staff/webhooks/{webhook_id}/attempts": [{}],
    "GET /api/notify/staff/recounts": [{}],
    "GET /api/notify/staff/stats": [{"group": group} for group in ("slot", "item", "hall", "day")],
    "GET /api/notify/staff/feed/stats": [{"group": group} for group in ("slot", "item", "hall", "day")],
    "GET /api/admin/staff": [{}],
    "GET /api/admin/staff/{staff_id}/sessions": [{}],
    "GET /api/admin/sessions": [{}],
    "GET /api/admin/audit": [{}],
    "GET /api/admin/exports": [{}],
    "GET /api/admin/imports": [{}],
    **{f"GET /api/{service.name}/staff/dead-letters": [{}] for service in registry.every()},
}
STRANGE: list[Any] = [
    *(sign * 2**power for sign in (1, -1) for power in (15, 31, 32, 62, 63, 200)),
    *(0, -1, 1.5, 1e308, float("inf"), float("nan"), True, None, [], {}, ["x"], {"a": 1}),
    *("", " ", "\x00", "a\x00b", "\ud800", "a\udfff", "\U0010ffff", "'; --", "%", "x" * 300),
    *("0001-01-01", "9999-12-31", "10000-01-01", "0000-00-00", "-0001-01-01", "infinity", "now", "today"),
    *("0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"),
    *("2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00:00.000001", "2026-01-01T25:00:00Z", "2026-W01-1"),
    *("00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", new_id().replace("-", "")),
]


@pytest.fixture(scope="module")
def scene(shared_world: World, providers: Providers, bridge: Receiver) -> Scene:
    """A scene with at least two of everything that is listed."""
    scene = Scene(shared_world, providers, bridge)
    form = [{"key": "name", "type": "text", "label": "姓名"}]
    for hall, in_days in ((scene.hall, 0), (scene.other_hall, 2)):  # in its own zone the other hall may be closing
        item = an_item(shared_world, hall, category_id=scene.a_category(), form=form)
        for day in (in_days, in_days + 1):
            [slot] = a_day(shared_world, item, scene.today + timedelta(days=day), PERIOD)["slots"]
            shared_world.settle()
            scene.a_join(slot)
    scene.a_join(scene.next_slot)
    scene.a_join()
    scene.a_template()
    scene.a_special_day()
    scene.a_closure()
    scene.an_announcement()
    scene.a_webhook()
    scene.a_wait()
    waited_for = scene.a_wait()["slot"]["id"]
    waiting(shared_world, shared_world.user("next"), waited_for)
    scene.waited_for = waited_for
    chief = scene.headers(Caller.SUPER_ADMIN)
    for _ in range(2):
        scene.an_export(chief)
        signed_in(shared_world, shared_world.client.get("/api/admin/me", headers=chief).json()["username"])
        signed_in(shared_world, scene.clerk["username"])
        scene.an_import_job(chief)
        scene.a_delivery()
        scene.a_webhook_call()
        scene.a_recount()
    shared_world.settle()
    for service in registry.every():
        for _ in range(2):
            scene.a_dead_letter(service.name)
    return scene


def asked(scene: Scene, route: str, query: Query, **more: Any) -> Any:
    """Ask for a page of one, as somebody who may see the list."""
    caller = Caller.SUPER_ADMIN if route in STAFF else Caller.USER if route in USERS else Caller.ANONYMOUS
    meant = {"today": scene.today.isoformat(), "the hall": scene.hall["id"], "the item": scene.item["id"]}
    params = {name: meant.get(value, value) for name, value in query.items()} | {"limit": 1} | more
    slot_id = scene.waited_for if route.endswith("/waits") else scene.slot["id"]
    path = route.partition(" ")[2].format(**scene.path | {"slot_id": slot_id})
    return scene.world.client.get(path, params=params, headers=scene.headers(caller))


def spelled(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def read(cursor: str) -> list[Any]:
    found: list[Any] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    return found


def mutations(values: list[Any]) -> Iterator[Any]:
    """Yield contents of a cursor that differ from a real one in one value, or in their shape."""
    for strange in STRANGE:
        for place in range(len(values)):
            yield [*values[:place], strange, *values[place + 1 :]]
    yield from (None, True, 1, "x", [], [[]])
    yield values[:-1]
    yield [*values, values[-1]]
    yield dict(enumerate(values))


def test_every_list_is_in_the_table(shared_world: World) -> None:
    listed = {
        f"GET {path}"
        for service in registry.every()
        for path, operations in shared_world.client.get(f"{service.prefix}/openapi.json").json()["paths"].items()
        if any(parameter["name"] == "cursor" for parameter in operations.get("get", {}).get("parameters", []))
    }

    assert set(LISTS) == listed


@pytest.mark.parametrize(("route", "query"), [(route, query) for route, queries in LISTS.items() for query in queries])
def test_no_content_of_a_cursor_breaks_a_list(scene: Scene, route: str, query: Query) -> None:
    first = asked(scene, route, query)
    assert first.status_code == 200, first.text
    real: str = first.json()["next_cursor"]
    assert asked(scene, route, query, cursor=real).status_code == 200

    for content in mutations(read(real)):
        answer = asked(scene, route, query, cursor=spelled(content)[:1000])

        assert answer.status_code == 200 or answer.json()["code"] == "bad_cursor", (content, answer.text)


@pytest.mark.parametrize("cursor", ["", "=", "!", "AA", "W10", "bnVsbA", "eyJhIjoxfQ", "中", "\x00", "W1siXV0" * 100])
@pytest.mark.parametrize("route", LISTS)
def test_what_is_no_cursor_at_all_is_told_as_such(scene: Scene, route: str, cursor: str) -> None:
    answer = asked(scene, route, LISTS[route][0], cursor=cursor)

    assert answer.status_code == 422, answer.text
