"""`python -m deploy dead-letters`: what no retry could do, and sending it again when its cause is mended."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploy import runtimes
from deploy.names import Refusal
from deploy.processes import broker_url
from deploy.registry import SERVICES
from libs.common.bus_rabbit import BrokerDown
from libs.common.dead_letters import DeadLetters, LocalDeadLetters, RabbitDeadLetters

SERVICE_OF = {consumer.name: service.name for service in SERVICES for consumer in service.consumers}


def show(consumer: str) -> int:
    """Print a consumer's dead letters, one a line; of their content only what names them."""
    with _of(consumer) as letters:
        found = letters.all()
    for letter in found:
        when = letter.parked_at.isoformat(timespec="seconds") if letter.parked_at else "?"
        print("\t".join([letter.id, letter.type, letter.subject, when, " ".join(letter.error.split())]))
    if not found:
        print(f"{consumer} has no dead letters.")
    return 0


def replay(consumer: str, ids: list[str]) -> int:
    """Send a consumer's dead letters to it again: those named, or all."""
    with _of(consumer) as letters:
        sent = letters.replay(ids or None)
    print(f"{len(sent)} messages are on their way to {consumer}.")
    if missing := sorted(set(ids) - set(sent)):
        raise Refusal(f"Among the dead letters of {consumer} there is no {', '.join(missing)}.")
    return 0


@contextmanager
def _of(consumer: str) -> Iterator[DeadLetters]:
    if consumer not in SERVICE_OF:
        raise Refusal(f"There is no consumer {consumer}; there are: {', '.join(sorted(SERVICE_OF))}.")
    runtime = runtimes.build(SERVICE_OF[consumer], process="dead-letters")
    try:
        if runtime.settings.mode == "embedded":
            yield LocalDeadLetters(runtime.db, consumer)
        else:
            yield RabbitDeadLetters(broker_url(runtime), consumer)
    except BrokerDown as error:
        raise Refusal(f"The dead letters of {consumer} can't be had: {error}") from None
    finally:
        runtime.close()
