"""A hall with everything in it, and people of every kind who ask about it."""

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from io import BytesIO
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import httpx2
import pyotp
from PIL import Image
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.common.ids import new_id
from libs.common.messages import Message
from libs.contracts.principals import (
    STAFF_TOKEN_LIFETIME,
    USER_TOKEN_LIFETIME,
    Right,
    Role,
    Staff,
    issue_staff_token,
    issue_user_token,
)
from tests.admin.builders import PASSWORD, an_account, change, signed_in
from tests.admin.exporting import EXPORTS, do, link
from tests.admin.importing import XLSX, send, workbook
from tests.booking.builders import booked, cancel, checked_in, revoke
from tests.booking.waiting import served, waiting
from tests.catalog.builders import STAFF, a_category, a_day, a_hall, an_item, made, shown
from tests.common.receiver import Receiver
from tests.notify.hooking import carry
from tests.notify.reaching import TEMPLATE, Providers, Town
from tests.notify.texting import code_in
from tests.world import World, bearer

Headers = dict[str, str]
A_WORKBOOK = workbook(预约项目=[["服务厅", "项目名称"], ["市民之窗", "换证"]])
PERIOD = {"start": "08:00", "end": "20:00", "capacity": None}


class Caller(StrEnum):
    """Who may ask. Staff are of the hall unless the name says otherwise."""

    ANONYMOUS = "anonymous"
    USER = "user"
    ANOTHER_USER = "another user"
    EXPIRED_USER = "expired user"
    VERIFIER = "verifier"
    FOREIGN_ADMIN = "hall admin of another hall"
    HALL_ADMIN = "hall admin"
    MANAGER = "verifier who manages staff"
    FOREIGN_MANAGER = "verifier of another hall who manages staff"
    SUPER_ADMIN = "super admin"
    NEW_SUPER_ADMIN = "super admin who has to change the password"
    DISABLED_STAFF = "disabled staff"
    EXPIRED_STAFF = "expired staff"


@dataclass(frozen=True)
class Ask:
    """What makes a request succeed for who may make it: JSON or a workbook. `shows`: what the answer then holds."""

    body: Any = None
    workbook: bytes | None = None
    query: dict[str, Any] = field(default_factory=dict)
    headers: Headers = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)
    shows: str = ""
    form: dict[str, str] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)


class Scene:
    """Everything is made through HTTP; a method makes one more of its kind, an attribute is there for all."""

    def __init__(self, world: World, providers: Providers, bridge: Receiver) -> None:
        self.world = world
        self.town = Town(world, providers.wechat, providers.mail)
        self._days = count(2)
        self._phones = count(138000)
        self._minutes = count(100)
        self.bridge = bridge
        minded = {"missed": 100, "within_days": 1, "pause_days": 1}
        self.hall = a_hall(world, timezone=zone_where_it_is_noon(), missed_policy=minded)
        self.other_hall = a_hall(world)
        self.category = a_category(world)
        form = [
            {"key": "name", "type": "text", "label": "姓名"},
            {"key": "mobile", "type": "mobile", "label": "手机", "required": False},
            {"key": "photo", "type": "image", "label": "照片", "required": False},
        ]
        rules = {"party_max": 3, "max_per_slot": 1000, "cancel": "anytime"}
        self.item = an_item(
            world, self.hall, title="居住证办理", category_id=self.category["id"], form=form, rules=rules
        )
        self.waited_for = ""  # a slot in whose line several stand, where somebody has made one
        self.waiting_item = an_item(
            world, self.hall, title="名额候补", form=form[:1], rules={"waitlist": "offer", "cancel": "anytime"}
        )
        self.today = datetime.now(ZoneInfo(self.hall["timezone"])).date()
        [self.slot] = a_day(world, self.item, self.today, PERIOD)["slots"]
        [self.next_slot] = a_day(world, self.item, self.today + timedelta(days=1), PERIOD)["slots"]
        world.settle()
        self.announcement = self.an_announcement()
        self.spare_webhook = ""
        self.webhook = self.a_webhook()
        self.spare_webhook = ""
        self.webhook_delivery = self.a_webhook_delivery()
        self.template = self.a_template()
        self.special_day = self.a_special_day()
        self.closure = self.a_closure()
        world.settle()
        self.user = world.user("first")
        self.user_id = self._user_id(self.user)
        self.another_user = world.user("another")
        self.join = self.a_join()
        self.clerk = an_account(world, "clerk", role=Role.VERIFIER, halls=[self.hall["id"]])
        self._roles = {
            Caller.SUPER_ADMIN: (Role.SUPER_ADMIN, [], []),
            Caller.HALL_ADMIN: (Role.HALL_ADMIN, [self.hall["id"]], []),
            Caller.FOREIGN_ADMIN: (Role.HALL_ADMIN, [self.other_hall["id"]], []),
            Caller.MANAGER: (Role.VERIFIER, [self.hall["id"]], [Right.MANAGE_STAFF]),
            Caller.FOREIGN_MANAGER: (Role.VERIFIER, [self.other_hall["id"]], [Right.MANAGE_STAFF]),
            Caller.VERIFIER: (Role.VERIFIER, [self.hall["id"]], []),
            Caller.NEW_SUPER_ADMIN: (Role.SUPER_ADMIN, [], []),
        }
        self._cast = {caller: self._staff_of(caller) for caller in self._roles} | {
            Caller.ANONYMOUS: {"Accept-Language": "en"},
            Caller.USER: self.user,
            Caller.ANOTHER_USER: self.another_user,
            Caller.EXPIRED_USER: self._expired_user(),
            Caller.DISABLED_STAFF: self._disabled(),
            Caller.EXPIRED_STAFF: self._expired_staff(),
        }
        world.settle()

    @property
    def path(self) -> dict[str, str]:
        """What the parameters of a path name unless a request has more special needs."""
        return {
            "hall_id": self.hall["id"],
            "category_id": self.category["id"],
            "item_id": self.item["id"],
            "date": self.today.isoformat(),
            "slot_id": self.slot["id"],
            "template_id": self.template["id"],
            "special_day_id": self.special_day["id"],
            "closure_id": self.closure["id"],
            "announcement_id": self.announcement["id"],
            "webhook_id": self.webhook["id"],
            "delivery_id": self.webhook_delivery["id"],
            "join_id": self.join["id"],
            "user_id": self.user_id,
            "field": "photo",
            "staff_id": self.clerk["id"],
        }

    # --- one more of a kind ---

    def free_date(self) -> str:
        """Return a date of the item that nothing is known about."""
        return (self.today + timedelta(days=next(self._days))).isoformat()

    def a_day(self) -> str:
        """Return a date of the item with a slot that nobody booked."""
        free = date.fromisoformat(self.free_date())
        a_day(self.world, self.item, free, PERIOD)
        return free.isoformat()

    def an_item(self) -> str:
        """Return another item of the hall."""
        found: str = an_item(self.world, self.hall)["id"]
        return found

    def a_category(self) -> str:
        found: str = a_category(self.world, unique())["id"]
        return found

    def a_template(self) -> Any:
        body = {"name": unique(), "hall_id": self.hall["id"], "periods": [PERIOD]}
        return made(self.world.client.post(f"{STAFF}/templates", json=body, headers=self.world.staff()))

    def a_special_day(self) -> Any:
        body = {"hall_id": self.hall["id"], "dates": [self.free_date()], "kind": "workday", "name": "加班"}
        answer = self.world.client.put(f"{STAFF}/special-days", json=body, headers=self.world.staff())
        return shown(answer)["items"][0]

    def a_closure(self) -> Any:
        """Return a closure of the item on a date on which nothing is."""
        free = self.free_date()
        body = {"item_id": self.item["id"], "from": free, "to": free, "reason": "停电检修"}
        return made(self.world.client.post(f"{STAFF}/closures", json=body, headers=self.world.staff()))

    def an_announcement(self) -> Any:
        body = announcement(self.hall["id"])
        return made(self.world.client.post("/api/notify/staff/announcements", json=body, headers=self.world.staff()))

    def a_recount(self) -> str:
        """Return a recount of the hall that somebody else has asked for."""
        body = {"hall_id": self.hall["id"]}
        asked = self.world.client.post("/api/notify/staff/recounts", json=body, headers=self.world.staff())
        assert asked.status_code == 202, asked.text
        recount_id: str = asked.json()["id"]
        return recount_id

    def a_webhook(self) -> Any:
        """Return another webhook of the hall, in the place of the one before: a hall has so many at most."""
        path, staff = "/api/notify/staff/webhooks", self.world.staff()
        if self.spare_webhook:
            self.world.client.delete(f"{path}/{self.spare_webhook}", headers=staff)
        found = made(self.world.client.post(path, json=webhook(self.hall["id"]), headers=staff))
        self.spare_webhook = found["id"]
        return found

    def a_webhook_delivery(self) -> Any:
        """Return a ping that waits to be sent to the webhook."""
        path = f"/api/notify/staff/webhooks/{self.webhook['id']}/ping"
        answer = self.world.client.post(path, headers=self.world.staff())
        assert answer.status_code == 202, answer.text
        return answer.json()

    def a_webhook_call(self) -> str:
        """Return the id of a call of the webhook, which there is none of at that address."""
        self.a_webhook_delivery()
        carry(self.world, clock=lambda: utcnow() + timedelta(minutes=10))
        path = f"/api/notify/staff/webhooks/{self.webhook['id']}/attempts"
        found: str = self.world.client.get(path, headers=self.world.staff()).json()["items"][0]["id"]
        return found

    def a_join(self, slot: Any = None) -> Any:
        """Return a join that the first user has just made, for now or in another slot."""
        return booked(self.world, self.user, (slot or self.slot)["id"], "林小满")[0]

    def sending_a_photo(self) -> Ask:
        """Return what sends an image for the item's form."""
        image = BytesIO()
        Image.new("RGB", (20, 20), "teal").save(image, "PNG")
        form = {"item_id": self.item["id"], "field": "photo"}
        return Ask(form=form, files={"file": ("me.png", image.getvalue(), "image/png")})

    def sending_a_walk_ins_photo(self) -> Ask:
        """Return what sends an image for somebody at the desk."""
        photo = self.sending_a_photo()
        form = {"slot_id": self.slot["id"], "field": "photo"}
        return replace(photo, form=form, headers={"Idempotency-Key": unique()})

    def a_join_with_a_photo(self) -> str:
        """Return the id of another join of the first user, answered with an image."""
        sent = made(self.send("POST /api/booking/uploads", self.sending_a_photo(), self.user))
        [join] = booked(self.world, self.user, self.slot["id"], "林小满", photo=sent["reference"])
        join_id: str = join["id"]
        return join_id

    def a_revoked_join(self) -> str:
        join_id: str = self.a_join()["id"]
        assert revoke(self.world, join_id).status_code == 200
        return join_id

    def a_checked_in_join(self) -> str:
        join_id: str = self.a_join()["id"]
        checked_in(self.world, join_id)
        return join_id

    def a_missed_join(self) -> str:
        """Return a join of the first user that is noted as missed, although its slot is not over."""
        join_id: str = self.a_join()["id"]
        with self.world.runtimes["booking"].db.transaction() as session:
            session.execute(text("UPDATE joins SET missed_at = now() WHERE id = :id"), {"id": join_id})
        return join_id

    def a_full_slot(self) -> str:
        """Return the id of a slot whose one place is booked, and for which people can wait."""
        free = date.fromisoformat(self.free_date())
        [slot] = a_day(self.world, self.waiting_item, free, PERIOD | {"capacity": 1})["slots"]
        self.world.settle()
        self._owner = self.world.user(unique())
        [self._place] = booked(self.world, self._owner, slot["id"], "林小满")
        slot_id: str = slot["id"]
        return slot_id

    def a_wait(self) -> Any:
        """Return a wait of the first user's."""
        return waiting(self.world, self.user, self.a_full_slot())

    def an_offer(self) -> str:
        """Return the id of a wait of the first user's, for whom a place is held now."""
        wait_id: str = self.a_wait()["id"]
        assert cancel(self.world, self._owner, self._place["id"]).is_success
        served(self.world)
        return wait_id

    def a_user(self) -> str:
        return self._user_id(self.world.user(unique()))

    def a_named_visitor(self) -> str:
        """Return the name of somebody new who has booked in the hall."""
        visitor, name = self.world.user(unique()), unique()
        assert self.world.client.patch("/api/booking/me", json={"name": name}, headers=visitor).is_success
        booked(self.world, visitor, self.slot["id"], "林小满")
        return name

    def an_account(self) -> str:
        """Return the name of a new member of the hall's staff."""
        name: str = an_account(self.world, unique(), halls=[self.hall["id"]])["username"]
        return name

    def an_export(self, who: Headers) -> str:
        """Return the id of an export that they have asked for; somebody else of the hall, where they may not."""
        answer = self.world.client.post(EXPORTS, json={"kind": "audit"}, headers=who)
        if not answer.is_success:
            answer = self.world.client.post(EXPORTS, json={"kind": "audit"}, headers=self.newcomer(Caller.HALL_ADMIN))
        export_id: str = answer.json()["id"]
        return export_id

    def a_finished_export(self, who: Headers) -> str:
        export_id = self.an_export(who)
        do(self.world, "export")
        return export_id

    def by_a_link(self) -> Ask:
        """Return what fetches the file of an export."""
        who = self.newcomer(Caller.HALL_ADMIN)
        url = urlsplit(link(self.world, who, self.a_finished_export(who)))
        return Ask(path={"export_id": url.path.split("/")[-2]}, query=dict(parse_qsl(url.query)))

    def a_session(self, who: Headers) -> str:
        """Return the id of the session that these headers are of; of anybody's, where they may not list their own."""
        answer = self.world.client.get("/api/admin/sessions", headers=who)
        found: str = answer.json()["items"][0]["id"] if answer.is_success else self.a_session_of_the_clerk()
        return found

    def a_session_of_the_clerk(self) -> str:
        headers = signed_in(self.world, self.clerk["username"])["headers"]
        return self.a_session(headers)

    def a_code_to_confirm(self, who: Headers) -> str:
        """Let them begin to set up a second factor, and return a code of it; any code, where they may not."""
        answer = self.world.client.post("/api/admin/me/second-factor", json={"password": PASSWORD}, headers=who)
        return pyotp.TOTP(answer.json()["secret"]).at(utcnow()) if answer.is_success else "000000"

    def a_recovery_code(self, who: Headers) -> str:
        """Let them set up a second factor and go on with its token; return a recovery code, or any where they may not."""
        body = {"code": self.a_code_to_confirm(who)}
        answer = self.world.client.post("/api/admin/me/second-factor/confirm", json=body, headers=who)
        if not answer.is_success:
            return "000000"
        who |= bearer(answer.json()["token"])
        self.world.settle()
        code: str = answer.json()["recovery_codes"][0]
        return code

    def an_import_job(self, who: Headers) -> str:
        """Return the id of an import that they have sent; somebody else of the hall, where they may not."""
        answer = send(self.world, who, "items", A_WORKBOOK)
        if not answer.is_success:
            answer = send(self.world, self.newcomer(Caller.HALL_ADMIN), "items", A_WORKBOOK)
        import_id: str = answer.json()["id"]
        return import_id

    def a_checked_import_job(self, who: Headers) -> str:
        """Return the id of an import without faults, which its owner may apply."""
        import_id = self.an_import_job(who)
        with self.world.runtimes["admin"].db.transaction() as session:
            session.execute(text("UPDATE import_jobs SET state = 'checked' WHERE id = :id"), {"id": import_id})
        return import_id

    def an_import(self, sheet: str, **values: str) -> Any:
        """Return the body of an import of one row."""
        return {"id": new_id(), "dry_run": False, "rows": [{"sheet": sheet, "row": 2, "values": values}]}

    def for_job(self, who: Headers, ask: Ask) -> Ask:
        """Return the request as admin's worker makes it for somebody: with a token for this import alone."""
        return replace(ask, headers=self.world.for_job(who, ask.path.get("import_id") or ask.body["id"]))

    @property
    def names_of_slot(self) -> dict[str, str]:
        """What a row of an import calls the slot."""
        return {
            "服务厅": self.hall["id"],
            "项目名称": self.item["title"],
            "日期": self.slot["date"],
            "开始时间": self.slot["start"],
            "结束时间": self.slot["end"],
        }

    def a_refresh_token(self) -> str:
        token: str = signed_in(self.world, self.an_account())["refresh_token"]
        return token

    def a_notice(self) -> str:
        """Return the id of an unread notice to the first user."""
        self.a_join()
        self.world.settle()
        page = self.world.client.get("/api/notify/notices?unread=true", headers=self.user).json()
        found: str = page["items"][0]["id"]
        return found

    def an_email(self) -> str:
        """Return an address that the first user has just confirmed."""
        email = f"{unique()}@example.com"
        self.town.confirm_email(self.user_id, email)
        return email

    def a_code_of_an_email(self) -> str:
        """Return the code that the first user was sent."""
        assert self.town.ask("PUT", "me/email", self.user_id, {"email": f"{unique()}@example.com"}).is_success
        return self.town.code()

    def other_minutes(self) -> int:
        """Return a number of minutes that no rule had before."""
        return next(self._minutes)

    def a_phone(self) -> str:
        """Return a number that nobody has sent a code to."""
        return f"138{next(self._phones):08d}"

    def a_code_of_a_phone(self) -> str:
        """Let the first user set another number; return the code that was sent there."""
        body = {"phone": self.a_phone()}
        assert self.world.client.put("/api/notify/me/phone", json=body, headers=self.user).is_success
        return code_in(self.bridge.posted[-1])

    def a_wechat_code(self) -> str:
        """Return a code of wx.login."""
        code = unique()
        self.town.wechat.codes[code] = f"openid-{code}"
        return code

    def a_wechat_template(self) -> str:
        """Return the template by which notices of one kind go out."""
        assert self.town.map_wechat().is_success
        return TEMPLATE

    def a_kind_by_wechat(self) -> str:
        """Return another kind of notices that go out by WeChat."""
        assert self.town.map_wechat("moved", unique()).is_success
        return "moved"

    def a_notice_template(self) -> str:
        """Return a kind for which the hall has words of its own."""
        answer = self.world.client.put(
            "/api/notify/staff/notice-templates/moved",
            params={"hall_id": self.hall["id"]},
            json=notice_template(),
            headers=self.world.staff(),
        )
        assert answer.is_success, answer.text
        return "moved"

    def a_delivery(self) -> str:
        """Return the id of a delivery of a notice to the first user, about a join in the hall."""
        self.an_email()
        notice_id = self.a_notice()
        [found] = self.town.deliveries(notice_id=notice_id, channel="email")
        delivery_id: str = found["id"]
        return delivery_id

    def a_dead_letter(self, service: str) -> str:
        """Return the id of a message that the service failed at for good."""
        [queue] = [queue for queue in self.world.queues if queue.consumer.name == f"{service}.sign_outs"]
        letter = Message(
            id=new_id(),
            type="staff.signed_out",
            source="admin",
            subject=new_id(),
            time=utcnow(),
            version=1,
            data={"note": "unfit"},
        )
        queue.put([letter])
        parked = (
            "UPDATE bus_queue SET attempts = 3, error = 'ValueError: unfit', parked_at = now() WHERE event_id = :id"
        )
        with self.world.runtimes[service].db.transaction() as session:
            session.execute(text(parked), {"id": letter.id})
        return letter.id

    def by_a_dead_letter(self, service: str, body: Any = None, *, named: bool = False, shown: bool = False) -> Ask:
        """Return a request about a dead letter of the service that there is now."""
        letter_id = self.a_dead_letter(service)
        query = {"limit": 100} if shown and not named else {}
        return Ask(body, query=query, path={"letter_id": letter_id} if named else {}, shows=letter_id if shown else "")

    def a_door_code(self) -> str:
        """Return the code on the hall's screen, with somebody booked who can use it."""
        self.a_join()
        answer = self.world.client.get(
            f"/api/booking/staff/halls/{self.hall['id']}/door-code", headers=self.world.staff()
        )
        code: str = answer.json()["code"]
        return code

    def _user_id(self, user: Headers) -> str:
        found: str = self.world.client.get("/api/booking/me", headers=user).json()["id"]
        return found

    # --- who asks ---

    def headers(self, caller: Caller) -> Headers:
        """Return the headers by which this caller is known; the same person each time."""
        return self._cast[caller]

    def newcomer(self, caller: Caller) -> Headers:
        """Return the headers of somebody new of this kind, who may spend their account."""
        if caller in (Caller.USER, Caller.ANOTHER_USER):
            return self.world.user(unique())
        return self._staff_of(caller) if caller in self._roles else self.headers(caller)

    def _staff_of(self, caller: Caller) -> Headers:
        role, halls, rights = self._roles[caller]
        is_new = caller == Caller.NEW_SUPER_ADMIN
        account = an_account(self.world, unique(), role=role, halls=halls, rights=rights, must_change=is_new)
        headers: Headers = signed_in(self.world, account["username"])["headers"]
        return headers

    def _disabled(self) -> Headers:
        """A super admin, so that nothing but being disabled stands in the way."""
        account = an_account(self.world, unique(), role=Role.SUPER_ADMIN)
        headers: Headers = signed_in(self.world, account["username"])["headers"]
        change(self.world, account, disabled=True)
        self.world.settle()
        return headers

    def _expired_staff(self) -> Headers:
        staff = Staff(id=new_id(), name="boss", role=Role.SUPER_ADMIN, halls=None, session_id=new_id())
        keys = self.world.runtimes["admin"].staff_keys
        return bearer(issue_staff_token(keys, staff, now=utcnow() - STAFF_TOKEN_LIFETIME))

    def _expired_user(self) -> Headers:
        keys = self.world.runtimes["booking"].user_keys
        return bearer(issue_user_token(keys, self.user_id, now=utcnow() - USER_TOKEN_LIFETIME))

    # --- asking, and looking at what it did ---

    def send(self, route: str, ask: Ask, who: Headers) -> httpx2.Response:
        """Make the request of a route, written as in the table: `GET /api/...`."""
        method, _, path = route.partition(" ")
        body: dict[str, Any] = {"json": ask.body}
        headers = who | ask.headers
        if ask.workbook is not None:
            body, headers = {"content": ask.workbook}, headers | {"Content-Type": XLSX}
        return self.world.client.request(
            method,
            path.format(**self.path | ask.path),
            params=ask.query,
            data=ask.form or None,
            files=ask.files or None,
            headers=headers,
            **body,
        )

    def data_of(self, route: str) -> dict[str, str]:
        """Return a fingerprint of every table of the service that a route belongs to."""
        with self.world.runtimes[route.split("/")[2]].db.transaction() as session:
            names = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")).all()
            one = "SELECT '{0}', md5(string_agg(row::text, ' ' ORDER BY row::text)) FROM {0} AS row"
            found = session.execute(text(" UNION ALL ".join(one.format(name) for name in names)))
            return dict(found.all())

    def seen_by_the_first_user(self) -> list[Any]:
        """Return all that the first user sees of their own."""
        paths = ["/api/booking/me", f"/api/booking/joins/{self.join['id']}", "/api/notify/notices"]
        return [self.world.client.get(path, headers=self.user).json() for path in paths]


def unique() -> str:
    return secrets.token_hex(8)


def notice_template() -> dict[str, Any]:
    """Words that no notice has had before."""
    return {"title": {"zh": unique(), "en": unique()}, "body": {"zh": "{item}", "en": "{item}"}}


def announcement(hall_id: str) -> dict[str, Any]:
    return {
        "hall_id": hall_id,
        "title": "国庆放假",
        "summary": "国庆期间暂停服务，请您留意。",
        "content": "十月一日至十月七日。",
        "status": "published",
    }


def webhook(hall_id: str) -> dict[str, Any]:
    return {"hall_id": hall_id, "url": "https://localhost/", "events": ["join.missed"]}


def zone_where_it_is_noon() -> str:
    """Return a zone in which a slot of the day is on now, whatever the time."""
    east = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-east:+d}"  # POSIX counts west of Greenwich as positive
