"""Settling: one transaction for all requests of a group, over a connection of its own.

Locks are taken in the order of everywhere: users, slots ascending, joins ascending. What was decided is written by guarded
statements, slots first; where one of them does not touch what it should, all is undone and each half of the group tried apart.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import errors as pg
from pydantic_core import to_json
from sqlalchemy.engine import make_url

from libs.common import failpoints
from libs.common.crypto import Sealer
from libs.common.errors import HallpassError, Unavailable
from libs.common.logs import logger
from libs.common.outbox import RECORDED
from libs.common.pipeline import Pipeline
from libs.contracts.catalog import FormField, MissedPolicy, Rules, SlotStatus
from services.booking import claims, errors, line_policy, statements
from services.booking.asks import Ask, Booking, Cancelling, Moving
from services.booking.claims import Wanted
from services.booking.counters import CHANGED
from services.booking.counts import Count
from services.booking.drafts import Draft, draft_if_fit
from services.booking.ledger import Changes, Holding, Known, Ledger, Success
from services.booking.offers import Offered
from services.booking.rows import HallRow, ItemRow, JoinRow, SlotRow
from services.booking.seen import Seen

log = logger(__name__)

ATTEMPTS = 5
PATIENCE_S = 5.0  # with a database that neither answers nor refuses
CONNECTED_WITHIN_S = 2
HASTE_MS = 50  # to wait for a lock, where a whole group has waited for one already
SETTINGS = (
    "-c lock_timeout=3s -c TimeZone=UTC"
    " -c enable_seqscan=off -c plan_cache_mode=force_generic_plan"  # planned once, to look rows up: see statements.py
)

Request = tuple[Ask, Draft | None]


class Raced(Exception):
    """A row is no longer as it was read; nothing was written."""


class Settler:
    """Decides and writes groups of requests. Belongs to one event loop, and to one group at a time.

    `on_doubt` gets the slots of a commit that was asked for and never confirmed.
    """

    def __init__(
        self,
        url: str,
        sealer: Sealer,
        seen: Seen,
        *,
        on_commit: Callable[[Mapping[str, Any]], None],
        on_doubt: Callable[[Iterable[str]], None],
    ) -> None:
        parsed = make_url(url).set(drivername="postgresql")
        self._conninfo = parsed.render_as_string(hide_password=False)
        self._sealer = sealer
        self.seen = seen
        self._on_commit = on_commit
        self._on_doubt = on_doubt
        self._pipeline: Pipeline | None = None
        self._items: dict[str, ItemRow] = {}
        self._halls: dict[str, HallRow] = {}

    async def close(self) -> None:
        """Let go of the connection; the next group makes another."""
        if self._pipeline is not None:
            await self._pipeline.close()
        self._pipeline = None

    def end(self) -> None:
        """Let go of the connection when its loop runs no more."""
        if self._pipeline is not None:
            self._pipeline.end()

    async def settle(self, requests: Sequence[Request]) -> list[Any]:
        """Return for each request its answer, or the exception that says why not."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                results = await self._results(requests)
        except (TimeoutError, OSError, psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("a group could not be settled", size=len(requests), error=type(error).__name__)
            await self.close()
            return [Unavailable() for _ in requests]
        return [results[id(asked)] for asked, _ in requests]

    async def _results(self, requests: Sequence[Request]) -> dict[int, Any]:
        results: dict[int, Any] = await self._refusals([asked for asked, _ in requests])
        left = [request for request in requests if id(request[0]) not in results]
        settled = await self._settled(left) if left else []
        return results | {id(asked): result for (asked, _), result in zip(left, settled, strict=True)}

    # --- refusing without locks ---

    async def _refusals(self, asks: Sequence[Ask]) -> dict[int, HallpassError]:
        """Return who of those that ask for a full slot is refused, by what stands in the database.

        The crowd that comes after the last place takes no locks. The slot is read first and successes last: a request
        that has succeeded meanwhile under the same key is found.
        """
        hopeless = [asked for asked in asks if isinstance(asked, Booking) and self.seen.looks_full(asked)]
        if not hopeless:
            return {}
        known = await self._read_again_where_lost(hopeless)
        ledger = Ledger(self._sealer, known)
        self.seen.note(known.offered)
        refusals = await self._naming_offers(known, hopeless, [_refused(ledger, asked) for asked in hopeless])
        return {id(asked): refused for asked, refused in zip(hopeless, refusals, strict=True) if refused is not None}

    async def _naming_offers(self, known: Known, asks: Sequence[Ask], results: list[Any]) -> list[Any]:
        """Return the results, but that whom a slot is full for, while places in it are held for them, is told of these."""
        full = [
            asked
            for asked, result in zip(asks, results, strict=True)
            if isinstance(result, errors.SlotFull)
            and isinstance(asked, Booking | Moving)
            and known.offered[asked.slot_id].slot.held
        ]
        if not full:
            return results
        pipeline = await self._connected()
        slot_ids, user_ids = zip(*{(asked.slot_id, asked.user_id) for asked in full}, strict=True)
        [found] = await pipeline.run((statements.OFFERED, [statements.ids(slot_ids), statements.ids(user_ids)]))
        held = {(user_id, slot_id): (wait_id, until) for user_id, slot_id, wait_id, until in found.rows}
        named = {
            id(asked): line_policy.offered_already(known.offered[asked.slot_id].offer, *mine)
            for asked in full
            if (mine := held.get((asked.user_id, asked.slot_id))) is not None and asked.now < mine[1]
        }
        return [named.get(id(asked), result) for asked, result in zip(asks, results, strict=True)]

    async def _read_again_where_lost(self, hopeless: list[Booking]) -> Known:
        pipeline = await self._connected()
        try:
            return await self._read(pipeline, hopeless, [], {}, locking=False)
        except (psycopg.OperationalError, pg.FeatureNotSupported) as error:
            if not await self._needs_another(pipeline, error):
                raise
            return await self._read(await self._connected(), hopeless, [], {}, locking=False)

    # --- settling ---

    async def _settled(self, requests: Sequence[Request], *, in_haste: bool = False) -> list[Any]:
        if len(requests) == 1:
            return [await self._alone(requests[0], in_haste=in_haste)]
        try:
            return await self._transaction(requests, in_haste=in_haste)
        except Exception as error:  # whatever it is, the others are not to suffer from it
            if self._is_lost():
                raise
            # Somebody holds a row for long: his victims have waited for it once, and the others not at all.
            in_haste = in_haste or isinstance(error, pg.LockNotAvailable)
            log.info("a group falls apart", size=len(requests), error=type(error).__name__)
        middle = len(requests) // 2  # by halves: one of 256 that breaks costs 16 transactions, not 256
        parts = (requests[:middle], requests[middle:])
        return [result for part in parts for result in await self._settled(part, in_haste=in_haste)]

    async def _alone(self, request: Request, *, in_haste: bool) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return (await self._transaction([request], in_haste=in_haste))[0]
            except (pg.LockNotAvailable, pg.QueryCanceled):
                return Unavailable()
            except (Raced, pg.DeadlockDetected, pg.SerializationFailure):
                if attempt == ATTEMPTS - 1:
                    return Unavailable()
            except pg.UniqueViolation as error:
                if attempt == ATTEMPTS - 1:
                    return error
            except psycopg.Error as error:
                if self._is_lost():
                    raise
                return error
            except Exception as error:  # noqa: BLE001  # told to its caller alone
                return error
        raise AssertionError("unreachable")

    async def _transaction(self, requests: Sequence[Request], *, in_haste: bool) -> list[Any]:
        asks = [asked for asked, _ in requests]
        for attempt in (1, 2):
            pipeline = await self._connected()
            try:
                failpoints.reach("settle.before_lock")
                known = await self._known(pipeline, asks, [drafted for _, drafted in requests], in_haste=in_haste)
                failpoints.reach("settle.after_lock")
                break
            except (psycopg.OperationalError, pg.FeatureNotSupported) as error:  # nothing has been written yet
                if attempt == 2 or not await self._needs_another(pipeline, error):
                    await self._undo(pipeline)
                    raise
            except BaseException:
                await self._undo(pipeline)
                raise
        ledger = Ledger(self._sealer, known)
        try:
            requests = await self._made_ready(pipeline, known, requests)
            results = [_decided(ledger, asked, drafted) for asked, drafted in requests]
            results = await self._naming_offers(known, asks, results)
            await _write(pipeline, ledger.changes)
            counts = _counts(ledger)  # before the commit: what they say is true from then on
            failpoints.reach("settle.before_commit")
            await self._commit(pipeline, counts)
        except BaseException:
            await self._undo(pipeline)
            raise
        failpoints.reach("settle.after_commit")
        self.seen.note(known.offered)
        failpoints.reach("settle.before_apply")
        if counts:
            self._on_commit({RECORDED: True, CHANGED: counts})
        failpoints.reach("settle.after_apply")
        return results

    async def _commit(self, pipeline: Pipeline, counts: Mapping[str, Count]) -> None:
        try:
            await pipeline.run(("COMMIT", ()))
        except BaseException:
            self._on_doubt(counts)
            raise

    async def _undo(self, pipeline: Pipeline) -> None:
        try:
            await pipeline.run(("ROLLBACK", ()))
        except psycopg.Error:
            await pipeline.close()

    # --- reading ---

    async def _known(
        self, pipeline: Pipeline, asks: Sequence[Ask], drafts: Sequence[Draft | None], *, in_haste: bool
    ) -> Known:
        acted_on = sorted({asked.join_id for asked in asks if isinstance(asked, Cancelling | Moving)})
        where: dict[str, str] = {}
        if acted_on:
            [found] = await pipeline.run((statements.WHERE_JOINS_ARE, [statements.array(acted_on)]))
            where = dict(found.rows)
        return await self._read(pipeline, asks, drafts, where, locking=True, in_haste=in_haste)

    async def _read(
        self,
        pipeline: Pipeline,
        asks: Sequence[Ask],
        drafts: Sequence[Draft | None],
        where: dict[str, str],
        *,
        locking: bool,
        in_haste: bool = False,
    ) -> Known:
        claimants = [asked for asked in asks if isinstance(asked, Booking | Moving)]
        user_ids = statements.ids({asked.user_id for asked in claimants})
        slot_ids = statements.ids({*(asked.slot_id for asked in claimants), *where.values()})
        keys = [(asked.user_id, asked.key) for asked in asks if isinstance(asked, Booking)]
        wishes = [wish for drafted in drafts if drafted is not None for wish in drafted.wanted]
        minds = any(seen is None or _minds(seen) for seen in (self.seen.get(asked.slot_id) for asked in claimants))
        reads: list[tuple[str, bool, str, Sequence[str]]] = [  # a name, whether it is needed, statement and parameters
            ("begin", locking, "BEGIN", []),
            ("haste", in_haste, f"SET LOCAL lock_timeout = {HASTE_MS}", []),
            ("users", bool(claimants), statements.USERS_LOCKED if locking else statements.USERS, [user_ids]),
            ("slots", True, statements.SLOTS_LOCKED if locking else statements.SLOTS, [slot_ids]),
            ("joins", bool(where), statements.JOINS_LOCKED, [statements.array(where)]),
            ("holdings", bool(claimants), statements.HOLDINGS, [user_ids, slot_ids]),
            ("missed", minds, statements.MISSED, [user_ids, slot_ids]),
            ("claimed", bool(wishes), statements.CLAIMED, _keys_of(wishes)),
            ("successes", bool(keys), statements.SUCCESSES, _successes_of(keys)),
        ]
        needed = {name: (statement, parameters) for name, is_needed, statement, parameters in reads if is_needed}
        found = {name: one.rows for name, one in zip(needed, await pipeline.run(*needed.values()), strict=True)}
        known = Known(users=dict(found.get("users", ())), offered=await self._offered(pipeline, found["slots"]))
        if not minds and claimants and any(map(_minds, known.offered.values())):  # since the hall was last seen
            [late] = await pipeline.run((statements.MISSED, [user_ids, slot_ids]))
            found["missed"] = late.rows
        _note(known, found)
        if any(join.slot_id not in known.offered for join in known.joins.values()):
            raise Raced  # moved between the two looks: its slot is not locked
        return known

    async def _offered(self, pipeline: Pipeline, rows: list[Any]) -> dict[str, Offered]:
        slots = [(SlotRow(*row[:17]), row[17], row[18]) for row in rows]
        stale_items = {slot.item_id for slot, version, _ in slots if not _is_at(self._items.get(slot.item_id), version)}
        stale_halls = {slot.hall_id for slot, _, version in slots if not _is_at(self._halls.get(slot.hall_id), version)}
        if stale_items or stale_halls:
            items, halls = await pipeline.run(
                (statements.ITEMS, [statements.array(stale_items)]), (statements.HALLS, [statements.array(stale_halls)])
            )
            self._items |= {row[0]: _item(row) for row in items.rows}
            self._halls |= {row[0]: _hall(row) for row in halls.rows}
        return {slot.id: self._as_seen(slot) for slot, _, _ in slots}

    def _as_seen(self, slot: SlotRow) -> Offered:
        """Put a slot beside its item and hall, with what was made of them when they were last seen."""
        offered = Offered(slot, self._items[slot.item_id], self._halls[slot.hall_id])
        seen = self.seen.get(slot.id)
        return replace(offered, kept=seen.kept) if seen is not None and seen.basis == offered.basis else offered

    async def _made_ready(self, pipeline: Pipeline, known: Known, requests: Sequence[Request]) -> list[Request]:
        """Draft what could not be drafted before, and look whether its claims are free."""
        ready, late = [], []
        for asked, drafted in requests:
            offered = known.offered.get(getattr(asked, "slot_id", ""))
            if offered is not None and isinstance(asked, Booking) and (drafted is None or not drafted.fits(offered)):
                drafted = draft_if_fit(self._sealer, asked, offered)
                late += drafted.wanted if drafted is not None else []
            join = known.joins.get(asked.join_id) if isinstance(asked, Moving) else None
            if offered is not None and join is not None:
                late += claims.of_join(self._sealer, offered, join)
            ready.append((asked, drafted))
        if late:
            [found] = await pipeline.run((statements.CLAIMED, _keys_of(late)))
            known.claimed |= _claimed(found.rows)
        return ready

    # --- the connection ---

    async def _connected(self) -> Pipeline:
        if self._pipeline is None or self._pipeline.is_lost:
            connection = await psycopg.AsyncConnection.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=CONNECTED_WITHIN_S,
                application_name="hallpass-booking-groups",
                options=SETTINGS,
            )
            self._pipeline = Pipeline(connection)
        return self._pipeline

    async def _needs_another(self, pipeline: Pipeline, error: psycopg.Error) -> bool:
        """Tell whether the connection is one of before: of before a restart of the server, or planned before a migration."""
        if isinstance(error, pg.FeatureNotSupported):
            await self.close()
        return pipeline.is_lost

    def _is_lost(self) -> bool:
        return self._pipeline is None or self._pipeline.is_lost


async def _write(pipeline: Pipeline, changes: Changes) -> None:
    failpoints.reach("settle.before_insert")
    writes = list(_writes(changes))
    found = await pipeline.run(*((statement, [rows]) for statement, rows, _ in writes))
    if any(expected not in (None, one.count) for one, (_, _, expected) in zip(found, writes, strict=True)):
        raise Raced
    failpoints.reach("settle.after_insert")


def _counts(ledger: Ledger) -> dict[str, Count]:
    """Describe each slot as the commit leaves it, for the atomic counters."""
    counts = {}
    for slot_id, change in ledger.changes.counts.items():
        slot = ledger.known.offered[slot_id].slot
        counts[slot_id] = Count(
            slot_id=slot_id,
            before=change.seen,
            version=slot.version,
            taken=slot.taken,
            capacity=slot.capacity,
            is_open=slot.status == SlotStatus.OPEN and not slot.deleted,
            holders=frozenset(change.holders),
            held=slot.held,
            waiting=slot.waiting,
        )
    return counts


def _refused(ledger: Ledger, asked: Booking) -> HallpassError | None:
    try:
        return ledger.refusal(asked)
    except Exception:  # noqa: BLE001  # met again where the request is settled, and told to its caller alone
        return None


def _decided(ledger: Ledger, asked: Ask, drafted: Draft | None) -> Any:
    try:
        if isinstance(asked, Booking):
            return ledger.book(asked, drafted)
        if isinstance(asked, Cancelling):
            return ledger.cancel(asked)
        assert isinstance(asked, Moving)  # noqa: S101  # there are no others
        return ledger.move(asked)
    except HallpassError as refused:
        return refused.with_traceback(None)


def _writes(changes: Changes) -> Iterator[tuple[str, bytes | str, int | None]]:
    """Yield statements, their one parameter and how many rows they have to touch, in the order of writing.

    The counts come first, so that they line up; what was claimed is let go of before it is claimed anew.
    """
    counts = [
        to_json({"id": slot_id, "seen": count.seen, "people": count.people, "version": count.version})
        for slot_id, count in sorted(changes.counts.items())
    ]
    cancelled = [
        to_json({"id": join.id, "ended_at": str(join.ended_at), "version": join.version})
        for join in changes.cancelled.values()
    ]
    moved = [
        to_json({"id": join.id, "slot_id": join.slot_id, "version": join.version}) for join in changes.moved.values()
    ]
    claims = [_claim(changes.claims[key]) for key in sorted(changes.claims)]
    if counts:
        yield statements.COUNT, statements.rows(counts), len(counts)
    if changes.released:
        yield statements.RELEASE, statements.array(changes.released), None
    everything = (
        (statements.CANCEL, cancelled),
        (statements.MOVE, moved),
        (statements.BOOK, changes.booked),
        (statements.ATTACH, changes.files),
        (statements.CLAIM, claims),
        (statements.REMEMBER, changes.successes),
        (statements.RECORD, changes.facts),
    )
    for statement, rows in everything:
        if rows:
            yield statement, statements.rows(rows), len(rows)


def _claim(wish: Wanted) -> bytes:
    item_id, scope, name, digest = wish.key
    return to_json(
        {"item_id": item_id, "scope": scope, "field": name, "digest": f"\\x{digest.hex()}", "join_id": wish.join_id}
    )


def _claimed(rows: Iterable[Any]) -> dict[tuple[str, str, str, bytes], str]:
    return {tuple(key): join_id for *key, join_id in rows}


def _note(known: Known, found: Mapping[str, Sequence[Any]]) -> None:
    for row in found.get("joins", ()):
        known.joins[row[0]] = JoinRow(*row)
    for user_id, item_id, *holding in found.get("holdings", ()):
        known.holdings[user_id, item_id].append(Holding(*holding))
    for user_id, key, digest, sealed in found.get("successes", ()):
        known.successes[user_id, key] = Success(digest, sealed)
    known.claimed |= _claimed(found.get("claimed", ()))
    for user_id, hall_id, _, _, day in set(found.get("missed", ())):  # a party's joins are one visit
        known.missed[user_id, hall_id].append(day)


def _successes_of(keys: Sequence[tuple[str, str]]) -> list[str]:
    return [statements.ids([user for user, _ in keys]), statements.array(key for _, key in keys)]


def _keys_of(wishes: Sequence[Wanted]) -> list[str]:
    keys = [wish.key for wish in wishes]
    return [
        statements.array(item_id for item_id, _, _, _ in keys),
        statements.array(scope for _, scope, _, _ in keys),
        statements.array(name for _, _, name, _ in keys),
        statements.byte_array(digest for _, _, _, digest in keys),
    ]


def _is_at(row: ItemRow | HallRow | None, version: int) -> bool:
    return row is not None and row.version == version


def _minds(offered: Offered) -> bool:
    return offered.hall.missed_policy is not None


def _hall(row: Any) -> HallRow:
    hall_id, name, address, timezone, status, policy, version = row
    minded = None if policy is None else MissedPolicy.model_validate(policy)
    return HallRow(hall_id, name, address, timezone, status, minded, version)


def _item(row: Any) -> ItemRow:
    item_id, hall_id, title, cover, status, form, form_version, rules, version = row
    fields = [FormField.model_validate(field) for field in form]
    return ItemRow(item_id, hall_id, title, cover, status, fields, form_version, Rules.model_validate(rules), version)
