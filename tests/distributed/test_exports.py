"""An export on a distributed installation: asked for at the gateway, made by a worker, fetched at the gateway."""

from deploy.native import Native
from tests.admin.exporting import records, sheets
from tests.distributed.town import Town, patiently
from tests.world import eventually


def test_an_export_is_made_by_its_worker_and_fetched_by_its_link(native: Native, town: Town) -> None:
    slot = town.slot()
    joins = {town.book(town.user(), slot) for _ in range(3)}
    codes = {town.found(f"booking/staff/joins/{join}", town.staff)["code"] for join in joins}
    body = {"kind": "joins", "filter": {"item_id": slot.item_id}}

    asked = patiently(lambda: town.post("admin/exports", town.staff, body)).json()
    eventually(lambda: town.found(f"admin/exports/{asked['id']}", town.staff)["state"] == "done", timeout_s=120)
    url = patiently(lambda: town.post(f"admin/exports/{asked['id']}/links", town.staff)).json()["url"]
    fetched = patiently(lambda: town.http.get(url))

    assert fetched.status_code == 200
    assert {row["预约码"] for row in records(sheets(fetched.content)["办证"])} == codes
    assert "key=" not in native.log("access").read_text()
