"""The golden samples hold the contracts still: what was published once can be read for ever."""

import json
from pathlib import Path

import pytest

import libs.contracts
from deploy import registry
from libs.common.messages import Message
from libs.contracts import admin, booking, catalog, notify
from libs.contracts.envelope import Event

SAMPLES = Path(libs.contracts.__file__).parent / "samples"
EVENTS: dict[str, type[Event]] = {
    event.type: event for module in (catalog, booking, notify, admin) for event in module.EVENTS
}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_the_sample_reads_and_writes_as_it_stands(name: str) -> None:
    sample = json.loads((SAMPLES / f"{name}.json").read_text())

    message = Message.model_validate(sample)
    fact = EVENTS[name].model_validate(message.data)

    assert message.model_dump(mode="json") == sample
    assert fact.model_dump(mode="json") == sample["data"]
    assert (message.type, message.subject, message.version) == (name, fact.subject, fact.version)


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_a_reader_ignores_what_a_later_release_adds(name: str) -> None:
    sample = json.loads((SAMPLES / f"{name}.json").read_text())

    fact = EVENTS[name].model_validate(sample["data"] | {"added_later": {"x": 1}})

    assert fact.model_dump(mode="json") == sample["data"]


def test_there_is_no_sample_without_an_event() -> None:
    assert {path.stem for path in SAMPLES.glob("*.json")} == set(EVENTS)


def test_every_event_has_a_consumer() -> None:
    """A mandatory message that no queue takes would wait in the outbox for ever."""
    heard = {name for service in registry.every() for consumer in service.consumers for name in consumer.types}

    assert heard == set(EVENTS)
