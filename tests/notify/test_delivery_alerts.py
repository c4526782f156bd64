"""Who watches is told that a channel is dead, by what its senders count when it is: hour by hour, on a clock of the test's own."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import Metric

from libs.common.clock import utcnow
from libs.common.ids import new_id
from services.notify import metrics
from services.notify.channels.email import EmailChannel
from services.notify.sender import Sender
from tests.common.receiver import nobody
from tests.deploy import rules
from tests.notify.reaching import MakeWorld, Town, a_town
from tests.notify.servers import MailServer

USER, PASSWORD = "notices", "a-mail-password"
HOUR = 60


class Watch:
    """A hall that sends mail, and what is read of its senders every minute."""

    def __init__(self, town: Town, *, port_of_nobody: int) -> None:
        self.town = town
        self.port_of_nobody = port_of_nobody
        self.user = new_id()
        self._runtime = town.world.runtimes["notify"]
        self._minutes = 0
        self._began = utcnow()
        self._series: defaultdict[str, list[float]] = defaultdict(list)
        town.confirm_email(self.user)
        self._runtime.service.loops(self._runtime)  # as the process that carries deliveries does
        self.connect(self._runtime.resources.mail.port)

    def connect(self, port: int) -> None:
        """Have the mail server at this port from now on."""
        server = replace(self._runtime.resources.mail, port=port)
        channel = EmailChannel(server, self._runtime.resources.sealer)
        self._sender = Sender(self._runtime.db, channel, clock=lambda: self._began + timedelta(minutes=self._minutes))

    def go_on(self, minutes: int, *, mail_every: int = 0) -> None:
        """Let so many minutes pass, with a mail to send in each of so many."""
        for minute in range(minutes):
            if mail_every and minute % mail_every == 0:
                self.town.tell(self.user)
            self._minutes += 1
            while (taken := self._sender.take()) is not None:
                self._sender.carry(taken)
            for metric in (metrics.DELIVERIES, metrics.DELIVERIES_PENDING, metrics.DELIVERIES_RETRYING):
                self._note(metric.collect())

    def _note(self, found: Iterable[Metric]) -> None:
        for sample in (sample for metric in found for sample in metric.samples):
            if sample.labels["channel"] == "email" and not sample.name.endswith("_created"):
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                self._series[f"{sample.name}{{{labels}}}"].append(sample.value)

    def alarms(self, folder: Path) -> set[str]:
        """Return what wakes somebody now, of what is said about deliveries."""
        series = {name: " ".join(f"{value:g}" for value in values) for name, values in self._series.items()}
        found = rules.fired(folder, series, minutes=self._minutes - 1)
        return {name for name in found if name.startswith("Deliveries")}


@pytest.fixture(scope="module", autouse=True)
def promtool_is_there() -> None:
    rules.ensure_promtool()


@pytest.fixture
def watch(make_world: MakeWorld) -> Iterator[Watch]:
    server = MailServer(login=(USER, PASSWORD))
    with nobody() as port, a_town(make_world, mail=server, smtp_user=USER, smtp_password=PASSWORD) as town:
        yield Watch(town, port_of_nobody=port)


def another_password(watch: Watch) -> None:
    watch.town.mail.login = (USER, "another password")


def nobody_there(watch: Watch) -> None:
    watch.connect(watch.port_of_nobody)


@pytest.mark.parametrize("fault", [another_password, nobody_there])
def test_a_dead_provider_is_told_of_in_a_small_hall(
    watch: Watch, tmp_path: Path, fault: Callable[[Watch], None]
) -> None:
    watch.go_on(HOUR, mail_every=20)
    well = watch.alarms(tmp_path)

    fault(watch)
    watch.go_on(2 * HOUR, mail_every=20)

    assert (well, watch.alarms(tmp_path)) == (set(), {"DeliveriesFail"})


def test_a_dead_provider_is_told_of_where_there_is_hardly_anything_to_send(watch: Watch, tmp_path: Path) -> None:
    watch.go_on(HOUR // 2, mail_every=HOUR)
    nobody_there(watch)

    watch.go_on(7 * HOUR, mail_every=2 * HOUR)

    assert watch.alarms(tmp_path) == {"DeliveriesFail"}


@pytest.mark.parametrize(("answers", "mail_every"), [(["550"], 30), (["550", "550"], 15), (["451"] * 10, 30)])
def test_an_odd_address_wakes_nobody(watch: Watch, tmp_path: Path, answers: list[str], mail_every: int) -> None:
    watch.go_on(10)
    watch.town.mail.next = answers

    watch.go_on(30, mail_every=mail_every)

    assert watch.alarms(tmp_path) == set()


def test_it_is_over_when_the_provider_is_back(watch: Watch, tmp_path: Path) -> None:
    another_password(watch)
    watch.go_on(HOUR, mail_every=5)
    dead = watch.alarms(tmp_path)

    watch.town.mail.login = (USER, PASSWORD)
    watch.go_on(2 * HOUR, mail_every=5)

    assert (dead, watch.alarms(tmp_path)) == ({"DeliveriesFail"}, set())
