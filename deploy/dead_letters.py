"""`python -m deploy dead-letters`: what no retry could do, sending it again when its cause is mended, or dropping it."""

from collections.abc import Iterator
from contextlib import contextmanager

from deploy import registry, runtimes
from deploy.names import Refusal
from libs.common import dead_letters
from libs.common.bus_rabbit import BrokerDown
from libs.common.dead_letters import DeadLetters, InUse
from libs.contracts.audit import OPERATOR
from libs.contracts.dead_letter_routes import noting

SERVICE_OF = {consumer.name: service.name for service in registry.every() for consumer in service.consumers}


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
        sent = letters.replay(noting(OPERATOR, "replayed", consumer), ids or None)
    print(f"{len(sent)} messages are on their way to {consumer}.")
    _refuse_missing(consumer, ids, sent)
    return 0


def drop(consumer: str, ids: list[str], *, reason: str) -> int:
    """Drop these dead letters of a consumer for good."""
    if not ids or not reason.strip():
        raise Refusal("What is to be dropped is named by --id, and why by --reason: what it says will never be done.")
    with _of(consumer) as letters:
        dropped = letters.drop(noting(OPERATOR, "dropped", consumer, reason=reason), ids)
    print(f"{len(dropped)} messages to {consumer} are gone.")
    _refuse_missing(consumer, ids, dropped)
    return 0


def _refuse_missing(consumer: str, ids: list[str], found: list[str]) -> None:
    if missing := sorted(set(ids) - set(found)):
        raise Refusal(f"Among the dead letters of {consumer} there is no {', '.join(missing)}.")


@contextmanager
def _of(consumer: str) -> Iterator[DeadLetters]:
    if consumer not in SERVICE_OF:
        raise Refusal(f"There is no consumer {consumer}; there are: {', '.join(sorted(SERVICE_OF))}.")
    runtime = runtimes.build(SERVICE_OF[consumer], process="dead-letters")
    try:
        yield dead_letters.of(runtime, consumer)
    except (BrokerDown, InUse) as error:
        raise Refusal(f"The dead letters of {consumer} can't be had: {error}") from None
    finally:
        runtime.close()
