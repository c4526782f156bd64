"""The services of the product. The code of each is loaded when it is asked for: most processes are of one."""

from functools import cache
from importlib import import_module

from deploy.names import SERVICE_NAMES
from libs.common.service import Service


@cache
def one(name: str) -> Service:
    """Return a service by its name; KeyError where there is none of that name."""
    if name not in SERVICE_NAMES:
        raise KeyError(name)
    service: Service = import_module(f"services.{name}.service").service
    return service


def every() -> tuple[Service, ...]:
    """Return all of them, in the order in which the ring runs."""
    return tuple(map(one, SERVICE_NAMES))
