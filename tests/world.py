"""The whole product in one test process: four services over a real PostgreSQL and Valkey, and a bus that runs on demand."""

import json
import socket
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from deploy import registry, serve
from deploy.bootstrap import login_url
from deploy.gateway import Gateway
from deploy.loops import Loop
from libs.common.bus_local import LocalBus, LocalQueue
from libs.common.clock import utcnow
from libs.common.crypto import random_key
from libs.common.ids import new_id
from libs.common.outbox import Relay
from libs.common.service import Runtime
from libs.common.tokens import new_shared_key, new_signing_key
from libs.common.web import create_app
from libs.contracts.principals import Right, Role, Staff, issue_staff_token
from tests.client import Client, event_loop
from tests.copies import Copy

NOON = datetime(2026, 11, 4, 4, tzinfo=UTC)  # of a Wednesday in China, with no holiday near
PASSWORDS = {service.name: f"test-{service.name}" for service in registry.every()}
KEYS: dict[str, Any] = {
    "staff_token_keys": [new_signing_key("staff-1")],
    "user_token_keys": [new_shared_key("user-1")],
    "data_keys": [{"kid": "data-1", "k": random_key()}],
    "hash_key": random_key(),
}


class World:
    """Handles on everything a test may want to do to the product, through its public surface."""

    def __init__(
        self, superuser_url: str, database: str, redis_url: str, *, copy: Copy | None = None, **settings: Any
    ) -> None:
        self._made_of = (superuser_url, database, redis_url, settings | {"copy": copy})
        self.runtimes: dict[str, Runtime] = {}
        for service in registry.every():
            url = login_url(superuser_url, service.name, PASSWORDS[service.name], database=database)
            chosen = {"mode": "embedded", "database_url": url, "redis_url": redis_url, "dev_sign_in": True}
            chosen |= {"retry_delays_s": [0.02, 0.02], "database_pool_size": 10} | KEYS | settings
            read = service.settings.load(**chosen)
            kept = copy.login(service, url, pool_size=read.database_pool_size) if copy else None
            self.runtimes[service.name] = Runtime.build(service, read, db=kept)
        self.queues = [
            LocalQueue(consumer, runtime.db, retry_delays_s=runtime.settings.retry_delays_s)
            for runtime in self.runtimes.values()
            for consumer in runtime.service.consumers
        ]
        bus = LocalBus(self.queues)
        self.relays = [Relay(runtime.db, bus, source=name, poll_s=0.05) for name, runtime in self.runtimes.items()]
        self.apps: dict[str, FastAPI] = {name: create_app(runtime) for name, runtime in self.runtimes.items()}
        mounted: dict[str, ASGIApp] = dict(self.apps)
        self.gateway = Gateway(mounted, FastAPI(openapi_url=None))
        self._ends = ExitStack()
        self._loop = self._ends.enter_context(event_loop())  # one for all its requests, as in a server
        self.client = self.client_at("testclient")

    def client_at(self, address: str) -> Client:
        """Return a client whose requests come from this address."""
        return self._ends.enter_context(Client(self.gateway, self._loop, address=address))

    def close(self) -> None:
        self._ends.close()
        for runtime in self.runtimes.values():
            runtime.close()

    def restarted(self) -> "World":
        """Close this world and return another over the same database, as when every process was started again."""
        self.close()
        superuser_url, database, redis_url, settings = self._made_of
        return World(superuser_url, database, redis_url, **settings)

    def settle(self) -> None:
        """Carry every recorded event to its consumers, until nothing moves any more."""
        while any([relay.relay_once() for relay in self.relays] + [queue.consume_once() for queue in self.queues]):
            pass

    # --- who is asking ---

    def user(self, name: str) -> dict[str, str]:
        """Sign a user in and return the headers of their requests."""
        answer = self.client.post("/api/booking/sessions", json={"provider": "dev", "code": name})
        assert answer.status_code == 201, answer.text
        return bearer(answer.json()["token"])

    def staff(
        self,
        role: Role = Role.SUPER_ADMIN,
        halls: list[str] | None = None,
        name: str = "boss",
        rights: Iterable[Right] = (),
    ) -> dict[str, str]:
        """Return the headers of a member of staff with this role, for these halls (super admin: all), with these rights."""
        scope = None if role == Role.SUPER_ADMIN else frozenset(halls or [])
        staff = Staff(id=new_id(), name=name, role=role, halls=scope, session_id=new_id(), rights=frozenset(rights))
        return bearer(issue_staff_token(self.runtimes["admin"].staff_keys, staff, now=utcnow()))

    def for_job(self, who: dict[str, str], job: str) -> dict[str, str]:
        """Return headers with the token that admin would make for an import of whoever holds this token, if staff do."""
        keys = self.runtimes["admin"].staff_keys
        payload = who.get("Authorization", "..").split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)) or b"{}")
        if claims.get("aud") != "staff":
            return who
        issued = datetime.fromtimestamp(claims["iat"], UTC)
        lifetime = timedelta(seconds=claims["exp"] - claims["iat"])
        return who | {"Authorization": f"Bearer {keys.sign(claims | {'job': job}, now=issued, lifetime=lifetime)}"}

    # --- a real server, for what needs real concurrency ---

    @contextmanager
    def serve(self, listening: socket.socket | None = None) -> Iterator[str]:
        """Serve the gateway while the block runs, where somebody listens for it or on a free port; yield its address."""
        own = serve.listen("127.0.0.1", 0) if listening is None else listening.dup()
        config = uvicorn.Config(
            self.gateway,
            log_level="warning",
            lifespan="off",
            loop="uvloop",
            http="httptools",
            timeout_keep_alive=600,  # it closes no line on which the next request is just coming
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{own.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)

    @contextmanager
    def running_bus(self) -> Iterator[None]:
        """Run relays and consumers in threads while the block runs, as the embedded product does."""
        parts: list[Relay | LocalQueue] = [*self.relays, *self.queues]
        for runtime, relay in zip(self.runtimes.values(), self.relays, strict=True):
            relay.wake_on_commit(runtime.db)
        with in_threads(*parts):
            yield


@contextmanager
def in_threads(*parts: Loop) -> Iterator[None]:
    """Run relays and consumers while the block runs."""
    threads = [threading.Thread(target=part.run, daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for part in parts:
            part.stop()
        for thread in threads:
            thread.join(60)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Accept-Language": "en"}


def eventually(probe: Callable[[], Any], *, timeout_s: float = 30) -> Any:
    """Return what `probe` returns as soon as it is true; fail where it does not become so."""
    deadline = time.monotonic() + timeout_s
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout_s} s")
        time.sleep(0.01)  # between two looks, never instead of one
    return found


def simultaneously(calls: list[Callable[[], httpx2.Response]]) -> list[httpx2.Response]:
    """Make all calls at once, each in a thread of its own, released by one barrier; return the answers in order."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], httpx2.Response]) -> httpx2.Response:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))
