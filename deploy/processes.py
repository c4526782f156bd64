"""The processes of the distributed run: one service's API, one service's events."""

import signal
import threading

from deploy import ops, runtimes
from deploy.loops import Loops
from deploy.names import Refusal
from deploy.serve import BackgroundServer, NoServer, listen, serve
from libs.common import outbox
from libs.common.bus_rabbit import RabbitConsumer, RabbitPublisher
from libs.common.logs import logger
from libs.common.service import Runtime
from libs.common.web import create_app

log = logger(__name__)


def api(service: str, *, host: str, port: int) -> int:
    """Serve one service's routes until told to stop."""
    runtime = runtimes.build(service, process=f"{service}-api")
    runtime.service.start(runtime)
    ops.watch_connections(runtime)
    serve(create_app(runtime), listen(host, port), trusted_proxies=runtime.settings.trusted_proxies)
    runtime.close()
    return 0


def events(service: str, *, host: str, ops_port: int | None) -> int:
    """Relay one service's events to RabbitMQ and consume those it hears, until told to stop."""
    runtime = runtimes.build(service, process=f"{service}-events")
    url = broker_url(runtime)
    operators = BackgroundServer(ops.ops_app(runtime), listen(host, ops_port)) if ops_port else NoServer()
    publisher = RabbitPublisher(url, name=f"hallpass-{service}-relay")
    relay = outbox.Relay(runtime.db, publisher, source=service, poll_s=runtime.settings.outbox_poll_ms / 1000)
    consumers = [
        RabbitConsumer(url, consumer, runtime.db, retry_delays_s=runtime.settings.retry_delays_s)
        for consumer in runtime.service.consumers
    ]
    ops.watch_service(runtime, consumers)
    loops = Loops([relay, *consumers])
    stopping = stop_signal()
    loops.start()
    operators.start()
    log.info("events flow", consumers=[consumer.consumer.name for consumer in consumers])
    stopping.wait()
    loops.stop()
    publisher.close()
    operators.stop()
    runtime.close()
    return 0


def loops(service: str, *, host: str, ops_port: int | None) -> int:
    """Run the loops of one service until told to stop."""
    runtime = runtimes.build(service, process=f"{service}-loops")
    found = runtime.service.loops(runtime)
    if not found:
        raise Refusal(f"{service} has no loops.")
    operators = BackgroundServer(ops.ops_app(runtime), listen(host, ops_port)) if ops_port else NoServer()
    running = Loops([*found])
    stopping = stop_signal()
    running.start()
    operators.start()
    log.info("loops run", loops=len(found))
    stopping.wait()
    running.stop()
    operators.stop()
    runtime.close()
    return 0


def republish(service: str) -> int:
    """Record everything a service owns as events once more, for services that start empty or fell behind."""
    runtime = runtimes.build(service, process=f"{service}-republish")
    facts_of = runtime.service.republish
    if facts_of is None:
        raise Refusal(f"{service} owns nothing that others keep copies of: there is nothing to publish again.")
    count = outbox.republish(runtime.db, facts_of)
    print(f"{count} events of {service} are recorded and on their way.")
    runtime.close()
    return 0


def stop_signal() -> threading.Event:
    """Return an event that is set when the process is asked to end."""
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    return stopping


def broker_url(runtime: Runtime) -> str:
    """Return where the broker is, or raise Refusal."""
    if runtime.settings.broker_url is None:
        raise Refusal("HALLPASS_BROKER_URL is missing; `make secrets` writes it")
    url: str = runtime.settings.broker_url.get_secret_value()
    return url
