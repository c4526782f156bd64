"""An export on a distributed installation: asked for at the gateway, made by a worker, fetched at the gateway."""

from deploy.native import Native
from tests.admin.exporting import records, sheets
from tests.distributed.town import Town
from tests.world import eventually


def test_an_export_is_made_by_its_worker_and_fetched_by_its_link(native: Native, town: Town) -> None:
    slot = town.slot()
    joins = {town.book(town.user(), slot) for _ in range(3)}
    codes = {town.get(f"booking/staff/joins/{join}", town.staff).json()["code"] for join in joins}
    body = {"kind": "joins", "filter": {"item_id": slot.item_id}}

    asked = town.post("admin/exports", town.staff, body).json()
    eventually(lambda: town.get(f"admin/exports/{asked['id']}", town.staff).json()["state"] == "done", timeout_s=60)
    url = town.post(f"admin/exports/{asked['id']}/links", town.staff).json()["url"]
    fetched = town.http.get(url)

    assert fetched.status_code == 200
    assert {row["预约码"] for row in records(sheets(fetched.content)["办证"])} == codes
    assert "key=" not in native.log("access").read_text()
