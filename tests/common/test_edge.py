"""The HTTP edge that every service shares."""

from tests.world import World


def test_an_unknown_address_is_a_problem_document_in_the_callers_language(world: World) -> None:
    answer = world.client.get("/api/catalog/nothing", headers={"Accept-Language": "en"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_the_default_language_is_chinese(world: World) -> None:
    answer = world.client.get("/api/catalog/nothing")

    assert answer.json()["detail"] == "没有找到相关内容"


def test_a_misspelled_parameter_is_refused_and_named_rather_than_passed_over(world: World) -> None:
    answer = world.client.get("/api/catalog/items?hall=1&q=x", headers={"Accept-Language": "en"})

    assert answer.status_code == 422
    assert answer.json()["params"]["faults"] == [{"field": "query.hall", "reason": "there is no such parameter"}]
