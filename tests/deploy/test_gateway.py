"""The embedded gateway: what goes to which service, and what nobody reaches from outside."""

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from deploy import front as front_module
from deploy import registry
from deploy.front import front
from deploy.gateway import Gateway
from deploy.health import Health
from deploy.names import PREFIXES, SERVICE_NAMES
from tests.world import World


@pytest.fixture
def gateway(world: World) -> TestClient:
    apps: dict[str, ASGIApp] = dict(world.apps)
    return TestClient(Gateway(apps, front(Health({}))), raise_server_exceptions=False)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_each_prefix_leads_to_its_service(gateway: TestClient, service: str) -> None:
    document = gateway.get(f"/api/{service}/openapi.json").json()

    assert document["info"]["title"] == f"Hallpass {registry.one(service).title}"
    assert all(path.startswith(f"/api/{service}/") for path in document["paths"])


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
@pytest.mark.parametrize("prefix", ["", "/api", "/api/", "/api/catalog", "/api/nowhere", "/catalog", "/api/../catalog"])
def test_health_and_metrics_of_a_service_are_not_reached_from_outside(
    gateway: TestClient, prefix: str, path: str
) -> None:
    answer = gateway.get(prefix + path)

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/", "/api/nowhere", "/api/catalogs", "/docs", "/docs/nowhere"]
)
def test_an_unknown_address_is_a_problem_document(gateway: TestClient, path: str) -> None:
    answer = gateway.get(path, headers={"Accept-Language": "en"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "There is nothing here under this address."
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_names_known_without_the_code_are_those_of_the_code() -> None:
    assert tuple(service.name for service in registry.every()) == SERVICE_NAMES
    assert {service.prefix: service.name for service in registry.every()} == PREFIXES
    assert set(front_module.SERVICES) == set(SERVICE_NAMES)
