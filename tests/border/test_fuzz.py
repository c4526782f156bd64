"""Whatever is sent to a route, it answers as its OpenAPI document says, and never with an error of ours."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.schemas import BaseSchema

from tests.admin.importing import XLSX
from tests.border.routes import ASKED, STAFF, USERS, asked
from tests.border.scene import Caller, Scene
from tests.world import World

# With all its routes and callers the whole takes half a minute of one core.
EXAMPLES = 12
EXAMPLES_FOR_WHO_IS_REFUSED = 2

schemathesis.serializer.alias(XLSX, "application/octet-stream")  # a workbook is bytes to it


@pytest.fixture(scope="module")
def documents(shared_world: World) -> dict[str, BaseSchema]:
    """Return what schemathesis made of each service's OpenAPI document."""
    return {
        name: schemathesis.openapi.from_asgi(f"/api/{name}/openapi.json", app)
        for name, app in shared_world.apps.items()
    }


@pytest.mark.parametrize("caller", [Caller.ANONYMOUS, Caller.USER, Caller.SUPER_ADMIN])
@pytest.mark.parametrize("route", ASKED)
def test_no_input_breaks_a_route(scene: Scene, documents: dict[str, BaseSchema], route: str, caller: Caller) -> None:
    method, _, path = route.partition(" ")
    operation = documents[path.split("/")[2]][path][method]
    is_spared = route in USERS and not USERS[route].spends
    who = scene.headers(caller) if is_spared else scene.newcomer(caller)
    ask = asked(route, scene, who)

    @settings(
        max_examples=EXAMPLES if is_let_in(route, caller) else EXAMPLES_FOR_WHO_IS_REFUSED,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation, scene.path | ask.path))
    def holds(case: Any) -> None:
        answer = case.call(headers=who | ask.headers)
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    holds()


def is_let_in(route: str, caller: Caller) -> bool:
    if route in STAFF:
        return caller == Caller.SUPER_ADMIN
    return caller == Caller.USER if route in USERS else caller == Caller.ANONYMOUS


def cases(operation: Any, path: dict[str, str]) -> st.SearchStrategy[Any]:
    """Generate requests that fit the document and such that do not, most of them about something that exists."""
    wanted = {parameter.name for parameter in operation.path_parameters}
    real = {name: value for name, value in path.items() if name in wanted} or None
    positive, negative = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    return st.one_of(
        operation.as_strategy(positive, path_parameters=real),
        operation.as_strategy(positive),
        operation.as_strategy(negative, path_parameters=real),
    )
