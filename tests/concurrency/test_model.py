"""Whatever people, staff and the operator do one after another, the product answers and counts as the model does."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal

import httpx2
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row
from redis import Redis

from libs.common.ids import new_id
from libs.common.messages import Message
from libs.contracts.catalog import FieldType, FormField, Rules, SlotStatus
from libs.contracts.envelope import Event
from services.booking import lines
from services.booking.counter_applier import Applier
from services.booking.counters import Count, Counters
from tests.booking.builders import NAME, Place
from tests.concurrency.controls import with_redis_as_the_truth, with_unversioned_applies
from tests.concurrency.model import JOIN_NOT_FOUND, SLOT_NOT_FOUND, Answer, Happened, Model, Request, Slot, Taken
from tests.conftest import Cluster
from tests.world import World, eventually

EXAMPLES = int(os.environ.get("HALLPASS_TEST_MODEL_EXAMPLES", "500"))
STEPS = int(os.environ.get("HALLPASS_TEST_MODEL_STEPS", "30"))
PARTS = max(4, EXAMPLES // 250)  # of the examples: workers share them, and none fills its database or its memory

USERS = 3
SLOTS = 3
PARTY_MAX = 3
MAX_PER_SLOT = 3
MAX_WAITING = 2
BADGE = FormField(key="badge", type=FieldType.DIGITS, label="证号", required=False, unique="slot", sensitive=True)
RULES: dict[str, Any] = {
    "cancel": "anytime",
    "party_max": PARTY_MAX,
    "max_per_slot": MAX_PER_SLOT,
    "max_waiting": MAX_WAITING,
}

capacities = st.sampled_from([3, 2, 4, 1, 6, 0, None])  # few enough to be full now and then
users = st.integers(0, USERS - 1)
slots = st.integers(0, SLOTS - 1)
picks = st.integers(0, 30)
badges = st.sampled_from([None, None, None, "1", "2"])
keys = st.sampled_from(["", "a", "b"])  # empty: a key that nobody used before
parties = st.one_of(
    st.tuples(badges),
    st.tuples(badges, badges),
    st.tuples(badges, badges, badges),
    st.tuples(badges, badges, badges),
    st.sampled_from([(), (None,) * (PARTY_MAX + 1)]),
)
requests = st.builds(Request, slots, parties, st.sampled_from([False] * 5 + [True]))


class Stage:
    """What all examples share: a world, its users and staff, and an eye on the tables of booking."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.users = [world.user(f"user {number}") for number in range(USERS)]
        self.redis = Redis.from_url(world.runtimes["booking"].settings.redis_url.get_secret_value())
        url = world.runtimes["booking"].settings.database_url.get_secret_value()
        self._eye = psycopg.connect(url.replace("+psycopg", ""), autocommit=True, row_factory=dict_row)

    def restart(self) -> None:
        self.world = self.world.restarted()

    def close(self) -> None:
        self._eye.close()
        self.redis.close()
        self.world.close()

    @property
    def staff(self) -> dict[str, str]:
        return self.world.staff()  # their tokens live a quarter of an hour, and many examples take longer

    @property
    def counters(self) -> Applier:
        found: Counters = self.world.runtimes["booking"].resources.counters
        assert found.applier is not None
        return found.applier

    def user_post(self, user: int, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        return self.world.client.post(f"/api/booking/{path}", headers=self.users[user] | headers, json=body)

    def staff_post(self, path: str, body: Any = None) -> httpx2.Response:
        return self.world.client.post(f"/api/booking/staff/{path}", headers=self.staff, json=body)

    def tell(self, *facts: Event) -> None:
        """Let booking hear what catalog says, all in one transaction."""
        booking = self.world.runtimes["booking"]
        with booking.db.transaction() as session:
            for fact in facts:
                message = Message(
                    id=new_id(),
                    type=fact.type,
                    source="catalog",
                    subject=fact.subject,
                    time=datetime.now(UTC),
                    version=fact.version,
                    data=fact.model_dump(mode="json"),
                )
                booking.service.consumers[0].handle(session, [message])

    def serve(self, slot_id: str) -> None:
        """Return when nothing is left to do in the line of a slot."""
        lines.serve(self.world.runtimes["booking"], slot_id, now=datetime.now(UTC))

    def make_due(self, wait_id: str) -> None:
        """Let the time be over in which an offer could be accepted."""
        self._eye.execute("UPDATE waits SET offered_until = now() WHERE id = %s", [wait_id])

    def tell_redis_late(self, count: Count) -> None:
        self.counters.start()
        epoch = eventually(lambda: self.counters.epoch)
        self.counters.read_now([count.slot_id])
        self.counters.tell_now(epoch, [count], is_reading=False)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return self._eye.execute(query, values).fetchall()


class Booking(RuleBasedStateMachine):
    """One item with three slots. Every step is taken in the product and in the model; then both are compared.

    Each request passes the atomic counters, as in a crowd. Redis has heard of a step before the next one begins: a refusal
    that was true a moment ago is allowed, but not here.
    """

    stage: Stage  # set by the test
    patience_s = 30.0  # until Redis has heard

    @initialize(asked=st.tuples(capacities, capacities, capacities), waitlist=st.sampled_from(["take", "offer"]))
    def open(self, asked: tuple[int | None, ...], waitlist: Literal["take", "offer"]) -> None:
        slots = [Slot(capacity, capacity) for capacity in asked]
        self.model = Model(PARTY_MAX, MAX_PER_SLOT, slots, max_waiting=MAX_WAITING, offers=waitlist == "offer")
        place = Place(self.stage.world)
        rules = Rules(**RULES, waitlist=waitlist)
        item = place.item.model_copy(update={"form": [NAME, BADGE], "rules": rules})
        self.facts = [place.slot.model_copy(update={"slot_id": new_id(), "capacity": capacity}) for capacity in asked]
        self.stage.tell(place.hall, item, *self.facts)
        self.name = new_id()
        self.ids: list[str] = []
        self.codes: list[str] = []
        self.waits: list[str] = []
        self.versions = [0] * SLOTS
        self.counts: list[Count] = []
        self.fresh = count()
        self.steps = 0
        [last] = self.stage.rows("SELECT coalesce(max(position), 0) AS position FROM outbox")
        self.position = last["position"]

    # --- what users do ---

    @rule()
    def book_where_nobody_has_for_long(self) -> None:
        """The simplest rule is the one that is chosen most."""
        number = next(self.fresh)
        self._book(number % USERS, f"fresh-{number}", Request(number // USERS % SLOTS, (None,)))

    @rule(user=users, key=keys, request=requests)
    def book(self, user: int, key: str, request: Request) -> None:
        self._book(user, key or f"fresh-{next(self.fresh)}", request)

    @rule(user=users, slot=slots, badge=badges)
    def book_for_oneself(self, user: int, slot: int, badge: str | None) -> None:
        self._book(user, f"fresh-{next(self.fresh)}", Request(slot, (badge,)))

    @precondition(lambda self: self.model.successes)
    @rule(pick=picks)
    def repeat_a_success(self, pick: int) -> None:
        (user, key), success = list(self.model.successes.items())[pick % len(self.model.successes)]
        self._book(user, key, success.request)

    @precondition(lambda self: self.model.successes)
    @rule(pick=picks, request=requests)
    def use_a_key_again(self, pick: int, request: Request) -> None:
        user, key = list(self.model.successes)[pick % len(self.model.successes)]
        self._book(user, key, request)

    def _book(self, user: int, key: str, request: Request) -> None:
        slot_id = self.facts[request.slot].slot_id
        name = {} if request.faulty else {"name": "张三"}
        attendees = [{"answers": name | ({"badge": badge} if badge else {})} for badge in request.badges]
        body = {"slot_id": slot_id, "attendees": attendees}

        answer = self.stage.user_post(user, "joins", body, **{"Idempotency-Key": f"{self.name}-{key}"})

        expected = [self.model.book(user, key, request)]
        known = self.model.slots[request.slot]
        if expected[0].code == "idempotency_key_reused" and not known.has_room_for(len(request.badges)):
            expected.append(self.model.refusal(user, request))  # a counter knows the holders of its slot, and no keys
        self._check(answer, *expected)
        if answer.is_error and answer.json()["code"] == "slot_full":
            assert known.left is not None
            assert answer.json()["params"]["left"] == max(0, known.left)
        if answer.status_code == 201:
            joins = answer.json()["joins"]
            numbers = self.model.successes[user, key].joins
            if numbers[0] == len(self.ids):
                self.ids += [join["id"] for join in joins]
                self.codes += [join["code"] for join in joins]
            assert [join["id"] for join in joins] == [self.ids[number] for number in numbers]
            assert {join["status"] for join in joins} == {"booked"}

    @precondition(lambda self: self.ids)
    @rule(pick=picks, stranger=st.sampled_from([False] * 7 + [True]))
    def cancel(self, pick: int, stranger: bool) -> None:
        join = self._pick(pick)
        user = (self.model.joins[join].user + stranger) % USERS
        answer = self.stage.user_post(user, f"joins/{self.ids[join]}/cancel")
        self._check(answer, self.model.cancel(user, join))

    @precondition(lambda self: self.ids)
    @rule(pick=picks, slot=slots, stranger=st.sampled_from([False] * 7 + [True]))
    def move(self, pick: int, slot: int, stranger: bool) -> None:
        join = self._pick(pick)
        user = (self.model.joins[join].user + stranger) % USERS
        answer = self.stage.user_post(user, f"joins/{self.ids[join]}/move", {"slot_id": self.facts[slot].slot_id})
        self._check(answer, self.model.move(user, join, slot))

    @precondition(lambda self: self.steps % 5 == 0)
    @rule(user=users, slot=slots, what=st.sampled_from(["book", "cancel", "move"]))
    def ask_for_what_is_not_there(self, user: int, slot: int, what: str) -> None:
        if what == "book":
            body = {"slot_id": new_id(), "attendees": [{"answers": {"name": "张三"}}]}
            self._check(self.stage.user_post(user, "joins", body, **{"Idempotency-Key": new_id()}), SLOT_NOT_FOUND)
        elif what == "cancel":
            self._check(self.stage.user_post(user, f"joins/{new_id()}/cancel"), JOIN_NOT_FOUND)
        else:
            body = {"slot_id": self.facts[slot].slot_id}
            self._check(self.stage.user_post(user, f"joins/{new_id()}/move", body), JOIN_NOT_FOUND)

    # --- waiting ---

    @rule()
    def wait_where_nobody_has_for_long(self) -> None:
        number = next(self.fresh)
        self._wait(number % USERS, Request(number // USERS % SLOTS, (None,)))

    @rule(user=users, request=requests)
    def wait(self, user: int, request: Request) -> None:
        self._wait(user, request)

    @precondition(lambda self: self._roomy)
    @rule(user=users, pick=picks)
    def wait_with_more_people_than_there_is_room_for(self, user: int, pick: int) -> None:
        """A party that smaller ones may pass."""
        slot, left = self._roomy[pick % len(self._roomy)]
        self._wait(user, Request(slot, (None,) * (left + 1)))

    @property
    def _roomy(self) -> list[tuple[int, int]]:
        """The slots that have room for some, but not for every party, with how many."""
        return [(n, slot.left) for n, slot in enumerate(self.model.slots) if slot.left and slot.left < PARTY_MAX]

    def _wait(self, user: int, request: Request) -> None:
        name = {} if request.faulty else {"name": "张三"}
        attendees = [{"answers": name | ({"badge": badge} if badge else {})} for badge in request.badges]
        path = f"slots/{self.facts[request.slot].slot_id}/wait"
        answer = self.stage.user_post(user, path, {"attendees": attendees}, **{"Idempotency-Key": new_id()})
        self._check(answer, self.model.wait(user, request))
        if answer.status_code == 201:
            self.waits.append(answer.json()["id"])

    @precondition(lambda self: self.waits)
    @rule(pick=picks, stranger=st.sampled_from([False] * 7 + [True]))
    def accept(self, pick: int, stranger: bool) -> None:
        wait = len(self.waits) - 1 - pick % len(self.waits)
        user = (self.model.waits[wait].user + stranger) % USERS
        answer = self.stage.user_post(user, f"waits/{self.waits[wait]}/accept")
        self._check(answer, self.model.accept(user, wait))
        if answer.status_code == 200:
            self._keep_joins_of(wait)
            assert [join["id"] for join in answer.json()["joins"]] == [
                self.ids[number] for number in self.model.waits[wait].joins
            ]

    @precondition(lambda self: self.waits)
    @rule(pick=picks, stranger=st.sampled_from([False] * 7 + [True]))
    def leave(self, pick: int, stranger: bool) -> None:
        wait = len(self.waits) - 1 - pick % len(self.waits)
        user = (self.model.waits[wait].user + stranger) % USERS
        answer = self.stage.user_post(user, f"waits/{self.waits[wait]}/leave")
        self._check(answer, self.model.leave(user, wait))

    @precondition(lambda self: any(wait.is_offered and not wait.outcome for wait in self.model.waits))
    @rule(pick=picks)
    def let_an_offer_expire(self, pick: int) -> None:
        offered = [n for n, wait in enumerate(self.model.waits) if wait.is_offered and not wait.outcome]
        wait = offered[pick % len(offered)]
        self.stage.make_due(self.waits[wait])
        self.model.waits[wait].is_due = True

    def _keep_joins_of(self, wait: int) -> None:
        """Learn which joins a party got by waiting."""
        if self.model.waits[wait].joins[0] < len(self.ids):
            return
        rows = self.stage.rows(
            "SELECT j.id::text, j.code FROM joins j JOIN waits w USING (party_id) WHERE w.id = %s ORDER BY j.id",
            self.waits[wait],
        )
        self.ids += [row["id"] for row in rows]
        self.codes += [row["code"] for row in rows]

    # --- what staff do ---

    @precondition(lambda self: self.ids)
    @rule(pick=picks)
    def revoke(self, pick: int) -> None:
        join = self._pick(pick)
        answer = self.stage.staff_post(f"joins/{self.ids[join]}/revoke", {"reason": "设备检修"})
        self._check(answer, self.model.revoke(join))

    @precondition(lambda self: self.steps % 3 == 0)
    @rule(slot=slots)
    def revoke_a_slot(self, slot: int) -> None:
        answer = self.stage.staff_post(f"slots/{self.facts[slot].slot_id}/revoke", {"reason": "设备检修"})
        revoked, kept = self.model.revoke_slot(slot)
        assert answer.json() == {"revoked": revoked, "kept_checked_in": kept, "not_booked": 0}

    @precondition(lambda self: self.ids)
    @rule(pick=picks)
    def restore(self, pick: int) -> None:
        join = self._pick(pick)
        self._check(self.stage.staff_post(f"joins/{self.ids[join]}/restore"), self.model.restore(join))

    @precondition(lambda self: self.ids)
    @rule(pick=picks)
    def check_in(self, pick: int) -> None:
        join = self._pick(pick)
        answer = self.stage.staff_post("check-ins", {"code": self.codes[join], "override": True, "reason": "提前到场"})
        self._check(answer, self.model.check_in(join))

    @precondition(lambda self: self.ids)
    @rule(pick=picks)
    def undo_a_check_in(self, pick: int) -> None:
        join = self._pick(pick)
        answer = self.stage.staff_post("check-ins/undo", {"join_id": self.ids[join], "reason": "看错人"})
        self._check(answer, self.model.undo(join))

    # --- what catalog says, and what becomes of the servers ---

    @rule(slot=slots, asked=capacities)
    def change_the_capacity(self, slot: int, asked: int | None) -> None:
        self._change(slot, capacity=asked)
        self.model.slots[slot].define(asked)

    @rule(slot=slots)
    def close_or_open(self, slot: int) -> None:
        """One slot is closed at a time, so that there is something to book."""
        slot = next((number for number, known in enumerate(self.model.slots) if not known.is_open), slot)
        known = self.model.slots[slot]
        known.is_open = not known.is_open
        self._change(slot, status=SlotStatus.OPEN if known.is_open else SlotStatus.CLOSED)

    @rule(slot=slots)
    def hear_old_news(self, slot: int) -> None:
        """Catalog's first word on the slot comes once more, late."""
        self.stage.tell(self.facts[slot].model_copy(update={"version": 0, "capacity": 0, "status": SlotStatus.CLOSED}))

    @precondition(lambda self: self.steps % 3 == 0)
    @rule()
    def lose_redis(self) -> None:
        self.stage.redis.flushall()

    @precondition(lambda self: self.counts)
    @rule(pick=picks)
    def tell_an_old_count_again(self, pick: int) -> None:
        """What another process had to say comes late, to a counter that has heard more since."""
        self.stage.tell_redis_late(self.counts[-1 - pick % len(self.counts)])

    @precondition(lambda self: self.steps % 5 == 0)
    @rule()
    def restart(self) -> None:
        self.stage.restart()

    def _change(self, slot: int, **changes: Any) -> None:
        fact = self.facts[slot]
        self.facts[slot] = fact.model_copy(update=changes | {"version": fact.version + 1})
        self.stage.tell(self.facts[slot])

    # --- both say the same ---

    @invariant()
    def both_say_the_same(self) -> None:
        self.steps += 1
        for slot in {wait.slot for wait in self.model.waits if not wait.outcome}:
            self.stage.serve(self.facts[slot].slot_id)
        for wait in self.model.serve():
            self._keep_joins_of(wait)
        self._lines_are_alike()
        self._slots_are_counted_alike()
        self._joins_are_alike()
        self._events_are_alike()
        eventually(self._counters_are_silent_or_alike, timeout_s=self.patience_s)

    def _slots_are_counted_alike(self) -> None:
        rows = self.stage.rows(
            "SELECT id::text, taken, held, waiting, capacity, asked, status, version FROM slots WHERE id = ANY(%s)",
            self._slot_ids,
        )
        found = {row["id"]: row for row in rows}
        for number, (slot_id, known) in enumerate(zip(self._slot_ids, self.model.slots, strict=True)):
            row = found[slot_id]
            assert row["taken"] == known.taken == self.model.people_booked(number)
            assert (row["held"], row["waiting"]) == (known.held, known.waiting)
            assert known.capacity is None or known.taken + known.held <= known.capacity
            assert (row["capacity"], row["asked"]) == (known.capacity, known.asked)
            assert (row["status"] == "open") == known.is_open
            assert row["version"] >= self.versions[number]
            self.versions[number] = row["version"]
            self.counts.append(_count(row))

    def _counters_are_silent_or_alike(self) -> bool:
        """Redis knows nothing of a slot, or what PostgreSQL does."""
        told = self.stage.counters.records(self._slot_ids)
        return all(
            (record := told.get(slot_id)) is None
            or ((record.version, record.capacity) == (version, known.capacity) and record.taken == known.spoken_for)
            for slot_id, version, known in zip(self._slot_ids, self.versions, self.model.slots, strict=True)
        )

    def _lines_are_alike(self) -> None:
        rows = self.stage.rows(
            "SELECT id::text, outcome, offered_until IS NOT NULL AS offered, passed, sealed IS NULL AS forgotten"
            " FROM waits WHERE slot_id = ANY(%s)",
            self._slot_ids,
        )
        found = {row["id"]: (row["outcome"], row["offered"], row["passed"], row["forgotten"]) for row in rows}
        assert found == {
            self.waits[number]: (wait.outcome, wait.is_offered, wait.passed, bool(wait.outcome))
            for number, wait in enumerate(self.model.waits)
        }

    def _joins_are_alike(self) -> None:
        rows = self.stage.rows(
            "SELECT id::text, slot_id::text, status, checked_in_at IS NOT NULL AS here FROM joins WHERE slot_id = ANY(%s)",
            self._slot_ids,
        )
        found = {row["id"]: (row["slot_id"], row["status"], row["here"]) for row in rows}
        expected = {
            self.ids[number]: (self._slot_ids[join.slot], join.status, join.checked_in)
            for number, join in enumerate(self.model.joins)
        }
        assert found == expected

    def _events_are_alike(self) -> None:
        """The step has recorded the events that it should, no other, and each says the count that was committed."""
        rows = self.stage.rows(
            "SELECT position, type, data FROM outbox WHERE published_at IS NULL AND position > %s ORDER BY position",
            self.position,
        )
        self.position = max((row["position"] for row in rows), default=self.position)
        heard = [self._happened(row["type"], row["data"]) for row in rows if row["type"].startswith("join.")]
        assert sorted(heard) == sorted(self.model.happened)
        self.model.happened.clear()
        told = [
            (row["type"], self.waits.index(row["data"]["wait_id"]), row["data"].get("outcome", ""))
            for row in rows
            if row["type"].startswith("wait.")
        ]
        assert sorted(told) == sorted(self.model.told)
        self.model.told.clear()

    def _happened(self, kind: str, data: dict[str, Any]) -> Happened:
        left = self._taken(data["left"]) if "left" in data else None
        return Happened(kind, self.ids.index(data["join_id"]), self._taken(data["slot"]), left)

    def _taken(self, data: dict[str, Any]) -> Taken:
        slot = self._slot_ids.index(data["slot_id"])
        assert data["version"] <= self.versions[slot], "an event says a version that the slot has not reached"
        return Taken(slot, data["taken"], data["capacity"])

    # --- helpers ---

    @property
    def _slot_ids(self) -> list[str]:
        return [fact.slot_id for fact in self.facts]

    def _pick(self, pick: int) -> int:
        """Return a join: of late ones sooner than of early ones, which are mostly over."""
        return len(self.ids) - 1 - pick % len(self.ids)

    def _check(self, answer: httpx2.Response, *expected: Answer) -> None:
        code = answer.json()["code"] if answer.is_error else ""
        assert Answer(answer.status_code, code) in expected, answer.text


def _count(row: dict[str, Any]) -> Count:
    """Say what a row said, and of nobody who got a place."""
    return Count(
        slot_id=row["id"],
        before=row["version"],
        version=row["version"],
        taken=row["taken"],
        capacity=row["capacity"],
        is_open=row["status"] == SlotStatus.OPEN,
        held=row["held"],
        waiting=row["waiting"],
    )


@pytest.fixture
def stage(cluster: Cluster) -> Iterator[Stage]:
    with cluster.world(user_rate="1000000/minute", crowd=1) as world:
        stage = Stage(world)
        yield stage
        stage.close()


def _play(stage: Stage, *, examples: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        phases=(Phase.generate, Phase.shrink),
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(type("Booking", (Booking,), {"stage": stage}), settings=chosen)


@pytest.mark.timeout(max(600, EXAMPLES // PARTS * STEPS // 5))
@pytest.mark.parametrize("part", range(PARTS))
def test_the_product_answers_and_counts_as_the_model(stage: Stage, part: int) -> None:
    _play(stage, examples=EXAMPLES // PARTS)


def lose_redis(steps: Booking) -> None:
    steps.stage.redis.flushall()
    steps.book_for_oneself(user=2, slot=0, badge=None)


def hear_an_old_count(steps: Booking) -> None:
    steps.stage.tell_redis_late(next(known for known in steps.counts if known.slot_id == steps.facts[0].slot_id))
    steps.both_say_the_same()


@pytest.mark.parametrize(
    ("control", "step", "found"),
    [
        pytest.param(with_redis_as_the_truth, lose_redis, "slot_full", id="Redis as the truth"),
        pytest.param(with_unversioned_applies, hear_an_old_count, "did not happen", id="unversioned applies"),
    ],
)
def test_the_same_steps_find_a_product_that_believes_redis(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    control: Callable[[pytest.MonkeyPatch], None],
    step: Callable[[Booking], None],
    found: str,
) -> None:
    control(monkeypatch)
    steps = type("Booking", (Booking,), {"stage": stage, "patience_s": 0.5})()
    steps.open(asked=(2, None, None), waitlist="take")
    for user in range(2):
        steps.book_for_oneself(user=user, slot=0, badge=None)
        eventually(lambda: _has_heard(steps, user + 1))  # noqa: B023
        steps.both_say_the_same()

    with pytest.raises(AssertionError, match=found):
        step(steps)


def _has_heard(steps: Booking, version: int) -> bool:
    """Tell whether Redis knows the first slot at this version, and nobody is about to read anything anew."""
    known = steps.stage.counters.records([steps.facts[0].slot_id])
    return [one.version for one in known.values()] == [version] and not steps.stage.counters._is_doubtful
