"""The runtimes of a process, built from its environment; what is wrong there is said in one sentence."""

import logging
import os

from joserfc.errors import JoseError
from sqlalchemy.exc import ArgumentError

from deploy import registry
from deploy.names import Refusal
from libs.common import logs, traces
from libs.common.service import Runtime, Service
from libs.common.settings import Settings, SettingsError


def settings_of(service: Service) -> Settings:
    """Read the service's settings from the environment, or raise Refusal."""
    try:
        return service.settings.load()
    except SettingsError as error:
        raise Refusal(str(error)) from None


def build(name: str, *, process: str) -> Runtime:
    """Build one service's runtime and send the logs of this process where its settings want them."""
    service = registry.one(name)
    settings = settings_of(service)
    logs.configure(process, settings.log_level)
    traces.configure(process, settings.otlp_endpoint, share=settings.otlp_share)
    return rebuild(service, settings)


def build_all(*, process: str, services: tuple[Service, ...]) -> list[Runtime]:
    """Build the runtimes of several services in one process."""
    settings = [settings_of(service) for service in services]
    logs.configure(process, settings[0].log_level)
    traces.configure(process, settings[0].otlp_endpoint, share=settings[0].otlp_share)
    return [rebuild(service, own) for service, own in zip(services, settings, strict=True)]


def rebuild(service: Service, settings: Settings) -> Runtime:
    """Build a runtime from settings that were read, or raise Refusal where they only look right."""
    try:
        return Runtime.build(service, settings)
    except (ArgumentError, JoseError, ValueError, TypeError, KeyError) as error:
        # The text of the error may quote the secret: its kind has to do.
        logging.getLogger(__name__).debug("refused settings", exc_info=error)
        raise Refusal(
            f"Settings of {service.name}: a URL or a key is malformed ({type(error).__name__}); "
            "compare them with what `make secrets` writes"
        ) from None


def required(name: str) -> str:
    """Return a variable of the environment that has to be there."""
    if value := os.environ.get(name):
        return value
    raise Refusal(f"{name} is missing; `make secrets` writes it")
